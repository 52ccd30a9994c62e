"""The commands: what each is called, takes, asks of an operation, and shows of its result (doveadm.md 3 and 5)."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from ostiary.core.configuration.settings import DoveadmSettings
from ostiary.core.mask import MOST_MASK, read_network
from ostiary.core.refusal import Invalid, Mistake, NotFound
from ostiary.dialects.doveadm import rows
from ostiary.dialects.doveadm.grammar import Command as Sent
from ostiary.dialects.doveadm.grammar import Shape
from ostiary.dialects.doveadm.values import BadValue, Kind, taken
from ostiary.dialects.doveadm.words import ORIGINAL, Codes

Values = Mapping[str, Any]
LONGEST_SERVICE = 255
EVERYTHING = "/0"
"""What the original takes for the network of all addresses."""
_STARS = re.compile(r"\*+")


class Parameter(Struct, frozen=True):
    """One parameter of a command."""

    name: str
    kind: Kind = "string"
    required: bool = False
    listed: bool = True
    other: str = ""
    """The parameter that this one is another name of."""
    loose: bool = False
    """Of an array: whether it holds more than strings."""


class Asked(Struct, frozen=True):
    """A command with its values, as they were taken."""

    values: Values
    settings: DoveadmSettings

    def given(self, **names: str) -> dict[str, object]:
        """Parameters of an operation (by keyword) out of those of the command that were sent."""
        return {own: self.values[name] for own, name in names.items() if name in self.values}

    @property
    def upstream(self) -> dict[str, object]:
        """The director that is meant: the socket's, where the configuration gives that a meaning."""
        named = self.settings.sockets.get(self.values.get("socketPath", ""))
        return {"upstream": named or self.settings.director}


class Command(Struct, frozen=True):
    """A command by its normalised name."""

    name: str
    operation: str
    parameters: tuple[Parameter, ...]
    ask: Callable[[Asked], dict[str, object]]
    """Parameters of the operation. Refuses Invalid and others for what the original judges before it asks."""
    show: Callable[[Any, Asked], list[Any]]
    codes: Codes = ORIGINAL
    apart: str = ""
    """The parameter that names a user, where commands about different users do not touch each other; empty: none."""

    @property
    def shape(self) -> Shape:
        """What the grammar has to know of it."""
        return Shape({each.name: each.kind == "array" and not each.loose for each in self.parameters})

    def asked(self, sent: Sent, settings: DoveadmSettings) -> Asked:
        """The values of a command as it was sent. Raises BadValue."""
        if sent.unknown is not None:
            raise BadValue(sent.unknown[:64], "There is no such parameter")
        values: dict[str, Any] = {}
        for each in self.parameters:
            if each.name in sent.values:
                if (each.other or each.name) in values:
                    raise BadValue(each.name, f"It is another name of {each.other}: give one of the two")
                values[each.other or each.name] = taken(each.kind, sent.values[each.name], each.name)
        return Asked(values, settings)

    def complete(self, asked: Asked) -> None:
        """Refuse Invalid `params.missing`."""
        for each in self.parameters:
            if each.required and each.name not in asked.values:
                raise bad(each.name, "It is required", "params.missing")


def bad(parameter: str, message: str, code: str = "params.invalid") -> Invalid:
    """The refusal of a value."""
    return Invalid(code, message, (Mistake(parameter, message),))


def needed(name: str, kind: Kind = "string") -> Parameter:
    """A parameter that has to be there."""
    return Parameter(name, kind, required=True)


def hidden(name: str, kind: Kind = "string", other: str = "") -> Parameter:
    """A parameter that is taken, but not listed."""
    return Parameter(name, kind, listed=False, other=other)


SOCKET = Parameter("socketPath")
UNLISTED_SOCKET = hidden("socketPath")


# -- what is asked


def _nothing(asked: Asked) -> dict[str, object]:
    return {}


def _service_stop(asked: Asked) -> dict[str, object]:
    return {"services": [name[:LONGEST_SERVICE] for name in asked.values["service"]]}


def _service_status(asked: Asked) -> dict[str, object]:
    named = asked.values.get("service")
    if named is None:
        return {}
    return {"services": [name for name in named if len(name) <= LONGEST_SERVICE] or [""]}


def _stats_dump(asked: Asked) -> dict[str, object]:
    return asked.given(type="type", filter="filter")


def _penalty(asked: Asked) -> dict[str, object]:
    if asked.values.get("netmask") == "":
        raise bad("netmask", "It must be an address, or an address and bits: 10.0.0.0/24")
    return {"kind": "address", "limit": 10_000, **asked.given(network="netmask")}


def _masks(asked: Asked, texts: list[str]) -> dict[str, object]:
    """At most one mask of users and one network."""
    networks = [each for each in texts if read_network(each) is not None]
    users = [each for each in texts if read_network(each) is None]
    if len(networks) > 1 or len(users) > 1:
        raise bad("mask", "There is at most one mask of users and one network")
    return {"user": _mask(users[0]) if users else "", "network": networks[0] if networks else ""}


def _mask(text: str) -> str:
    """A mask of users that is not too long: what is left after a cut asks for a longer name than anybody has."""
    return _STARS.sub("*", text)[:MOST_MASK]


def _who(asked: Asked) -> dict[str, object]:
    masks = _masks(asked, [each for each in asked.values.get("mask", []) if each])
    return {**masks, "limit": 1_000_000}


def _kick(asked: Asked) -> dict[str, object]:
    texts = asked.values["mask"]
    if not texts:
        raise bad("mask", "It is empty: say whose sessions end")
    masks = _masks(asked, [each for each in texts if each != EVERYTHING])
    if "" in texts:
        raise NotFound("session.none", "An empty mask matches nobody")
    if EVERYTHING in texts and (masks["network"] or not masks["user"]):
        raise bad("mask", "It means everybody: say whose sessions end")
    return {**masks, **asked.given(force="force")}


# -- what is shown


def _shown(show: Callable[[Any], list[Any]]) -> Callable[[Any, Asked], list[Any]]:
    return lambda result, asked: show(result)


def _who_rows(result: Any, asked: Asked) -> list[Any]:
    return rows.separate_sessions(result) if asked.values.get("separateConnections") else rows.sessions(result)


SILENT = _shown(rows.nothing)
SESSIONS: tuple[Command, ...] = (
    Command("reload", "config.reload", (UNLISTED_SOCKET,), _nothing, SILENT),
    Command("stop", "node.stop", (UNLISTED_SOCKET,), _nothing, SILENT),
    Command("serviceStop", "services.stop", (needed("service", "array"), UNLISTED_SOCKET), _service_stop, SILENT),
    Command(
        "serviceStatus",
        "services.status",
        (Parameter("service", "array"), UNLISTED_SOCKET),
        _service_status,
        _shown(rows.services),
    ),
    Command(
        "statsDump",
        "stats.dump",
        (SOCKET, needed("type"), Parameter("filter")),
        _stats_dump,
        _shown(rows.stats),
    ),
    Command("statsReset", "stats.reset", (SOCKET,), _nothing, SILENT),
    Command("penalty", "penalties.list", (SOCKET, Parameter("netmask")), _penalty, _shown(rows.penalties)),
    Command(
        "kick",
        "sessions.kick",
        (SOCKET, Parameter("force", "boolean"), needed("mask", "array")),
        _kick,
        _shown(rows.kicked),
    ),
    Command(
        "who",
        "sessions.list",
        (SOCKET, Parameter("separateConnections", "boolean"), Parameter("mask", "array")),
        _who,
        _who_rows,
    ),
)
ALIASES = MappingProxyType({"oldstatsDump": "statsDump", "oldstatsReset": "statsReset"})
