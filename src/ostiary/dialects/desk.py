"""The desk: what every dialect works with, and the one way in which a request becomes a call of an operation."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import Registry
from ostiary.core.configuration.settings import Settings
from ostiary.core.permission import Principal
from ostiary.core.refusal import NotFound, Refusal
from ostiary.dialects.message import Answer, Request
from ostiary.dialects.services import Services

AGAIN = 1.0
"""Seconds for which somebody who follows something need not show again that they may."""


class Desk:
    """Control, its operations, and the settings as they hold now (asked anew each time: reloads)."""

    def __init__(self, registry: Registry, control: Control, settings: Callable[[], Settings]) -> None:
        self.registry = registry
        self.control = control
        self.settings = settings
        self.services = Services(settings)
        self.draining = False
        """Set when the node begins to end."""
        self.looks_again = AGAIN

    async def run(self, name: str, params: Struct, call: Call) -> Any:
        """The operation's result, or its Refusal."""
        return await self.registry.run(self.control, name, params, call)

    async def followed(
        self, lines: AsyncIterator[bytes], again: Callable[[], Awaitable[object]]
    ) -> AsyncGenerator[bytes, None]:
        """Lines with their ends, as long as they come and `again`, asked now and then before one, refuses nothing."""
        clock = asyncio.get_running_loop().time
        due = clock() + self.looks_again
        with suppress(NotFound):  # nothing is left of it, or it has printed nothing yet
            async for line in lines:
                if clock() >= due:
                    if not await _may(again):
                        return
                    due = clock() + self.looks_again
                yield line + b"\n"


async def _may(again: Callable[[], Awaitable[object]]) -> bool:
    try:
        await again()
    except Refusal:
        return False
    return True


def call_of(request: Request, principal: Principal, surface: str) -> Call:
    """The call that a request makes."""
    return Call(principal, surface, request.address, request.request_id)


def finished(call: Call, answer: Answer) -> Answer:
    """The answer to a call, with what its operation has to do when the whole of it has been sent."""
    return replace(answer, after=call.trail.afterwards) if call.trail.afterwards else answer


def applied(call: Call) -> tuple[tuple[str, str], ...]:
    """The receipt of a change as a header, if workers had to apply something."""
    return (("X-Ostiary-Applied", call.trail.applied),) if call.trail.applied else ()
