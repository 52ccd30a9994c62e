"""For tests of what takes a fraction of a second: where the machine stood still meanwhile they begin anew."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")
STILL = 0.03
"""Seconds without a turn of the loop, after which a failure shows nothing."""
TRIES = 20


class Beat:
    """Notices for how long the loop has not turned, at most."""

    def __init__(self) -> None:
        self._longest = 0.0
        self._last = time.monotonic()

    @property
    def longest(self) -> float:
        """Seconds, up to now."""
        return max(self._longest, time.monotonic() - self._last)

    async def run(self) -> None:
        """For ever."""
        while True:
            self._longest = self.longest
            self._last = time.monotonic()
            await asyncio.sleep(0.005)


def undisturbed(test: Callable[P, Awaitable[None]]) -> Callable[P, Coroutine[Any, Any, None]]:
    """A test that may fail only where the loop never stood still: else it is tried again, some times."""

    @functools.wraps(test)
    async def tried(*args: P.args, **kwargs: P.kwargs) -> None:
        for last in (*[False] * (TRIES - 1), True):
            beat = Beat()
            beating = asyncio.create_task(beat.run())
            try:
                return await test(*args, **kwargs)
            except Exception:
                if last or beat.longest < STILL:
                    raise
            finally:
                beating.cancel()
        return None

    return tried
