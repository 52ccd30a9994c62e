"""What a row is, who may ask it, and what its handler gets.

    foreign log-in 403 -> credential 401 -> CSRF token 403 -> permission 403 -> the handler

A request with the cookie is judged by the cookie alone; else `Authorization: Bearer T` or `Authorization: T` counts.
Other schemes are no credentials here.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from ostiary.control.call import Call, Trail
from ostiary.core.permission import ADMINISTRATORS, NOBODY, USER, Principal
from ostiary.core.refusal import Forbidden, Refusal, Unauthenticated
from ostiary.dialects.credentials import SESSION_COOKIE, by_cookie, by_token, cookies, foreign
from ostiary.dialects.desk import Desk, applied
from ostiary.dialects.doorman.words import NO_CONFIG, UNAUTHORIZED, Headers, Pair, Said
from ostiary.dialects.message import Answer, Request

_TOKEN = re.compile(r"(?:bearer +)?(?!bearer\Z)([!-~]+)", re.IGNORECASE)


class Asked(Struct):
    """One request to one row."""

    desk: Desk
    request: Request
    row: "Row"
    item: str
    """What stands for the `{...}` of the path, decoded; empty: the path has none."""
    call: Call
    recorded: bool = False
    """Whether the audit has the refusal of this request already."""

    async def run(self, name: str, params: Struct | None = None) -> Any:
        """The operation's result, or its Refusal; without parameters, its own defaults."""
        operation = self.desk.registry.get(name)
        self.call = replace(self.call, trail=Trail())
        try:
            return await self.desk.run(name, params or operation.params(), self.call)
        except Refusal:
            self.recorded = not operation.reads
            raise

    async def tell(self, refusal: Refusal) -> None:
        """Have the audit hold that a change was refused before there was anything to run."""
        if self.row.operation and not self.recorded:
            await self.desk.registry.refused(self.desk.control, self.row.operation, self.call, refusal)

    def become(self, principal: Principal) -> None:
        """Ask as `principal` from here on."""
        self.call = replace(self.call, principal=principal)

    def may(self, permission: str) -> bool:
        """Whether who asks holds it."""
        return self.call.principal.may(permission)

    @property
    def oneself(self) -> bool:
        """Whether the path names the user who asks."""
        return self.call.principal.kind == USER and self.call.principal.name == self.item

    @property
    def sees_administrators(self) -> bool:
        """Whether users and roles `admin` and `owner` exist for who asks."""
        return self.call.principal.role in ADMINISTRATORS

    def receipt(self) -> Headers:
        """The header that says where a change is in force."""
        return applied(self.call)


Handler = Callable[[Asked], Awaitable[Answer]]
Gate = Callable[[Asked], Awaitable[None]]


async def anyone(asked: Asked) -> None:
    """A credential that does not hold is ignored."""
    try:
        asked.become(await _bearer(asked))
    except Refusal:
        return


async def stranger(asked: Asked) -> None:
    """Whoever is no page of another origin: log-in and registration. Refuses Forbidden `csrf.invalid`."""
    if foreign(asked.request):
        raise Forbidden("csrf.invalid", "A page of another origin may not do this")
    await anyone(asked)


async def signed_in(asked: Asked) -> None:
    """Whoever holds a credential. Refuses Unauthenticated, Forbidden `csrf.invalid`."""
    asked.become(await _bearer(asked))
    if asked.call.principal is NOBODY:
        raise Unauthenticated("authentication.required", "Authentication is required")


async def permitted(asked: Asked) -> None:
    """Whoever holds one of the row's permissions, or is the user that the path names where that does."""
    await signed_in(asked)
    row = asked.row
    wanted = row.permissions or (asked.desk.registry.get(row.operation).permission,)
    if not any(asked.may(each) for each in wanted) and not (row.own and asked.oneself):
        raise Forbidden("permission.denied", f"This needs the permission {' or '.join(wanted)}")


class Row(Struct, frozen=True):
    """One method and path."""

    method: str
    path: str
    operation: str
    """Empty: none. Otherwise what the audit calls this."""
    handler: Handler
    denied: Pair = NO_CONFIG
    """What a missing permission is called here."""
    gate: Gate = permitted
    permissions: tuple[str, ...] = ()
    """Each of which does; empty: what the operation asks for."""
    own: bool = False
    """Whether the user whom the path names needs none."""
    words: Mapping[str, Said] = field(default_factory=dict)
    """What some refusals are called here."""
    unauthorized: Pair = UNAUTHORIZED


def offered(request: Request) -> bool:
    """Whether a credential was sent."""
    return bool(_cookies(request) or _token(request))


async def _bearer(asked: Asked) -> Principal:
    """The principal of the request's credential; NOBODY where none was sent."""
    found, token = _cookies(asked.request), _token(asked.request)
    if found:
        return await by_cookie(asked.desk, asked.request, found)
    return await by_token(asked.desk, asked.request, token) if token else NOBODY


def _cookies(request: Request) -> list[str]:
    """The session cookies; an empty one alone is none."""
    found = cookies(request, SESSION_COOKIE)
    return found if any(found) else []


def _token(request: Request) -> str:
    """The token of exactly one Authorization header, with the scheme Bearer or none."""
    match = _TOKEN.fullmatch(request.one("authorization").strip(" \t"))
    return match[1] if match else ""
