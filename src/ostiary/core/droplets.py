"""Droplets: what one is made from, what its name and environment may be, and how its state is put into words."""

import re
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from ostiary.core.refusal import Invalid, Mistake
from ostiary.core.snapshot import SECOND

MOST_KEYS = 100
MOST_VALUE = 32 * 1024
"""Bytes of a value of the environment."""
SIGNALS = frozenset({"TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "KILL"})
"""Signals that may ask a droplet to end."""
WEB = "web"
"""The type of an app's droplets that `command` starts, where a template has no types."""

_NAME = re.compile(r"[a-z][a-z0-9-]{1,38}[a-z0-9]", re.ASCII)
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
# They steer loaders, shells and interpreters, or say who the droplet is.
_RESERVED = frozenset({"PATH", "HOME", "IFS", "ENV", "BASH_ENV", "PORT", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS"})
_RESERVED_STARTS = (
    "PORT_", "DROPLET_", "OSTIARY_", "LD_", "DYLD_", "PYTHON", "NODE_", "PERL5", "RUBY", "GIT_",
)  # fmt: skip
_HOLE = re.compile(r"\{\{|\{[^{}]*\}|\{")
_PORT = re.compile(r"port:([0-9]{1,5})", re.ASCII)
_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
UNSEEN = 255
"""The code in the prose of a droplet whose end nobody saw, as Docker has it."""


class Limits(Struct, frozen=True):
    """What a droplet may use; 0: no limit."""

    memory: int = 0
    """Bytes."""
    cpu: float = 0.0
    """Cores."""
    pids: int = 0

    def given(self) -> dict[str, int | float]:
        """Those that there are."""
        all_ = {"memory": self.memory, "cpu": self.cpu, "pids": self.pids}
        return {name: value for name, value in all_.items() if value}


class Health(Struct, frozen=True):
    """How a droplet is looked after. Times in microseconds."""

    port: int
    """Of the template."""
    path: str = ""
    """What is asked by HTTP, where any status below 400 is healthy; empty: a connection is enough."""
    every: int = 2 * SECOND
    timeout: int = SECOND
    healthy_after: int = 1
    unhealthy_after: int = 3


class Stopping(Struct, frozen=True):
    """How a droplet is ended. Times in microseconds."""

    signal: str = "TERM"
    timeout: int = 10 * SECOND
    drain: int = 10 * SECOND
    """What requests in flight have, before the signal."""


class Restarts(Struct, frozen=True):
    """What follows when a droplet ends by itself. Times in microseconds."""

    policy: Literal["never", "on_failure", "always"] = "on_failure"
    max: int = 5
    """Restarts without `reset_after` of running between them."""
    first_wait: int = SECOND
    max_wait: int = 60 * SECOND
    reset_after: int = 60 * SECOND


class Template(Struct, frozen=True):
    """What a droplet is made from."""

    name: str
    command: tuple[str, ...] = ()
    image: str = ""
    ports: tuple[int, ...] = ()
    env: dict[str, str] = {}
    limits: Limits = Limits()
    user: str = ""
    mounts: tuple[str, ...] = ()
    health: Health | None = None
    start_timeout: int = 60 * SECOND
    stop: Stopping = Stopping()
    restart: Restarts = Restarts()
    types: dict[str, tuple[str, ...]] = {}
    """Process types of an app -> the command of each."""

    def __repr__(self) -> str:
        """Without the environment, which may hold secrets."""
        return f"Template({self.name!r})"


class Source(Struct, frozen=True):
    """Which droplets are backends of an upstream: those of a template, or of one type of an app."""

    template: str = ""
    app: str = ""
    type: str = ""
    port: int = 0
    """Of the template; 0: its first."""


class DropletRules(Struct, frozen=True):
    """What the settings say on droplets. Times in microseconds."""

    prefix: str = "droplet"
    max: int = 100
    concurrency: int = 4
    lock_timeout: int = 30 * SECOND
    keep: bool = False
    """Whether droplets live on when Ostiary is stopped."""
    images: tuple[str, ...] = ()
    """Patterns of images that apps may name."""
    templates: Mapping[str, Template] = {}
    default: str = ""
    """The template that is taken where none is named."""
    upstreams: Mapping[str, Source] = {}
    """Upstream -> where its backends come from."""

    def template(self, name: str) -> Template:
        """The template of that name, or the default one. Refuses Invalid `template.unknown`."""
        found = self.templates.get(name or self.default)
        if found is None:
            there = ", ".join(self.templates) or "none is configured"
            raise Invalid("template.unknown", f"The template is unknown; there are: {there}")
        return found


class Place(Struct, frozen=True):
    """A droplet's place in an app."""

    app: str
    type: str
    number: int
    release: int

    @property
    def name(self) -> str:
        """`shop.web.1`."""
        return f"{self.app}.{self.type}.{self.number}"


class Recipe(Struct, frozen=True):
    """All that a droplet is made from. It is kept with the droplet: a template may change or go."""

    template: Template
    command: tuple[str, ...]
    image: str
    env: dict[str, str]
    """Of the template and of the request; what Ostiary itself sets is not in it."""

    def __repr__(self) -> str:
        """Without the environment."""
        return f"Recipe({self.template.name!r})"


def recipe(template: Template, env: Mapping[str, str] | None = None, type_: str = "", image: str = "") -> Recipe:
    """What a droplet of `template` is made from; `type_`: for an app, whose process type has its own command.

    Refuses Invalid `env.invalid`, `type.unknown`.
    """
    check_env(env or {})
    command = template.command
    if type_:
        types = template.types or {WEB: template.command}
        if type_ not in types:
            raise Invalid("type.unknown", f"Container type {type_} does not exist in application")
        command = types[type_]
    return Recipe(template, command, image or template.image, {**template.env, **(env or {})})


# Names and environment


def name_ok(name: str) -> bool:
    """Whether a droplet may be called so."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> None:
    """Refuse Invalid `droplet.name`."""
    if not name_ok(name):
        raise Invalid(
            "droplet.name",
            "The droplet name is invalid: 3 to 40 lower-case letters, digits and hyphens, the first a letter",
        )


def counted_name(prefix: str, number: int) -> str:
    """The name of who asked for none: `droplet07`."""
    return f"{prefix}{number:02d}"


def key_ok(key: str) -> bool:
    """Whether a variable may be called so, whoever sets it."""
    return _KEY.fullmatch(key) is not None


def value_ok(value: str) -> bool:
    """Whether a variable may have this value: what a process can be given."""
    try:
        return "\0" not in value and len(value.encode()) <= MOST_VALUE
    except UnicodeEncodeError:
        return False


def reserved(key: str) -> bool:
    """Whether only the configuration may set this variable."""
    return key in _RESERVED or key.startswith(_RESERVED_STARTS)


def check_env(env: Mapping[str, str]) -> None:
    """Refuse Invalid `env.invalid` to what a request may not set."""
    wrong = next((key for key, value in env.items() if not _settable(key, value)), None)
    if wrong is None and len(env) > MOST_KEYS:
        wrong = list(env)[MOST_KEYS]
    if wrong is not None:
        raise Invalid(
            "env.invalid", f"The environment is invalid: {wrong}", (Mistake("env", "cannot be set", code=wrong),)
        )


def _settable(key: str, value: str) -> bool:
    return key_ok(key) and not reserved(key) and value_ok(value)


# Placeholders


def placeholder_fault(argument: str, ports: tuple[int, ...]) -> str:
    """What is wrong with the placeholders of an argument; "" when nothing is."""
    for match in _HOLE.finditer(argument):
        text = match[0]
        port = _PORT.fullmatch(text[1:-1])
        known = text in ("{{", "{name}", "{python}") or (text == "{port}" and ports)
        if known or (port and int(port[1]) in ports):
            continue
        if text == "{port}" or port:
            return f"{text} is none of the template's ports" if ports or port else f"{text}: the template has no ports"
        return f"{text[:40]} is no placeholder: there are {{port}}, {{port:N}}, {{name}}, {{python}}; {{{{ is a brace"
    return ""


def filled(argument: str, ports: Mapping[int, int], name: str, python: str) -> str:
    """An argument with its placeholders replaced. `ports`: of the template -> where the droplet listens, in order."""

    def put(match: re.Match[str]) -> str:
        inside = match[0][1:-1]
        port = _PORT.fullmatch(inside)
        if port:
            return str(ports[int(port[1])])
        return {"{": "{", "name": name, "python": python}.get(inside) or str(next(iter(ports.values())))

    return _HOLE.sub(lambda match: "{" if match[0] == "{{" else put(match), argument)


def environment(recipe_: Recipe, ports: Mapping[int, int], name: str, ident: str) -> dict[str, str]:
    """What a droplet finds in its environment; `ports` as for `filled`."""
    own = {f"PORT_{inside}": str(port) for inside, port in ports.items()}
    if ports:
        own["PORT"] = str(next(iter(ports.values())))
    return {**recipe_.env, **own, "DROPLET_NAME": name, "DROPLET_ID": ident}


# Words


def span(microseconds: int) -> str:
    """A time in one unit, whole and rounded down: `2 minutes`."""
    seconds = max(0, microseconds) // SECOND
    size, unit = next((each for each in _UNITS if seconds >= each[0]), _UNITS[-1])
    count = seconds // size
    return f"{count} {unit}{'' if count == 1 else 's'}"


def ago(at: int, now: int) -> str:
    """`2 minutes ago`."""
    return f"{span(now - at)} ago"
