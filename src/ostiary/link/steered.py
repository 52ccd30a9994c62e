"""Where users go: who says so, which answers a change has overtaken before they were given, and what workers missed.

A worker keeps what it was told across the end of control. That holds on to nothing that a change has ended:

    What a worker knows comes from answers, and an answer that a change overtook is not given (Overtaking). So once a
    change stands in a worker's stream, nothing that the worker knows is from before it.
    Control follows its change log, and sees to it that every change of directors in there stands in each stream, up to
    a number that each Lease carries (control/tail.py). So what a worker knows is no older than any change up to that.
    It says that number in its Hello. Its next control has read the change log before it heard anybody, and answers with
    every change of directors after that number, before anything else and before a lease (Past, `Server.greet`).
    A change that came into the log later is this control's own: it keeps it until the worker has confirmed it (Slot).

Until it has been told, a worker goes on under the lease of the predecessor, for which all changes are waited for.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from ostiary.core.director import Unsteer
from ostiary.link.messages import Place, Question

MOST = 100_000
"""Users and hosts of late changes that are remembered; beyond, all answers under way count as overtaken."""


class Steering(Protocol):
    """Who says where users go (the director)."""

    async def steer(self, questions: Sequence[Question], told: Callable[[list[Place]], None]) -> None:
        """Answer each question by `told`, at once or when a move has ended."""

    async def touch(self, used: Sequence[tuple[str, str, int]]) -> None:
        """These assignments (upstream, tag, hash) are in use."""


class Past:
    """The last changes of directors before this control began: workers may not have been told of them."""

    def __init__(self, after: int = 0, newest: int = 0, changes: Sequence[tuple[int, Unsteer]] = ()) -> None:
        """`changes`, each with its number: all that there were after `after`, up to `newest`."""
        self.newest = newest
        self._after = after
        self._changes = changes

    def since(self, told: int) -> list[Unsteer]:
        """What a worker must forget that was told of all up to `told`."""
        if told < self._after:
            return [Unsteer("")]
        return [gone for number, gone in self._changes if number > told]


class Overtaking:
    """When each user or host was last named by a change, so that an answer found out before that is not given."""

    def __init__(self) -> None:
        self.moment = 0
        """Of now: the number of the last change."""
        self._floor = 0
        self._last: dict[tuple[object, ...], int] = {}

    def note(self, change: Unsteer) -> None:
        """A change is being made."""
        self.moment += 1
        name = change.upstream
        named: list[tuple[object, ...]] = [(name, *key) for key in change.hashes]
        named += [(name, host) for host in change.hosts]
        self._last.update(dict.fromkeys([(name,), *(named or [(name, None)])], self.moment))
        if len(self._last) > MOST:
            self._last.clear()
            self._floor = self.moment

    def overtook(self, place: Place, since: int) -> bool:
        """Whether `place`, found out at the moment `since` or later, may no longer be true."""
        question = place.question
        name = question.upstream
        keys: list[tuple[object, ...]] = [(name,)]
        if question.kept and place.host:
            keys = [(name, None), (name, place.host), (name, question.tag, place.hash)]
        return since < self._floor or any(self._last.get(key, 0) > since for key in keys)
