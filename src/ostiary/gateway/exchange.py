"""One exchange, in the order in which it happens:

    begin -> admit -> limit -> act -> choose a backend -> forward -> respond (error bodies, filters) -> finish.

A client connection has one exchange at a time and is reused for it, so that the plain case makes no object, task or
coroutine: the steps are plain calls. A step that must wait (for control, for a connection, for a body, for an async
plug-in) leaves a way to give up in `_waiting` and goes on from a callback.
"""

import asyncio
from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING

from ostiary.gateway import answers
from ostiary.gateway.admissions import Admitted
from ostiary.gateway.backend import Backend
from ostiary.gateway.backend_connection import BackendConnection
from ostiary.gateway.cells import Cell
from ostiary.gateway.director import Assigned, Director, nobody
from ostiary.gateway.fields import RequestFields
from ostiary.gateway.generation import NO_TOKEN, PUBLIC, USER_TOKEN, Match, Target
from ostiary.gateway.plugged import PluginFailed, replace_body, request_of, response_of, response_start, rewritten, run
from ostiary.gateway.plugins import Refuse, Request, Response
from ostiary.gateway.response_head import ResponseHead
from ostiary.gateway.upstream import Upstream
from ostiary.link.messages import Question

if TYPE_CHECKING:
    from ostiary.gateway.client import Client
    from ostiary.gateway.worker import Worker

FORWARD, COLLECT = range(2)
"""What becomes of a request body: to the backend as it comes, or kept whole for a plug-in."""

NEVER = 1 << 62
SLACK = 500_000_000
"""Nanoseconds that connecting itself gets to fail first, so that the next backend can be tried."""
LATER, SOON = 5_000_000_000, 1_000_000_000
"""Nanoseconds that an exchange waits for control at most, then 503: one lease, or less where the lease has run out."""


class Exchange:
    """The steps of one exchange; `client` is the connection that it came on."""

    __slots__ = (
        "_chunked_out", "_collected", "_held", "_late", "_override", "_payload", "_reaching", "_response", "_retried",
        "_tried", "_waiting", "admitted", "assigned", "backend", "bodiless", "chosen", "client", "close", "fields",
        "head_sent", "heads", "limits", "match", "request_done", "request_id", "sent", "simple", "sink", "started",
        "status", "stop", "target", "ticket", "transport", "upgrading", "why", "worker",
    )  # fmt: skip

    transport: asyncio.Transport
    fields: RequestFields
    match: Match
    target: Target

    def __init__(self, worker: "Worker", client: "Client") -> None:
        self.worker = worker
        self.client = client
        self.request_id = b""
        self.ticket = 0
        self.backend: BackendConnection | None = None
        self.chosen: Backend | None = None
        """The backend of this exchange, or still of the one before."""
        self.assigned: Assigned | None = None
        """Of a director's user, likewise."""
        self.match = worker.no_match
        self._waiting: Callable[[], object] | None = None
        self._reaching = -1
        """The ticket of the last wait for a connection."""
        self.reset()

    def reset(self) -> None:
        """Be as new, for the next exchange of the connection (after a simple one only three things have changed)."""
        self.started = 0
        self.admitted: Admitted | None = None
        self.limits = b""
        """Fields of the answer that tell what the limits have left."""
        self.status = 0
        self.sent = 0
        self.heads = 0
        """Bytes of the answer besides its body."""
        self.why = ""
        self.close = False
        self.request_done = True
        self.head_sent = False
        self.simple = True
        """Nothing but passing on: no body to send, no plug-in, no retry; the response may go out in one write."""
        self.bodiless = False
        self.upgrading = False
        self.sink = FORWARD
        self._collected: list[bytes] = []
        self._held = 0
        self._response: Response | None = None
        self._chunked_out = False
        self._retried = False
        self._tried: set[Backend] | None = None
        self._override: tuple[bytes, bytes] | None = None
        self._payload = b""
        self.stop = NEVER
        self._late: int | Callable[[], None] = 504

    # -- admit

    def begin(self, now: int) -> None:
        """A request head has come: `fields` and `match` are set."""
        target = self.match.target
        if target is None:
            self._unknown()
            return
        self.target = target
        rules = target.rules
        if rules.timeout:
            self.stop = now + rules.timeout
        if rules.kind == PUBLIC:
            if rules.limit:
                self._limit_route(now)
            else:
                self._act(now)
            return
        digest = self.fields.digest
        if digest is None:
            self.refuse(401, answers.TOKEN_REQUIRED, self.worker.generation.answers.bearer, "token missing")
            return
        worker = self.worker
        admitted = worker.admissions.young.get(digest)
        if admitted is None or now >= worker.lease_until:
            self._admit_slowly(digest, now)
        else:
            self._admitted(admitted, now)

    def _admit_slowly(self, digest: bytes, now: int) -> None:
        """The token is not in the young cache, or no lease is fresh."""
        worker = self.worker
        if now < worker.lease_until:
            if admitted := worker.admissions.find(digest):
                self._admitted(admitted, now)
                return
            if not digest or worker.admissions.refused(digest, now):
                self._not_valid()
                return
        elif not digest:
            self._not_valid()
            return
        if wait := worker.guesses.wait(self.fields.address, now):
            seconds = max(1, -(-wait // 1_000_000))
            self.refuse(429, None, b"retry-after: %d\r\n" % seconds, "too many unknown tokens")
            return
        if not worker.ask(digest, self):
            self.unavailable("control is away")
            return
        later = LATER if now < worker.lease_until else SOON
        self.wait(lambda: worker.unask(digest, self), now + later, 503)

    def answered(self, admitted: Admitted | None, now: int) -> None:
        """Control has said what the token stands for (None: nothing)."""
        self._waiting = None
        if admitted is None:
            self._not_valid()
            return
        self.client.sign(admitted)
        self.client.tally.asked += 1
        self._admitted(admitted, now)

    def _not_valid(self) -> None:
        challenge = self.worker.generation.answers.invalid_token
        self.refuse(401, answers.TOKEN_NOT_VALID, challenge, "token not valid")

    def _admitted(self, admitted: Admitted, now: int) -> None:
        if admitted.expires < now:
            self._not_valid()
            return
        self.admitted = admitted
        if admitted.user != self.client.tally.user:
            self.client.sign(admitted)
        cell = admitted.cell
        if cell is None or self._take(cell, now):
            self._allow(now)
        else:
            self._draw(cell, now, self._allow)

    def _allow(self, now: int) -> None:
        """The token passes; does it pass here?"""
        rules, admitted = self.target.rules, self.admitted
        if admitted is None:
            return
        if rules.scopes and rules.scopes.isdisjoint(admitted.scopes):
            self._forbid(answers.SCOPE_NOT_VALID, "scope not valid")
        elif rules.kind == NO_TOKEN or (rules.kind == USER_TOKEN and not admitted.user):
            self._forbid(answers.TYPE_NOT_VALID, "token type not valid")
        elif rules.limit:
            self._limit_route(now)
        else:
            self._act(now)

    def _forbid(self, body: bytes, why: str) -> None:
        challenge = self.worker.generation.answers.insufficient_scope
        self.refuse(401 if self.target.rules.compat else 403, body, challenge, why)

    # -- limit

    def _limit_route(self, now: int) -> None:
        limit = self.target.rules.limit
        if limit is None:
            return
        subject = self._subject(limit.by)
        cell = self.worker.cells.of(f"route {limit.name} {subject}".encode(), limit.limit, limit.name)
        if self._take(cell, now):
            self._act(now)
        else:
            self._draw(cell, now, self._act)

    def _subject(self, by: str) -> str:
        admission = self.admitted.admission if self.admitted else None
        if by == "route":
            return ""
        if admission and by == "user" and admission.user:
            return f"user {admission.user}"
        if admission and by != "address":
            return f"client {admission.client}"
        return f"address {self.fields.address}"

    def _take(self, cell: Cell, now: int) -> bool:
        """Take one request from `cell`, if it has one at hand."""
        if not cell.left or now >= cell.until:
            return False
        cell.left -= 1
        if cell.left < cell.low and not cell.asked:
            self.worker.draw(cell)
        if self.worker.settings.ratelimit_headers:
            self.limits += cell.told()
        return True

    def _draw(self, cell: Cell, now: int, then: Callable[[int], None]) -> None:
        """Nothing is at hand: refuse if control refused lately, else ask it and wait."""
        if now < cell.refused_until:
            self._limited(cell, (cell.refused_until - now) // 1000)
            return

        def drawn(wait: int) -> None:
            self._waiting = None
            if wait:
                self._limited(cell, wait)
                return
            if self.worker.settings.ratelimit_headers:
                self.limits += cell.told()
            then(monotonic_ns())

        want = cell.wait(drawn)
        if want is not None and not self.worker.draw_now(cell, want):
            cell.leave(drawn)
            drawn(cell.alone(now // 1000))
            return
        self.wait(lambda: cell.leave(drawn), now + SOON, lambda: drawn(cell.alone(monotonic_ns() // 1000)))

    def _limited(self, cell: Cell, wait: int) -> None:
        seconds = max(1, -(-wait // 1_000_000))
        self.limits += cell.exhausted(seconds)
        self.refuse(429, None, b"retry-after: %d\r\n" % seconds, "rate limit")

    # -- act

    def _act(self, now: int) -> None:
        rules, fields = self.target.rules, self.fields
        if fields.has_body:
            if fields.length > rules.max_body:
                self.refuse(413, None, b"", "body too large")
                return
            if fields.expect and not self.client.buffer:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if rules.plain and fields.plain and not self.match.head:
            self._choose(now)
            return
        self.simple = False
        self.upgrading = bool(fields.upgrade)
        if self.upgrading and "ws" in self.worker.services.stopped:
            self.refuse(503, None, b"retry-after: 1\r\n", "tunnels are stopped")
            return
        self.bodiless = self.match.head
        if not rules.actions and not rules.filters:
            self._choose(now)
        elif rules.body_actions and fields.has_body:
            self._collect(rules.max_body)
        else:
            self._run_actions(b"")

    def _collect(self, max_body: int) -> None:
        if self.fields.length > min(max_body, self.worker.settings.max_buffered_body):
            self.refuse(413, None, b"", "body too large to be held for a plug-in")
            return
        self.sink = COLLECT
        self.client.read_body()

    def collected(self) -> None:
        """The whole request body is there, for the plug-ins."""
        body, self._collected = b"".join(self._collected), []
        self._run_actions(body)

    def _run_actions(self, body: bytes) -> None:
        try:
            request = request_of(self, body)
            pending = run(self.target.rules.actions, self.target.rules.async_actions, request)
        except Refuse as refusal:
            self._refused(refusal)
            return
        except PluginFailed as defect:
            self._plugin_failed(defect)
            return
        if pending is None:
            self._acted(request)
        else:
            self._await(pending, lambda: self._acted(request))

    def _await(self, pending: "asyncio.Task[None]", then: Callable[[], None]) -> None:
        ticket = self.ticket

        def done(task: asyncio.Task[None]) -> None:
            if task.cancelled() or not self.waits_for(ticket):
                return
            defect = task.exception()
            if isinstance(defect, Refuse):
                self._refused(defect)
            elif isinstance(defect, PluginFailed):
                self._plugin_failed(defect)
            else:
                then()

        pending.add_done_callback(done)
        self.wait(pending.cancel, monotonic_ns() + self.target.upstream.timeout, 504)

    def _refused(self, refusal: Refuse) -> None:
        headers = b"".join(f"{n}: {v}\r\n".encode("latin-1") for n, v in refusal.headers.items())
        self.refuse(refusal.status, refusal.body, headers, "action refused")

    def _plugin_failed(self, defect: PluginFailed) -> None:
        self.worker.log_defect(str(defect), self.target.name, self.request_id)
        self._response = None
        self.drop_backend()
        self.refuse(500, b"" if self.target.rules.compat else None, b"", "plug-in failed")

    def _acted(self, request: Request) -> None:
        collected = self.sink == COLLECT
        try:
            self._override = rewritten(request, self.fields, collected)
        except PluginFailed as defect:
            self._plugin_failed(defect)
            return
        self._payload = request.body if collected else b""
        self._choose(monotonic_ns())

    # -- choose a backend, forward

    def _choose(self, now: int) -> None:
        upstream = self.target.upstream
        backend = upstream.only if self._tried is None else None
        if backend is None:
            if upstream.director is not None:
                self._steer(upstream.director, now)
                return
            backend = upstream.choose(now, self._tried)
        if backend is None:
            self._none_left(upstream)
        else:
            self._go(backend, now)

    def _none_left(self, upstream: Upstream) -> None:
        if upstream.backends:
            self.refuse_backend(502, "no backend is left")
        else:
            self.refuse_backend(503, "no backend is ready")

    def _steer(self, director: Director, now: int) -> None:
        """The backend is the one of this user, and no other."""
        worker, admitted = self.worker, self.admitted
        if self._tried:
            self.refuse_backend(502, "the user's backend could not be reached")
            return
        tag = (admitted.tag if admitted is not None else "") or self.target.rules.director_tag
        name = director.name(self)
        assigned = director.find(tag, name, now) if name and now < worker.lease_until else None
        if assigned is not None:
            self._assign(assigned, now)
            return
        question = Question(director.upstream, tag, name or nobody(self), bool(name))
        backend = None if name or now >= worker.lease_until else director.nameless(question)
        self.assigned = self.chosen = None
        if backend is not None:
            self._go(backend, now)
        elif worker.steer(question, self):
            grace = max(worker.settings.kick_grace * 1000, director.drain)
            later = LATER + grace if now < worker.lease_until else SOON
            self.wait(lambda: worker.unask_place(question, self), now + later, 503)
        else:
            self.unavailable("control is away")

    def _assign(self, assigned: Assigned, now: int) -> None:
        self.assigned = assigned
        if assigned not in self.client.assigned:
            self.client.use(assigned)
        self._go(assigned.stay.backend, now)

    def placed(self, assigned: Assigned | None, backend: Backend | None, now: int) -> None:
        """Control has said where this goes."""
        self._waiting = None
        if assigned is not None:
            self._assign(assigned, now)
        elif backend is not None:
            self._go(backend, now)
        else:
            self.refuse(503, None, b"retry-after: 1\r\n", "no host is up")

    def _go(self, backend: Backend, now: int) -> None:
        self.chosen = backend
        if backend.idle and not self._retried:
            self._send(backend.take(self), now)
        else:
            self._reaching = self.ticket
            backend.connect(self)
            until = now + self.target.upstream.definition.connect_timeout * 1000 + SLACK
            self.wait(lambda: backend.leave(self), until, 504)

    def connected(self, connection: BackendConnection, ticket: int) -> bool:
        """A connection for this exchange; False if it is wanted no more."""
        if not self.waits_for(ticket):
            return False
        self._send(connection, monotonic_ns())
        return True

    def unreachable(self, backend: Backend, ticket: int, timed_out: bool) -> None:
        """No connection to `backend` could be made; the next one, if there is one (nothing was sent)."""
        if not self.waits_for(ticket):
            return
        self.simple = False
        self._tried = (self._tried or set()) | {backend}
        now = monotonic_ns()
        upstream = self.target.upstream
        if upstream.director is not None or upstream.choose(now, self._tried) is None:
            self.refuse_backend(504 if timed_out else 502, "no backend could be reached")
        else:
            self._choose(now)

    def _send(self, connection: BackendConnection, now: int) -> None:
        self.backend = connection
        fields, match, target = self.fields, self.match, self.target
        if self._override is None:
            start, kept = match.start, fields.kept
        else:
            start, kept = self._override
        admitted = self.admitted
        host = (
            b"host: " + fields.host + b"\r\n"
            if target.upstream.definition.preserve_host
            else connection.backend.host_line
        )
        extra = admitted.ident if admitted is not None else b""
        if target.rules.keep_authorization and fields.authorization:
            extra += b"authorization: " + fields.authorization + b"\r\n"
        if self.upgrading:
            extra += b"connection: upgrade\r\nupgrade: " + fields.upgrade + b"\r\n"
        head = b"%s%s%s%sx-request-id: %s\r\n\r\n%s" % (start, host, kept, extra, self.request_id, self._payload)
        self.client.deadline = min(now + target.upstream.timeout, self.stop)
        connection.transport.write(head)
        if fields.has_body and self.sink == FORWARD:
            self.client.read_body()

    def body_data(self, pieces: list[bytes], done: bool) -> None:
        """Some of the request body, for the backend (or a plug-in); `done`: that was all."""
        if self.sink == COLLECT:
            self._collected += pieces
            return
        connection = self.backend
        if connection is None:
            return
        if self.fields.chunked:
            pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
            if done:
                pieces.append(b"0\r\n\r\n")
        if pieces:
            connection.transport.writelines(pieces)
        if done:
            self.client.deadline = min(self.worker.now + self.target.upstream.timeout, self.stop)

    # -- respond

    def whole_response(self, connection: BackendConnection, head: ResponseHead, body: bytes) -> None:
        """The plain case: all of the response at once, passed on in one write."""
        self.status = head.status
        self.sent = len(body)
        end = b"\r\nconnection: close\r\n\r\n" if self.close else b"\r\n\r\n"
        answer = b"%s%sx-request-id: %s%s%s" % (head.start, self.limits, self.request_id, end, body)
        self.transport.write(answer)
        self.heads = len(answer) - self.sent
        self.backend = None
        connection.exchange = None
        connection.backend.release(connection)
        self.client.finish()

    def response_head(self, connection: BackendConnection, head: ResponseHead) -> None:
        """The head of a response whose body follows in pieces."""
        rules = self.target.rules
        self.simple = False
        self.status = head.status
        if head.close:
            connection.spoiled = True
        if head.length < 0:
            self.worker.streams.add(self)
        if not rules.passing and (rules.body_filters or head.status in rules.errors):
            self._response = response_of(head)
            self._collected = []
            return
        if rules.filters:
            self._filter_head(head)
            return
        self.start_response(head.start, head.length < 0)

    def _filter_head(self, head: ResponseHead) -> None:
        """Filters that look at the head only: the body streams on."""
        response = response_of(head)
        try:
            run(self.target.rules.filters, False, response)
            start = response_start(response)
        except Refuse as refusal:
            self.drop_backend()
            self._refused(refusal)
            return
        except PluginFailed as defect:
            self._plugin_failed(defect)
            return
        self.status = response.status
        if head.length >= 0 and self.status not in (204, 304):
            start += b"content-length: %d\r\n" % head.length
        self.start_response(start, head.length < 0)

    def start_response(self, start: bytes, unknown: bool) -> None:
        """Write a response head; `start` holds Content-Length if there is one; `unknown`: nobody knows the length."""
        bodiless = self.bodiless or self.status in (204, 304)
        if not bodiless and unknown:
            if self.fields.minor:
                self._chunked_out = True
                start += b"transfer-encoding: chunked\r\n"
            else:
                self.close = True
        if self.close or not self.request_done:
            self.close = True
            start += b"connection: close\r\n"
        elif not self.fields.minor:
            start += b"connection: keep-alive\r\n"
        self.head_sent = True
        answer = b"%s%sx-request-id: %s\r\n\r\n" % (start, self.limits, self.request_id)
        self.heads = len(answer)
        self.transport.write(answer)

    def response_data(self, data: bytes) -> None:
        """Some of the response body."""
        if self._response is not None:
            self._hold(data)
            return
        self.sent += len(data)
        self.client.deadline = min(self.worker.now + self.target.upstream.timeout, self.stop)
        if self._chunked_out:
            self.transport.write(b"%x\r\n%s\r\n" % (len(data), data))
        else:
            self.transport.write(data)

    def _hold(self, data: bytes) -> None:
        self._held += len(data)
        if self._held > self.worker.settings.max_buffered_body:
            self._response = None
            self.drop_backend()
            self.refuse_backend(502, "response too large to be held for a filter")
            return
        self._collected.append(data)

    def response_end(self, connection: BackendConnection) -> None:
        """The response is complete."""
        self.backend = None
        connection.exchange = None
        if self.request_done and not connection.transport.is_closing():
            connection.backend.release(connection)
        else:
            connection.backend.discard(connection)
        if self._response is not None:
            self._filter(self._response)
            return
        if self._chunked_out:
            self.transport.write(b"0\r\n\r\n")
        self.client.finish()

    def _filter(self, response: Response) -> None:
        """The whole response is there: its error body, then the filters."""
        response.body, self._collected = b"".join(self._collected), []
        rules = self.target.rules
        replaced = rules.errors.get(response.status)
        if replaced is not None and not self.bodiless and response.status not in (204, 304):
            replace_body(response, replaced)
        try:
            pending = run(rules.filters, rules.async_filters, response)
        except Refuse as refusal:
            self._response = None
            self._refused(refusal)
            return
        except PluginFailed as defect:
            self._plugin_failed(defect)
            return
        if pending is None:
            self._filtered(response)
        else:
            self._await(pending, lambda: self._filtered(response))

    def _filtered(self, response: Response) -> None:
        self._response = None
        self.status = response.status
        try:
            start = response_start(response)
        except PluginFailed as defect:
            self._plugin_failed(defect)
            return
        if response.status not in (204, 304) and not self.bodiless:
            start += b"content-length: %d\r\n" % len(response.body)
            self.start_response(start, False)
            self.sent = len(response.body)
            self.transport.write(response.body)
        else:
            self.start_response(start, False)
        self.client.finish()

    def interim_response(self, head: ResponseHead) -> None:
        """A 1xx other than 100 and 101 (RFC 9110 section 15.2): clients of HTTP/1.1 get it."""
        if self.fields.minor:
            self.transport.write(head.start + b"\r\n")

    # -- tunnel

    def tunnel(self, connection: BackendConnection, head: ResponseHead, rest: bytes) -> None:
        """The backend has switched protocols: from now on bytes pass as they come, both ways."""
        self.status = 101
        self.client.open_tunnel()
        self.head_sent = True
        self.worker.streams.add(self)
        self.transport.write(
            b"%sconnection: upgrade\r\n%s%sx-request-id: %s\r\n\r\n%s"
            % (head.start, head.upgrade, self.limits, self.request_id, rest)
        )
        waiting, self.client.buffer = self.client.buffer, b""
        if waiting:
            connection.transport.write(waiting)
        self.client.deadline = self.worker.now + self.worker.settings.tunnel_timeout * 1000

    def tunnel_ended(self, connection: BackendConnection) -> None:
        """The backend has closed the tunnel: what it sent is still delivered."""
        self.backend = None
        connection.backend.active -= 1
        self.client.close_tunnel()

    def tunnel_data(self, data: bytes) -> None:
        """From the backend, through the tunnel."""
        self.sent += len(data)
        self.transport.write(data)
        self.client.deadline = self.worker.now + self.worker.settings.tunnel_timeout * 1000

    # -- refuse

    def refuse(self, status: int, body: bytes | None, headers: bytes, why: str) -> None:
        """Answer by ourselves, with the error body of `status` if one is configured, and end the exchange."""
        if self.head_sent:
            self.client.abort(why)
            return
        self.simple = False
        self.status, self.why = status, why
        self._waiting = None
        body = self.worker.generation.answers.body(status, body)
        self.close = self.close or not self.client.will_skip()
        head = self.match.head
        self.sent = 0 if head else len(body)
        keep = b"connection: keep-alive\r\n" if not self.close and not self.fields.minor else b""
        answer = answers.render(status, body, self.request_id, headers + keep + self.limits, self.close, head)
        self.heads = len(answer) - self.sent
        self.transport.write(answer)
        self.client.tally.refused += status in (401, 403)
        self.client.finish()

    def _unknown(self) -> None:
        match = self.match
        if match.status == 405:
            self.refuse(405, None, b"allow: " + match.allow + b"\r\n", "method not allowed")
        else:
            self.refuse(404, None, b"", "no route")

    def unavailable(self, why: str) -> None:
        """Control cannot be asked: 503."""
        self.client.tally.undecided += 1
        self.refuse(503, None, b"retry-after: 1\r\n", why)

    def refuse_backend(self, status: int, why: str) -> None:
        """The backend's side failed: `status`, or what ApiFest's files expect."""
        if self.target.rules.compat:
            self.refuse(500, b"", b"", why)
        else:
            self.refuse(status, None, b"retry-after: 1\r\n" if status == 503 else b"", why)

    # -- the backend goes away, or lags

    def backend_failed(self, connection: BackendConnection, reason: str) -> None:
        """What came from the backend is no response."""
        self.drop_backend()
        self.refuse_backend(502, reason)

    def backend_lost(self, connection: BackendConnection) -> None:
        """The connection ended in the middle of this exchange."""
        self.backend = None
        connection.backend.active -= 1
        safe = connection.used and not connection.started and self.match.idempotent and not self.fields.has_body
        if safe and not self._retried:
            self._retried, self.simple = True, False
            self.worker.accounts.counters["upstream.retries"] += 1
            self._choose(monotonic_ns())
        elif self._response is not None or not self.head_sent:
            self._response = None
            self.refuse_backend(502, "backend closed the connection")
        else:
            self.client.abort("backend closed the connection in the middle of its answer")

    def drop_backend(self) -> None:
        """Give the backend's connection up."""
        connection, self.backend = self.backend, None
        if connection is not None:
            connection.exchange = None
            connection.backend.discard(connection)

    def backend_full(self) -> None:
        """The backend takes no more for now."""
        self.client.pause()

    def backend_drained(self) -> None:
        """The backend takes more again."""
        self.client.drained()

    # -- wait

    def wait(self, give_up: Callable[[], object], until: int, late: int | Callable[[], None]) -> None:
        """Nothing to do until a callback comes, or until `until` (monotonic ns).

        Then `give_up` calls the callback off, and `late` is the status to answer with, or how to go on.
        """
        self._waiting, self._late = give_up, late
        self.client.deadline = min(until, self.stop)

    def waits_for(self, ticket: int) -> bool:
        """Whether the callback that was given this ticket is still expected; then the wait is over."""
        expected = self._waiting is not None and self.ticket == ticket
        if expected:
            self._waiting = None
            self.ticket += 1
        return expected

    def flowing(self) -> bool:
        """Whether this goes to its backend just now: it has a connection there, or waits for one."""
        return self.backend is not None or (self._waiting is not None and self._reaching == self.ticket)

    def stop_waiting(self) -> None:
        """Call off whatever this exchange waits for."""
        waiting, self._waiting = self._waiting, None
        self.ticket += 1
        if waiting is not None:
            waiting()

    def timed_out(self, reading: bool) -> None:
        """The client's deadline is past; `reading`: while the request body was being read."""
        late = self._late if self._waiting is not None else 408 if reading and not self.client.paused else 504
        self.stop_waiting()
        if not isinstance(late, int):
            if monotonic_ns() < self.stop:
                late()
                return
            late = 504
        self.drop_backend()
        if self.head_sent:
            self.client.abort("timed out")
        elif late == 503:
            self.unavailable("no answer in time")
        elif late == 408:
            self.close = True
            self.refuse(408, None, b"", "request body took too long")
        else:
            self.refuse_backend(late, "backend took too long")
