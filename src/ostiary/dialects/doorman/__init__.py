"""Doorman's surface: its runbook's routes as far as they exist yet (flush, reload, configuration, probes).

    path 404 -> method 405 -> size 413 -> credential 401 -> permission 403 -> query 422 -> the operation

Errors are {"error_code": ..., "error_message": ...}; VAL001 and CFG008 add members.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Struct

from ostiary.control.caches import Flush, Flushed
from ostiary.control.call import Call
from ostiary.control.registry import allow
from ostiary.control.reload import NotReloaded
from ostiary.core.permission import NOBODY, Principal
from ostiary.core.refusal import Forbidden, Invalid, Limited, Mistake, Refusal, Unauthenticated, Unavailable
from ostiary.dialects import credentials
from ostiary.dialects.desk import Desk, applied, call_of
from ostiary.dialects.message import Answer, Request, json_answer

ROOM = 1_048_576
HEADERS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)
Pair = tuple[str, str]
"""Error code and message."""

NO_FLUSH = ("GTW008", "You do not have permission to clear caches")
NO_AUTH = ("AUTH900", "You do not have permission to manage auth")
NO_CONFIG = ("CFG001", "Insufficient permissions: manage_gateway required")
NOT_FOUND = ("GTW003", "Not Found")
NOT_ALLOWED = ("GTW004", "Method Not Allowed")
TOO_LARGE = ("REQ001", f"Request entity too large (max: {ROOM} bytes)")
UNAUTHORIZED = ("AUTH005", "Unauthorized")
VALIDATION = ("VAL001", "Validation Error")
THROTTLED = "IP_RATE_LIMIT"
DEFECT = ("GTW999", "An unexpected error occurred")
AWAY = ("GTW998", "Service unavailable")


class Asked(Struct):
    """One request to one row, permitted."""

    desk: Desk
    request: Request
    call: Call

    async def run(self, name: str, params: Struct | None = None) -> Any:
        """The operation's result, or its Refusal; without parameters, its own defaults."""
        return await self.desk.run(name, params or self.desk.registry.get(name).params(), self.call)


class Row(Struct, frozen=True):
    """One method and path."""

    method: str
    path: str
    operation: str
    """Empty: public, and no operation."""
    handler: Callable[[Asked], Awaitable[Answer]]
    denied: Pair = NO_CONFIG
    """What a missing permission is called here."""
    signed_in: bool = False
    """Whoever holds any credential may, whatever the operation asks for elsewhere."""


async def flush(asked: Asked) -> Answer:
    """Drop what is cached everywhere; `penalties=true` lifts those of log-ins too."""
    flushed: Flushed = await asked.run("caches.flush", Flush(_penalties(asked.request)))
    counts = msgspec.to_builtins(flushed)
    told = ", ".join(f"{name}={count}" for name, count in counts.items())
    return _done({"message": "All caches cleared"}, ("X-Ostiary-Flushed", told), *applied(asked.call))


def _penalties(request: Request) -> bool:
    values = [value for name, value in request.pairs() if name == "penalties"]
    if values not in ([], ["true"], ["false"]):
        raise Invalid("params.invalid", "penalties", (Mistake("$.penalties", "expected true or false, once"),))
    return values == ["true"]


async def reload(asked: Asked) -> Answer:
    """Read the configuration again; the answer comes when every worker serves it."""
    done = await asked.run("config.reload")
    return _done({"data": {"message": "Configuration reloaded successfully", **msgspec.to_builtins(done)}},
                 *applied(asked.call))  # fmt: skip


async def current(asked: Asked) -> Answer:
    """The effective settings and where each comes from; the command to reload stands in both places."""
    shown = msgspec.to_builtins(await asked.run("config.current"))
    return _done({"data": shown, "reload_command": shown["reload_command"]})


async def reloadable_keys(asked: Asked) -> Answer:
    """The settings that a reload can change."""
    return _done({"data": msgspec.to_builtins(await asked.run("config.reloadable_keys"))})


async def health(asked: Asked) -> Answer:
    """Whether the process answers at all."""
    return _done({"status": "online"})


async def liveness(asked: Asked) -> Answer:
    """The same under another name."""
    return _done({"status": "alive"})


async def readiness(asked: Asked) -> Answer:
    """Whether traffic is served; more to whoever manages the gateway."""
    state = await ready(asked.desk)
    shown: dict[str, object] = {"status": "ready" if state.ready else "degraded"}
    if asked.call.principal.may("gateway:manage"):
        shown |= {
            "mode": asked.desk.control.mode,
            "cache_backend": "in-process",
            "store": state.store,
            "bus": True,
            "workers": {"configured": state.configured, "serving": state.serving},
            "revision": state.revision,
        }
    return _done(shown, status=200 if state.ready else 503)


class State(Struct, frozen=True):
    """How the node does."""

    store: bool
    draining: bool
    configured: int
    serving: int
    revision: int

    @property
    def ready(self) -> bool:
        """Whether the store answers, somebody serves, and the node is not ending."""
        return self.store and self.serving > 0 and not self.draining


async def ready(desk: Desk) -> State:
    """The state of now."""
    workers = desk.control.workers.status()
    serving = [each for each in workers if each.connected and each.revision]
    try:
        await desk.control.changes.newest()
    except Unavailable:
        return State(False, desk.draining, len(workers), len(serving), 0)
    revision = max((each.revision for each in serving), default=0)
    return State(True, desk.draining, len(workers), len(serving), revision)


ROWS = (
    Row("DELETE", "/api/caches", "caches.flush", flush, NO_FLUSH),
    Row("POST", "/platform/config/reload", "config.reload", reload),
    Row("GET", "/platform/config/current", "config.current", current),
    Row("GET", "/platform/config/reloadable-keys", "config.reloadable_keys", reloadable_keys, signed_in=True),
    Row("GET", "/api/health", "", health),
    Row("GET", "/platform/monitor/liveness", "", liveness),
    Row("GET", "/platform/monitor/readiness", "", readiness),
)
PATHS: dict[str, dict[str, Row]] = {}
for _row in ROWS:
    PATHS.setdefault(_row.path, {})[_row.method] = _row
    if _row.method == "GET":
        PATHS[_row.path]["HEAD"] = _row


class Doorman:
    """The Doorman surface."""

    prefixes = ("/platform", "/api")
    faces_clients = False

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def room(self, request: Request) -> int:
        return ROOM

    async def answer(self, request: Request) -> Answer:
        methods = PATHS.get(request.path)
        if methods is None:
            return _error(404, NOT_FOUND)
        allowed = ", ".join(sorted({*methods, "OPTIONS"}))
        if request.method == "OPTIONS":
            return Answer(204, headers=(*HEADERS, ("Allow", allowed)))
        row = methods.get(request.method)
        if row is None:
            return _error(405, NOT_ALLOWED, ("Allow", allowed))
        if request.oversized:
            return _error(413, TOO_LARGE)
        try:
            return await row.handler(Asked(self.desk, request, await self._admitted(row, request)))
        except Refusal as refusal:
            return _refused(refusal, row, credentials.offered(request))

    def refuse(self, request: Request, status: int, reason: str) -> Answer:
        return _error(status, DEFECT if status == 500 else (f"REQ{status}", reason))

    async def _admitted(self, row: Row, request: Request) -> Call:
        """The call, once credential and permission hold; else the refusal stands in the audit."""
        call = call_of(request, NOBODY, "doorman")
        if not row.operation:
            return msgspec.structs.replace(call, principal=await self._whoever(request))
        operation = self.desk.registry.get(row.operation)
        try:
            call = msgspec.structs.replace(call, principal=await credentials.operator(self.desk, request))
            if call.principal is NOBODY:
                raise Unauthenticated("authentication.required", "Authentication is required")
            if row.signed_in:
                permissions = call.principal.permissions | {operation.permission}
                principal = msgspec.structs.replace(call.principal, permissions=permissions)
                call = msgspec.structs.replace(call, principal=principal)
            allow(operation, call)
        except Refusal as refusal:
            await self.desk.registry.refused(self.desk.control, row.operation, call, refusal)
            raise
        return call

    async def _whoever(self, request: Request) -> Principal:
        """On public paths a credential that does not hold is ignored."""
        try:
            return await credentials.operator(self.desk, request)
        except Refusal:
            return NOBODY


def _refused(refusal: Refusal, row: Row, offered: bool) -> Answer:
    match refusal:
        case Unauthenticated():
            error = ', error="invalid_token"' if offered else ""
            return _error(401, UNAUTHORIZED, ("WWW-Authenticate", f'Bearer realm="ostiary"{error}'))
        case Forbidden(code="login.inactive"):
            return _error(401, UNAUTHORIZED, ("WWW-Authenticate", 'Bearer realm="ostiary", error="invalid_token"'))
        case Forbidden(code="penalties.denied"):
            return _error(403, NO_AUTH)
        case Forbidden():
            return _error(403, row.denied)
        case Limited():
            return _error(429, (THROTTLED, refusal.message), ("Retry-After", str(refusal.retry_after)))
        case Unavailable():
            return _error(503, AWAY, ("Retry-After", str(refusal.retry_after)))
        case NotReloaded() if row.operation == "config.reload":
            return _not_reloaded(refusal)
        case _:
            errors = [{"path": mistake.path, "message": mistake.message} for mistake in refusal.mistakes]
            return _error(422, VALIDATION, errors=errors)


def _not_reloaded(refusal: NotReloaded) -> Answer:
    """CFG008: every mistake with its place, in file order, and what keeps serving."""
    errors = [
        {"file": each.file, "line": each.line, "path": each.path, "message": each.message} for each in refusal.mistakes
    ]
    return _error(422, ("CFG008", refusal.message), errors=errors, revision=refusal.revision)


def _done(value: object, *headers: tuple[str, str], status: int = 200) -> Answer:
    return json_answer(status, value, (*HEADERS, *headers))


def _error(status: int, pair: Pair, *headers: tuple[str, str], **members: object) -> Answer:
    body = {"error_code": pair[0], "error_message": pair[1], **members}
    return json_answer(status, body, (*HEADERS, *headers))
