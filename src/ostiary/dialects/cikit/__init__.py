"""CIKit's surface: log-in by code, users, and droplets.

    path 404 -> method 405 -> body 413, 415, 0 -> credential 400, 401, 908, 909 -> permission 912 (revoke: 904)
    -> fields -> existence -> state

Errors are {"error": text, "errorId": number} and nothing else. Cookies and the query never hold a credential here.
"""

from functools import partial

from msgspec.structs import replace

from ostiary.control.call import Call
from ostiary.core.permission import NOBODY, USER, Principal
from ostiary.core.refusal import Forbidden, Refusal, TooLarge
from ostiary.dialects.cikit import droplets, users
from ostiary.dialects.cikit.asked import PREFIX, Asked, Row
from ostiary.dialects.cikit.bearer import bearer
from ostiary.dialects.cikit.bodies import ROOM, Fields, fields_of
from ostiary.dialects.cikit.words import NOT_ALLOWED, NOT_FOUND, error, refused, unreadable
from ostiary.dialects.desk import Desk, call_of
from ostiary.dialects.message import Answer, Request, segment

PATHS: dict[str, dict[str, Row]] = {}
ITEMS: dict[str, dict[str, Row]] = {}
"""Those whose last segment is a name, by what stands before it."""
for _row in (*users.ROWS, *droplets.ROWS):
    _parent, _, _last = _row.path.rpartition("/")
    _named = _last.startswith(":")
    _methods = (ITEMS if _named else PATHS).setdefault(_parent if _named else _row.path, {})
    _methods[_row.method] = _row
    if _row.method == "GET":
        _methods["HEAD"] = _row


class Cikit:
    """The CIKit surface."""

    prefixes = (PREFIX,)
    faces_clients = False

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def room(self, request: Request) -> int:
        return ROOM

    async def answer(self, request: Request) -> Answer:
        found = find(request.path)
        if found is None:
            return error(NOT_FOUND)
        methods, item = found
        row = methods.get(request.method)
        if row is None:
            return error(NOT_ALLOWED, ("Allow", ", ".join(sorted(methods))))
        settings = self.desk.settings().cikit
        try:
            if request.oversized:
                raise TooLarge("body.too_large", "Request body too large")
            again = partial(self._admitted, row, item, request)
            call, fields = await again()
            return await row.handler(Asked(self.desk, call, item, fields, settings, request.query, again))
        except Refusal as refusal:
            return refused(refusal, row.words, strict=settings.strict)

    def refuse(self, request: Request, status: int, reason: str) -> Answer:
        return error(unreadable(status, reason))

    async def _admitted(self, row: Row, item: str, request: Request) -> tuple[Call, Fields]:
        """The call and the fields, once credential and permission hold; else the refusal stands in the audit."""
        fields = fields_of(request)
        call = replace(call_of(request, NOBODY, "cikit"), target=item)
        if row.public:
            return call, fields
        try:
            principal = await bearer(self.desk, request, fields, refresh=row.own)
            call = replace(call, principal=principal)
            if not (principal.may(row.permission) or (row.own and _oneself(principal, item))):
                raise Forbidden("permission.denied", f"This needs the permission {row.permission}")
        except Refusal as refusal:
            await self.desk.registry.refused(self.desk.control, row.operation, call, refusal)
            raise
        return call, fields


def _oneself(principal: Principal, name: str) -> bool:
    return principal.kind == USER and principal.name == name


def find(path: str) -> tuple[dict[str, Row], str] | None:
    """The rows of a path by their methods, and what stands for the name at its end; one trailing slash is allowed."""
    rest = path.removeprefix(f"{PREFIX}/").removesuffix("/")
    if rest in PATHS:
        return PATHS[rest], ""
    parent, _, last = rest.rpartition("/")
    item = segment(last)
    return (ITEMS[parent], item) if parent in ITEMS and item and "/" not in item else None
