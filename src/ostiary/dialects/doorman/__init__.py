"""Doorman's surface: its runbook (log in, flush, revoke, reload, look), and users, roles and probes around it.

    path 404 -> method 405 -> size 413 -> gate (asked.py) -> body and query 400, 422 -> the operation

Each subject is a module with its rows; words.py says how refusals are said.
"""

from functools import lru_cache
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

from msgspec.structs import replace

from ostiary.control.penalties import Throttled
from ostiary.core.permission import NOBODY
from ostiary.core.refusal import Refusal
from ostiary.core.snapshot import SECOND
from ostiary.dialects.credentials import foreign
from ostiary.dialects.desk import Desk, call_of
from ostiary.dialects.doorman import admin, authorization, configuration, probes, roles, users
from ostiary.dialects.doorman.asked import Asked, Row, offered
from ostiary.dialects.doorman.authorization import LOG_IN
from ostiary.dialects.doorman.words import (
    AWAY,
    DEFECT,
    HEADERS,
    NOT_ALLOWED,
    NOT_FOUND,
    ROOM,
    TOO_LARGE,
    VALIDATION,
    error,
    refused,
)
from ostiary.dialects.message import Answer, Look, Request, segment

ROWS = tuple(chain.from_iterable(each.ROWS for each in (authorization, admin, configuration, probes, users, roles)))
PATHS: dict[str, dict[str, Row]] = {}
for _row in ROWS:
    PATHS.setdefault(_row.path, {})[_row.method] = _row
    if _row.method == "GET":
        PATHS[_row.path]["HEAD"] = _row


class Naming(NamedTuple):
    """A path with a `{...}`: where it stands, what stands around it, and the methods."""

    place: int
    around: tuple[str, ...]
    methods: dict[str, Row]


def _naming(path: str, methods: dict[str, Row]) -> Naming:
    parts = path.split("/")
    place = next(place for place, part in enumerate(parts) if part.startswith("{"))
    return Naming(place, (*parts[:place], *parts[place + 1 :]), methods)


_FIXED = MappingProxyType({tuple(path.split("/")): methods for path, methods in PATHS.items() if "{" not in path})
_NAMING = tuple(_naming(path, methods) for path, methods in PATHS.items() if "{" in path)


def find(path: str) -> tuple[dict[str, Row], str] | None:
    """The methods of a path, and what stands for its `{...}`. Segments are decoded once, after splitting."""
    parts = tuple(segment(part) for part in path.split("/"))
    if parts in _FIXED:
        return _FIXED[parts], ""
    for place, around, methods in _NAMING:
        if len(parts) > place and parts[place] and (*parts[:place], *parts[place + 1 :]) == around:
            return methods, parts[place]
    return None


class Doorman:
    """The Doorman surface."""

    prefixes = ("/platform", "/api")
    faces_clients = False

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def room(self, request: Request) -> int:
        return ROOM

    def look(self, request: Request) -> Look | None:
        """Log-ins: whoever guesses passwords is soon barred, and goes on asking hundreds of times a second."""
        is_log_in = (request.method, request.path) == (LOG_IN.method, LOG_IN.path)
        return self._turned_away if is_log_in and not offered(request) and not foreign(request) else None

    def _turned_away(self, request: Request) -> Answer | None:
        """What a log-in gets from an address that is still barred, and of which the audit counts that already."""
        standing = self.desk.control.penalties.turned_away(request.address)
        if standing is None or not self.desk.registry.refused_again(LOG_IN.operation, "doorman", request.address):
            return None
        return _throttled(-(-standing.left // SECOND), standing.now // SECOND, standing.allowed)

    async def answer(self, request: Request) -> Answer:
        found = find(request.path)
        if found is None:
            return error(404, NOT_FOUND)
        methods, item = found
        allowed = ", ".join(sorted({*methods, "OPTIONS"}))
        if request.method == "OPTIONS":
            return Answer(204, headers=(*HEADERS, ("Allow", allowed)))
        row = methods.get(request.method)
        if row is None:
            return error(405, NOT_ALLOWED, ("Allow", allowed))
        if request.oversized:
            return error(413, TOO_LARGE)
        try:
            return await self._asked(row, request, item)
        except Refusal as refusal:
            return refused(refusal, row.words, row.denied, row.unauthorized, offered=offered(request))

    def refuse(self, request: Request, status: int, reason: str) -> Answer:
        """What is no request: a body too large, a defect, or a mistake of the sender, told like one in a body."""
        if status == 413:
            return error(status, TOO_LARGE)
        if status == 500:
            return error(status, DEFECT)
        if status == 503:
            return error(status, AWAY, ("Retry-After", "1"))
        return error(status, VALIDATION, errors=[{"path": "$", "message": reason}])

    async def _asked(self, row: Row, request: Request, item: str) -> Answer:
        """The handler's answer; a refusal stands in the audit before it is told."""
        call = replace(call_of(request, NOBODY, "doorman"), target=item)
        asked = Asked(self.desk, request, row, item, call)
        try:
            await row.gate(asked)
            return await row.handler(asked)
        except Refusal as refusal:
            await asked.tell(refusal)
            raise


@lru_cache(256)
def _throttled(seconds: int, now: int, allowed: int) -> Answer:
    """What a log-in gets in one second, from all addresses whose bars end in the same."""
    refusal = Throttled(seconds * SECOND, now * SECOND, allowed)
    return refused(refusal, LOG_IN.words, LOG_IN.denied, LOG_IN.unauthorized, offered=False)
