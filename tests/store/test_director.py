"""Hosts and assignments: who asks is told the same, whatever races; what operators do is whole or not at all."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.store.template import fresh
from tests.store.values import NOW, RECORD

from ostiary.core.director import (
    LAST_HASH,
    NAMELESS,
    Assignment,
    Board,
    DirectorRules,
    Edit,
    Host,
    Move,
    Unsteer,
    add,
    remove,
    user_hash,
)
from ostiary.core.marks import Mark
from ostiary.core.refusal import Conflict, NotFound
from ostiary.store.marks import CHUNK
from ostiary.store.places import Left, Moved, Wanted
from ostiary.store.ports import RecordFilter
from ostiary.store.purge import STALE, SqlPurge
from ostiary.store.store import Store, open_store

A, B, C = "127.0.0.11", "127.0.0.12", "127.0.0.13"
RULES = DirectorRules("mail", {A: 8011, B: 8012}, user_expire=1000)
GONE = DirectorRules("mail", {A: 8011}, user_expire=1000)
EXPIRES = NOW + 1000
SAMIK = user_hash("samik")  # goes to B
USER = user_hash("user1")  # goes to A


def read(kept: Sequence[Host]) -> Board:
    return Board(RULES, kept)


def host(address: str, kept: Sequence[Host]) -> Host:
    return read(kept).host(address)


async def assign(store: Store, *names: str, tag: str = "", now: int = NOW) -> list[str]:
    """Where these users are then."""
    wanted = [Wanted(tag, user_hash(name), (name,)) for name in names]
    _, found = await store.directors.assign("mail", wanted, read, now)
    return [found[tag, each.hash].host if (tag, each.hash) in found else "" for each in wanted]


async def put(store: Store, *hosts: Host) -> None:
    await store.directors.change("mail", lambda kept: Edit(list(hosts)), RECORD)


def move(name: str = "samik", now: int = NOW, **fields: object) -> Move:
    return replace(Move(name, user_hash(name), now, now + 1000, now + 50), **fields)


async def moved(store: Store, address: str, asked: Move) -> Moved:
    return (await store.directors.move("mail", partial(host, address), asked, RECORD)).value


async def listed(store: Store, at: str = "", now: int = NOW) -> list[Assignment]:
    return await store.directors.page("mail", at, now, 1_000_000, 0)


async def test_a_first_request_makes_an_assignment_from_the_ring(store: Store) -> None:
    assert await assign(store, "samik", "user1") == [B, A]
    assert await listed(store) == [
        Assignment("", USER, A, ("user1",), EXPIRES),
        Assignment("", SAMIK, B, ("samik",), EXPIRES),
    ]


async def test_an_assignment_wins_over_the_ring_while_it_lives(store: Store) -> None:
    await assign(store, "samik")
    await put(store, Host(B, 8012, state="down"))
    assert await assign(store, "samik", now=EXPIRES - 1) == [B]
    assert await assign(store, "samik", now=EXPIRES + 999) == [A]


async def test_names_of_one_hash_are_one_user_and_are_kept(store: Store) -> None:
    await assign(store, "samik")
    await assign(store, "SAMIK")
    assert [each.names for each in await listed(store)] == [("samik", "SAMIK")]


async def test_tags_are_apart(store: Store) -> None:
    await put(store, Host(C, 80, "eu"))
    assert await assign(store, "samik", tag="eu") == [C]
    assert await assign(store, "samik", tag="us") == [""]
    assert await assign(store, "samik") == [B]


async def test_where_no_host_is_up_only_those_stay_who_are_somewhere(store: Store) -> None:
    await assign(store, "samik")
    await put(store, Host(A, 1, state="down"), Host(B, 1, vhosts=0))
    assert await assign(store, "samik", "user1") == [B, ""]
    assert len(await listed(store)) == 1


async def test_who_is_at_a_host_that_is_no_more_is_assigned_anew(store: Store) -> None:
    await put(store, Host(C, 80))
    await moved(store, C, move())
    await store.directors.change("mail", lambda kept: Edit(drop=[C]), RECORD)
    assert await assign(store, "samik", "user1") == [B, A]
    assert await listed(store, C) == []


async def test_many_are_assigned_at_once(store: Store) -> None:
    names = [f"user{number}" for number in range(1500)]
    ring = read([]).ring("")
    assert await assign(store, *names) == [ring.host(user_hash(name)) for name in names]
    assert await store.directors.users("mail", NOW) == {
        each: sum(ring.host(user_hash(name)) == each for name in names) for each in (A, B)
    }


async def test_what_is_expired_does_not_count_and_goes(store: Store) -> None:
    await assign(store, "samik")
    assert await store.directors.users("mail", EXPIRES) == {}
    assert await listed(store, now=EXPIRES) == []
    assert await store.directors.find("mail", "", [SAMIK], EXPIRES) == []
    [stale] = [each for each in STALE if each.table == "assignments"]
    assert await SqlPurge(store.writer).purge(stale, EXPIRES) == 0
    assert await SqlPurge(store.writer).purge(stale, EXPIRES + 1) == 1


async def test_touching_prolongs_what_lives(store: Store) -> None:
    await assign(store, "samik", "user1")
    await store.directors.touch("mail", "", [SAMIK], NOW + 500, NOW + 1500)
    assert [each.expires for each in await store.directors.find("mail", "", [SAMIK, USER], NOW)] == [
        NOW + 1000,
        NOW + 1500,
    ]
    await store.directors.touch("mail", "", [SAMIK, USER], NOW + 1200, NOW + 2200)
    assert [each.hash for each in await listed(store, now=NOW + 1500)] == [SAMIK]


async def test_the_longest_unrefreshed_come_first_and_pages_are_pieces(store: Store) -> None:
    for number in range(5):
        await assign(store, f"user{number}", now=NOW - number)
    every = await listed(store)
    assert [each.names for each in every] == [(f"user{number}",) for number in (4, 3, 2, 1, 0)]
    assert await store.directors.page("mail", "", NOW, 2, 3) == every[3:]


async def test_a_move_makes_moves_and_refreshes(store: Store) -> None:
    made = await moved(store, A, move())
    assert made == Moved(None, Assignment("", SAMIK, A, ("samik",), EXPIRES))
    again = await moved(store, A, move(now=NOW + 1))
    assert again.after == replace(made.after, expires=EXPIRES + 1)
    away = await moved(store, B, move(now=NOW + 2))
    assert away == Moved(again.after, Assignment("", SAMIK, B, ("samik",), EXPIRES + 2, NOW + 52))


async def test_a_move_that_is_refused_leaves_no_trace(store: Store) -> None:
    await moved(store, A, move())
    await moved(store, B, move())
    newest, records = await store.changes.newest(), len(await store.audit.page(RecordFilter()))
    with pytest.raises(Conflict) as moving:
        await moved(store, A, move(now=NOW + 10, going=frozenset({NOW + 50})))
    with pytest.raises(NotFound) as unknown:
        await moved(store, C, move())
    assert (moving.value.code, unknown.value.code) == ("user.moving", "host.unknown")
    assert [each.host for each in await listed(store)] == [B]
    assert (await store.changes.newest(), len(await store.audit.page(RecordFilter()))) == (newest, records)


async def test_moves_that_share_a_commit_are_decided_in_their_order_each_for_itself(store: Store) -> None:
    async def one(address: str, asked: Move) -> tuple[int, Moved] | str:
        try:
            return await store.directors.move("mail", partial(host, address), asked, RECORD)
        except (Conflict, NotFound) as refusal:
            return refusal.code

    first, unknown, second, moving, other = await asyncio.gather(
        one(A, move()),
        one(C, move("user1")),
        one(B, move(now=NOW + 1)),
        one(A, move(now=NOW + 2, going=frozenset({NOW + 51}))),
        one(B, move("user1", now=NOW + 3)),
    )
    at_a = Assignment("", SAMIK, A, ("samik",), EXPIRES)
    at_b = Assignment("", SAMIK, B, ("samik",), EXPIRES + 1, NOW + 51)
    at_last = Assignment("", USER, B, ("user1",), EXPIRES + 3)
    assert (unknown, moving) == ("host.unknown", "user.moving")
    assert [first, second, other] == [(1, Moved(None, at_a)), (2, Moved(at_a, at_b)), (3, Moved(None, at_last))]
    assert await listed(store) == [at_b, at_last]
    late = await store.directors.late()
    assert late == (
        0,
        3,
        [(number, Unsteer("mail", [("", hash_)])) for number, hash_ in ((1, SAMIK), (2, SAMIK), (3, USER))],
    )
    assert len(await store.audit.page(RecordFilter())) == 3


async def test_the_end_of_the_log_has_what_each_change_ends(store: Store) -> None:
    await assign(store, "samik", "user1")
    await put(store, Host(C, 80))
    await store.directors.change("mail", lambda kept: remove(read(kept), C), RECORD)
    await store.directors.forget("mail", [A, B], 0, NOW)
    await assign(store, "samik")
    await store.directors.assign("mail", [Wanted("", SAMIK, ("s",))], lambda _: Board(GONE, []), NOW)
    late = await store.directors.late()
    ends = [Unsteer("mail", hosts=hosts) for hosts in ([NAMELESS], [C], [A, B])]
    assert late == (0, 4, list(enumerate([*ends, Unsteer("mail", [("", SAMIK)])], 1)))


async def test_who_waits_for_a_move_is_still_held_when_asked_for(store: Store) -> None:
    await moved(store, A, move())
    await moved(store, B, move())
    _, found = await store.directors.assign("mail", [Wanted("", SAMIK, ("samik",))], read, NOW + 1)
    assert (found["", SAMIK].host, found["", SAMIK].held) == (B, NOW + 50)
    _, found = await store.directors.assign("mail", [Wanted("", SAMIK, ("samik",))], read, NOW + 50)
    assert found["", SAMIK].host == B


async def test_hosts_are_changed_with_their_users_in_one_step(store: Store) -> None:
    await assign(store, "samik", "user1")
    changed = await store.directors.change("mail", lambda kept: remove(read(kept), A), RECORD)
    assert changed.value.changes == [f"{A} removed"]
    assert changed.seq == await store.changes.newest()
    assert list(read(await store.directors.hosts("mail")).hosts) == [B]
    assert await assign(store, "user1") == [B]
    nothing = await store.directors.change("mail", lambda kept: add(read(kept), [B], "", None, None), RECORD)
    assert nothing.seq == 0
    await store.directors.change("mail", lambda kept: Edit(drop=[A]), RECORD)
    assert await store.directors.hosts("mail") == []


async def test_what_a_decision_refuses_changes_nothing(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.directors.change("mail", lambda kept: remove(read(kept), C), RECORD)
    assert (await store.changes.newest(), await store.audit.page(RecordFilter())) == (0, [])


async def test_a_host_is_kept_as_it_is(store: Store) -> None:
    kept = [Host(C, 99, "eu", 7, "down", NOW, True), Host("2001:db8::1", 80)]
    await put(store, *kept)
    assert sorted(await store.directors.hosts("mail"), key=lambda each: each.host) == kept
    assert await store.directors.hosts("web") == []


async def at_a(store: Store, *names: str) -> None:
    """Let these be at A, wherever they belong."""
    for name in names:
        await moved(store, A, move(name))


async def flushed(store: Store, address: str = A, held: int = NOW + 99) -> Left | None:
    return await store.directors.flush("mail", address, read, held, NOW)


async def test_a_flush_moves_who_hashes_elsewhere(store: Store) -> None:
    names = [f"user{number}" for number in range(200)]
    at_b = [name for name, at in zip(names, await assign(store, *names), strict=True) if at == B]
    await at_a(store, *at_b[:5])
    mark = Mark(await store.changes.newest() + 1, A, ((A, 100), (B, 100)), NOW + 99)
    assert await flushed(store) == Left(5, mark)
    assert await assign(store, *names) == [read([]).ring("").host(user_hash(name)) for name in names]
    moved = [user_hash(name) for name in at_b[:5]]
    found = await store.directors.find("mail", "", [user_hash(name) for name in names], NOW)
    assert sorted(each.hash for each in found if each.held == NOW + 99) == sorted(moved)
    assert all(mark.takes(number) for number in moved)


async def test_a_flush_spares_whom_it_is_told_to_and_moves_them_alone(store: Store) -> None:
    await at_a(store, "samik", "user2")
    done = await store.directors.flush("mail", A, read, 1, NOW, frozenset({SAMIK}))
    assert done is not None and done.users == 1
    assert (done.mark.takes(user_hash("user2")), done.mark.takes(SAMIK)) == (True, False)
    assert await assign(store, "samik", "user2") == [A, B]
    alone = await store.directors.flush_users("mail", A, read, 2, NOW, [SAMIK, USER, user_hash("user2")])
    assert alone.moved == [("", SAMIK)]
    assert await assign(store, "samik", "user2") == [B, B]


async def test_a_flush_counts_who_leaves_a_host_of_many_points(store: Store) -> None:
    names = [f"user{number}" for number in range(300)]
    await put(store, Host(A, 1, vhosts=1000), Host(B, 1, vhosts=1000))
    at = await assign(store, *names)
    for name in names[:100]:
        await moved(store, A, move(name))
    strange = [user_hash(name) for name, host in zip(names[:100], at, strict=False) if host == B]
    done = await store.directors.flush("mail", A, read, 1, NOW, frozenset([*strange[:7], SAMIK, user_hash(names[200])]))
    assert done is not None and done.users == len(strange) - 7 > 0


async def test_a_flush_forgets_who_has_no_host_left(store: Store) -> None:
    await assign(store, "user1", "samik")
    await put(store, Host(A, 1, state="down"), Host(B, 1, state="down"))
    done = await flushed(store)
    assert done is not None and (done.users, done.mark.forgets) == (1, True)
    assert [each.hash for each in await listed(store)] == [SAMIK]


async def test_a_flush_of_nobody_leaves_no_trace(store: Store) -> None:
    await assign(store, "user1")
    assert await flushed(store) is None
    assert await store.changes.newest() == 0


async def test_all_users_of_a_host_are_forgotten(store: Store) -> None:
    await assign(store, "user1", "samik")
    assert await store.directors.others("mail", [B]) == [A]
    assert (await store.directors.forget("mail", [A], 0, NOW)).value == 1
    assert (await store.directors.forget("mail", [A], 0, NOW)).seq == 0
    assert await store.directors.others("mail", [B]) == []


async def test_who_was_forgotten_waits_for_what_flows(store: Store) -> None:
    await assign(store, "user1")
    await store.directors.forget("mail", [A], NOW + 99, NOW)
    assert (await listed(store), await store.directors.users("mail", NOW)) == ([], {})
    await store.directors.sweep("mail")
    [stale] = [each for each in STALE if each.table == "assignments"]
    assert await SqlPurge(store.writer).purge(stale, NOW + 99) == 0
    _, found = await store.directors.assign("mail", [Wanted("", USER, ("USER1",))], read, NOW + 1)
    assert found["", USER] == Assignment("", USER, A, ("USER1",), EXPIRES + 1, NOW + 99)


# Marks: nobody sees whether they have been carried out

STEPS = st.one_of(
    st.tuples(st.just("flush"), st.sampled_from([A, B, C])),
    st.tuples(st.just("forget"), st.sampled_from([A, B, C])),
    st.tuples(st.just("remove"), st.sampled_from([A, B, C])),
    st.tuples(st.just("move"), st.sampled_from([A, B, C]), st.integers(0, 9)),
    st.tuples(st.just("assign"), st.integers(0, 9)),
    st.tuples(st.just("down"), st.sampled_from([A, B, C])),
    st.tuples(st.just("up"), st.sampled_from([A, B, C])),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=12))
def test_what_was_marked_is_as_if_it_had_been_written(steps: list[tuple[str, ...]]) -> None:
    """One store in which marks are carried out at once, one in which they stay: all that is read is the same."""
    with TemporaryDirectory() as directory:
        asyncio.run(_compared(Path(directory), steps))


async def _compared(directory: Path, steps: list[tuple[str, ...]]) -> None:
    at_once, later = [await open_store(fresh(directory / name)) for name in ("one.db", "two.db")]
    for store in (at_once, later):
        await put(store, Host(C, 80))
        await assign(store, *(f"user{number}" for number in range(10)))
    for number, step in enumerate(steps):
        for store in (at_once, later):
            await _done(store, step, NOW + 100 + number)
        await at_once.directors.sweep("mail")
        assert await _seen(at_once) == await _seen(later)
    await later.directors.sweep("mail")
    assert await _seen(at_once) == await _seen(later)
    assert await _written(at_once) == await _written(later)
    await at_once.close()
    await later.close()


async def _done(store: Store, step: tuple[str, ...], held: int) -> None:
    match step:
        case ("flush", host):
            with suppress(NotFound):
                await flushed(store, host, held)
        case ("forget", host):
            await store.directors.change("mail", lambda _: Edit(forget=[host], changes=["x"]), RECORD, held)
        case ("remove", host):
            with suppress(NotFound):
                await store.directors.change("mail", lambda kept: remove(read(kept), host), RECORD, held)
        case ("move", host, name):
            with suppress(NotFound):
                await moved(store, host, move(f"user{name}", held=held))
        case ("assign", name):
            await assign(store, f"user{name}")
        case (state, host):
            await put(store, Host(host, 80, state=state))


async def _seen(store: Store) -> tuple[object, ...]:
    directors = store.directors
    hashes = [user_hash(f"user{number}") for number in range(10)]
    return (
        await directors.page("mail", "", NOW, 100, 0),
        [await directors.page("mail", host, NOW, 3, 1) for host in (A, B, C)],
        await directors.users("mail", NOW),
        sorted(await directors.find("mail", "", hashes, NOW), key=lambda each: each.hash),
    )


async def _written(store: Store) -> list[tuple[object, ...]]:
    """Those who were forgotten too."""
    statement = "SELECT tag, hash, host, names, expires, held FROM assignments ORDER BY tag, hash"
    return await store.writer.each(lambda sql: sql.rows(statement))


async def test_marks_are_carried_out_a_few_at_a_time(store: Store) -> None:
    names = [f"user{number}" for number in range(3 * CHUNK)]
    at = (await assign(store, *names)).count(A)
    await put(store, Host(A, 1, state="down"))
    done = await flushed(store)
    assert done is not None and done.users == at > CHUNK
    newest = await store.changes.newest()
    await store.directors.sweep("mail")
    assert await store.writer.each(lambda sql: sql.rows("SELECT * FROM director_marks")) == []
    rows = await store.writer.each(
        lambda sql: sql.rows("SELECT host, held, seen, COUNT(*) FROM assignments GROUP BY 1, 2, 3")
    )
    assert sorted(rows) == [(B, 0, 0, len(names) - at), (B, NOW + 99, newest, at)]


async def test_who_comes_to_a_host_after_a_mark_stays(store: Store) -> None:
    await assign(store, "user1", "samik")
    await put(store, Host(A, 1, state="down"))
    await flushed(store)
    await put(store, Host(A, 1))
    await moved(store, A, move("samik", held=NOW + 100))
    await moved(store, A, move("user1"))
    await store.directors.sweep("mail")
    assert await assign(store, "user1", "samik") == [A, A]


async def test_upstreams_are_apart(store: Store) -> None:
    await assign(store, "samik")
    other = DirectorRules("web", {C: 1}, user_expire=1000)
    wanted = [Wanted("", SAMIK, ("samik",))]
    _, found = await store.directors.assign("web", wanted, lambda kept: Board(other, kept), NOW)
    assert found["", SAMIK].host == C
    await store.directors.forget("web", [B, C], 0, NOW)
    assert [each.host for each in await listed(store)] == [B]


async def test_the_ends_of_the_ring_are_hashes_too(store: Store) -> None:
    wanted = [Wanted("", 1, ("a",)), Wanted("", LAST_HASH, ("b",))]
    _, found = await store.directors.assign("mail", wanted, read, NOW)
    assert sorted(each.hash for each in found.values()) == [1, LAST_HASH]


@pytest.fixture
async def stores(url: str, store: Store) -> AsyncIterator[list[Store]]:
    """Two on the same database; neither knows of the other."""
    other = await open_store(url, alone=False)
    yield [store, other]
    await other.close()


async def test_two_first_requests_at_once_are_told_one_host(stores: list[Store]) -> None:
    """They would not choose the same: whoever comes first decides for both."""
    names = [f"user{number}" for number in range(40)]

    async def first(store: Store, vhosts: int, name: str) -> str:
        wanted = [Wanted("", user_hash(name), (name,))]
        _, found = await store.directors.assign("mail", wanted, lambda _: read([Host(A, 1, vhosts=vhosts)]), NOW)
        return found["", user_hash(name)].host

    found = await asyncio.gather(
        *(first(store, vhosts, name) for name in names for store, vhosts in zip(stores, (1, 1000), strict=True))
    )
    assert found[::2] == found[1::2]


async def test_a_user_who_is_moved_while_many_ask_is_at_one_host(stores: list[Store]) -> None:
    asked = (assign(store, "samik") for _ in range(10) for store in stores)
    await asyncio.gather(*asked, moved(stores[0], A, move()))
    assert await assign(stores[1], "samik") == [A]


async def test_expected_nodes_are_known_once(store: Store) -> None:
    assert await store.nodes.add("10.0.0.2", 9090, RECORD) == 1
    assert await store.nodes.add("10.0.0.2", 9090, RECORD) == 0
    assert await store.nodes.add("10.0.0.1", 9091, RECORD) == 2
    assert await store.nodes.all() == [("10.0.0.1", 9091), ("10.0.0.2", 9090)]
    assert await store.nodes.remove("10.0.0.2", 9090, RECORD) == 3
    assert await store.nodes.remove("10.0.0.2", 9090, RECORD) == 0
    assert len(await store.audit.page(RecordFilter())) == 5
