"""Telling workers where users go, and that their word of who is there was heard."""

import logging
from collections.abc import Callable, Coroutine, Sequence

from ostiary.core.refusal import Refusal
from ostiary.link.messages import Change, Place, Question, Steered, Touch, Touched
from ostiary.link.slot import Slot
from ostiary.link.steered import Overtaking, Steering

log = logging.getLogger(__name__)


class Telling:
    """`steering` knows (None: nobody is steered); `begin` runs work beside.

    What was found out before a change is found out anew: an answer must not overtake that.
    """

    def __init__(self, steering: Steering | None, begin: Callable[[Coroutine[None, None, None]], None]) -> None:
        self._steering = steering
        self._begin = begin
        self._overtaking = Overtaking()

    def note(self, change: Change) -> None:
        """A change is being made."""
        for each in change.steering:
            self._overtaking.note(each)

    def ask(self, slot: Slot, questions: Sequence[Question]) -> None:
        """A worker asks; it is told at once, or when a move has ended."""
        self._begin(self._steer(slot, questions))

    def touch(self, slot: Slot, touch: Touch) -> None:
        """Assignments are in use at a worker; it hears when that is written down."""
        self._begin(self._touch(slot, touch))

    async def _steer(self, slot: Slot, questions: Sequence[Question]) -> None:
        channel, since = slot.channel, self._overtaking.moment

        def told(places: list[Place]) -> None:
            if channel is None or slot.channel is not channel:
                return
            again = [place.question for place in places if self._overtaking.overtook(place, since)]
            if again:
                self.ask(slot, again)
                asked = frozenset(again)
                places = [place for place in places if place.question not in asked]
            if places:
                channel.send(Steered(places))

        try:
            if self._steering is not None:
                await self._steering.steer(questions, told)
        except Refusal as refusal:
            log.warning("users are not steered: %s", refusal.message)

    async def _touch(self, slot: Slot, touch: Touch) -> None:
        try:
            if self._steering is not None:
                await self._steering.touch(touch.used)
        except Refusal as refusal:
            log.warning("assignments are not prolonged: %s", refusal.message)
        else:
            slot.send(Touched(touch.number))
