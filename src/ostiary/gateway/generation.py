"""A generation: one snapshot as this worker runs it. Built beside the one that serves, swapped in whole.

A route stays msgpack until a request first needs it; then it becomes a Target. Request lines that were resolved are
remembered (bounded), so that a repeated one costs a dictionary look-up.
"""

import re
from ipaddress import ip_network

import msgspec

from ostiary.core.http1 import BadMessage, RequestLine, parse_request_line
from ostiary.core.routing.backend_path import BackendPath
from ostiary.core.routing.path import canonical, query_ok
from ostiary.core.routing.table import Table
from ostiary.core.snapshot import Policy, Route, Snapshot, Variable
from ostiary.gateway.accounting import Accounts, Stat
from ostiary.gateway.answers import Answers
from ostiary.gateway.plugins import Built, Plugins
from ostiary.gateway.upstream import Upstream
from ostiary.link.messages import Routes

MOST_LINES = 8192
LONGEST_LINE = 256
"""Request lines remembered, and how long one may be to be remembered."""

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
_NEVER = frozenset((b"TRACE", b"CONNECT"))
_ANY = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_CREDENTIAL = re.compile(rb"(?<!sha256:)(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
"""What could be a token, a code or a secret that somebody put into a path: no log keeps it."""
_decode_route = msgspec.msgpack.Decoder(Route).decode

PUBLIC, ANY_TOKEN, USER_TOKEN, NO_TOKEN = range(4)
_KINDS = {"": PUBLIC, "client-app": ANY_TOKEN, "user": USER_TOKEN}


class Rules:
    """A policy, built: what a route asks of an exchange and does to it, shared by the routes that say the same."""

    __slots__ = (
        "actions", "async_actions", "async_filters", "body_actions", "body_filters", "compat", "director_tag", "errors",
        "filters",
        "keep_authorization", "kind", "limit", "max_body", "plain", "properties", "scopes", "timeout",
    )  # fmt: skip

    def __init__(self, policy: Policy, plugins: Plugins, max_body: int) -> None:
        self.kind = _KINDS.get(policy.token, NO_TOKEN)
        self.scopes = frozenset(policy.scopes)
        self.limit = policy.limit
        self.actions: list[Built] = [plugins.build("action", each) for each in policy.actions]
        self.filters: list[Built] = [plugins.build("filter", each) for each in policy.filters]
        self.async_actions = any(each.is_async for each in self.actions)
        self.async_filters = any(each.is_async for each in self.filters)
        self.body_actions = any(each.body for each in self.actions)
        self.body_filters = any(each.body for each in self.filters) or self.async_filters
        self.errors = {status: body.encode() for status, body in policy.errors.items()}
        self.compat = policy.compat
        self.keep_authorization = policy.keep_authorization
        self.max_body = max_body if policy.max_body < 0 else policy.max_body
        self.timeout = policy.timeout * 1000
        self.properties = policy.properties
        self.director_tag = policy.director_tag
        self.plain = not (self.actions or self.filters or self.errors or self.timeout)
        """Whether requests and responses pass as they are."""


class Target:
    """A route, built."""

    __slots__ = ("name", "path", "rules", "stat", "upstream")

    def __init__(self, route: Route, upstream: Upstream, rules: Rules, stat: Stat) -> None:
        self.name = route.name
        self.upstream = upstream
        self.rules = rules
        self.stat = stat
        self.path = BackendPath(route.to, [piece.name for piece in route.pieces if isinstance(piece, Variable)])


class Lazy:
    """A route with variables before (and after) it is first needed."""

    __slots__ = ("route", "target")

    def __init__(self, route: msgspec.Raw) -> None:
        self.route = route
        self.target: Target | None = None


class Match:
    """A resolved request line. Without a target, `status` (404 or 405, then with `allow`) is the answer."""

    __slots__ = (
        "allow", "head", "idempotent", "line", "log", "method", "path", "start", "stat", "status", "target",
    )  # fmt: skip

    def __init__(
        self, line: RequestLine, target: Target | None, stat: Stat, path: bytes, status: int = 0, allow: bytes = b""
    ) -> None:
        self.line = line
        self.method = line.method
        self.target = target
        self.stat = stat
        self.path = path
        self.start = b"%s %s HTTP/1.1\r\n" % (line.method, path)
        self.status = status
        self.allow = allow
        self.head = line.method == b"HEAD"
        self.idempotent = line.method in IDEMPOTENT
        self.log = b'"method":%s,"path":%s,"route":%s,' % (
            _json(line.method), _json(_told(line.target)), _json(target.name.encode() if target else b""),
        )  # fmt: skip


def _told(target: bytes) -> bytes:
    """The path of a request as logs may keep it."""
    path = target.partition(b"?")[0]
    return _CREDENTIAL.sub(b"(redacted)", path) if len(path) > 64 else path


def _json(text: bytes) -> bytes:
    return msgspec.json.encode(text.decode("ascii", "replace"))


class Generation:
    """One snapshot, built for this worker."""

    __slots__ = (
        "_accounts",
        "_rules",
        "_upstreams",
        "answers",
        "lines",
        "snapshot",
        "stat",
        "table",
        "taken",
        "trusted",
    )

    def __init__(
        self, snapshot: Snapshot, plugins: Plugins, upstreams: dict[str, Upstream], accounts: Accounts
    ) -> None:
        """Raises ValueError or OSError for what cannot be built here (a plug-in, a certificate)."""
        self.snapshot = snapshot
        self.table: Table[Lazy | Target | msgspec.Raw] = Table()
        self.answers = Answers(snapshot.gateway.errors, snapshot.gateway.resource)
        self.trusted = tuple(ip_network(text) for text in snapshot.gateway.trusted_proxies)
        self.taken = 0
        self.stat = accounts.stat("")
        self._accounts = accounts
        self._rules = [Rules(policy, plugins, snapshot.gateway.max_body) for policy in snapshot.policies]
        self._upstreams = [upstreams[each.name] for each in snapshot.upstreams]
        self.lines: dict[bytes, Match] = {}
        """Request lines resolved before; look here first."""

    def take_in(self, routes: Routes) -> None:
        """Some more of the routes."""
        self.table.take(routes.exact)
        for pattern in routes.patterns:
            self.table.add(pattern.method, pattern.pieces, pattern.order, Lazy(pattern.route))
        self.taken += len(routes.exact) + len(routes.patterns)

    def resolve(self, line: bytes) -> Match:
        """The route of a request line (without CRLF) that is not in `lines`; BadMessage where it is malformed."""
        match = self._resolve(parse_request_line(line))
        if len(line) <= LONGEST_LINE and not match.line.host:
            if len(self.lines) >= MOST_LINES:
                self.lines.clear()
            self.lines[line] = match
        return match

    def _resolve(self, line: RequestLine) -> Match:
        if line.target == b"*":
            return Match(line, None, self.stat, b"*", 404)
        raw, _, query = line.target.partition(b"?")
        path = canonical(raw)
        if path is None or not query_ok(query):
            raise BadMessage(400, "path is ambiguous or malformed")
        found = None if line.method in _NEVER else self._find(line.method, path)
        if found is None:
            return self._unknown(line, path)
        target, captures = found
        filled = target.path.fill(captures)
        if filled is None:
            raise BadMessage(400, "path is ambiguous or malformed")
        to, own = filled
        query = b"&".join(part for part in (query, own) if part)
        return Match(line, target, target.stat, to + b"?" + query if query else to)

    def _find(self, method: bytes, path: bytes) -> tuple[Target, dict[str, bytes]] | None:
        for name in (method, b"*"):
            key = b"%s %s" % (name, path)
            value = self.table.exact.get(key)
            if value is not None:
                target = self._target(value)
                self.table.exact[key] = target
                return target, {}
        found = self.table.find(method, path)
        if found is not None:
            return self._target(found[0]), found[1]
        if method == b"HEAD":
            # A client may ask for the head of whatever it may GET (RFC 9110 section 9.3.2), but for ApiFest's files.
            instead = self._find(b"GET", path)
            if instead and not instead[0].rules.compat:
                return instead
        return None

    def _target(self, value: "Lazy | Target | msgspec.Raw") -> Target:
        if isinstance(value, Target):
            return value
        if isinstance(value, Lazy):
            value.target = value.target or self._target(value.route)
            return value.target
        route = _decode_route(value)
        stat = self._accounts.stat(route.name)
        return Target(route, self._upstreams[route.upstream], self._rules[route.policy], stat)

    def _unknown(self, line: RequestLine, path: bytes) -> Match:
        """404, or 405 where the path is known under other methods (by routes that are not ApiFest's)."""
        methods = self.table.methods(path)
        standard = [m for m in methods if (found := self._find(m.encode(), path)) and not found[0].rules.compat]
        if not standard:
            return Match(line, None, self.stat, path, 404)
        allowed = set(_ANY if "*" in standard else standard) | ({"HEAD"} if "GET" in standard else set())
        return Match(line, None, self.stat, path, 405, ", ".join(sorted(allowed)).encode())
