"""What CIKit's handlers are given, and the row that leads to one."""

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

from ostiary.control.call import Call
from ostiary.core.configuration.settings import CikitSettings
from ostiary.dialects.cikit.bodies import Fields
from ostiary.dialects.cikit.words import Words
from ostiary.dialects.desk import Desk
from ostiary.dialects.message import Answer

PREFIX = "/api/v1"


class Asked(Struct):
    """One request to one row, permitted."""

    desk: Desk
    call: Call
    item: str
    """The name at the end of the path."""
    fields: Fields
    settings: CikitSettings
    query: str
    again: Callable[[], Awaitable[object]]
    """Look at credential and permission once more, for who is still being answered. Refuses as at first."""

    async def run(self, name: str, params: Struct) -> Any:
        """The operation's result, or its Refusal."""
        return await self.desk.run(name, params, self.call)

    def text(self, name: str) -> str:
        """A field of the body; empty where it is absent or no string: nothing is ever converted."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else ""


class Row(Struct, frozen=True):
    """One method and path."""

    method: str
    path: str
    """Behind the prefix; `:name` at its end stands for any one segment."""
    operation: str
    permission: str
    handler: Callable[[Asked], Awaitable[Answer]]
    words: Words = {}
    """What refusals are called here, by code, before what they are called everywhere."""
    public: bool = False
    """Whether nobody's credential is looked at."""
    own: bool = False
    """Whether users may do it to themselves without the permission, by their refresh token too."""
