"""Work on many things at once, in turns of the event loop: exchanges go on in between."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

T = TypeVar("T")

A_TURN = 200
"""Things looked at in one turn: a millisecond or two."""


async def in_turns(things: Sequence[T]) -> AsyncIterator[T]:
    """Each of `things`; after every few of them all others have their turn."""
    for number, each in enumerate(things, 1):
        yield each
        if not number % A_TURN:
            await asyncio.sleep(0)
