"""Policies: what routes require of an exchange and do to it.

Routes that say the same share one policy, so that 100,000 of them cost little.
"""

from collections.abc import Mapping, Sequence, Set

import msgspec

from ostiary.core.configuration.binding import Fault, Where
from ostiary.core.configuration.catalogue import Catalogue, Kind, plugin
from ostiary.core.configuration.near import near
from ostiary.core.configuration.settings import LimitSettings, RequireSettings, RouteSettings, Settings
from ostiary.core.configuration.settings.section import Body, PluginUse
from ostiary.core.limit import Limit
from ostiary.core.oauth import scope_name_ok
from ostiary.core.snapshot import Plugin, Policy, RouteLimit

_encode = msgspec.msgpack.Encoder(enc_hook=int).encode


class Policies:
    """All policies of a configuration. What refers to a `broken` part of the settings is passed over."""

    def __init__(self, settings: Settings, catalogue: Catalogue, broken: Set[Where]) -> None:
        self.made: list[Policy] = []
        self._limits = settings.limits
        self._catalogue = catalogue
        self._broken = broken
        self._faults: list[Fault] = []
        """Of the policy that is being made, by their places in the route."""
        self._known: dict[bytes, tuple[int, list[Fault]]] = {}

    def of(self, route: RouteSettings) -> tuple[int, list[Fault]]:
        """The number of a route's policy, and what is wrong with it, by its place in the route."""
        own = isinstance(route.limit, LimitSettings)
        key = _encode(
            (
                route.require, route.limit, route.actions, route.filters, route.errors, route.keep_authorization,
                route.max_body, route.timeout, route.director_tag, route.match if own else "",
            )
        )  # fmt: skip
        if key not in self._known:
            self._faults = []
            self._known[key] = self._add(self._made(route)), self._faults
        return self._known[key]

    def shared(self, policy: Policy) -> int:
        """The number of a policy that is no setting's; made once for all that are equal."""
        key = b"shared" + _encode(policy)
        if key not in self._known:
            self._known[key] = self._add(policy), []
        return self._known[key][0]

    def _add(self, policy: Policy) -> int:
        self.made.append(policy)
        return len(self.made) - 1

    def _made(self, route: RouteSettings) -> Policy:
        token, scopes = self._requirement(route.require)
        return Policy(
            token=token,
            scopes=scopes,
            limit=self._limit(route, token),
            actions=self._plugins("action", route.actions, "actions"),
            filters=self._plugins("filter", route.filters, "filters"),
            errors=bodies(route.errors),
            keep_authorization=route.keep_authorization,
            max_body=-1 if route.max_body is None else int(route.max_body),
            timeout=int(route.timeout),
            director_tag=route.director_tag,
        )

    def _fault(self, where: Where, message: str) -> None:
        self._faults.append(Fault(where, message))

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
            found = self._named(settings)
            if found is None:
                return None
            name, settings = settings, found
        if settings.by in ("client", "user") and not token:
            self._fault(
                ("limit",), f"a limit by {settings.by} needs `require`; a public route takes by: address or route"
            )
        return RouteLimit(name, Limit(settings.requests, int(settings.per)), settings.by)

    def _named(self, name: str) -> LimitSettings | None:
        if ("limits", name) in self._broken:
            return None
        if name not in self._limits:
            self._fault(("limit",), f"no limit is named {name[:64]}{near(name, tuple(self._limits))}")
        return self._limits.get(name)

    def _plugins(self, kind: Kind, uses: Sequence[PluginUse], part: str) -> tuple[Plugin, ...]:
        found = []
        for index, use in enumerate(uses):
            try:
                found.append(plugin(use))
            except ValueError as problem:
                self._fault((part, index), str(problem))
                continue
            if reason := self._catalogue.check(kind, found[-1]):
                self._fault((part, index), reason)
        return tuple(found)


def bodies(settings: Mapping[int, Body]) -> dict[int, str]:
    """Error bodies by status: text as it is, anything else as compact JSON."""
    return {
        status: body if isinstance(body, str) else msgspec.json.encode(body).decode()
        for status, body in settings.items()
    }
