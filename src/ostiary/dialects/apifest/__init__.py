"""ApiFest's surface: the administration of its gateway and its OAuth 2.0 server, over plain HTTP.

    path and method -> who asks -> parameters given twice -> media type -> size -> the row's handler

What a peer in `dialects.apifest.trusted_networks` may do without credentials is told in `_asker`.
"""

import re

import msgspec

from ostiary.control.call import Call
from ostiary.control.registry import allow
from ostiary.control.services import OAUTH
from ostiary.core.oauth import scope_name_ok
from ostiary.core.permission import NOBODY, Principal
from ostiary.core.refusal import Refusal, Unauthenticated
from ostiary.dialects import credentials
from ostiary.dialects.apifest import applications, codes, gateway, scopes, tokens
from ostiary.dialects.apifest.asked import Asked, Row
from ostiary.dialects.apifest.tokens import twice
from ostiary.dialects.apifest.words import MEDIA_TYPE, NOT_FOUND, STOPPED, TOO_LARGE, Said, answer, error, refused
from ostiary.dialects.desk import Desk, call_of
from ostiary.dialects.message import Answer, Request, parse_pairs, repeated, segment

ROOM = 65_536
ROWS = (*gateway.ROWS, *scopes.ROWS, *applications.ROWS, *codes.ROWS, *tokens.ROWS)
EXACT = {(row.method, row.path): row for row in ROWS if "{" not in row.path}
ITEMS = {(row.method, row.path.partition("{")[0]): row for row in ROWS if "{" in row.path}
_CLIENT_ID = re.compile(r"[a-f0-9]+", re.ASCII)
TRUSTED = frozenset(
    {
        "config:read", "config:reload", "routes:read", "scopes:read", "scopes:manage", "applications:read",
        "applications:manage", "applications:secrets", "tokens:read", "tokens:manage", "tokens:issue",
    }
)  # fmt: skip
"""What a trusted peer may do: everything that this surface offers, and nothing else."""


class Apifest:
    """The ApiFest surface."""

    prefixes = ("/apifest-", "/oauth20", "/oauth20/tokens")
    faces_clients = True

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def room(self, request: Request) -> int:
        return ROOM

    async def answer(self, request: Request) -> Answer:
        found = find(request)
        if found is None:
            return answer(*NOT_FOUND)
        row, item = found
        if row.clients and OAUTH in self.desk.control.services.stopped:
            return answer(*STOPPED)
        settings = self.desk.settings().dialects.apifest
        try:
            call = await self._admitted(row, item, request)
            query = {} if item else _query(request)
            if row.media and request.media_type() != row.media:
                raise Said(MEDIA_TYPE)
            if request.oversized:
                raise Said(TOO_LARGE)
            return await row.handler(Asked(self.desk, request, call, item, query, settings))
        except Said as said:
            return answer(said.status, said.body)
        except Refusal as refusal:
            return refused(refusal, row.words, settings.strict_status)

    def refuse(self, request: Request, status: int, reason: str) -> Answer:
        return answer(*error(status, reason))

    async def _admitted(self, row: Row, item: str, request: Request) -> Call:
        """The call, once credential and permission hold; else the refusal stands in the audit."""
        call = msgspec.structs.replace(call_of(request, NOBODY, "apifest"), target=item)
        if row.clients:
            return call
        operation = self.desk.registry.get(row.operation)
        try:
            call = msgspec.structs.replace(call, principal=await self._asker(request))
            allow(operation, call)
        except Refusal as refusal:
            await self.desk.registry.refused(self.desk.control, row.operation, call, refusal)
            raise
        return call

    async def _asker(self, request: Request) -> Principal:
        """Who asks. A trusted peer's credential is ignored if it does not hold; if it does, it names the operator."""
        trusted = credentials.trusted(self.desk, request)
        try:
            operator = await credentials.operator(self.desk, request)
        except Refusal as refusal:
            if not trusted:
                raise _no_credential(refusal) from None
            operator = NOBODY
        if not trusted:
            return operator
        if operator is NOBODY:
            return Principal("network", request.peer, TRUSTED, "network")
        return msgspec.structs.replace(operator, permissions=operator.permissions | TRUSTED)


def _no_credential(refusal: Refusal) -> Refusal:
    """What a credential is refused with: the right password of who may not come in by it is none either."""
    if refusal.code in ("login.inactive", "login.second_factor"):
        return Unauthenticated(refusal.code, refusal.message)
    return refusal


def find(request: Request) -> tuple[Row, str] | None:
    """The row of a request, and what stands for the `{...}` of its path."""
    row = EXACT.get((request.method, request.path))
    if row is not None:
        return None if request.public and not row.clients else (row, "")
    parent, slash, last = request.path.rpartition("/")
    row = ITEMS.get((request.method, parent + slash))
    if row is None or request.public:
        return None
    item = segment(last)
    fits = scope_name_ok(item) if row.path == scopes.ITEM else _CLIENT_ID.fullmatch(item)
    return (row, item) if fits else None


def _query(request: Request) -> dict[str, str]:
    pairs = parse_pairs(request.query)
    name = repeated(pairs)
    if name is not None:
        raise twice(name)
    return dict(pairs)
