"""Where users go: who says so, and which of the answers a change has overtaken before they were given."""

from collections.abc import Callable, Sequence
from typing import Protocol

from ostiary.link.messages import Place, Question, Unsteer

MOST = 100_000
"""Users and hosts of late changes that are remembered; beyond, all answers under way count as overtaken."""


class Steering(Protocol):
    """Who says where users go (the director)."""

    async def steer(self, questions: Sequence[Question], told: Callable[[list[Place]], None]) -> None:
        """Answer each question by `told`, at once or when a move has ended."""

    async def touch(self, used: Sequence[tuple[str, str, int]]) -> None:
        """These assignments (upstream, tag, hash) are in use."""


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
