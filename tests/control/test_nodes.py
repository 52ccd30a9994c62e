"""The director ring of one node: itself, and those that are expected."""

import pytest
from msgspec import Struct
from msgspec.structs import replace
from tests.control.house import ADMIN, House

from ostiary.control.call import Call
from ostiary.control.nodes import AddNode, ListNodes, NodeStatus, RemoveNode
from ostiary.core.refusal import Invalid, NotFound, Refusal

SELF = NodeStatus("127.0.0.1", 9090, "self", 0, "ring synced")


async def nodes(house: House) -> list[NodeStatus]:
    found: list[NodeStatus] = await house.run("nodes.status", ListNodes())
    return found


async def changed(house: House, name: str, params: Struct) -> bool:
    return bool((await house.run(name, params)).changed)


async def test_a_node_alone_is_in_its_ring(house: House) -> None:
    assert await nodes(house) == [SELF]


async def test_expected_nodes_stand_by_address_and_port(house: House) -> None:
    for address, port in (("::1", 1), ("10.0.0.10", 2), ("10.9", 9091), ("10.9", 9090)):
        assert await changed(house, "nodes.add", AddNode(address, port)) is True
    assert await changed(house, "nodes.add", AddNode("10.0.0.9")) is False
    assert [(each.address, each.port, each.type, each.status) for each in await nodes(house)] == [
        ("10.0.0.9", 9090, "", ""), ("10.0.0.9", 9091, "", ""), ("10.0.0.10", 2, "", ""),
        ("127.0.0.1", 9090, "self", "ring synced"), ("::1", 1, "", ""),
    ]  # fmt: skip


async def test_without_a_port_the_first_of_an_address_goes(house: House) -> None:
    await house.run("nodes.add", AddNode("10.0.0.9", 2))
    await house.run("nodes.add", AddNode("10.0.0.9", 1))
    assert await changed(house, "nodes.remove", RemoveNode("10.0.0.9")) is True
    assert [each.port for each in await nodes(house)] == [2, 9090]


async def test_a_node_that_is_alone_stays(house: House) -> None:
    assert await changed(house, "nodes.add", AddNode("127.0.0.1")) is False
    assert await changed(house, "nodes.remove", RemoveNode("127.0.0.1")) is False
    assert await changed(house, "nodes.remove", RemoveNode("127.0.0.1", 9090)) is False
    assert await nodes(house) == [SELF]


async def test_the_setting_says_who_this_node_is(house: House) -> None:
    house.control.rules = replace(house.control.rules, node=("10.0.0.1", 7))
    await house.run("nodes.add", AddNode("127.0.0.1"))
    assert [(each.address, each.port, each.type) for each in await nodes(house)] == [
        ("10.0.0.1", 7, "self"), ("127.0.0.1", 9090, ""),
    ]  # fmt: skip


async def test_a_rehearsal_says_which_node_would_come_or_go(house: House) -> None:
    call = Call(ADMIN, "test", dry=True)
    assert await house.run("nodes.add", AddNode("::1"), call=call) == ["::1 port 9090 expected"]
    assert await house.run("nodes.add", AddNode("127.0.0.1"), call=call) == []
    assert await house.run("nodes.remove", RemoveNode("127.0.0.1"), call=call) == []
    assert await nodes(house) == [SELF]
    await house.run("nodes.add", AddNode("::1"))
    assert await house.run("nodes.add", AddNode("::1", 9090), call=call) == []
    assert await house.run("nodes.remove", RemoveNode("::1"), call=call) == ["::1 port 9090 expected no longer"]


@pytest.mark.parametrize(
    ("name", "params", "kind", "code"),
    [
        ("nodes.add", AddNode("host"), Invalid, "host.invalid"),
        ("nodes.add", AddNode(""), Invalid, "host.invalid"),
        ("nodes.add", AddNode("0.0.0.0"), Invalid, "host.invalid"),
        ("nodes.add", AddNode("10.0.0.1", 0), Invalid, "port.invalid"),
        ("nodes.add", AddNode("10.0.0.1", 65_536), Invalid, "port.invalid"),
        ("nodes.remove", RemoveNode("10.0.0.1", -1), Invalid, "port.invalid"),
        ("nodes.remove", RemoveNode("10.0.0.1"), NotFound, "node.unknown"),
        ("nodes.remove", RemoveNode("127.0.0.1", 1), NotFound, "node.unknown"),
    ],
)
async def test_what_is_refused(house: House, name: str, params: Struct, kind: type[Refusal], code: str) -> None:
    with pytest.raises(kind) as refusal:
        await house.run(name, params)
    assert refusal.value.code == code
