"""Sessions: who is connected, and ending it."""

import pytest
from tests.control.house import ADMIN, House

from ostiary.control.call import Call
from ostiary.control.sessions import Kicked, KickSessions, ListSessions, Session
from ostiary.core.oauth import Rules
from ostiary.core.refusal import Invalid, NotFound
from ostiary.link.messages import Kick, SessionRow, Who

ANN_NEAR = SessionRow("a1", "ann", "http", "10.0.0.9", 1, 2)
ANN_FAR = SessionRow("a2", "ann", "ws", "2001:db8::1", 3, 4)
ANN_ELSEWHERE = SessionRow("b1", "ann", "http", "10.0.0.10", 5, 6)
BOB = SessionRow("b2", "Bob@example.org", "http", "192.0.2.7", 7, 8)


@pytest.fixture
def full(house: House) -> House:
    """Two users over two workers."""
    house.workers.says[Who] = {4999: [BOB, ANN_FAR, ANN_NEAR], 5001: [ANN_ELSEWHERE]}
    house.control.rules = Rules(kick_grace=2_000_000)
    return house


async def ids(house: House, user: str = "", network: str = "", limit: int = 100, offset: int = 0) -> list[str]:
    listed: list[Session] = await house.run("sessions.list", ListSessions(user, network, limit, offset))
    return [each.id for each in listed]


async def test_sessions_of_all_workers_are_listed_by_user_service_worker_and_address(full: House) -> None:
    listed: list[Session] = await full.run("sessions.list", ListSessions())
    assert listed[1:3] == [
        Session("a1", "ann", "http", 4999, "10.0.0.9", 1, 2),
        Session("b1", "ann", "http", 5001, "10.0.0.10", 5, 6),
    ]
    assert [each.id for each in listed] == ["b2", "a1", "b1", "a2"]
    assert await ids(full, limit=2, offset=1) == ["a1", "b1"]


async def test_addresses_are_sorted_by_their_value(house: House) -> None:
    texts = ["::1", "10.0.0.10", "10.0.0.9", "unix"]
    house.workers.says[Who] = {1: [SessionRow(text, "ann", "http", text, 1, 1) for text in texts]}
    assert await ids(house) == ["10.0.0.9", "10.0.0.10", "::1", "unix"]


@pytest.mark.parametrize(
    ("user", "network", "expected"),
    [
        ("*", "", ["b2", "a1", "b1", "a2"]),
        ("ANN", "", ["a1", "b1", "a2"]),
        ("b?b@*", "", ["b2"]),
        ("an", "", []),
        ("", "10.0.0.10", ["a1", "b1", "a2"]),
        ("", "2001:db8::/32", ["a1", "b1", "a2"]),
        ("", "::ffff:192.0.2.0/120", ["b2"]),
        ("", "0.0.0.0/0", ["b2", "a1", "b1", "a2"]),
        ("ann", "192.0.2.0/24", []),
        ("*", "10.0.0.0/8", ["a1", "b1", "a2"]),
    ],
)
async def test_a_network_chooses_users_and_shows_all_of_theirs(
    full: House, user: str, network: str, expected: list[str]
) -> None:
    assert await ids(full, user=user, network=network) == expected


@pytest.mark.parametrize("network", ["nonsense", "10.0.0.0/33", "7"])
async def test_what_is_no_network_is_refused(full: House, network: str) -> None:
    for name, params in (("list", ListSessions("", network)), ("kick", KickSessions("*", network))):
        with pytest.raises(Invalid) as refused:
            await full.run(f"sessions.{name}", params)
        assert refused.value.code == "network.invalid"


async def test_a_kick_tells_workers_names_and_comes_back_with_all_who_were_ended(full: House) -> None:
    full.workers.says[Kick] = {4999: ["ann", "bystander"], 5001: ["ann"]}
    assert await full.run("sessions.kick", KickSessions("a*", force=True)) == Kicked(["ann", "bystander"])
    assert full.workers.orders[-1] == Kick(["ann"], True, 0)
    assert [(each.target, each.outcome) for each in await full.records(operation="sessions.kick")] == [("a*", "done")]


async def test_a_kick_without_force_gives_the_configured_grace(full: House) -> None:
    full.workers.says[Kick] = {4999: ["ann"]}
    await full.run("sessions.kick", KickSessions(network="10.0.0.8/30"))
    assert full.workers.orders[-1] == Kick(["ann"], False, 2_000_000)
    assert [each.target for each in await full.records(operation="sessions.kick")] == ["10.0.0.8/30"]


@pytest.mark.parametrize("network", ["", "0.0.0.0/0", "::/0"])
async def test_nobody_means_everybody_by_mistake(full: House, network: str) -> None:
    with pytest.raises(Invalid) as refused:
        await full.run("sessions.kick", KickSessions(network=network))
    assert refused.value.code == "mask.missing"
    assert full.workers.orders == []


async def test_a_kick_of_nobody_is_not_found_and_tells_workers_nothing(full: House) -> None:
    with pytest.raises(NotFound) as refused:
        await full.run("sessions.kick", KickSessions("carol"))
    assert refused.value.code == "session.none"
    assert full.workers.orders == [Who()]


async def test_a_dry_kick_says_whom_it_would_end(full: House) -> None:
    call = Call(ADMIN, "test", dry=True)
    assert await full.run("sessions.kick", KickSessions("a*"), call=call) == ["would end ann"]
    with pytest.raises(NotFound):
        await full.run("sessions.kick", KickSessions("carol"), call=call)
    assert {type(each) for each in full.workers.orders} == {Who}


async def test_a_kick_of_who_has_just_gone_is_not_found(full: House) -> None:
    full.workers.says[Kick] = {4999: [], 5001: []}
    with pytest.raises(NotFound) as refused:
        await full.run("sessions.kick", KickSessions("ann"))
    assert refused.value.code == "session.none"
    assert [each.name for each in await full.records(outcome="session.none")] == [ADMIN.name]
