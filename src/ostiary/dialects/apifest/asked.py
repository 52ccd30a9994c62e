"""What a row's handler gets: the request, read as far as every row needs it, and a way to run operations."""

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

from ostiary.control.call import Call
from ostiary.core.configuration.settings import ApifestSettings
from ostiary.dialects.apifest.words import Words
from ostiary.dialects.desk import Desk, applied
from ostiary.dialects.message import Answer, Request


class Asked(Struct):
    """One request to one row, routed and permitted."""

    desk: Desk
    request: Request
    call: Call
    item: str
    """What stands for the `{...}` of the path."""
    query: dict[str, str]
    settings: ApifestSettings

    async def run(self, name: str, params: Struct) -> Any:
        """The operation's result, or its Refusal."""
        return await self.desk.run(name, params, self.call)

    async def run_plain(self, name: str) -> Any:
        """The same for an operation that needs no parameters."""
        return await self.run(name, self.desk.registry.get(name).params())

    def receipt(self) -> tuple[tuple[str, str], ...]:
        """The header that says where a change is in force."""
        return applied(self.call)


Handler = Callable[[Asked], Awaitable[Answer]]


class Row(Struct, frozen=True):
    """One method and path."""

    method: str
    path: str
    operation: str
    handler: Handler
    media: str = ""
    """The media type that the body must have; empty: none is looked at."""
    words: Words = {}
    """Codes that this row says in its own way."""
    clients: bool = False
    """Also on the gateway's listener, and no operator's credentials: the operation looks at the client's own."""
