"""Nodes: those that share the director's assignments (doveadm.md 8). Without a bus that is this one alone."""

from typing import Annotated

from msgspec import Meta, Struct

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.director import read_host
from ostiary.core.mask import address_order
from ostiary.core.refusal import Invalid, NotFound

PORT = 9090
MOST_PORT = 65_535
SELF, ABSENT = "self", ""

Port = Annotated[int, Meta(description="1 to 65535")]


class ListNodes(Struct, frozen=True):
    """All of them."""


class AddNode(Struct, frozen=True):
    """A node that is to be expected."""

    address: Annotated[str, Meta(description="its address")]
    port: Port = PORT


class RemoveNode(Struct, frozen=True):
    """A node that is expected no longer."""

    address: Annotated[str, Meta(description="its address")]
    port: Annotated[int | None, Meta(description="null: the first with the address")] = None


class NodeStatus(Struct, frozen=True):
    """A node as this one sees it. Times are Unix microseconds; null where no bus connects the two."""

    address: str
    port: int
    type: str
    """`self`, `in` for one that is there, empty for one that is not."""
    last_failed: int
    """0: never."""
    status: str
    """`ring synced` for this node; empty for one that is not there."""
    ping_ms: int | None = None
    input: int | None = None
    output: int | None = None
    buffered: int | None = None
    buffered_peak: int | None = None
    last_read: int | None = None
    last_write: int | None = None


class Expected(Struct, frozen=True):
    """Whether the list of expected nodes changed."""

    changed: bool


@operation("nodes.status", reads=True, permission="cluster:read")
async def status(control: Control, call: Call, params: ListNodes) -> list[NodeStatus]:
    """Show this node and those that are expected, by address and port."""
    own = control.rules.node
    others = [each for each in await control.nodes.all() if each != own]
    rows = [NodeStatus(*own, SELF, 0, "ring synced"), *(NodeStatus(*each, ABSENT, 0, "") for each in others)]
    return sorted(rows, key=lambda row: (address_order(row.address), row.port))


async def foresee_add(control: Control, call: Call, params: AddNode) -> list[str]:
    """Which node would be expected that is not yet."""
    meant = _read(params.address), _checked(params.port)
    known = meant in [*await control.nodes.all(), control.rules.node]
    return [] if known else [f"{meant[0]} port {meant[1]} expected"]


@operation("nodes.add", permission="cluster:manage", target="address", preview=foresee_add)
async def add(control: Control, call: Call, params: AddNode) -> Expected:
    """Expect a node; one that starts joins by itself."""
    known = _read(params.address), _checked(params.port)
    if known == control.rules.node:
        return Expected(False)
    return Expected(bool(await control.nodes.add(*known, call.done(control.clock()))))


async def foresee_remove(control: Control, call: Call, params: RemoveNode) -> list[str]:
    """Which node would be expected no longer."""
    address, port = await _meant(control, params)
    return [] if (address, port) == control.rules.node else [f"{address} port {port} expected no longer"]


@operation("nodes.remove", permission="cluster:manage", target="address", preview=foresee_remove)
async def remove(control: Control, call: Call, params: RemoveNode) -> Expected:
    """Expect a node no longer. This one stays while it is alone. Refuses NotFound `node.unknown`."""
    meant = await _meant(control, params)
    if meant == control.rules.node:
        return Expected(False)
    return Expected(bool(await control.nodes.remove(*meant, call.done(control.clock()))))


async def _meant(control: Control, params: RemoveNode) -> tuple[str, int]:
    """The first node of the address, and of the port where one is given. Refuses NotFound `node.unknown`."""
    address, port = _read(params.address), None if params.port is None else _checked(params.port)
    there = [*await control.nodes.all(), control.rules.node]
    found = sorted(each for each in there if each[0] == address and port in (None, each[1]))
    if not found:
        raise NotFound("node.unknown", "No node of this address and port is known")
    return found[0]


def _read(text: str) -> str:
    """Refuses Invalid `host.invalid`."""
    address = read_host(text)
    if not address:
        raise Invalid("host.invalid", "A node is known by its address")
    return address


def _checked(port: int) -> int:
    if not 1 <= port <= MOST_PORT:
        raise Invalid("port.invalid", "A port is a number from 1 to 65535")
    return port
