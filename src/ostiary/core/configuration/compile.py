"""Compilation: settings and mapping files -> the snapshot that workers run, or everything that is wrong with them.

A fault of the settings is told by its place in them (whoever knows the files makes a Mistake of it), a mistake in a
mapping file by its line.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

from ostiary.core.configuration import upstreams
from ostiary.core.configuration.binding import Fault, Where
from ostiary.core.configuration.catalogue import KINDS, Catalogue, plugin
from ostiary.core.configuration.checks import checked
from ostiary.core.configuration.endpoints import Endpoints, refused
from ostiary.core.configuration.mapping import GlobalErrors, Merger, Use
from ostiary.core.configuration.near import near
from ostiary.core.configuration.own import PUBLIC, RESERVED
from ostiary.core.configuration.policies import Policies, bodies
from ostiary.core.configuration.rules import rules
from ostiary.core.configuration.settings import RouteSettings, Settings
from ostiary.core.configuration.upstreams import Upstreams
from ostiary.core.oauth import Rules
from ostiary.core.refusal import Mistake
from ostiary.core.routing.conflict import conflicts
from ostiary.core.routing.template import Line, holes, read_backend_path, read_match, template
from ostiary.core.snapshot import Fixed, Gateway, Policy, Route, Snapshot, Tls, Variable

MOST_HINTS: Final = 200
"""After so many faults it is no longer told what may have been meant, which takes its time."""
NUMBERS: Final = (
    "head_timeout", "body_timeout", "idle_timeout", "write_timeout", "tunnel_timeout", "drain_timeout", "kick_grace",
    "max_head", "max_headers", "max_body", "max_buffered_body", "max_connections", "max_connections_per_address",
    "max_admissions",
)  # fmt: skip
"""Settings of the gateway that workers take as they are."""


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
        self._upstreams = Upstreams(public)
        self._policies = Policies(settings, catalogue, self._broken)
        self._routes: list[Route] = []
        self._places: list[Where | Use] = []
        """Where each route was written; () for Ostiary's own."""

    def run(self, revision: int) -> Compiled:
        """The snapshot; of no use where there are faults or mistakes."""
        self._plugins()
        self._upstream_settings()
        self.faults += checked(self._settings, self._broken)
        self._route_settings()
        self._mappings()
        self._own()
        self._conflicts()
        made, policies = tuple(self._upstreams.made), tuple(self._policies.made)
        snapshot = Snapshot(revision, self._gateway(), made, policies, len(self._routes))
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
            try:
                found = plugin(use)
            except ValueError as wrong:
                self._fault(where, str(wrong))
                continue
            reasons = [self._catalogue.check(kind, found) for kind in KINDS]
            if all(reasons):
                self._fault(where, reasons[0])

    def _upstream_settings(self) -> None:
        for name, each in self._settings.upstreams.items():
            if name == RESERVED:
                self._fault(("upstreams", name), f"the name {RESERVED} is taken: it is Ostiary itself")
            else:
                drain = upstreams.longest_drain(self._settings, each)
                self._upstreams.add(upstreams.upstream(name, each, drain))

    # Routes

    def _route_settings(self) -> None:
        for index, route in enumerate(self._settings.routes):
            if ("routes", index) not in self._broken:
                self._route(route, ("routes", index))

    def _route(self, route: RouteSettings, where: Where) -> None:
        upstream = self._upstream(route.upstream, (*where, "upstream"))
        policy, faults = self._policies.of(route)
        self.faults += (Fault((*where, *fault.where), fault.message) for fault in faults)
        line = self._line(route.match, (*where, "match"))
        to = self._backend_path(route, line, (*where, "to"))
        if line is None:
            return
        for method in line.methods:
            self._add(Route(f"{method} {line.path}", method, line.pieces, to, upstream, policy), where)

    def _add(self, route: Route, place: Where | Use) -> None:
        self._routes.append(route)
        self._places.append(place)

    def _line(self, match: str, where: Where) -> Line | None:
        try:
            return read_match(match)
        except ValueError as problem:
            self._fault(where, str(problem))
            return None

    def _upstream(self, name: str, where: Where) -> int:
        number = self._upstreams.number(name)
        if number is None and ("upstreams", name) not in self._broken:
            hint = near(name, tuple(self._settings.upstreams)) if len(self.faults) < MOST_HINTS else ""
            self._fault(where, f"no upstream is named {name[:64]}{hint}")
        return number or 0

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

    def _mappings(self) -> None:
        apifest = self._settings.dialects.apifest
        endpoints = Endpoints(self._merger, apifest, self._catalogue, self._upstreams, self._policies)
        for route, use in endpoints.routes():
            self._add(route, use)

    # All together

    def _own(self) -> None:
        """What control serves for everybody, through the gateway."""
        policy = self._policies.shared(Policy(keep_authorization=True))
        for method, path in PUBLIC:
            self._add(Route(f"{method} {path}", method, (Fixed(path),), path, 0, policy), ())

    def _conflicts(self) -> None:
        for first, second, example in conflicts(self._routes):
            here, there = self._places[second], self._places[first]
            if here == ():
                here, there = there, here
            self._conflict(here, there, self._routes[first], example)

    def _conflict(self, here: Where | Use, there: Where | Use, route: Route, example: str) -> None:
        what = "is Ostiary's own" if there == () else f"is taken: both {_placed(there)} and this one match {example}"
        if isinstance(here, Use):
            self.mistakes.append(refused(here, f"it {what}"))
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
        errors = bodies(self._settings.errors)
        given = self._global_errors
        origin = dict.fromkeys(errors, "errors of the settings")
        for status, message, line in given.errors if given else ():
            if errors.setdefault(status, message) != message:
                text = f"the error {status} has another message in {origin[status]}"
                self.mistakes.append(Mistake("error", text, given.file if given else "", line, "errors.error"))
            origin.setdefault(status, f"line {line}")
        return errors


def _placed(place: Where | Use) -> str:
    return f"{place.endpoint.file}:{place.endpoint.line}" if isinstance(place, Use) else f"routes[{place[1]}]"
