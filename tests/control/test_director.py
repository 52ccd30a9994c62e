"""What operators do with a director: the effects of doveadm.md 7.3, one by one."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec import Struct
from msgspec.structs import replace
from tests.control.directing import MAIL, MINUTE, SAMIK, USER1, A, B, C, Slow, directed, dry, steer, waiting
from tests.control.house import NOW, House

from ostiary.control.director import AddHost, FlushHost, KickUser, MoveUser, RemoveHost, Reset, TurnHost, UpdateHost
from ostiary.control.whereabouts import (
    Assignment,
    DirectorStatusOf,
    DumpHosts,
    DumpRow,
    HostStatus,
    MapUsers,
    UserStatus,
)
from ostiary.core.director import DirectorRules, Unsteer, user_hash
from ostiary.core.refusal import Conflict, Invalid, NotFound, Refusal, Unavailable
from ostiary.link.messages import Change, Drain, Kick, Who
from ostiary.link.receipt import Receipt

GRACE = 5_000_000


@pytest.fixture
async def workers(house: House) -> AsyncIterator[Slow]:
    """Of a house with a director."""
    yield directed(house)
    await house.control.steering.close()


async def done(house: House, name: str, params: Struct) -> list[str]:
    return list((await house.run(name, params)).changes)


async def refused(house: House, name: str, params: Struct) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        await house.run(name, params)
    return refusal.value


async def hosts(house: House) -> list[tuple[str, str, int, str, int, int]]:
    status = await house.run("director.status", DirectorStatusOf())
    return [(each.host, each.tag, each.vhosts, each.state, each.changed, each.users) for each in status.hosts]


async def user(house: House, name: str, tag: str = "") -> UserStatus:
    status = await house.run("director.status", DirectorStatusOf(user=name, tag=tag))
    assert isinstance(status.user, UserStatus)
    return status.user


async def mapped(house: House, **fields: object) -> list[Assignment]:
    found: list[Assignment] = await house.run("director.map", replace(MapUsers(), **fields))
    return found


# Hosts


async def test_hosts_of_the_configuration_are_there_at_once(house: House, workers: Slow) -> None:
    await steer(house, "samik")
    status = await house.run("director.status", DirectorStatusOf())
    assert status.hosts == [HostStatus(A, "", 100, "up", 0, 0), HostStatus(B, "", 100, "up", 0, 1)]
    assert status.user is None


async def test_a_host_is_added_and_changed(house: House, workers: Slow) -> None:
    assert await done(house, "director.add", AddHost(f" {C}@eu ")) == [f"{C} added with 100 vhosts"]
    assert await done(house, "director.add", AddHost(C, vhosts=0)) == [f"{C}: vhosts 100 -> 0"]
    assert await done(house, "director.add", AddHost(C, tag="eu")) == []
    assert await done(house, "director.update", UpdateHost(A, 7)) == [f"{A}: vhosts 100 -> 7"]
    assert await hosts(house) == [(A, "", 7, "up", 0, 0), (B, "", 100, "up", 0, 0), (C, "eu", 0, "up", 0, 0)]
    assert workers.unsteered == [Unsteer("mail", hosts=[""])] * 3


async def test_a_name_is_all_its_addresses_when_added_and_its_first_otherwise(house: House, workers: Slow) -> None:
    async def resolve(name: str) -> list[str]:
        return ["10.0.0.7", "2001:db8::7"] if name == "backend.example" else []

    house.control.resolve = resolve
    await done(house, "director.add", AddHost("backend.example"))
    await done(house, "director.down", TurnHost("backend.example"))
    assert [(each[0], each[3]) for each in await hosts(house)] == [
        ("10.0.0.7", "down"), (A, "up"), (B, "up"), ("2001:db8::7", "up"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "params", "kind", "code"),
    [
        ("director.add", AddHost("7"), Invalid, "host.invalid"),
        ("director.add", AddHost("0.0.0.0"), Invalid, "host.invalid"),
        ("director.add", AddHost(""), Unavailable, "host.unresolved"),
        ("director.add", AddHost("no such name"), Unavailable, "host.unresolved"),
        ("director.add", AddHost(C, vhosts=1001), Conflict, "vhosts.too_many"),
        ("director.add", AddHost(C, vhosts=-1), Invalid, "vhosts.invalid"),
        ("director.add", AddHost(C, tag="a b"), Invalid, "tag.invalid"),
        ("director.add", AddHost(f"{C}@eu", tag="us"), Conflict, "host.tag"),
        ("director.add", AddHost(f"{A}@eu"), Conflict, "host.tag"),
        ("director.update", UpdateHost(C, 1), NotFound, "host.unknown"),
        ("director.up", TurnHost(C), NotFound, "host.unknown"),
        ("director.down", TurnHost(A, tag="eu"), NotFound, "host.unknown"),
        ("director.remove", RemoveHost(C), NotFound, "host.unknown"),
        ("director.remove", RemoveHost(f"{A}@eu"), Unavailable, "host.unresolved"),
        ("director.move", MoveUser("samik", C), NotFound, "host.unknown"),
        ("director.move", MoveUser("", A), Invalid, "user.missing"),
        ("director.kick", KickUser(""), Invalid, "user.missing"),
        ("director.flush", FlushHost(C), NotFound, "host.unknown"),
        ("director.flush", FlushHost(""), Unavailable, "host.unresolved"),
        ("director.flush", FlushHost(A, upstream="web"), NotFound, "director.unknown"),
        ("director.map", MapUsers(host=""), None, ""),
        ("director.map", MapUsers(host="no such"), Unavailable, "host.unresolved"),
    ],
)
async def test_what_is_refused(
    house: House, workers: Slow, name: str, params: Struct, kind: type[Refusal] | None, code: str
) -> None:
    if kind is None:
        assert await house.run(name, params) == []
        return
    refusal = await refused(house, name, params)
    assert (type(refusal), refusal.code) == (kind, code)
    assert workers.heard == []


async def test_a_director_must_be_named_unless_there_is_just_one(house: House) -> None:
    directed(house, MAIL, replace(MAIL, name="web", hosts={C: 1}))
    assert (await refused(house, "director.up", TurnHost(C))).code == "director.unset"
    assert await done(house, "director.down", TurnHost(C, "web")) == [f"{C}: up -> down"]
    house.control.rules = replace(house.control.rules, directors={})
    assert (await refused(house, "director.status", DirectorStatusOf())).code == "director.unset"


async def test_a_host_that_is_down_keeps_its_users_and_gets_nobody_new(house: House, workers: Slow) -> None:
    assert await steer(house, "samik") == [B]
    house.now += 1
    await done(house, "director.down", TurnHost(B))
    assert await done(house, "director.down", TurnHost(B)) == []
    assert await steer(house, "samik", "user2") == [B, A]
    assert (await hosts(house))[1] == (B, "", 100, "down", NOW + 1, 1)
    house.now += 1
    await done(house, "director.up", TurnHost(B, tag=""))
    assert (await hosts(house))[1] == (B, "", 100, "up", NOW + 2, 1)


async def test_a_removed_host_ends_what_flows_to_it_before_it_is_answered(house: House, workers: Slow) -> None:
    await steer(house, "samik")
    workers.free.clear()
    removing = asyncio.create_task(house.run("director.remove", RemoveHost(B)))
    [drain] = await workers.until(1)
    assert drain == Drain("mail", hosts=[B], grace=GRACE, close=True)
    assert [type(each) for each in workers.heard] == [Change, Drain]
    assert workers.unsteered == [Unsteer("mail", hosts=[B])]
    assert not removing.done()
    workers.free.set()
    assert (await removing).changes == [f"{B} removed"]
    assert await steer(house, "samik") == [A]
    assert (await refused(house, "director.remove", RemoveHost(B))).code == "host.unknown"


async def test_a_host_that_comes_back_is_as_configured(house: House, workers: Slow) -> None:
    await done(house, "director.remove", RemoveHost(B))
    await done(house, "director.add", AddHost(B))
    await steer(house, "samik")
    assert (await hosts(house))[1] == (B, "", 100, "up", 0, 1)
    assert (await house.control.steering.board("mail")).hosts[B].port == 8012


async def test_a_reset_drops_what_operators_changed(house: House, workers: Slow) -> None:
    await done(house, "director.add", AddHost(C))
    await done(house, "director.remove", RemoveHost(A))
    await done(house, "director.move", MoveUser("samik", C))
    assert await done(house, "director.reset", Reset()) == [f"{A}: as configured", f"{C}: removed"]
    assert [each[0] for each in await hosts(house)] == [A, B]
    assert await mapped(house) == []


async def test_a_dump_restores_everything(house: House, workers: Slow) -> None:
    await done(house, "director.add", AddHost("10.0.0.9", tag="eu", vhosts=5))
    await done(house, "director.down", TurnHost("10.0.0.9"))
    await done(house, "director.remove", RemoveHost(A))
    assert await house.run("director.dump", DumpHosts()) == [
        DumpRow("add", "10.0.0.9", "eu", 5, "down"),
        DumpRow("add", B, "", 100, "up"),
        DumpRow("down", "10.0.0.9", "eu", None, "down"),
        DumpRow("remove", A, "", None, ""),
    ]


async def test_another_port_is_where_users_go_at_once(house: House, workers: Slow) -> None:
    await done(house, "director.add", AddHost(B, port=99))
    assert workers.unsteered == [Unsteer("mail", hosts=[B])]


async def test_changes_stand_in_the_audit_once(house: House, workers: Slow) -> None:
    await done(house, "director.down", TurnHost(B))
    await done(house, "director.move", MoveUser("samik", A))
    await done(house, "director.flush", FlushHost("all"))
    await refused(house, "director.up", TurnHost(C))
    records = [(each.operation, each.target, each.outcome) for each in await house.records()]
    assert records == [
        ("director.up", C, "host.unknown"),
        ("director.flush", "all", "done"),
        ("director.move", "samik", "done"),
        ("director.down", B, "done"),
    ]


# Moves


async def test_who_is_moved_waits_until_nothing_flows_to_the_old_host(house: House, workers: Slow) -> None:
    await steer(house, "samik")
    workers.free.clear()
    assert await done(house, "director.move", MoveUser("samik", A)) == [f"{B} -> {A}"]
    assert workers.unsteered == [Unsteer("mail", [("", SAMIK)])]
    assert await workers.until(1) == [Drain("mail", [("", SAMIK)], grace=GRACE)]
    asked, other = await waiting(house, "samik"), await waiting(house, "SAMIK")
    assert await steer(house, "user2") == [B]
    workers.free.set()
    await asyncio.gather(asked.answered.wait(), other.answered.wait())
    assert (asked.hosts, other.hosts) == ([A], [A])
    assert await steer(house, "samik") == [A]


class Still(Slow):
    """Workers for whose users nothing flows."""

    async def apply(self, change: Change) -> Receipt:
        receipt = await super().apply(change)
        return replace(receipt, dropped={"still": receipt.workers})


async def test_who_has_nothing_under_way_waits_for_nothing_after_a_move(house: House, workers: Slow) -> None:
    await steer(house, "samik")
    house.control.workers = idle = Still()
    assert await done(house, "director.move", MoveUser("samik", A)) == [f"{B} -> {A}"]
    assert (idle.unsteered, idle.drains) == ([Unsteer("mail", [("", SAMIK)])], [])
    assert await steer(house, "samik") == [A]
    assert await done(house, "director.move", MoveUser("samik", B)) == [f"{A} -> {B}"]


async def test_moves_that_share_a_commit_are_told_together(house: House, workers: Slow) -> None:
    names = [f"user{number}" for number in range(9)]
    await steer(house, *names)
    await done(house, "director.add", AddHost(C))
    workers.told.clear()
    await asyncio.gather(*(done(house, "director.move", MoveUser(name, C)) for name in names))
    assert [sorted(each.hashes) for each in workers.unsteered] == [sorted(("", user_hash(name)) for name in names)]
    assert workers.told[0].seq == await house.store.changes.newest()


async def test_a_second_move_elsewhere_is_refused_while_the_first_goes_on(house: House, workers: Slow) -> None:
    await done(house, "director.add", AddHost(C))
    await steer(house, "samik")
    workers.free.clear()
    await done(house, "director.move", MoveUser("samik", A))
    assert (await refused(house, "director.move", MoveUser("samik", C))).code == "user.moving"
    assert await done(house, "director.move", MoveUser("samik", A)) == []
    asked = await waiting(house, "samik")
    workers.free.set()
    await asked.answered.wait()
    assert await done(house, "director.move", MoveUser("samik", C)) == [f"{A} -> {C}"]


async def test_who_was_nowhere_is_placed_and_waits_for_nothing(house: House, workers: Slow) -> None:
    await done(house, "director.down", TurnHost(A))
    assert await done(house, "director.move", MoveUser("samik", A)) == [f"none -> {A}"]
    assert workers.drains == []
    assert await steer(house, "samik") == [A]


async def test_a_move_to_the_same_host_prolongs(house: House, workers: Slow) -> None:
    await steer(house, "samik")
    house.now += MINUTE - 1
    assert await done(house, "director.move", MoveUser("samik", B)) == []
    assert (await user(house, "samik")).expires == NOW + 2 * MINUTE - 1
    assert workers.heard == []


async def test_a_worker_that_does_not_answer_keeps_nobody_waiting_longer(house: House, workers: Slow) -> None:
    await steer(house, "samik")
    workers.silent = True
    await done(house, "director.move", MoveUser("samik", A))
    await house.control.steering.quiet("mail")
    assert await steer(house, "samik") == [A]


async def test_kicking_is_an_order_to_all_workers(house: House, workers: Slow) -> None:
    workers.says[Kick] = {1: ["samik"], 2: ["samik", "ann"]}
    assert await done(house, "director.kick", KickUser("samik")) == ["ann kicked", "samik kicked"]
    await done(house, "director.kick", KickUser("blue", detail="team"))
    assert workers.heard == [
        Kick(["samik"], grace=GRACE, upstream="mail"),
        Kick([], grace=GRACE, upstream="mail", detail=("team", "blue")),
    ]


# Flushes


async def test_a_flush_moves_all_of_a_host_that_is_down(house: House, workers: Slow) -> None:
    names = [f"user{number}" for number in range(50)]
    before = await steer(house, *names)
    await done(house, "director.down", TurnHost(B))
    assert await done(house, "director.flush", FlushHost(B)) == [f"{B}: {before.count(B)} users moved"]
    assert workers.unsteered[1:] == [Unsteer("mail", hosts=[B])]
    [drain] = await workers.until(1)
    assert drain.mark is not None
    assert drain == Drain("mail", grace=GRACE, mark=drain.mark)
    assert (drain.mark.host, drain.mark.ring) == (B, ((A, 100),))
    await house.control.steering.quiet("mail")
    assert await steer(house, *names) == [A] * 50


async def test_who_still_hashes_to_a_host_stays_at_a_flush(house: House, workers: Slow) -> None:
    await done(house, "director.move", MoveUser("samik", A))
    await steer(house, "user1")
    assert await done(house, "director.flush", FlushHost("all")) == [f"{A}: 1 users moved"]
    await house.control.steering.quiet("mail")
    assert await steer(house, "samik", "user1") == [B, A]


async def test_users_with_connections_are_moved_a_few_at_a_time(house: House, workers: Slow) -> None:
    names = ["user2", "samik", "neverseen"]
    assert await steer(house, "idle", *names) == [A, B, B, B]
    await done(house, "director.move", MoveUser("idle", B))
    await house.control.steering.quiet("mail")
    await done(house, "director.down", TurnHost(B))
    workers.heard.clear()
    workers.connected(*names)
    workers.free.clear()
    flushing = asyncio.create_task(house.run("director.flush", FlushHost(B, max_parallel=2)))
    one, two = await workers.until(2)
    assert one.mark is not None and not one.hashes
    assert [name for name in ["idle", *names] if one.mark.takes(user_hash(name))] == ["idle"]
    assert len(two.hashes) == 2
    assert {row.host for row in await mapped(house) if row.user in names} == {A, B}
    assert not flushing.done()
    workers.free.set()
    assert (await flushing).changes == [f"{B}: 4 users moved"]
    assert [len(each.hashes) for each in workers.drains] == [0, 2, 1]
    assert {row.host for row in await mapped(house)} == {A}


async def test_with_no_host_up_a_flush_forgets_and_ends(house: House, workers: Slow) -> None:
    await steer(house, "samik")
    await done(house, "director.down", TurnHost(A))
    await done(house, "director.down", TurnHost(B))
    assert await done(house, "director.flush", FlushHost(B)) == [f"{B}: 1 users forgotten"]
    [drain] = workers.drains
    assert drain.mark is not None and drain.mark.takes(SAMIK)
    assert drain == Drain("mail", grace=GRACE, close=True, mark=drain.mark)
    assert await steer(house, "samik") == [""]


async def test_a_forced_flush_forgets_and_lets_flow(house: House, workers: Slow) -> None:
    await done(house, "director.move", MoveUser("samik", A))
    workers.heard.clear()
    assert await done(house, "director.flush", FlushHost(A, force=True)) == [f"{A}: 1 users forgotten"]
    assert await done(house, "director.flush", FlushHost("all", force=True)) == []
    assert [type(each) for each in workers.heard] == [Change]
    assert await steer(house, "samik") == [B]


# Dry


async def test_a_dry_run_says_what_would_change_and_changes_nothing(house: House, workers: Slow) -> None:
    await steer(house, "samik")
    await done(house, "director.add", AddHost(C))
    workers.heard.clear()
    assert await dry(house, "director.move", MoveUser("samik", A)) == [f"{B} -> {A}"]
    assert await dry(house, "director.move", MoveUser("samik", B)) == []
    assert await dry(house, "director.down", TurnHost(A)) == [f"{A}: up -> down"]
    assert await dry(house, "director.remove", RemoveHost(C)) == [f"{C} removed"]
    assert await dry(house, "director.flush", FlushHost(B, force=True)) == [f"{B}: 1 users forgotten"]
    assert await dry(house, "director.flush", FlushHost("all")) == []
    assert await dry(house, "director.kick", KickUser("samik")) == []
    assert await dry(house, "director.kick", KickUser("blue", detail="team")) == []
    workers.connected("samik")
    assert await dry(house, "director.kick", KickUser("samik")) == ["samik kicked"]
    assert await dry(house, "director.kick", KickUser("blue", detail="team")) == ["team=blue kicked"]
    with pytest.raises(NotFound):
        await dry(house, "director.move", MoveUser("samik", "127.0.0.99"))
    assert await hosts(house) == [(A, "", 100, "up", 0, 0), (B, "", 100, "up", 0, 1), (C, "", 100, "up", 0, 0)]
    assert set(workers.heard) == {Who()}


# What is seen


async def test_a_user_is_shown_seen_or_not(house: House, workers: Slow) -> None:
    assert await user(house, "samik") == UserStatus("", 0, B, B)
    await done(house, "director.move", MoveUser("samik", A))
    await done(house, "director.remove", RemoveHost(B))
    assert await user(house, "samik") == UserStatus(A, NOW + MINUTE, A, B)
    assert await user(house, str(SAMIK)) == UserStatus(A, NOW + MINUTE, A, B)
    assert await user(house, "samik", "eu") == UserStatus("", 0, "", "")
    assert await user(house, "samik", "no tag") == UserStatus("", 0, "", "")
    house.now += MINUTE
    assert (await user(house, "samik")).status == ""


async def test_digits_are_a_name_where_somebody_has_it(house: House, workers: Slow) -> None:
    await steer(house, "12345")
    assert (await user(house, "12345")).expires == NOW + MINUTE
    assert (await user(house, "12346")).expires == 0
    assert (await user(house, "99999999999")).hashed == (await house.control.steering.board("mail")).ring("").host(
        user_hash("99999999999")
    )


async def test_the_map_has_rows_names_and_hashes(house: House, workers: Slow) -> None:
    await steer(house, "samik")
    house.now += 1
    await steer(house, "user1", "SAMIK")
    samik = Assignment("samik", SAMIK, B, "", NOW + 1 + MINUTE)
    user1 = Assignment("user1", USER1, A, "", NOW + 1 + MINUTE)
    assert await mapped(house) == [user1, samik]
    assert await mapped(house, host=A) == [user1]
    assert await mapped(house, host=C) == []
    assert await mapped(house, limit=1, offset=1) == [samik]
    assert await mapped(house, users=["Samik", "x"]) == [replace(user1, user=""), replace(samik, user="Samik")]
    assert await mapped(house, user="Samik") == [replace(samik, user="Samik")]
    assert await mapped(house, user="user2") == [Assignment("user2", user_hash("user2"), "", "", 0)]
    assert await mapped(house, hash=SAMIK) == [samik, replace(samik, user="SAMIK")]
    assert await mapped(house, hash=SAMIK, users=["x", "saMik"]) == [replace(samik, user="saMik")]
    assert await mapped(house, hash=1) == []


async def test_a_director_without_hosts_has_nobody(house: House) -> None:
    workers = directed(house, DirectorRules("mail"))
    assert await hosts(house) == []
    assert await steer(house, "samik") == [""]
    await done(house, "director.add", AddHost(C, port=99))
    assert await steer(house, "samik") == [C]
    assert workers.unsteered == [Unsteer("mail", hosts=[""])]
