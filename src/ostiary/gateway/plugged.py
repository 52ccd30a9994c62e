"""Running plug-ins on an exchange: what they are given, and what becomes of what they changed."""

import asyncio
import re
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from ostiary.gateway.fields import RequestFields
from ostiary.gateway.plugins import Built, Headers, Refuse, Request, Response
from ostiary.gateway.response_head import ResponseHead

if TYPE_CHECKING:
    from ostiary.gateway.exchange import Exchange

_METHOD = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,32}")
FRAMING = frozenset(
    ("content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer", "host")
)
"""Fields that plug-ins cannot set: they belong to the connection, not to the message."""
OF_THE_BODY = ("content-encoding", "etag", "content-range", "accept-ranges", "content-md5", "digest", "last-modified")
"""Fields that describe a body which is replaced."""


class PluginFailed(Exception):
    """A plug-in raised something, or made what cannot be sent. The text names it and says what happened."""


def request_of(exchange: "Exchange", body: bytes) -> Request:
    """The request as it would go to the backend, for actions to change."""
    match, fields, rules = exchange.match, exchange.fields, exchange.target.rules
    pairs = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in fields.pairs]
    if rules.body_filters:
        # A filter that reads the body must be able to.
        pairs = [pair for pair in pairs if pair[0] != "accept-encoding"]
    admission = exchange.admitted.admission if exchange.admitted else None
    path = match.path.decode("latin-1")
    return Request(match.method.decode(), path, Headers(pairs), body, admission, fields.address, rules.properties)


def response_of(head: ResponseHead) -> Response:
    """The response as it would go to the client, its body still empty, for filters to change."""
    lines = head.start.decode("latin-1").split("\r\n")[1:-1]
    parts = (line.partition(": ") for line in lines)
    return Response(head.status, Headers((name, value) for name, _, value in parts), b"")


def rewritten(request: Request, fields: RequestFields, collected: bool) -> tuple[bytes, bytes]:
    """Start line and field lines of a request that actions have seen. PluginFailed for what cannot be sent."""
    path = request.path.encode("utf-8", "replace")
    if not path.startswith(b"/") or any(byte <= 32 or byte >= 127 for byte in path):
        raise PluginFailed("an action made a path that cannot be sent")
    if not _METHOD.fullmatch(request.method):
        raise PluginFailed("an action made a method that cannot be sent")
    if b"{" in path.partition(b"?")[0]:
        raise PluginFailed("the backend path has a name that nothing filled in")
    framing = b"content-length: %d\r\n" % len(request.body) if collected else fields.framing()
    return b"%s %s HTTP/1.1\r\n" % (request.method.encode(), path), _lines(request.headers) + framing


def response_start(response: Response) -> bytes:
    """Status line and field lines of a response that filters have seen, without framing. PluginFailed as above."""
    if not 200 <= response.status <= 599:
        raise PluginFailed("a filter made a status that cannot be sent")
    return b"HTTP/1.1 %d \r\n%s" % (response.status, _lines(response.headers))


def _lines(headers: Headers) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items() if name not in FRAMING).encode("latin-1")


def replace_body(response: Response, body: bytes) -> None:
    """Put an error body in place of the backend's, and drop what described that one."""
    response.body = body
    for name in OF_THE_BODY:
        response.headers.remove(name)
    response.headers.set("content-type", "application/json")


def run(plugins: list[Built], are_async: bool, subject: Any) -> "asyncio.Task[None] | None":
    """Run plain plug-ins now; where one is async, all in a task. Raises (from the task) Refuse or PluginFailed."""
    if are_async:
        return asyncio.get_running_loop().create_task(_run_all(plugins, subject))
    for each in plugins:
        _call(each, subject)
    return None


async def _run_all(plugins: list[Built], subject: Any) -> None:
    for each in plugins:
        pending = _call(each, subject)
        if pending is not None:
            try:
                await pending
            except Refuse:
                raise
            except Exception as defect:
                raise PluginFailed(_what(each, defect)) from defect


def _call(plugin: Built, subject: Any) -> Awaitable[None] | None:
    try:
        return plugin.function(subject)
    except Refuse:
        raise
    except Exception as defect:
        raise PluginFailed(_what(plugin, defect)) from defect


def _what(plugin: Built, defect: Exception) -> str:
    return f"{plugin.name}: {type(defect).__name__}: {defect}"
