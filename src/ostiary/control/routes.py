"""Routes, mappings and error bodies as they serve: lists, and which route a request would take.

Of plug-ins only the names are shown: their arguments may be secrets.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct

from ostiary.control.call import Call
from ostiary.control.config import NoParameters
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.configuration.compile import Compiled
from ostiary.core.configuration.mapping import listing
from ostiary.core.limit import Limit
from ostiary.core.refusal import Invalid, Mistake
from ostiary.core.routing.backend_path import BackendPath
from ostiary.core.routing.path import canonical, query_ok
from ostiary.core.routing.table import Table
from ostiary.core.snapshot import Policy, Route


class ListRoutes(Struct, frozen=True):
    """Which routes."""

    text: Annotated[str, Meta(description="only those with this text in their name or upstream")] = ""
    limit: Annotated[int, Meta(ge=1, le=10_000, description="at most so many")] = 100
    after: Annotated[str, Meta(description="those after the route of this name")] = ""


class ShownLimit(Struct, frozen=True):
    """A rate limit: so many requests in so many microseconds, counted by what."""

    name: str
    requests: int
    per: int
    by: str


class ShownRoute(Struct, frozen=True):
    """A route as it serves."""

    name: str
    method: str
    to: str
    upstream: str
    token: str
    """Empty: public; else `client-app`, `user`, or what never passes."""
    scopes: tuple[str, ...]
    limit: ShownLimit | None
    actions: list[str]
    filters: list[str]
    statuses: str
    """`standard`, or `compat` for mapping files that answer as ApiFest did."""


class Explain(Struct, frozen=True):
    """A request to be explained."""

    path: Annotated[str, Meta(description="path of the request, with its query if it has one")]
    method: Annotated[str, Meta(description="method of the request")] = "GET"


class Explained(Struct, frozen=True):
    """Which route a request would take, and what the backend would get."""

    status: int
    """What the gateway answers by itself: 400, 404 or 405; 0: a route takes the request."""
    reason: str
    path: str = ""
    """The canonical path, which is what is matched."""
    route: ShownRoute | None = None
    captures: dict[str, str] = {}
    backend: str = ""
    """Path at the backend; a `{name}` in it is for an action to fill in."""
    methods: list[str] = []
    """Under which this path is known."""


@operation("routes.list", reads=True)
async def list_(control: Control, call: Call, params: ListRoutes) -> list[ShownRoute]:
    """List the routes that serve, in the order of the files."""
    built = control.configuration.serving
    return await control.configuration.build_thread(lambda: _listed(built.compiled, params))


def _listed(compiled: Compiled, params: ListRoutes) -> list[ShownRoute]:
    routes = compiled.routes
    start = next((at + 1 for at, route in enumerate(routes) if route.name == params.after), 0) if params.after else 0
    upstreams = [each.name for each in compiled.snapshot.upstreams]
    found = []
    for route in routes[start:]:
        if params.text in route.name or params.text in upstreams[route.upstream]:
            found.append(shown(compiled, route))
            if len(found) == params.limit:
                break
    return found


def shown(compiled: Compiled, route: Route) -> ShownRoute:
    """A route as operators see it."""
    policy = compiled.snapshot.policies[route.policy]
    return ShownRoute(
        name=route.name,
        method=route.method,
        to=route.to,
        upstream=compiled.snapshot.upstreams[route.upstream].name,
        token=policy.token,
        scopes=policy.scopes,
        limit=_limit(policy),
        actions=[plugin.name for plugin in policy.actions],
        filters=[plugin.name for plugin in policy.filters],
        statuses="compat" if policy.compat else "standard",
    )


def _limit(policy: Policy) -> ShownLimit | None:
    if policy.limit is None:
        return None
    quota: Limit = policy.limit.limit
    return ShownLimit(policy.limit.name, quota.quota, quota.window, policy.limit.by)


@operation("routes.explain", reads=True)
async def explain(control: Control, call: Call, params: Explain) -> Explained:
    """Say which route a request would take and what the backend would get."""
    built = control.configuration.serving
    table = await control.configuration.table()
    return explained(built.compiled, table, params.method, params.path)


def explained(compiled: Compiled, table: Table[Route], method: str, target: str) -> Explained:
    """The way of one request, as the workers decide it. Refuses Invalid for what no request can be."""
    if not method.isascii() or not target.isascii() or not target.startswith("/"):
        mistake = Mistake("$.path", "expected a path that begins with a slash, in ASCII")
        raise Invalid("params.invalid", "The parameters are not valid", (mistake,))
    raw, mark, query = target.encode().partition(b"?")
    path = canonical(raw)
    if path is None or not query_ok(query):
        return Explained(400, "programs read such a path in different ways, so it is refused")
    return _matched(compiled, table, method.encode(), path, (mark + query).decode())


def _matched(compiled: Compiled, table: Table[Route], method: bytes, path: bytes, query: str) -> Explained:
    found = _find(table, method, path) or (_find(table, b"GET", path) if method == b"HEAD" else None)
    text = path.decode()
    if found is None:
        methods = table.methods(path)
        status = 405 if methods else 404
        return Explained(
            status, "no route has this method" if methods else "no route has this path", text, methods=methods
        )
    route, captures = found
    filled = BackendPath(route.to, captures.keys()).fill(captures)
    known = {name: value.decode() for name, value in captures.items()}
    if filled is None:
        return Explained(
            400, "the backend path would be ambiguous, so it is refused", text, shown(compiled, route), known
        )
    to, own = (part.decode() for part in filled)
    backend = to + "?" + "&".join(part for part in (query[1:], own) if part) if query or own else to
    return Explained(0, "", text, shown(compiled, route), known, backend)


def _compat(compiled: Compiled, table: Table[Route], method: bytes, path: bytes) -> bool:
    """Whether the route answers as ApiFest did: then its path is no known one under other methods."""
    found = _find(table, method, path)
    return found is not None and compiled.snapshot.policies[found[0].policy].compat


def _find(table: Table[Route], method: bytes, path: bytes) -> tuple[Route, dict[str, bytes]] | None:
    for name in (method, b"*"):
        if route := table.exact.get(name + b" " + path):
            return route, {}
    return table.find(method, path)


@operation("mappings.list", reads=True, permission="config:read")
async def mappings(control: Control, call: Call, params: NoParameters) -> dict[str, Any]:
    """List what the ApiFest mapping files say, by version."""
    return listing(control.configuration.serving.versions)


@operation("errors.list", reads=True, permission="config:read")
async def errors(control: Control, call: Call, params: NoParameters) -> dict[str, str]:
    """List the bodies of the answers that the gateway makes itself, by status."""
    bodies = control.configuration.serving.compiled.snapshot.gateway.errors
    return {str(status): bodies[status] for status in sorted(bodies)}
