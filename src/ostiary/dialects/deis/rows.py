"""The rows: which path and method leads to which handler, and what it asks for."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Literal

from msgspec import Struct

from ostiary.dialects.deis import accounts, administrators, apps
from ostiary.dialects.deis.asked import Asked
from ostiary.dialects.deis.words import Said, unserved
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
    app: Literal["", "any", "own"] = ""
    """The app in the path is one that the caller may work with, or owns: this is found out before anything is read."""


async def _root(asked: Asked) -> Answer:
    """Newer clients ask here whether this is a controller, and accept nothing but a 401."""
    return json_answer(200, {})


def _unserved(path: str, name: str, methods: Iterable[str] = METHODS) -> list[Row]:
    """What Deis has and Ostiary has not."""

    async def handler(asked: Asked) -> Answer:
        raise Said(unserved(name))

    if path.startswith(APP):
        return [Row(method, path, handler, permission="apps:own", app="any") for method in methods]
    return [Row(method, path, handler) for method in methods]


def _of_app(method: str, rest: str, handler: Handler, operation: str, app: Literal["any", "own"] = "any") -> Row:
    return Row(method, f"{APP}{rest}", handler, operation, app=app)


APP = "apps/:id"
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
    Row("GET", "apps", apps.listing, "apps.list"),
    Row("POST", "apps", apps.create, "apps.create"),
    _of_app("GET", "", apps.info, "apps.get"),
    _of_app("POST", "", apps.transfer, "apps.transfer", "own"),
    _of_app("DELETE", "", apps.destroy, "apps.delete", "own"),
    _of_app("GET", "/perms", apps.perms, "apps.collaborators"),
    _of_app("POST", "/perms", apps.share, "apps.share", "own"),
    _of_app("DELETE", "/perms/:username", apps.unshare, "apps.unshare"),
    _of_app("GET", "/config", apps.config, "apps.config"),
    _of_app("POST", "/config", apps.configure, "apps.configure"),
    _of_app("GET", "/builds", apps.builds, "apps.builds"),
    _of_app("POST", "/builds", apps.deploy, "apps.deploy"),
    _of_app("GET", "/containers", apps.containers, "apps.containers"),
    _of_app("POST", "/containers/restart", apps.restart, "apps.restart"),
    _of_app("GET", "/containers/:type", apps.containers, "apps.containers"),
    _of_app("POST", "/containers/:type/restart", apps.restart, "apps.restart"),
    _of_app("GET", "/containers/:type/:num", apps.containers, "apps.containers"),
    _of_app("POST", "/containers/:type/:num/restart", apps.restart, "apps.restart"),
    _of_app("POST", "/scale", apps.scale, "apps.scale"),
    _of_app("GET", "/logs", apps.logs, "apps.logs"),
    _of_app("GET", "/domains", apps.domains, "apps.get"),
    *_unserved("apps/:id/domains", "domains", ["POST"]),
    *_unserved("apps/:id/domains/:domain", "domains", ["DELETE"]),
    *_unserved("apps/:id/builds/:uuid", "builds"),
    *_unserved("apps/:id/releases", "releases"),
    *_unserved("apps/:id/releases/...", "releases"),
    *_unserved("apps/:id/run", "run"),
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
