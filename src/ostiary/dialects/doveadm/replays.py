"""Requests with an `Idempotency-Key`: done once, and answered alike for an hour (doveadm.md 2.4)."""

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
from msgspec import Struct

from ostiary.core.permission import Principal
from ostiary.core.refusal import Unavailable
from ostiary.dialects.desk import Desk
from ostiary.dialects.doveadm.words import Headers, text
from ostiary.dialects.message import Answer
from ostiary.store.ports import Replay

ANOTHER = "Idempotency-Key was used with another request"
RUNNING = "A request with this Idempotency-Key is running"
UNKNOWN = "The outcome of this request is unknown"
_KEY = re.compile(r"[!-~]{1,255}")


class _Kept(Struct, frozen=True):
    """What is kept of an answer."""

    body: bytes
    headers: Headers


def key_ok(key: str) -> bool:
    """Whether a text can be a key: 1 to 255 visible characters."""
    return _KEY.fullmatch(key) is not None


def caller(principal: Principal) -> str:
    """Whose key it is: a user, or one key of the configuration, whatever the others send."""
    return f"{principal.kind} {principal.name} {'' if principal.number else principal.credential}"


class Replays:
    """The requests with a key that run in this process, beside those that the store knows."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._running: set[tuple[str, str]] = set()

    async def once(self, who: Principal, key: str, request: bytes, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """What `work` answers, if nobody has begun it; `request` is a digest. Refuses Unavailable before it begins."""
        control, name = self._desk.control, (caller(who), key)
        known = await control.replays.begin(*name, request, control.clock())
        if known is not None:
            return self._again(known, request, running=name in self._running)
        self._running.add(name)
        try:
            answer = await work()
            # Where it cannot be kept, the next one is told that the outcome is unknown.
            with suppress(Unavailable):
                await control.replays.finish(*name, msgspec.msgpack.encode(_Kept(answer.body, answer.headers)))
        finally:
            self._running.discard(name)
        return answer

    def _again(self, known: Replay, request: bytes, *, running: bool) -> Answer:
        if known.request != request:
            return text(422, ANOTHER)
        if known.answer is None:
            return text(409, RUNNING if running else UNKNOWN)
        kept = msgspec.msgpack.decode(known.answer, type=_Kept)
        return Answer(200, kept.body, (*kept.headers, ("Idempotency-Replayed", "true")))
