"""Plug-ins at work on an exchange: actions on its request, filters and error bodies on its response.

A body is held only where a plug-in or an error body needs all of it, and only up to `max_buffered_body`.
"""

import asyncio
from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING

from ostiary.gateway.plugged import PluginFailed, replace_body, request_of, response_of, response_start, rewritten, run
from ostiary.gateway.plugins import Built, Refuse, Request, Response
from ostiary.gateway.response_head import NO_BODY, ResponseHead

if TYPE_CHECKING:
    from ostiary.gateway.exchange import Exchange


class Plugging:
    """The work of plug-ins on `exchange`, which goes on when they have done theirs, or is refused."""

    __slots__ = ("_exchange", "_pieces", "_response", "_size", "payload", "start")

    _response: Response
    """While its body is held."""

    def __init__(self, exchange: "Exchange") -> None:
        self._exchange = exchange
        self._pieces: list[bytes] = []
        self._size = 0
        self.start = b"", b""
        """Start line and field lines of the request, as actions have left them."""
        self.payload = b""
        """Its body, if that was held."""

    # -- actions

    def begin(self) -> None:
        """Run the actions, once there is the body that they need; then a backend is chosen."""
        exchange = self._exchange
        rules, fields = exchange.target.rules, exchange.fields
        if not (rules.body_actions and fields.has_body):
            self._act(b"")
        elif fields.length > min(rules.max_body, exchange.worker.settings.max_buffered_body):
            exchange.refuse(413, None, b"", "body too large to be held for a plug-in")
        else:
            exchange.request_sink = self
            exchange.client.read_body()

    def collect(self, pieces: list[bytes], done: bool) -> None:
        """Some of the request body; `done`: that was all."""
        self._pieces += pieces
        if done:
            self._act(self._held())

    def _held(self) -> bytes:
        body, self._pieces = b"".join(self._pieces), []
        return body

    def _act(self, body: bytes) -> None:
        rules, request = self._exchange.target.rules, request_of(self._exchange, body)
        self._run(rules.actions, rules.async_actions, request, lambda: self._acted(request))

    def _acted(self, request: Request) -> None:
        held = self._exchange.request_sink is not None
        self.start = rewritten(request, self._exchange.fields, held)
        self.payload = request.body if held else b""
        self._exchange.choose(monotonic_ns())

    # -- filters

    def filter_head(self, head: ResponseHead) -> None:
        """Filters that look at the head only: the body streams on."""
        response = response_of(head)
        rules = self._exchange.target.rules
        self._run(rules.filters, rules.async_filters, response, lambda: self._head_filtered(response, head.length))

    def _head_filtered(self, response: Response, length: int) -> None:
        exchange, start = self._exchange, response_start(response)
        exchange.status = response.status
        if length >= 0 and response.status not in NO_BODY:
            start += b"content-length: %d\r\n" % length
        exchange.start_response(start, length < 0)

    def hold(self, head: ResponseHead) -> None:
        """Take the body of this response, before anything of it goes to the client."""
        self._response = response_of(head)
        self._exchange.response_sink = self

    def take(self, data: bytes) -> None:
        """Some of the response body."""
        self._size += len(data)
        if self._size > self._exchange.worker.settings.max_buffered_body:
            self._exchange.drop_backend()
            self._exchange.refuse_backend(502, "response too large to be held for a filter")
        else:
            self._pieces.append(data)

    def filter(self) -> None:
        """The whole response is there: its error body, then the filters; then it goes to the client."""
        exchange, response = self._exchange, self._response
        rules, response.body = exchange.target.rules, self._held()
        replaced = rules.errors.get(response.status)
        if replaced is not None and not exchange.bodiless and response.status not in NO_BODY:
            replace_body(response, replaced)
        self._run(rules.filters, rules.async_filters, response, lambda: self._filtered(response))

    def _filtered(self, response: Response) -> None:
        exchange, start = self._exchange, response_start(response)
        exchange.status = response.status
        if exchange.bodiless or response.status in NO_BODY:
            exchange.start_response(start, False)
        else:
            exchange.start_response(start + b"content-length: %d\r\n" % len(response.body), False)
            exchange.sent = len(response.body)
            exchange.transport.write(response.body)
        exchange.client.finish()

    # -- their work

    def _run(
        self, plugins: list[Built], are_async: bool, subject: Request | Response, then: Callable[[], None]
    ) -> None:
        """Have them work on `subject`, then go on."""

        def work() -> None:
            pending = run(plugins, are_async, subject)
            if pending is None:
                then()
            else:
                self._await(pending, then)

        self._answering(work)

    def _await(self, pending: "asyncio.Task[None]", then: Callable[[], None]) -> None:
        exchange, ticket = self._exchange, self._exchange.ticket

        def go_on() -> None:
            pending.result()
            then()

        def done(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and exchange.waits_for(ticket):
                self._answering(go_on)

        pending.add_done_callback(done)
        exchange.wait(pending.cancel, monotonic_ns() + exchange.target.upstream.timeout, 504)

    def _answering(self, step: Callable[[], None]) -> None:
        """Take a step. What a plug-in refuses there, or fails at, is the answer to the client."""
        try:
            step()
        except Refuse as refusal:
            headers = b"".join(f"{n}: {v}\r\n".encode("latin-1") for n, v in refusal.headers.items())
            self._exchange.drop_backend()
            self._exchange.refuse(refusal.status, refusal.body, headers, "action refused")
        except PluginFailed as defect:
            self._failed(str(defect))

    def _failed(self, defect: str) -> None:
        exchange = self._exchange
        exchange.worker.log_defect(defect, exchange.target.name, exchange.request_id)
        exchange.drop_backend()
        exchange.refuse(500, b"" if exchange.target.rules.compat else None, b"", "plug-in failed")
