"""The rows: which path and method leads to which handler, and what it asks for."""

from collections.abc import Awaitable, Callable, Iterable

from msgspec import Struct

from ostiary.dialects.deis import accounts, administrators
from ostiary.dialects.deis.asked import Asked
from ostiary.dialects.deis.words import NOT_FOUND, Said, error
from ostiary.dialects.message import Answer, json_answer, segment

Handler = Callable[[Asked], Awaitable[Answer]]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class Row(Struct, frozen=True):
    """One path and method. A `:name` is one segment; `...` at the end stands for one or more."""

    method: str
    path: str
    handler: Handler
    operation: str = ""
    permission: str = ""
    """Asked for instead of the operation's own."""
    public: bool = False
    """The handler looks at who is asking, if it matters."""


async def _root(asked: Asked) -> Answer:
    """Newer clients ask here whether this is a controller, and accept nothing but a 401."""
    return json_answer(200, {})


async def _no_app(asked: Asked) -> Answer:
    """There is no such app, or none that the caller may see: the same bytes."""
    raise Said(error(404, NOT_FOUND))


def _unserved(path: str, name: str, methods: Iterable[str] = METHODS) -> list[Row]:
    """What Deis has and Ostiary has not."""

    async def handler(asked: Asked) -> Answer:
        raise Said(error(501, f"Not supported by this controller: {name}"))

    return [Row(method, path, handler) for method in methods]


APPS = {
    "": ("GET", "POST", "DELETE"),
    "/perms": ("GET", "POST"),
    "/perms/:username": ("DELETE",),
    "/config": ("GET", "POST"),
    "/builds": ("GET", "POST"),
    "/builds/:uuid": METHODS,
    "/containers": ("GET",),
    "/containers/restart": ("POST",),
    "/containers/:type": ("GET",),
    "/containers/:type/restart": ("POST",),
    "/containers/:type/:num": ("GET",),
    "/containers/:type/:num/restart": ("POST",),
    "/scale": ("POST",),
    "/logs": ("GET",),
    "/domains": ("GET", "POST"),
    "/domains/:domain": ("DELETE",),
    "/releases": METHODS,
    "/releases/...": METHODS,
    "/run": METHODS,
}
"""What follows an app's id, and its methods."""

ROWS = (
    Row("GET", "", _root),
    Row("POST", "auth/register", accounts.register, "users.register", public=True),
    Row("POST", "auth/login", accounts.login, "login.password", public=True),
    Row("POST", "auth/passwd", accounts.passwd, "users.set_password"),
    Row("DELETE", "auth/cancel", accounts.cancel, "users.delete"),
    Row("POST", "auth/tokens", accounts.tokens, "tokens.reissue"),
    Row("GET", "users", administrators.users, "users.list"),
    Row("GET", "admin/perms", administrators.administrators, "users.list"),
    Row("POST", "admin/perms", administrators.promote, "users.set_role", "users:promote"),
    Row("DELETE", "admin/perms/:username", administrators.demote, "users.set_role", "users:promote"),
    Row("GET", "apps", administrators.apps, permission="apps:own"),
    *_unserved("apps", "apps", ["POST"]),
    *(Row(method, f"apps/:id{rest}", _no_app) for rest, methods in APPS.items() for method in methods),
    *_unserved("keys", "keys"),
    *_unserved("keys/...", "keys"),
    *_unserved("certs", "certs"),
    *_unserved("certs/...", "certs"),
    *_unserved("hooks/...", "hooks"),
)
PATHS: dict[str, dict[str, Row]] = {}
for _row in ROWS:
    PATHS.setdefault(_row.path, {})[_row.method] = _row
    if _row.method == "GET":
        PATHS[_row.path]["HEAD"] = _row
_PATTERNS = [(path.split("/"), methods) for path, methods in PATHS.items()]


def find(path: str) -> tuple[dict[str, Row], dict[str, str]] | None:
    """The rows of a path by method, and the names in it, percent-decoded once. One slash at the end is ignored."""
    start, rest = path[:4].removesuffix("/"), path[4:]
    if start != "/v1" or rest.startswith("/"):
        return None
    given = rest.removesuffix("/").split("/")
    for pattern, methods in _PATTERNS:
        if _fits(pattern, given):
            pairs = zip(pattern, given, strict=False)
            return methods, {want[1:]: segment(sent) for want, sent in pairs if want.startswith(":")}
    return None


def _fits(pattern: list[str], given: list[str]) -> bool:
    if pattern[-1] == "...":
        return len(given) >= len(pattern) and _fits(pattern[:-1], given[: len(pattern) - 1])
    if len(pattern) != len(given):
        return False
    return all(sent != "" if want.startswith(":") else sent == want for want, sent in zip(pattern, given, strict=True))
