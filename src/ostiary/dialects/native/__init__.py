"""Ostiary's own surface: every operation under its own name, their OpenAPI document, and the metrics.

    GET  /operations                what there is
    GET  /operations/{name}         a reading operation, parameters in the query
    POST /operations/{name}         any operation, parameters as a JSON object
    GET  /operations/{name}/follow  what goes on: plain text, line by line as it comes
    GET  /openapi.json              OpenAPI 3.1, made from the registry
    GET  /metrics                   Prometheus text, for metrics:read

A refusal is {"error": CODE, "message": SENTENCE} with the meaning's status, and "mistakes" where there are any.
"""

from collections.abc import Awaitable, Callable
from functools import cached_property, partial
from typing import Any

import msgspec

from ostiary.control.call import Call
from ostiary.control.registry import Operation, allow, parse
from ostiary.core.permission import NOBODY
from ostiary.core.refusal import (
    Conflict,
    Forbidden,
    Invalid,
    Limited,
    NotFound,
    Refusal,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from ostiary.dialects import credentials
from ostiary.dialects.desk import Desk, applied, call_of, finished
from ostiary.dialects.message import JSON, Answer, Request, json_answer, repeated, segment
from ostiary.dialects.native.metrics import CONTENT_TYPE, Metrics
from ostiary.dialects.native.openapi import document

ROOM = 1 << 20
STATUS: dict[type[Refusal], int] = {
    Invalid: 400, Unauthenticated: 401, Forbidden: 403, NotFound: 404, Conflict: 409, TooLarge: 413,
    Unsupported: 415, Limited: 429, Unavailable: 503, Refusal: 400,
}  # fmt: skip
OPERATIONS = "/operations/"

Handler = Callable[[Request], Awaitable[Answer]]


class Native:
    """The native surface."""

    prefixes = ("/",)
    faces_clients = False

    def __init__(self, desk: Desk, metrics: Metrics) -> None:
        self.desk = desk
        self.metrics = metrics
        self.pages: dict[str, Handler] = {
            "/operations": self._listing,
            "/openapi.json": self._document,
            "/metrics": self._metrics,
        }

    @cached_property
    def openapi(self) -> bytes:
        """The document, made when first asked for: that takes some 50 ms, which a control that comes back has not."""
        return msgspec.json.encode(document(self.desk.registry))

    def room(self, request: Request) -> int:
        return ROOM

    async def answer(self, request: Request) -> Answer:
        try:
            handler, methods = self._find(request)
            if request.method == "OPTIONS":
                return Answer(204, headers=(("Allow", methods),))
            if request.method not in methods.split(", "):
                raise _NotAllowed(methods)
            if request.oversized:
                raise TooLarge("body.too_large", f"The body is larger than {ROOM} bytes")
            return await handler(request)
        except Refusal as refusal:
            return refused(refusal)

    def refuse(self, request: Request, status: int, reason: str) -> Answer:
        return json_answer(status, {"error": f"http.{status}", "message": reason}, (NO_STORE,))

    def _find(self, request: Request) -> tuple[Handler, str]:
        """The handler of a path and its methods, for Allow. Refuses NotFound."""
        if request.public:
            raise NotFound("path.unknown", "There is nothing here")
        if request.path in self.pages:
            return self.pages[request.path], "GET, HEAD, OPTIONS"
        if not request.path.startswith(OPERATIONS):
            raise NotFound("path.unknown", "There is nothing here")
        name, _, rest = request.path.removeprefix(OPERATIONS).partition("/")
        operation = self.desk.registry.get(segment(name))
        if rest == "follow" and operation.follow is not None:
            return partial(self._follow, operation), "GET, HEAD, OPTIONS"
        if rest or request.path.endswith("/"):
            raise NotFound("path.unknown", "There is nothing here")
        methods = "GET, HEAD, OPTIONS, POST" if operation.reads else "OPTIONS, POST"
        return lambda request: self._operation(operation, request), methods

    async def _operation(self, operation: Operation, request: Request) -> Answer:
        call = await admitted(self.desk, operation, request)
        params = from_query(operation, request) if request.method in ("GET", "HEAD") else from_body(operation, request)
        result = await self.desk.run(operation.name, params, call)
        return finished(call, json_answer(200, result, (NO_STORE, *applied(call))))

    async def _follow(self, operation: Operation, request: Request) -> Answer:
        again = partial(admitted, self.desk, operation, request)
        call = await again()
        lines = self.desk.registry.follow(self.desk.control, operation.name, from_query(operation, request), call)
        return Answer(200, headers=(PLAIN, NO_STORE), stream=self.desk.followed(lines, again))

    async def _listing(self, request: Request) -> Answer:
        listed = [
            {"name": each.name, "summary": each.summary, "permission": each.permission, "reads": each.reads}
            for each in self.desk.registry.operations.values()
        ]
        return json_answer(200, {"operations": listed}, (NO_STORE,))

    async def _document(self, request: Request) -> Answer:
        return Answer(200, self.openapi, (("Content-Type", JSON), NO_STORE))

    async def _metrics(self, request: Request) -> Answer:
        principal = await credentials.operator(self.desk, request)
        if principal is NOBODY:
            raise Unauthenticated("authentication.required", "Authentication is required")
        if not principal.may("metrics:read"):
            raise Forbidden("permission.denied", "This needs the permission metrics:read")
        text = await self.metrics.text(self.desk.control)
        return Answer(200, text, (("Content-Type", CONTENT_TYPE), NO_STORE))


PLAIN = ("Content-Type", "text/plain; charset=utf-8")
NO_STORE = ("Cache-Control", "no-store")


class _NotAllowed(Refusal):
    """Another method; `methods` are those that there are."""

    def __init__(self, methods: str) -> None:
        super().__init__("method.not_allowed", "This path has other methods")
        self.methods = methods


async def admitted(desk: Desk, operation: Operation, request: Request) -> Call:
    """The call, once its credential and permission hold; else the refusal stands in the audit."""
    call = call_of(request, NOBODY, "native")
    try:
        call = msgspec.structs.replace(call, principal=await credentials.operator(desk, request))
        allow(operation, call)
    except Refusal as refusal:
        await desk.registry.refused(desk.control, operation.name, call, refusal)
        raise
    return call


def from_query(operation: Operation, request: Request) -> msgspec.Struct:
    """Parameters out of the query. Refuses Invalid."""
    pairs = request.pairs()
    name = repeated(pairs)
    if name is not None:
        raise Invalid("params.repeated", "A parameter is given more than once")
    return parse(operation, dict(pairs), lax=True)


def from_body(operation: Operation, request: Request) -> msgspec.Struct:
    """Parameters out of a JSON object; nothing at all stands for an empty one. Refuses Unsupported, Invalid."""
    if not request.body:
        return parse(operation, {})
    if request.media_type() != JSON:
        raise Unsupported("body.media_type", f"The body must be {JSON}")
    values = decode(request.body)
    if not isinstance(values, dict):
        raise Invalid("body.not_object", "The body must be a JSON object")
    return parse(operation, values)


def decode(body: bytes) -> Any:
    """JSON. Refuses Invalid `body.malformed`, also for what is nested without end."""
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise Invalid("body.malformed", "The body is not JSON") from error


def refused(refusal: Refusal) -> Answer:
    """A refusal as this surface says it."""
    headers: list[tuple[str, str]] = [NO_STORE]
    status = 405 if isinstance(refusal, _NotAllowed) else next(STATUS[c] for c in type(refusal).__mro__ if c in STATUS)
    if isinstance(refusal, _NotAllowed):
        headers.append(("Allow", refusal.methods))
    if isinstance(refusal, Unauthenticated):
        headers.append(("WWW-Authenticate", credentials.CHALLENGE))
    if isinstance(refusal, Limited | Unavailable):
        headers.append(("Retry-After", str(refusal.retry_after)))
    body: dict[str, object] = {"error": refusal.code, "message": refusal.message}
    if refusal.mistakes:
        body["mistakes"] = refusal.mistakes
    return json_answer(status, body, headers)
