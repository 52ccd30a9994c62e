"""A client's connection: heads and bodies in, one exchange at a time, deadlines, backpressure, and how it ends."""

import asyncio
from collections.abc import Collection, Set
from time import monotonic_ns
from typing import TYPE_CHECKING, cast

from ostiary.core.http1 import BadMessage, RequestLine, unfinished
from ostiary.gateway import answers
from ostiary.gateway.admissions import Admitted
from ostiary.gateway.body import RequestBody
from ostiary.gateway.director import Assigned, Key
from ostiary.gateway.exchange import NEVER, Exchange
from ostiary.gateway.fields import Peer, RequestFields, is_trusted
from ostiary.gateway.recording import record
from ostiary.gateway.sessions import Tally

if TYPE_CHECKING:
    from ostiary.gateway.worker import Worker

IDLE, BUSY, READ, SKIP, TUNNEL, CLOSING = range(6)
"""Between exchanges; in one, with nothing (more) to read now; reading a request body; reading one that nobody wants;
in a tunnel; answered for the last time."""

MOST_AHEAD = 65_536
"""Bytes taken in ahead (pipelined requests, a body before there is a backend) before reading pauses."""
MOST_SKIPPED = 65_536
"""An unwanted body that is announced shorter than this is read and dropped; for a longer one the connection ends."""
LINGER = 2_000_000_000
"""Nanoseconds between the last answer and the end, so that the client reads the answer before its data is refused."""
MOST_SHARING = 10_000
"""Users whose sessions are on one connection; of more, the one that came first ends."""
ALONE = 2
"""Tallies of a connection that one user has: its own and nobody's."""
FEW = 8
"""Users of directors that a connection of one user seems to have at most."""
FIRST = 500_000_000
"""Nanoseconds that a connection without any request yet is kept when connections are to end."""
CLIENT_GONE = 499
"""The status that the access log and the metrics show where the client left before its answer."""


class Client(asyncio.Protocol):
    """One connection of a client. `deadline` (monotonic ns) is looked at by the worker's tick."""

    __slots__ = (
        "_before", "_block", "_ended", "_fields", "_full", "_held", "_partial", "_signed", "_unread", "assigned",
        "buffer", "deadline", "exchange", "log", "paused", "peer", "phase", "received", "tally", "transport", "worker",
    )  # fmt: skip

    transport: asyncio.Transport
    peer: Peer
    tally: Tally
    """What the user of the last admission did here."""
    _fields: RequestFields
    _unread: RequestBody
    """What was not read yet of the request under way, where it has a body."""

    def __init__(self, worker: "Worker") -> None:
        self.worker = worker
        self.exchange = Exchange(worker, self)
        self.phase = IDLE
        self.deadline = NEVER
        self.buffer = b""
        self.log = b""
        self.received = 0
        self._signed: dict[str, Tally] | None = None
        """Tallies by user, once there was one, the least recent first; those of nobody under ""."""
        self.assigned: set[Assigned] | frozenset[Assigned] = frozenset()
        """What directors' users on this connection have used of late."""
        self._before: Set[Assigned] = frozenset()
        """And before that."""
        self._block = b"\0"
        self._partial = False
        self.paused = False
        self._full = False
        self._ended = False
        """The client has said that it will say no more."""
        self._held = False
        """What came ahead is taken first: nothing is read as a head before."""

    # -- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = self.exchange.transport = cast(asyncio.Transport, transport)
        worker = self.worker
        name = transport.get_extra_info("peername")
        address = name[0] if isinstance(name, tuple) else "127.0.0.1"
        scheme = "https" if transport.get_extra_info("ssl_object") else "http"
        self.peer = Peer(address, is_trusted(address, worker.generation.trusted), scheme)
        self.log = b'"address":"%s",' % address.encode()
        self.tally = worker.sessions.begin("", address, monotonic_ns())
        self.deadline = worker.now + worker.settings.head_timeout * 1000
        if problem := worker.arrived(self):
            self._answer(503, None, b"retry-after: 1\r\n", problem)
            self.transport.close()
        elif worker.closing:  # it was accepted, or shook hands, before that
            self._await_first()

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        phase = self.phase
        if phase == IDLE and not self._held:
            self._head(self.buffer + data if self.buffer else data)
        elif phase in (BUSY, IDLE):
            self._ahead(data)
        elif phase == READ:
            self._body(data)
        elif phase == TUNNEL:
            self._through(data)
        elif phase == SKIP:
            self._skip(data)

    def eof_received(self) -> bool:
        """A client that has said all may still hear its answer (TLS cannot do that)."""
        if self.phase == BUSY and self.exchange.request_done and self.peer.scheme == "http":
            self.exchange.close = self._ended = True
            return True
        return False

    def connection_lost(self, reason: Exception | None) -> None:
        exchange, phase, self.phase = self.exchange, self.phase, CLOSING
        exchange.stop_waiting()
        if phase in (BUSY, READ, TUNNEL):
            exchange.drop_backend()
            exchange.status = exchange.status if phase == TUNNEL else CLIENT_GONE
            exchange.why = exchange.why or ("" if phase == TUNNEL else "client left")
            record(self, self.exchange.match)
        self.worker.left(self)

    def pause_writing(self) -> None:
        self._full = True
        self.deadline = self.worker.now + self.worker.settings.write_timeout * 1000
        if self.exchange.backend is not None:
            self.exchange.backend.pause()

    def resume_writing(self) -> None:
        self._full = False
        exchange = self.exchange
        if exchange.backend is not None:
            quiet = (
                self.worker.settings.tunnel_timeout * 1000 if self.phase == TUNNEL else exchange.target.upstream.timeout
            )
            self.deadline = min(self.worker.now + quiet, exchange.stop)
            exchange.backend.resume()
        elif self.phase == IDLE:
            self._go_on()

    # -- heads

    def _head(self, data: bytes) -> None:
        worker = self.worker
        end = data.find(b"\r\n\r\n")
        if end < 0 or end > worker.max_head:
            self._unfinished(data)
            return
        cut = data.find(b"\r\n")
        if cut == 0:
            self._leading(data)
            return
        exchange = self.exchange
        now = exchange.started = monotonic_ns()
        line, block = data[:cut], data[cut + 2 : end + 2]
        self.buffer = data[end + 4 :]
        self.phase = BUSY
        self._partial = False
        try:
            generation = worker.generation
            match = generation.lines.get(line) or generation.resolve(line)
            if block == self._block and match.line.minor == self._fields.minor and not match.line.host:
                fields = self._fields
            else:
                fields = self._read_fields(match.line, block)
        except BadMessage as bad:
            self._bad(bad)
            return
        exchange.match, exchange.fields = match, fields
        exchange.request_id = fields.request_id or worker.next_id()
        exchange.close = fields.close or worker.closing
        if fields.has_body:
            exchange.request_done, self._unread = False, RequestBody(fields)
        exchange.begin(now)

    def _read_fields(self, line: RequestLine, block: bytes) -> RequestFields:
        """The fields, remembered: on a kept-alive connection they are mostly those of the request before."""
        worker = self.worker
        fields = RequestFields(line, block, self.peer, worker.generation.trusted, worker.settings.max_headers)
        if self.peer.trusted:
            self.log = b'"address":"%s",' % fields.address.encode()
        if not line.host:
            self._block, self._fields = block, fields
        else:
            self._block = b"\0"
        return fields

    def _leading(self, data: bytes) -> None:
        """An empty line before a request is overlooked once (RFC 9112 section 2.2)."""
        rest = data[2:]
        if rest[:2] == b"\r\n":
            self._bad(BadMessage(400, "malformed request line"))
        else:
            self._head(rest)

    def _unfinished(self, data: bytes) -> None:
        """The head is not all there (or too long)."""
        self.buffer = data
        try:
            unfinished(data[2:] if data[:2] == b"\r\n" else data, self.worker.max_head)
        except BadMessage as bad:
            self._bad(bad)
            return
        if not self._partial:
            self._partial = True
            self.deadline = self.worker.now + self.worker.settings.head_timeout * 1000

    def _bad(self, bad: BadMessage) -> None:
        self.worker.accounts.counters[f"refused.{bad.status}"] += 1
        body = answers.refusal(bad.reason) if bad.status == 400 else None
        self._answer(bad.status, body, b"", bad.reason)

    def _answer(self, status: int, body: bytes | None, headers: bytes, why: str) -> None:
        """Answer what never became an exchange, and end the connection."""
        worker, exchange = self.worker, self.exchange
        exchange.request_id = worker.next_id()
        exchange.started = exchange.started or monotonic_ns()
        text = worker.generation.answers.body(status, body)
        answer = answers.render(status, text, exchange.request_id, headers, close=True)
        self.transport.write(answer)
        exchange.status, exchange.why, exchange.sent = status, why, len(text)
        exchange.heads = len(answer) - len(text)
        record(self, worker.no_match)
        self._linger()

    # -- bodies

    def read_body(self) -> None:
        """Read the request body from now on; what came ahead first."""
        if self.exchange.request_done:
            return
        self.phase = READ
        self._unread.most = self._most()
        self.deadline = min(self.worker.now + self.worker.settings.body_timeout * 1000, self.exchange.stop)
        ahead, self.buffer = self.buffer, b""
        self._resume()
        if ahead:
            self._body(ahead)

    def _body(self, data: bytes) -> None:
        if not self._full:
            self.deadline = min(self.worker.now + self.worker.settings.body_timeout * 1000, self.exchange.stop)
        try:
            pieces, done, rest = self._unread.feed(data)
        except BadMessage as bad:
            self._broken(bad)
            return
        if done:
            self.phase, self.buffer = BUSY, rest
            self.exchange.request_done = True
        self.exchange.body_data(pieces, done)

    def _most(self) -> int:
        most = self.exchange.target.rules.max_body
        return most if self.exchange.request_sink is None else min(most, self.worker.settings.max_buffered_body)

    def _broken(self, bad: BadMessage) -> None:
        """The body turns out to be malformed or too large in the middle of the exchange."""
        exchange = self.exchange
        exchange.drop_backend()
        exchange.close = True
        self.worker.accounts.counters[f"refused.{bad.status}"] += 1
        exchange.refuse(bad.status, answers.refusal(bad.reason) if bad.status == 400 else None, b"", bad.reason)

    def will_skip(self) -> bool:
        """Whether what is unread of the request is little enough to be read and dropped."""
        exchange = self.exchange
        if exchange.request_done:
            return True
        return self._unread.shorter(MOST_SKIPPED) and not exchange.fields.expect

    def _skip(self, data: bytes) -> None:
        _, done, rest = self._unread.feed(data)
        if done:
            self.buffer = rest
            self._next()

    def _ahead(self, data: bytes) -> None:
        """Bytes while they are not wanted yet: the next request, or a body that has nowhere to go."""
        self.buffer += data
        if len(self.buffer) > MOST_AHEAD:
            self.pause()

    def _through(self, data: bytes) -> None:
        if self.exchange.backend is not None:
            self.exchange.backend.transport.write(data)
            self.deadline = self.worker.now + self.worker.settings.tunnel_timeout * 1000

    def pause(self) -> None:
        """Read no more for now."""
        if not self.paused and not self.transport.is_closing():
            self.paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self.paused and not self.transport.is_closing():
            self.paused = False
            self.transport.resume_reading()

    def open_tunnel(self) -> None:
        """From now on bytes pass as they come."""
        self.phase = TUNNEL
        self._resume()

    def close_tunnel(self) -> None:
        """The other side has ended: say what is left to say, then end."""
        record(self, self.exchange.match)
        self.phase = CLOSING
        self.deadline = self.worker.now + self.worker.settings.write_timeout * 1000
        self.transport.close()

    def drained(self) -> None:
        """The backend takes more again."""
        if self.phase in (READ, TUNNEL):
            self._resume()

    # -- ends

    def finish(self) -> None:
        """The answer is written: account for it, then the next request, or the end."""
        exchange = self.exchange
        record(self, exchange.match)
        if self.worker.streams:
            self.worker.streams.discard(exchange)
        if exchange.backend is not None:
            exchange.drop_backend()
        if exchange.close:
            self._linger()
        elif exchange.request_done:
            self._next()
        else:
            self.phase = SKIP
            self.deadline = self.worker.now + self.worker.settings.body_timeout * 1000
            ahead, self.buffer = self.buffer, b""
            self._resume()
            self._skip(ahead)

    def _next(self) -> None:
        """Ready for the next request, which may have come already."""
        exchange = self.exchange
        if exchange.simple:
            exchange.admitted, exchange.status, exchange.started, exchange.limits = None, 0, 0, b""
            exchange.heads = 0
        else:
            exchange.reset()
        self.phase = IDLE
        if self._full:
            self._held = True
            self.deadline = self.worker.now + self.worker.settings.write_timeout * 1000
        else:
            self._go_on()

    def _go_on(self) -> None:
        """Take the next request: what came ahead of it first, and nothing else before that."""
        self.deadline = self.worker.now + self.worker.settings.idle_timeout * 1000
        if self.buffer:
            self._held = True
            asyncio.get_running_loop().call_soon(self._again)
            return
        self._held = False
        if self.paused:
            self._resume()
        if self.worker.closing:
            self.transport.close()

    def _again(self) -> None:
        if self.phase == IDLE and not self._full:
            self._held = False
            data, self.buffer = self.buffer, b""
            self._head(data)
            if self.paused and len(self.buffer) <= MOST_AHEAD:
                self._resume()

    def _linger(self) -> None:
        """End the connection so that the last answer arrives: say no more, drop what still comes, then close."""
        exchange = self.exchange
        self.phase = CLOSING
        unread = not exchange.request_done or self.buffer or exchange.status >= 400
        self.buffer = b""
        self.deadline = self.worker.now + self.worker.settings.write_timeout * 1000
        if unread and not self._ended and self.transport.can_write_eof():
            self.transport.write_eof()
            self._resume()
            if not self.transport.get_write_buffer_size():
                self.deadline = self.worker.now + LINGER
        else:
            self.transport.close()

    def abort(self, why: str) -> None:
        """The answer cannot be completed: end the connection, so that the client sees that it is not whole."""
        self.exchange.why = why
        self.exchange.drop_backend()
        if self.phase in (BUSY, READ, TUNNEL):
            record(self, self.exchange.match)
        self.phase = CLOSING
        self.transport.abort()

    def forget(self) -> None:
        """The configuration has changed: what was read under the old one counts no more."""
        self._block = b"\0"
        self.peer = self.peer._replace(trusted=is_trusted(self.peer.address, self.worker.generation.trusted))

    def cut(self) -> None:
        """End an open stream or tunnel now, because its token or user was cut off."""
        self.abort("cut off")

    def drain(self) -> None:
        """End when the exchange under way has ended; at once where there is none."""
        if self.phase == IDLE and not self.buffer:
            self._await_first()
        elif self.phase == TUNNEL:
            self.abort("draining")
        else:
            self.exchange.close = self.exchange.close or not self.exchange.head_sent

    def _await_first(self) -> None:
        """Nothing is under way: end, but give a first request that may be on its way a moment to be here."""
        if self.exchange.started or self.tally.exchanges or self._signed:
            self.transport.close()
        else:
            self.deadline = min(self.deadline, self.worker.now + FIRST)

    def expired(self, now: int) -> None:
        """The deadline is past (at `now`), if nothing has come meanwhile that sets another."""
        if self.deadline >= now:
            return
        phase, exchange = self.phase, self.exchange
        self.deadline = NEVER
        if phase == IDLE:
            if self.buffer and not self._full:
                self._bad(BadMessage(408, "request head took too long"))
            else:
                self.transport.abort()
        elif phase in (BUSY, READ) and not self._full:
            exchange.timed_out(phase == READ)
        else:
            self.abort("timed out")

    # -- sessions

    def sign(self, admitted: Admitted) -> None:
        """The exchange is of this user: count there."""
        signed = self._signed
        if signed is None and not admitted.user:
            return
        if signed is None:
            signed = self._signed = {"": self.tally}
        user = admitted.user
        tally = signed.get(user)
        if tally is None:
            if len(signed) > MOST_SHARING:
                self.sign_off(next(name for name in signed if name))
            tally = self.worker.sessions.begin(user, self.exchange.fields.address, monotonic_ns())
            tally.token = admitted
        else:
            del signed[user]
        self.tally = signed[user] = tally

    def sign_off(self, user: str) -> None:
        """The session of `user` here is over; its connection need not be."""
        tally = self._signed.pop(user, None) if self._signed else None
        if tally is None or self._signed is None:
            return
        self.worker.sessions.end(tally)
        if self.tally is tally:
            self.tally = self._signed[""]

    def sign_off_idle(self, before: int) -> None:
        """Of several who share this connection, those end who did nothing since `before` (monotonic ns)."""
        signed = self._signed
        if signed is None or len(signed) <= ALONE:
            return
        idle = []
        for user, tally in signed.items():
            if user and ((self.tally is tally and self.busy()) or (tally.last or tally.since) >= before):
                break
            idle.append(user)
        for user in filter(None, idle):
            self.sign_off(user)

    def tallies(self) -> Collection[Tally]:
        """What is counted here, by user."""
        return (self.tally,) if self._signed is None else self._signed.values()

    # -- users of directors

    def use(self, assigned: Assigned) -> None:
        """The exchange is of this user."""
        assigned.keep(self)
        if isinstance(self.assigned, frozenset):
            self.assigned = set()
        self.assigned.add(assigned)

    def uses(self) -> Set[Assigned]:
        """What directors' users on this connection use."""
        return self.assigned | self._before

    def use_anew(self) -> None:
        """Of several who share this connection those are let go who were not seen since the last call.

        Somebody alone stays for as long as the connection is open.
        """
        if not self._uses_several():
            return
        current = self.exchange.assigned if self.busy() else None
        for each in self._before - self.assigned - {current}:
            each.let_go(self)
        self._before, self.assigned = self.assigned, {current} if current else frozenset()

    def _uses_several(self) -> bool:
        """Whether directors' users share this connection. Somebody who is moved again and again may seem to be many."""
        count = len(self.assigned) + len(self._before)
        return count > FEW or (count > 1 and len({each.key for each in self.uses()}) > 1)

    def shared(self) -> bool:
        """Whether more than one user is on this connection."""
        return self._uses_several() or len(self._signed or ()) > ALONE

    # -- what flows

    def busy(self) -> bool:
        """Whether an exchange or a tunnel is under way."""
        return self.phase in (BUSY, READ, TUNNEL)

    def tunnelling(self) -> bool:
        return self.phase == TUNNEL

    def serves(self, users: Set[str]) -> bool:
        """Whether what is under way is of one of `users`."""
        return self.busy() and self.exchange.admitted is not None and self.exchange.admitted.user in users

    def tunnels(self, user: str) -> bool:
        """Whether a tunnel of `user` is open."""
        return self.phase == TUNNEL and self.serves({user})

    def flows_to(self, upstream: str) -> bool:
        """Whether what is under way (or, idle, was the last) goes to `upstream`."""
        target = self.exchange.match.target if self.exchange.started or self.phase == IDLE else None
        return target is not None and target.upstream.definition.name == upstream

    def flows(self, upstream: str, hosts: Set[str], keys: Set[Key], idle: bool) -> bool:
        """Whether what is under way goes to one of `hosts`, or is of forgotten users; `idle`: what was last, too."""
        exchange = self.exchange
        if not (idle if self.phase == IDLE else exchange.flowing()) or not self.flows_to(upstream):
            return False
        assigned, chosen = exchange.assigned, exchange.chosen
        if assigned is not None and assigned.forgotten() and assigned.key in keys:
            return True
        return chosen is not None and (chosen.host in hosts or chosen.address in hosts)

    def said_all(self) -> bool:
        """Whether this connection is ending and nothing more of it is to be written."""
        return self.phase == CLOSING and not self.transport.get_write_buffer_size()

    def end_gently(self) -> None:
        """End with the exchange under way; at once where there is none, and tunnels."""
        if self.phase == IDLE:
            self._end_idle()
        elif self.phase == TUNNEL:
            self.abort("session ended")
        elif self.phase == SKIP:
            self._linger()
        else:
            self.exchange.close = True

    def _end_idle(self) -> None:
        """End between two exchanges; a request that has come ahead is not begun."""
        self.phase, self.buffer = CLOSING, b""
        self.deadline = self.worker.now + self.worker.settings.write_timeout * 1000
        self.transport.close()

    def end_now(self, body: bytes | None, why: str) -> None:
        """End at once: with 503 where nothing of an answer was sent, else so that the client sees it is not whole."""
        exchange = self.exchange
        if self.phase in (BUSY, READ) and not exchange.head_sent:
            exchange.stop_waiting()
            exchange.drop_backend()
            exchange.close = True
            exchange.refuse(503, body, b"", why)
        elif self.phase == IDLE:
            self._end_idle()
        else:
            self.abort(why)
