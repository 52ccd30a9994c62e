"""Work on many things at once, in turns of the event loop: exchanges go on in between."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

T = TypeVar("T")

A_TURN = 200
"""Things looked at in one turn: a millisecond or two."""


async def in_turns(things: Sequence[T]) -> AsyncIterator[T]:
    """Each of `things`; after every few of them all others have their turn."""
    async for some in few_at_a_time(things):
        for each in some:
            yield each


async def few_at_a_time(things: Sequence[T]) -> AsyncIterator[Sequence[T]]:
    """All of `things`, as many at a time as are looked at in one turn; for work that is less than asking for each."""
    for start in range(0, len(things), A_TURN):
        if start:
            await asyncio.sleep(0)
        yield things[start : start + A_TURN]
