"""Compilation: settings and mapping files -> the snapshot that workers run, or everything that is wrong with them.

A fault of the settings is told by its place in them (whoever knows the files makes a Mistake of it), a mistake in a
mapping file by its line. Routes that say the same share one policy, so that 100,000 of them cost little.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec
from msgspec import Struct

from ostiary.core.configuration.binding import Fault, Where
from ostiary.core.configuration.checks import checked
from ostiary.core.configuration.mapping import GlobalErrors, Merger, PluginName, Use, pieces
from ostiary.core.configuration.near import near
from ostiary.core.configuration.rules import rules
from ostiary.core.configuration.settings import (
    LimitSettings,
    RequireSettings,
    RouteSettings,
    Settings,
    UpstreamSettings,
)
from ostiary.core.configuration.settings.section import Body, PluginUse
from ostiary.core.limit import Limit
from ostiary.core.oauth import Rules, scope_name_ok
from ostiary.core.refusal import Mistake
from ostiary.core.routing.conflict import conflicts
from ostiary.core.routing.table import Table
from ostiary.core.routing.template import Line, holes, read_backend_path, read_match, template, written
from ostiary.core.snapshot import (
    Director,
    Fixed,
    Gateway,
    Piece,
    Plugin,
    Policy,
    Route,
    RouteLimit,
    Snapshot,
    Tls,
    Upstream,
    UpstreamTls,
    Variable,
)

RESERVED: Final = "ostiary"
"""The upstream that is Ostiary itself."""
PUBLIC: Final = (
    ("POST", "/oauth20/tokens"),
    ("POST", "/oauth20/token"),
    ("POST", "/oauth20/revoke"),
    ("POST", "/oauth20/introspect"),
    ("GET", "/oauth20/authorize"),
    ("POST", "/oauth20/authorize"),
    ("GET", "/oauth20/jwks"),
    ("GET", "/.well-known/oauth-authorization-server"),
    ("GET", "/.well-known/oauth-protected-resource"),
)
"""What the gateway forwards to control."""
MOST_HINTS: Final = 200
"""After so many faults it is no longer told what may have been meant, which takes its time."""
CLASSES: Final[dict[str, tuple[Literal["action", "filter"], Plugin]]] = {
    "com.apifest.example.ReplaceCustomerIdAction": ("action", Plugin("replace_user_id")),
    "com.apifest.example.AddSenderIdInBodyAction": (
        "action",
        Plugin("set_json_field", {"field": "senderId", "value": "1232", "otherwise": "fail"}),
    ),
    "com.apifest.example.RemoveBalanceFilter": ("filter", Plugin("remove_json_field", {"field": "balance"})),
}

Kind = Literal["action", "filter"]


class Catalogue(Protocol):
    """The plug-ins that there are."""

    def declare(self, name: str, source: str, directory: str) -> str:
        """Load a further one; "" or why it cannot be had."""

    def check(self, kind: Kind, plugin: Plugin) -> str:
        """ "" if it exists and takes its arguments, else the reason."""


class Compiled(Struct, frozen=True):
    """A configuration, ready for the workers, and what control takes from it."""

    snapshot: Snapshot
    routes: list[Route]
    rules: Rules

    @property
    def configured(self) -> list[Route]:
        """The routes without Ostiary's own, which are the last."""
        return self.routes[: len(self.routes) - len(PUBLIC)]

    def revised(self, revision: int) -> "Compiled":
        """The same under another number."""
        return msgspec.structs.replace(self, snapshot=msgspec.structs.replace(self.snapshot, revision=revision))


class Compiler:
    """One compilation; `faults`, `mistakes` and `warnings` are complete when `run` has returned.

    `public` is the path of the Unix socket on which control takes what is forwarded to it. What `broken` names could
    not be read: it is passed over, and so is what refers to it.
    """

    def __init__(
        self,
        settings: Settings,
        merger: Merger,
        global_errors: GlobalErrors | None,
        catalogue: Catalogue,
        public: str,
        broken: Iterable[Where] = (),
    ) -> None:
        self.faults: list[Fault] = []
        self.mistakes = merger.mistakes
        self.warnings = merger.warnings
        self._settings = settings
        self._merger = merger
        self._global_errors = global_errors
        self._catalogue = catalogue
        self._broken = {where[:2] for where in broken}
        self._upstreams: dict[str, int] = {RESERVED: 0}
        self._made = [Upstream(RESERVED, (f"unix:{public}",), preserve_host=True)]
        self._policies: list[Policy] = []
        self._known: dict[bytes, tuple[int, tuple[Fault, ...]]] = {}
        self._routes: list[Route] = []
        self._places: list[Where | Use] = []
        """Where each route was written."""

    def run(self, revision: int) -> Compiled:
        """The snapshot; of no use where there are faults or mistakes."""
        self._plugins()
        self._upstream_settings()
        self.faults += checked(self._settings, self._broken)
        for index, route in enumerate(self._settings.routes):
            if ("routes", index) not in self._broken:
                self._route(route, ("routes", index))
        self._mappings()
        self._own()
        self._conflicts()
        gateway = self._gateway()
        snapshot = Snapshot(revision, gateway, tuple(self._made), tuple(self._policies), len(self._routes))
        return Compiled(snapshot, self._routes, rules(self._settings))

    def _fault(self, where: Where, message: str) -> None:
        self.faults.append(Fault(where, message))

    # What stands by itself

    def _plugins(self) -> None:
        plugins = self._settings.plugins
        for name, source in plugins.names.items():
            if problem := self._catalogue.declare(name, source, plugins.directory):
                self._fault(("plugins", "names", name), problem)
        for name, use in self._settings.dialects.apifest.classes.items():
            where: Where = ("dialects", "apifest", "classes", name)
            plugin = self._use(use, where)
            reasons = [self._catalogue.check(kind, plugin) for kind in KINDS] if plugin else []
            if reasons and all(reasons):
                self._fault(where, reasons[0])

    def _upstream_settings(self) -> None:
        for name, each in self._settings.upstreams.items():
            if name == RESERVED:
                self._fault(("upstreams", name), f"the name {RESERVED} is taken: it is Ostiary itself")
                continue
            self._upstreams[name] = len(self._made)
            self._made.append(upstream(name, each, longest_drain(self._settings, each)))

    # Routes

    def _route(self, route: RouteSettings, where: Where) -> None:
        upstream = self._upstream(route.upstream, (*where, "upstream"))
        policy = self._policy(route, where)
        line = self._line(route.match, (*where, "match"))
        to = self._backend_path(route, line, (*where, "to"))
        if line is None:
            return
        for method in line.methods:
            self._routes.append(Route(f"{method} {line.path}", method, line.pieces, to, upstream, policy))
            self._places.append(where)

    def _line(self, match: str, where: Where) -> Line | None:
        try:
            return read_match(match)
        except ValueError as problem:
            self._fault(where, str(problem))
            return None

    def _upstream(self, name: str, where: Where) -> int:
        index = self._upstreams.get(name)
        if index is None or name == RESERVED:
            if ("upstreams", name) not in self._broken:
                hint = near(name, tuple(self._settings.upstreams)) if len(self.faults) < MOST_HINTS else ""
                self._fault(where, f"no upstream is named {name[:64]}{hint}")
            return 0
        return index

    def _backend_path(self, route: RouteSettings, line: Line | None, where: Where) -> str:
        if not route.to:
            return template(line.pieces) if line else "/"
        try:
            to = read_backend_path(route.to)
        except ValueError as problem:
            self._fault(where, str(problem))
            return "/"
        names = [part.name for part in line.pieces if type(part) is Variable] if line else holes(to)
        unfilled = set(holes(to)).difference(names)
        if unfilled and not route.actions:
            name = min(unfilled)
            self._fault(where, f"nothing fills in {{{name}}}: `match` has no such variable, and there is no action")
        return to

    def _policy(self, route: RouteSettings, where: Where) -> int:
        """The index of the route's policy; made once for all routes that say the same."""
        own = isinstance(route.limit, LimitSettings)
        key = _encode(
            (
                route.require, route.limit, route.actions, route.filters, route.errors, route.keep_authorization,
                route.max_body, route.timeout, route.director_tag, route.match if own else "",
            )
        )  # fmt: skip
        if key not in self._known:
            before = len(self.faults)
            self._policies.append(self._made_policy(route))
            self._known[key] = len(self._policies) - 1, tuple(self.faults[before:])
            del self.faults[before:]
        index, faults = self._known[key]
        self.faults += (Fault((*where, *fault.where), fault.message) for fault in faults)
        return index

    def _made_policy(self, route: RouteSettings) -> Policy:
        token, scopes = self._requirement(route.require)
        return Policy(
            token=token,
            scopes=scopes,
            limit=self._limit(route, token),
            actions=self._uses("action", route.actions, ("actions",)),
            filters=self._uses("filter", route.filters, ("filters",)),
            errors=self._bodies(route.errors, ("errors",)),
            keep_authorization=route.keep_authorization,
            max_body=-1 if route.max_body is None else int(route.max_body),
            timeout=int(route.timeout),
            director_tag=route.director_tag,
        )

    def _requirement(self, require: RequireSettings | None) -> tuple[str, tuple[str, ...]]:
        if require is None:
            return "", ()
        scopes = require.scope.split() if isinstance(require.scope, str) else require.scope
        for scope in scopes:
            if not scope_name_ok(scope):
                self._fault(
                    ("require", "scope"), f"{scope[:64]!r} is no scope name: letters and digits, joined by - or _"
                )
        return require.token, tuple(scopes)

    def _limit(self, route: RouteSettings, token: str) -> RouteLimit | None:
        if route.limit is None:
            return None
        name, settings = route.match, route.limit
        if isinstance(settings, str):
            found = self._settings.limits.get(settings)
            if ("limits", settings) in self._broken:
                return None
            if found is None:
                hint = near(settings, tuple(self._settings.limits))
                self._fault(("limit",), f"no limit is named {settings[:64]}{hint}")
                return None
            name, settings = settings, found
        if settings.by in ("client", "user") and not token:
            self._fault(
                ("limit",), f"a limit by {settings.by} needs `require`; a public route takes by: address or route"
            )
        return RouteLimit(name, Limit(settings.requests, int(settings.per)), settings.by)

    def _uses(self, kind: Kind, uses: Sequence[PluginUse], where: Where) -> tuple[Plugin, ...]:
        found = []
        for index, use in enumerate(uses):
            plugin = self._use(use, (*where, index))
            if plugin is not None:
                found.append(plugin)
                if problem := self._catalogue.check(kind, plugin):
                    self._fault((*where, index), problem)
        return tuple(found)

    def _use(self, use: PluginUse, where: Where) -> Plugin | None:
        if isinstance(use, str):
            return Plugin(use)
        if len(use) != 1:
            self._fault(where, "expected one plug-in: a name, or {name: {its arguments}}")
            return None
        name, arguments = next(iter(use.items()))
        return Plugin(name, arguments)

    def _bodies(self, bodies: Mapping[int, Body], where: Where) -> dict[int, str]:
        return {status: body_text(body) for status, body in bodies.items()}

    # Mapping files

    def _mappings(self) -> None:
        order = 0
        shapes: dict[object, Use] = {}
        for version in self._merger.versions.values():
            for use in version.endpoints:
                order += 1
                self._endpoint(use, order, version.errors, shapes)

    def _endpoint(self, use: Use, order: int, errors: dict[int, str], shapes: dict[object, Use]) -> None:
        point = use.endpoint
        actions = self._resolved("action", use.action, point.file)
        filters = self._resolved("filter", use.filter, point.file)
        try:
            parts = pieces(point)
            to = read_backend_path(point.internal)
        except ValueError as problem:
            return self._refuse(use, str(problem))
        names = {each.name for each in parts if isinstance(each, Variable)}
        unfilled = next((name for name in holes(to) if name not in names), None)
        if unfilled and use.action is None:
            return self._refuse(use, f"nothing fills in {{{unfilled}}} of internal {point.internal[:200]}")
        if met := next((path for _, path in PUBLIC if _meets(parts, path)), None):
            return self._refuse(use, f"{met} is Ostiary's own")
        self._look_alike(use, parts, shapes)
        policy = self._mapping_policy(use, actions, filters, errors)
        name = f"{point.method} {written(parts)}"
        self._routes.append(Route(name, point.method, parts, to, self._pair(point.host, point.port), policy, order))
        self._places.append(use)
        return None

    def _refuse(self, use: Use, reason: str) -> None:
        point = use.endpoint
        message = f"external path {point.method} {point.external}: {reason}"
        self.mistakes.append(Mistake(f"{point.path}.external", message, point.file, point.line, "mapping.path"))

    def _look_alike(self, use: Use, parts: tuple[Piece, ...], shapes: dict[object, Use]) -> None:
        if all(isinstance(each, Fixed) for each in parts):
            return
        shape = (use.endpoint.method, *(each.text if isinstance(each, Fixed) else None for each in parts))
        first = shapes.setdefault(shape, use)
        if first is not use:
            text = (
                f"has the shape of {first.endpoint.file}:{first.endpoint.line}; where both match, the earlier one goes"
            )
            point = use.endpoint
            self.warnings.append(Mistake(point.path, text, point.file, point.line))

    def _resolved(self, kind: Kind, name: PluginName | None, file: str) -> tuple[Plugin, ...]:
        if name is None:
            return ()
        plugin = self._class(name.type)
        if plugin is not None and not self._catalogue.check(kind, plugin):
            return (plugin,)
        message = f"cannot load custom class {name.type}"
        path = f"{name.path}: no {kind} has this class or name; see dialects.apifest.classes"
        self.mistakes.append(Mistake(path, message, file, name.line, "mapping.class"))
        return ()

    def _class(self, name: str) -> Plugin | None:
        use = self._settings.dialects.apifest.classes.get(name)
        if use is not None:
            return self._use(use, ("dialects", "apifest", "classes", name))
        return CLASSES[name][1] if name in CLASSES else Plugin(name)

    def _pair(self, host: str, port: int) -> int:
        """The index of the upstream that a mapping file's host and port are."""
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if name not in self._upstreams:
            self._upstreams[name] = len(self._made)
            self._made.append(Upstream(name, (name,)))
        return self._upstreams[name]

    def _mapping_policy(
        self, use: Use, actions: tuple[Plugin, ...], filters: tuple[Plugin, ...], errors: dict[int, str]
    ) -> int:
        point = use.endpoint
        policy = Policy(
            token="" if point.auth_type is None else point.auth_type or "none",
            scopes=tuple((point.scope or "").split()),
            actions=actions,
            filters=filters,
            errors=errors,
            compat=self._settings.dialects.apifest.gateway_status == "compat",
            properties=point.properties or {},
        )
        return self._shared(policy)

    def _shared(self, policy: Policy) -> int:
        key = b"mapping" + _encode(policy)
        if key not in self._known:
            self._policies.append(policy)
            self._known[key] = len(self._policies) - 1, ()
        return self._known[key][0]

    # All together

    def _own(self) -> None:
        """What control serves for everybody, through the gateway."""
        policy = self._shared(Policy(keep_authorization=True))
        for method, path in PUBLIC:
            self._routes.append(Route(f"{method} {path}", method, (Fixed(path),), path, 0, policy))
            self._places.append(())

    def _conflicts(self) -> None:
        for first, second, example in conflicts(self._routes):
            here, there = self._places[second], self._places[first]
            if here == ():
                here, there = there, here
            self._conflict(here, there, self._routes[first], example)

    def _conflict(self, here: Where | Use, there: Where | Use, route: Route, example: str) -> None:
        what = "is Ostiary's own" if there == () else f"is taken: both {_placed(there)} and this one match {example}"
        if isinstance(here, Use):
            self._refuse(here, f"it {what}")
        else:
            self._fault((*here, "match"), f"{route.name[:200]} {what}")

    def _gateway(self) -> Gateway:
        settings = self._settings
        own, plugins = settings.gateway, settings.plugins
        return Gateway(
            tls=Tls(own.tls.certificate, own.tls.key, own.tls.client_ca, own.tls.minimum) if own.tls else None,
            ratelimit_headers=own.ratelimit_headers,
            trusted_proxies=tuple(map(str, own.trusted_proxies)),
            errors=self._errors(),
            access_log=settings.log.access,
            log_level=settings.log.level,
            log_format=settings.log.format,
            resource=str(settings.oauth.resource),
            plugins=dict(plugins.names),
            plugin_directory=plugins.directory,
            **{name: int(getattr(own, name)) for name in NUMBERS},
        )

    def _errors(self) -> dict[int, str]:
        errors = self._bodies(self._settings.errors, ("errors",))
        given = self._global_errors
        origin = dict.fromkeys(errors, "errors of the settings")
        for status, message, line in given.errors if given else ():
            if errors.setdefault(status, message) != message:
                text = f"the error {status} has another message in {origin[status]}"
                self.mistakes.append(Mistake("error", text, given.file if given else "", line, "errors.error"))
            origin.setdefault(status, f"line {line}")
        return errors


KINDS: Final[tuple[Kind, Kind]] = ("action", "filter")
NUMBERS: Final = (
    "head_timeout", "body_timeout", "idle_timeout", "write_timeout", "tunnel_timeout", "drain_timeout", "kick_grace",
    "max_head", "max_headers", "max_body", "max_buffered_body", "max_connections", "max_connections_per_address",
    "max_admissions",
)  # fmt: skip
_encode = msgspec.msgpack.Encoder(enc_hook=int).encode


def longest_drain(settings: Settings, upstream: UpstreamSettings) -> int:
    """What requests in flight at a droplet of this upstream may have at most (microseconds)."""
    source, templates = upstream.droplets, settings.droplets.templates
    if source is None:
        return 0
    return max((int(each.stop.drain) for name, each in templates.items() if source.template in ("", name)), default=0)


def upstream(name: str, settings: UpstreamSettings, drain: int) -> Upstream:
    """An upstream as the workers run it. `drain`: of its droplets, the longest."""
    tls = settings.tls
    return Upstream(
        name,
        tuple(map(str, settings.servers)),
        settings.balance,
        settings.preserve_host,
        int(settings.connect_timeout),
        int(settings.timeout),
        int(settings.idle_timeout),
        settings.max_connections,
        int(settings.fail_timeout),
        UpstreamTls(tls.ca, tls.name, tls.verify, tls.certificate, tls.key) if tls else None,
        director(settings, drain) if settings.balance == "director" else None,
    )


def director(settings: UpstreamSettings, drain: int) -> Director:
    """How the workers find out who a user is, and how long one may have to wait."""
    return Director(settings.director_port, settings.user_from, settings.user_hash, int(settings.user_expire), drain)


def body_text(body: Body) -> str:
    """An error body: text as it is, anything else as compact JSON."""
    return body if isinstance(body, str) else msgspec.json.encode(body).decode()


def _meets(parts: tuple[Piece, ...], path: str) -> bool:
    """Whether a route with these pieces matches `path`."""
    head = parts[0]
    if not isinstance(head, Fixed) or len(parts) == 1:
        return isinstance(head, Fixed) and head.text == path
    if not path.startswith(head.text):
        return False
    table: Table[bool] = Table()
    table.add("*", parts, 0, True)
    return table.find(b"GET", path.encode()) is not None


def _placed(place: Where | Use) -> str:
    return f"{place.endpoint.file}:{place.endpoint.line}" if isinstance(place, Use) else f"routes[{place[1]}]"
