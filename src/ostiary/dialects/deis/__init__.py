"""Deis's surface: the controller API that its clients speak, for people and for apps.

    path 404 -> version 405 -> method 405 -> token 401 -> permission 403, or the app 404 -> body 400, 413, 415
    -> fields 400 -> the operation: 404, 409, 503

Every answer has an upper-case reason phrase, because the client prints it, and the version headers. Every path of an
app is 404 to strangers, whether there is such an app or not. What Deis has besides is 501.
"""

from msgspec.structs import replace

from ostiary.control.apps import reach, unknown
from ostiary.control.registry import allow
from ostiary.core.http1 import REASONS
from ostiary.core.permission import NOBODY, Principal
from ostiary.core.refusal import Forbidden, Refusal
from ostiary.dialects.deis.asked import Asked
from ostiary.dialects.deis.rows import Row, find
from ostiary.dialects.deis.tokens import principal
from ostiary.dialects.deis.words import NOT_FOUND, Said, error, refused
from ostiary.dialects.desk import Desk, call_of
from ostiary.dialects.message import Answer, Request

ROOM = 102_400
"""Bytes of a body."""
VERSION = "1"
"""Of the protocol, as clients say it."""
PLATFORMS = {"1.1": "1.4.1", "1.5": "1.8.0"}
"""Version of the API -> of the platform that has it."""
HEADERS = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))


class Deis:
    """The Deis surface."""

    prefixes = ("/v1",)
    faces_clients = False

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def room(self, request: Request) -> int:
        return ROOM

    async def answer(self, request: Request) -> Answer:
        try:
            return self._framed(await self._answer(request))
        except Said as said:
            return self._framed(said.answer)

    def refuse(self, request: Request, status: int, reason: str) -> Answer:
        return self._framed(error(status, reason[:1].upper() + reason[1:]))

    async def _answer(self, request: Request) -> Answer:
        found = find(request.path)
        if found is None:
            raise Said(error(404, NOT_FOUND))
        _check_version(request)
        methods, names = found
        row = methods.get(request.method)
        if row is None:
            refusal = error(405, f"Method '{request.method}' not allowed.", ("Allow", ", ".join(sorted(methods))))
            raise Said(refusal)
        try:
            return await row.handler(await self._admitted(row, request, names))
        except Refusal as refusal:
            return refused(refusal)

    async def _admitted(self, row: Row, request: Request, names: dict[str, str]) -> Asked:
        """The request, once token and permission hold; else the refusal of a change stands in the audit."""
        asked = Asked(self.desk, request, call_of(request, NOBODY, "deis"), names)
        if row.public:
            return asked
        try:
            asked = replace(asked, call=replace(asked.call, principal=await principal(self.desk, request)))
            self._allow(row, asked.call.principal, asked)
            if row.app:
                await reach(self.desk.control, asked.call, names["id"], own=row.app == "own")
        except Refusal as refusal:
            if row.operation:
                await self.desk.registry.refused(self.desk.control, row.operation, asked.call, refusal)
            raise
        return asked

    def _allow(self, row: Row, who: Principal, asked: Asked) -> None:
        """Refuse Forbidden; who may work with no app at all learns nothing of any."""
        try:
            if not who.may(row.permission):
                raise Forbidden("permission.denied", f"This needs the permission {row.permission}")
            if row.operation and not row.permission:
                allow(self.desk.registry.get(row.operation), asked.call)
        except Forbidden:
            if row.app:
                raise unknown() from None
            raise

    def _framed(self, answer: Answer) -> Answer:
        reason = REASONS.get(answer.status, "").upper()
        versions = _versions(self.desk.settings().deis.api_version)
        return replace(answer, headers=(*answer.headers, *HEADERS, *versions), reason=reason)


def _check_version(request: Request) -> None:
    """A client says the protocol's version, or nothing."""
    said = [value for name in ("x-deis-version", "deis-version") for value in request.headers.get(name, [])]
    wrong = next((value for value in said if value != VERSION), None)
    if wrong is not None:
        text = f"Client and server versions do not match. Client version: {wrong} Server version: {VERSION}"
        raise Said(error(405, {"error": text}))


def _versions(api: str) -> list[tuple[str, str]]:
    """What the client compares with its own; newer clients know the names without X."""
    if api not in PLATFORMS:
        return []
    pairs = [("DEIS_API_VERSION", api), ("DEIS_PLATFORM_VERSION", PLATFORMS[api])]
    return [*((f"X_{name}", value) for name, value in pairs), *(pairs if api != "1.1" else [])]
