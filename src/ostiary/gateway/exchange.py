"""One exchange, in the order in which it happens:

    begin -> admit -> limit -> act -> choose a backend -> forward -> respond (error bodies, filters) -> finish.

A client connection has one exchange at a time and is reused for it, so that the plain case makes no object, task or
coroutine: the steps are plain calls. A step that must wait (for control, for a connection, for a body, for an async
plug-in) leaves a way to give up in `waiting` and goes on from a callback.
"""

import asyncio
from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING

from ostiary.core.snapshot import RouteLimit
from ostiary.gateway import answers
from ostiary.gateway.admissions import Admitted
from ostiary.gateway.asking import LATER, SOON
from ostiary.gateway.backend import Backend
from ostiary.gateway.backend_connection import BackendConnection
from ostiary.gateway.director import Assigned
from ostiary.gateway.fields import RequestFields
from ostiary.gateway.generation import NO_TOKEN, PUBLIC, USER_TOKEN, Match, Target
from ostiary.gateway.limiting import cell_of, draw, take
from ostiary.gateway.plugging import Plugging
from ostiary.gateway.response_head import NO_BODY, ResponseHead
from ostiary.gateway.steering import assign, steer
from ostiary.gateway.upstream import Upstream

if TYPE_CHECKING:
    from ostiary.gateway.client import Client
    from ostiary.gateway.worker import Worker

NEVER = 1 << 62
SLACK = 500_000_000
"""Nanoseconds that connecting itself gets to fail first, so that the next backend can be tried."""


class Exchange:
    """The steps of one exchange; `client` is the connection that it came on."""

    __slots__ = (
        "_chunked_out", "_late", "_plugging", "_reaching", "_retried", "admitted", "assigned",
        "backend", "bodiless", "chosen", "client", "close", "fields", "head_sent", "heads", "limits", "match",
        "request_done", "request_id", "request_sink", "response_sink", "sent", "simple", "started", "status", "stop",
        "target", "ticket", "transport", "tried", "upgrading", "waiting", "why", "worker",
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
        self.waiting: Callable[[], object] | None = None
        """What calls off the callback that is waited for."""
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
        self._plugging: Plugging | None = None
        self.request_sink: Plugging | None = None
        """Who takes the request body in the backend's place."""
        self.response_sink: Plugging | None = None
        """Who takes the response body in the client's place."""
        self._chunked_out = False
        self._retried = False
        self.tried: set[Backend] | None = None
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
                self._limit(rules.limit, now)
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
        self.waiting = None
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
        if cell is None or take(self, cell, now):
            self._allow(now)
        else:
            draw(self, cell, now, self._allow)

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
            self._limit(rules.limit, now)
        else:
            self._act(now)

    def _forbid(self, body: bytes, why: str) -> None:
        challenge = self.worker.generation.answers.insufficient_scope
        self.refuse(401 if self.target.rules.compat else 403, body, challenge, why)

    # -- limit

    def _limit(self, limit: RouteLimit, now: int) -> None:
        cell = cell_of(self, limit)
        if take(self, cell, now):
            self._act(now)
        else:
            draw(self, cell, now, self._act)

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
            self.choose(now)
            return
        self.simple = False
        self.upgrading = bool(fields.upgrade)
        if self.upgrading and "ws" in self.worker.services.stopped:
            self.refuse(503, None, b"retry-after: 1\r\n", "tunnels are stopped")
            return
        self.bodiless = self.match.head
        if rules.actions or rules.filters:
            self._plugging = Plugging(self)
            self._plugging.begin()
        else:
            self.choose(now)

    # -- choose a backend, forward

    def choose(self, now: int) -> None:
        """The request is as it is to go to a backend: to which?"""
        upstream = self.target.upstream
        backend = upstream.only if self.tried is None else None
        if backend is None:
            if upstream.director is not None:
                steer(self, upstream.director, now)
                return
            backend = upstream.choose(now, self.tried)
        if backend is None:
            self._none_left(upstream)
        else:
            self.go(backend, now)

    def _none_left(self, upstream: Upstream) -> None:
        if upstream.backends:
            self.refuse_backend(502, "no backend is left")
        else:
            self.refuse_backend(503, "no backend is ready")

    def placed(self, assigned: Assigned | None, backend: Backend | None, now: int) -> None:
        """Control has said where this goes."""
        self.waiting = None
        if assigned is not None:
            assign(self, assigned, now)
        elif backend is not None:
            self.go(backend, now)
        else:
            self.refuse(503, None, b"retry-after: 1\r\n", "no host is up")

    def go(self, backend: Backend, now: int) -> None:
        """It goes to this backend, as soon as there is a connection."""
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
        self.tried = (self.tried or set()) | {backend}
        now = monotonic_ns()
        upstream = self.target.upstream
        if upstream.director is not None or upstream.choose(now, self.tried) is None:
            self.refuse_backend(504 if timed_out else 502, "no backend could be reached")
        else:
            self.choose(now)

    def _send(self, connection: BackendConnection, now: int) -> None:
        self.backend = connection
        fields, match, target = self.fields, self.match, self.target
        start, kept, payload = match.start, fields.kept, b""
        if self._plugging is not None:
            (start, kept), payload = self._plugging.start, self._plugging.payload
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
        head = b"%s%s%s%sx-request-id: %s\r\n\r\n%s" % (start, host, kept, extra, self.request_id, payload)
        self.client.deadline = min(now + target.upstream.timeout, self.stop)
        connection.transport.write(head)
        if fields.has_body and self.request_sink is None:
            self.client.read_body()

    def body_data(self, pieces: list[bytes], done: bool) -> None:
        """Some of the request body, for the backend (or a plug-in); `done`: that was all."""
        if self.request_sink is not None:
            self.request_sink.collect(pieces, done)
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
        if rules.body_filters or head.status in rules.errors:
            (self._plugging or Plugging(self)).hold(head)
        elif self._plugging is not None and rules.filters:
            self._plugging.filter_head(head)
        else:
            self.start_response(head.start, head.length < 0)

    def start_response(self, start: bytes, unknown: bool) -> None:
        """Write a response head; `start` holds Content-Length if there is one; `unknown`: nobody knows the length."""
        bodiless = self.bodiless or self.status in NO_BODY
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
        if self.response_sink is not None:
            self.response_sink.take(data)
            return
        self.sent += len(data)
        self.client.deadline = min(self.worker.now + self.target.upstream.timeout, self.stop)
        if self._chunked_out:
            self.transport.write(b"%x\r\n%s\r\n" % (len(data), data))
        else:
            self.transport.write(data)

    def response_end(self, connection: BackendConnection) -> None:
        """The response is complete."""
        self.backend = None
        connection.exchange = None
        if self.request_done and not connection.transport.is_closing():
            connection.backend.release(connection)
        else:
            connection.backend.discard(connection)
        if self.response_sink is not None:
            self.response_sink.filter()
            return
        if self._chunked_out:
            self.transport.write(b"0\r\n\r\n")
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
        self.waiting = None
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
            self.choose(monotonic_ns())
        elif not self.head_sent:
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
        self.waiting, self._late = give_up, late
        self.client.deadline = min(until, self.stop)

    def waits_for(self, ticket: int) -> bool:
        """Whether the callback that was given this ticket is still expected; then the wait is over."""
        expected = self.waiting is not None and self.ticket == ticket
        if expected:
            self.waiting = None
            self.ticket += 1
        return expected

    def flowing(self) -> bool:
        """Whether this goes to its backend just now: it has a connection there, or waits for one."""
        return self.backend is not None or (self.waiting is not None and self._reaching == self.ticket)

    def stop_waiting(self) -> None:
        """Call off whatever this exchange waits for."""
        waiting, self.waiting = self.waiting, None
        self.ticket += 1
        if waiting is not None:
            waiting()

    def timed_out(self, reading: bool) -> None:
        """The client's deadline is past; `reading`: while the request body was being read."""
        late = self._late if self.waiting is not None else 408 if reading and not self.client.paused else 504
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
