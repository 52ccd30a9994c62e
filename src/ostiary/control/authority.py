"""What workers ask: which tokens pass, and how many requests a limit still has."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ostiary.core.admission import Admission
from ostiary.core.limit import Limit, take
from ostiary.core.oauth import Rules
from ostiary.link.messages import Grant, Want
from ostiary.store.ports import Token

MOST_KEYS = 1_000_000
"""Counters kept at once; beyond, the one that was used longest ago starts anew."""
SWEPT = 2
"""Counters looked at with each draw, so that idle ones go as fast as new ones come."""


class Live(Protocol):
    """The part of the port Tokens that is asked here."""

    async def live(self, digests: Sequence[bytes], now: int) -> dict[bytes, Token]:
        """Those that pass at `now`."""

    async def known(self, digests: Sequence[bytes]) -> set[bytes]:
        """Those that are kept, whatever their state."""


class Authority:
    """Answers the link. `clock` is Unix time, `ticks` never goes back; both in microseconds."""

    def __init__(
        self,
        tokens: Live,
        rules: Callable[[], Rules],
        clock: Callable[[], int],
        ticks: Callable[[], int],
        guess: Callable[[str, bytes], int] = lambda address, token: 0,
    ) -> None:
        self._tokens = tokens
        self._rules = rules
        self._clock = clock
        self._ticks = ticks
        self._guess = guess
        self._counters: OrderedDict[bytes, tuple[Limit, int]] = OrderedDict()

    async def admit(self, digests: Sequence[bytes]) -> dict[bytes, Admission | None]:
        """What is true at some moment after this call, for each of `digests`; one query."""
        live = await self._tokens.live(digests, self._clock())
        default = self._rules().default_limit
        return {each: admission(live[each], default) if each in live else None for each in digests}

    async def guessed(self, guesses: Mapping[bytes, str]) -> dict[str, int]:
        """Count those of the tokens that never were; the addresses barred now, with the microseconds left."""
        known = await self._tokens.known(list(guesses))
        unknown = [(address, digest) for digest, address in guesses.items() if digest not in known]
        left = {address: self._guess(address, digest) for address, digest in unknown}
        return {address: wait for address, wait in left.items() if wait}

    def draw(self, wants: Sequence[Want]) -> list[Grant]:
        """One Grant a Want, in their order: as many cells as the limit has left, up to those wanted."""
        now = self._ticks()
        return [self._take(want, now) for want in wants]

    def forget(self) -> int:
        """Start all counters anew; how many there were."""
        count = len(self._counters)
        self._counters.clear()
        return count

    def _take(self, want: Want, now: int) -> Grant:
        limit, tat = self._counters.pop(want.key, (want.limit, 0))
        verdict = take(want.limit, tat if limit == want.limit else 0, now, want.cells)
        self._sweep(now)
        self._counters[want.key] = (want.limit, verdict.tat)
        return Grant(want.key, verdict.cells, verdict.wait, verdict.left)

    def _sweep(self, now: int) -> None:
        """Look at the counters used longest ago: those that are full again are as good as new."""
        for _ in range(min(SWEPT, len(self._counters))):
            key, (limit, tat) = self._counters.popitem(last=False)
            if tat > now * limit.quota and len(self._counters) < MOST_KEYS:
                self._counters[key] = (limit, tat)


def admission(token: Token, default: Limit | None) -> Admission:
    """What a live token stands for."""
    limit = token.rate_limit.limit if token.rate_limit else default
    return Admission(token.client_id, token.user, token.scopes, token.expires, limit, token.details)
