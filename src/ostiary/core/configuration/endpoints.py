"""Endpoints of ApiFest's mapping files, as routes."""

from collections.abc import Iterator

from ostiary.core.configuration import own
from ostiary.core.configuration.catalogue import CLASSES, Catalogue, Kind, plugin
from ostiary.core.configuration.mapping import Merger, PluginName, Use, pieces
from ostiary.core.configuration.policies import Policies
from ostiary.core.configuration.settings import ApifestSettings
from ostiary.core.configuration.upstreams import Upstreams
from ostiary.core.refusal import Mistake
from ostiary.core.routing.template import holes, read_backend_path, written
from ostiary.core.snapshot import Fixed, Piece, Plugin, Policy, Route, Variable


class Endpoints:
    """Those that `merger` has put together; what is wrong with them joins its mistakes and warnings."""

    def __init__(
        self,
        merger: Merger,
        settings: ApifestSettings,
        catalogue: Catalogue,
        upstreams: Upstreams,
        policies: Policies,
    ) -> None:
        self._merger = merger
        self._settings = settings
        self._catalogue = catalogue
        self._upstreams = upstreams
        self._policies = policies
        self._shapes: dict[object, Use] = {}
        self._unknown: set[tuple[Kind, str]] = set()
        """Classes of the tables that nothing stands for."""

    def routes(self) -> Iterator[tuple[Route, Use]]:
        """A route for each that can be one, in the order of the files."""
        for kind, name, file in self._merger.listed:
            if not self._plugins(kind, name, file):
                self._unknown.add((kind, name.type))
        all_ = ((use, each.errors) for each in self._merger.versions.values() for use in each.endpoints)
        for order, (use, errors) in enumerate(all_, 1):
            actions = self._plugins("action", use.action, use.endpoint.file)
            filters = self._plugins("filter", use.filter, use.endpoint.file)
            try:
                parts, to = _paths(use)
            except ValueError as problem:
                self._merger.mistakes.append(refused(use, str(problem)))
                continue
            self._look_alike(use, parts)
            policy = self._policies.shared(self._policy(use, actions, filters, errors))
            yield self._route(use, order, parts, to, policy), use

    def _route(self, use: Use, order: int, parts: tuple[Piece, ...], to: str, policy: int) -> Route:
        point = use.endpoint
        upstream = self._upstreams.pair(point.host, point.port)
        return Route(f"{point.method} {written(parts)}", point.method, parts, to, upstream, policy, order)

    def _policy(
        self, use: Use, actions: tuple[Plugin, ...], filters: tuple[Plugin, ...], errors: dict[int, str]
    ) -> Policy:
        point = use.endpoint
        return Policy(
            token="" if point.auth_type is None else point.auth_type or "none",
            scopes=tuple((point.scope or "").split()),
            actions=actions,
            filters=filters,
            errors=errors,
            compat=self._settings.gateway_status == "compat",
            properties=point.properties or {},
        )

    def _look_alike(self, use: Use, parts: tuple[Piece, ...]) -> None:
        """Warn of two that may match the same path."""
        if all(isinstance(each, Fixed) for each in parts):
            return
        shape = (use.endpoint.method, *(each.text if isinstance(each, Fixed) else None for each in parts))
        first = self._shapes.setdefault(shape, use)
        if first is not use:
            point, earlier = use.endpoint, first.endpoint
            text = f"has the shape of {earlier.file}:{earlier.line}; where both match, the earlier one goes"
            self._merger.warnings.append(Mistake(point.path, text, point.file, point.line))

    def _plugins(self, kind: Kind, name: PluginName | None, file: str) -> tuple[Plugin, ...]:
        if name is None or (kind, name.type) in self._unknown:
            return ()
        found = self._class(name.type)
        if found is not None and not self._catalogue.check(kind, found):
            return (found,)
        message = f"cannot load custom class {name.type}"
        path = f"{name.path}: no {kind} has this class or name; see dialects.apifest.classes"
        self._merger.mistakes.append(Mistake(path, message, file, name.line, "mapping.class"))
        return ()

    def _class(self, name: str) -> Plugin | None:
        """What stands for a Java class; None where the settings say it wrongly."""
        if name not in self._settings.classes:
            return CLASSES[name][1] if name in CLASSES else Plugin(name)
        try:
            return plugin(self._settings.classes[name])
        except ValueError:
            return None


def _paths(use: Use) -> tuple[tuple[Piece, ...], str]:
    """The public path, in pieces, and the backend path. ValueError with what is wrong with them."""
    parts, to = pieces(use.endpoint), read_backend_path(use.endpoint.internal)
    names = {each.name for each in parts if isinstance(each, Variable)}
    unfilled = next((name for name in holes(to) if name not in names), None)
    if unfilled and use.action is None:
        raise ValueError(f"nothing fills in {{{unfilled}}} of internal {use.endpoint.internal[:200]}")
    if path := own.met(parts):
        raise ValueError(f"{path} is Ostiary's own")
    return parts, to


def refused(use: Use, reason: str) -> Mistake:
    """An endpoint that cannot be a route."""
    point = use.endpoint
    message = f"external path {point.method} {point.external}: {reason}"
    return Mistake(f"{point.path}.external", message, point.file, point.line, "mapping.path")
