"""What workers ask of the director: one host a user, whatever races, restarts or is configured meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from msgspec.structs import replace
from tests.control.directing import MAIL, MINUTE, SAMIK, USER1, A, Asked, B, C, Slow, directed, steer, waiting
from tests.control.house import House

from ostiary.control.director import AddHost, FlushHost, MoveUser, RemoveHost, TurnHost
from ostiary.control.steering import CHUNK, Steering
from ostiary.control.whereabouts import DirectorStatusOf, MapUsers
from ostiary.core.director import Ring, Unsteer, user_hash
from ostiary.core.refusal import Conflict, Unavailable
from ostiary.core.snapshot import SECOND
from ostiary.link.messages import Drain, FindStrays, Place, Question, Stray
from ostiary.store.director import SqlDirectors
from ostiary.store.places import Directors


@pytest.fixture
async def workers(house: House) -> AsyncIterator[Slow]:
    """Of a house with a director."""
    yield directed(house)
    await house.control.steering.close()


async def restart(house: House, *flows: Stray, free: bool = True) -> Slow:
    """Another control process on the same store, with workers of which it knows nothing, and what flows there.

    Not `free`: these workers take their time to drain.
    """
    await house.control.steering.close()
    house.control.workers = workers = Slow()
    workers.says[FindStrays] = {1: list(flows)}
    if not free:
        workers.free.clear()
    house.control.steering = Steering(
        house.store.directors, lambda: house.control.rules, lambda: house.control.workers, house.clock
    )
    house.control.steering.resume()
    return workers


AT_B = Stray("mail", "", SAMIK, B)
"""Something of samik's flows to B, although workers have forgotten that samik goes there."""


async def test_an_answer_says_where_and_for_how_long(house: House, workers: Slow) -> None:
    asked = Asked("samik")
    await house.control.steering.steer(asked.questions, asked.told)
    assert asked.places == [Place(Question("mail", "", "samik"), B, f"{B}:8012", SAMIK, MINUTE // SECOND)]


async def test_a_host_of_ipv6_is_in_brackets(house: House, workers: Slow) -> None:
    await house.run("director.add", AddHost("2001:db8::1", tag="six", port=81))
    asked = Asked("samik", tag="six")
    await house.control.steering.steer(asked.questions, asked.told)
    assert [each.backend for each in asked.places] == ["[2001:db8::1]:81"]


async def test_who_has_no_name_is_steered_by_the_ring_and_not_remembered(house: House, workers: Slow) -> None:
    ring = Ring([(A, 100), (B, 100)])
    assert await steer(house, "client ab01", kept=False) == [ring.host(user_hash("client ab01", "%u"))]
    await house.run("director.down", TurnHost(A))
    await house.run("director.down", TurnHost(B))
    assert await steer(house, "client ab01", kept=False) == [""]
    assert await house.run("director.map", MapUsers()) == []


async def test_what_nobody_can_say_has_no_host(house: House, workers: Slow) -> None:
    assert await steer(house, "samik", tag="eu") == [""]
    assert await steer(house, "samik", tag="no tag\0") == [""]
    assert await steer(house, "samik", tag="no tag\0", kept=False) == [""]
    assert await steer(house, "samik", upstream="web") == [""]


async def test_many_questions_at_once_have_an_answer_each(house: House, workers: Slow) -> None:
    names = [f"user{number}" for number in range(CHUNK + 10)]
    ring = Ring([(A, 100), (B, 100)])
    assert await steer(house, *names, "user1") == [ring.host(user_hash(name)) for name in [*names, "user1"]]


async def test_two_who_ask_first_at_once_are_told_one_host(house: House, workers: Slow) -> None:
    """The ring changes between them: still one host."""
    names = [f"user{number}" for number in range(30)]
    first, change, second = await asyncio.gather(
        steer(house, *names), house.run("director.add", AddHost(C)), steer(house, *reversed(names))
    )
    assert change.changes == [f"{C} added with 100 vhosts"]
    assert first == list(reversed(second))


async def test_use_prolongs_and_rest_ends(house: House, workers: Slow) -> None:
    await steer(house, "samik", "user1")
    house.now += MINUTE // 2
    await house.control.steering.touch([("mail", "", SAMIK), ("gone", "", 1), ("mail", "a b", 1)])
    house.now += MINUTE // 2
    assert [each.user for each in await house.run("director.map", MapUsers())] == ["samik"]
    await house.run("director.down", TurnHost(B))
    assert await steer(house, "samik", "user2") == [B, A]


class Away(SqlDirectors):
    """A store that cannot be told who is in use while it is `away`."""

    def __init__(self, other: Directors) -> None:
        vars(self).update(vars(other))
        self.away = True

    async def touch(self, upstream: str, tag: str, hashes: Sequence[int], now: int, expires: int) -> None:
        if self.away:
            raise Unavailable("store.unavailable", "The store cannot be reached")
        await super().touch(upstream, tag, hashes, now, expires)


async def test_who_is_in_use_while_the_store_is_away_stays_where_they_are(house: House, workers: Slow) -> None:
    store = Away(house.store.directors)
    steering = house.control.steering = Steering(
        store, lambda: house.control.rules, lambda: house.control.workers, house.clock
    )
    assert await steer(house, "samik") == [B]
    house.now += MINUTE // 2
    with pytest.raises(Unavailable):
        await steering.touch([("mail", "", SAMIK)])
    house.now += MINUTE // 2 + 1
    await house.run("director.down", TurnHost(B))
    store.away = False
    assert await steer(house, "samik") == [B]
    house.now += MINUTE
    assert await steer(house, "samik") == [A]


async def test_a_restart_keeps_hosts_marks_and_users(house: House, workers: Slow) -> None:
    await house.run("director.add", AddHost(C, tag="eu", vhosts=5))
    await house.run("director.down", TurnHost(A))
    await house.run("director.move", MoveUser("samik", A))
    before = await house.run("director.status", DirectorStatusOf())
    await restart(house)
    assert await house.run("director.status", DirectorStatusOf()) == before
    assert await steer(house, "samik") == [A]


async def test_a_move_goes_on_after_a_restart(house: House, workers: Slow) -> None:
    await steer(house, "samik")
    workers.free.clear()
    await house.run("director.move", MoveUser("samik", A))
    later = await restart(house, AT_B, free=False)
    asked = await waiting(house, "samik")
    assert await later.until(1) == [Drain("mail", [("", SAMIK)])]
    with pytest.raises(Conflict) as refusal:
        await house.run("director.move", MoveUser("samik", B))
    assert refusal.value.code == "user.moving"
    assert await steer(house, "user1") == [A]
    later.free.set()
    await asked.answered.wait()
    assert asked.hosts == [A]


async def test_whom_nobody_asks_for_is_drained_after_a_restart_too(house: House, workers: Slow) -> None:
    """Even when the time that the move was given is over: its predecessor may not have told anybody to drain."""
    await steer(house, "samik")
    workers.free.clear()
    await house.run("director.move", MoveUser("samik", A))
    house.now += MINUTE // 2
    later = await restart(house, AT_B)
    assert await later.until(1) == [Drain("mail", [("", SAMIK)])]
    await house.control.steering.quiet("mail")
    assert await steer(house, "samik") == [A]


async def test_after_a_restart_nobody_waits_where_nothing_flows_to_another_host(house: House, workers: Slow) -> None:
    """What flows to where its user is now flows on, though workers do not know it."""
    await steer(house, "samik", "user1")
    workers.free.clear()
    await house.run("director.move", MoveUser("samik", A))
    later = await restart(house, Stray("mail", "", USER1, A), Stray("web", "", SAMIK, B), free=False)
    await house.control.steering.quiet("mail")
    assert await steer(house, "samik", "user1") == [A, A]
    assert later.drains == []


async def test_a_flush_right_after_a_restart_waits_for_what_flows_to_the_host_before_the_last(
    house: House, workers: Slow
) -> None:
    """Samik was being moved from B to A when control was killed, and is flushed from A to C now."""
    await house.run("director.add", AddHost(C))
    await steer(house, "samik")
    await house.run("director.down", TurnHost(B))
    workers.free.clear()
    await house.run("director.move", MoveUser("samik", A))
    await house.run("director.down", TurnHost(A))
    later = await restart(house, AT_B, free=False)
    await later.until(1)
    slow, later.free = later.free, asyncio.Event()
    later.free.set()
    assert (await house.run("director.flush", FlushHost(A))).changes == [f"{A}: 1 users moved"]
    await later.until(2)
    asked = await waiting(house, "samik")
    slow.set()
    await asked.answered.wait()
    assert asked.hosts == [C]


async def test_after_a_restart_a_worker_that_hangs_keeps_nobody_waiting(house: House, workers: Slow) -> None:
    """By then it has no lease. What the others say counts."""
    await steer(house, "samik")
    workers.free.clear()
    await house.run("director.move", MoveUser("samik", A))
    await house.control.steering.close()
    later = await restart(house, AT_B)
    later.silent = True
    await later.until(1)
    await house.control.steering.quiet("mail")
    assert await steer(house, "samik") == [A]


async def test_who_was_at_a_removed_host_waits_until_nothing_flows_to_it(house: House, workers: Slow) -> None:
    await steer(house, "samik")
    workers.free.clear()
    removing = asyncio.create_task(house.run("director.remove", RemoveHost(B)))
    await workers.until(1)
    asked = await waiting(house, "samik")
    assert await steer(house, "user1") == [A]
    workers.free.set()
    await asked.answered.wait()
    assert (asked.hosts, (await removing).changes) == ([A], [f"{B} removed"])


async def test_who_was_at_a_removed_host_waits_after_a_restart_too(house: House, workers: Slow) -> None:
    await steer(house, "samik")
    workers.free.clear()
    removing = asyncio.create_task(house.run("director.remove", RemoveHost(B)))
    await workers.until(1)
    removing.cancel()
    later = await restart(house, AT_B, free=False)
    assert await later.until(1) == [Drain("mail", [("", SAMIK)])]
    asked = await waiting(house, "samik")
    later.free.set()
    await asked.answered.wait()
    assert asked.hosts == [A]


async def test_who_is_flushed_while_a_move_goes_on_waits_for_both(house: House, workers: Slow) -> None:
    """Something may still flow to the host before the last."""
    await steer(house, "samik")
    slow = asyncio.Event()
    workers.free = slow
    await house.run("director.move", MoveUser("samik", A))
    await workers.until(1)
    workers.free = asyncio.Event()
    workers.free.set()
    assert (await house.run("director.flush", FlushHost(A))).changes == [f"{A}: 1 users moved"]
    await workers.until(2)
    asked = await waiting(house, "samik")
    slow.set()
    await asked.answered.wait()
    assert asked.hosts == [B]


async def test_what_was_moved_at_once_is_written_down_in_time(house: House, workers: Slow) -> None:
    await steer(house, "samik", "user1")
    await house.run("director.down", TurnHost(B))
    await house.run("director.flush", FlushHost(B))

    async def pause(seconds: float) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await house.control.steering.run(pause)
    rows = await house.store.writer.each(lambda sql: sql.rows("SELECT DISTINCT host FROM assignments"))
    assert rows == [(A,)]
    assert await house.store.writer.each(lambda sql: sql.rows("SELECT number FROM director_marks")) == []


def only_a(house: House) -> None:
    """A reload without the host B."""
    house.control.rules = replace(house.control.rules, directors={"mail": replace(MAIL, hosts={A: 8011})})


async def test_users_of_a_host_that_is_no_longer_configured_are_forgotten(house: House, workers: Slow) -> None:
    await steer(house, "samik", "user1")
    only_a(house)
    await house.control.steering.settle()
    assert workers.unsteered == [Unsteer("mail", hosts=[B])]
    assert workers.drains == [Drain("mail", hosts=[B], close=True)]
    assert [each.host for each in await house.run("director.map", MapUsers())] == [A]


async def test_nobody_is_told_a_host_that_is_gone(house: House, workers: Slow) -> None:
    await steer(house, "samik")
    only_a(house)
    assert await steer(house, "samik") == [A]


async def test_the_configuration_is_settled_once_for_each_change(house: House, workers: Slow) -> None:
    await steer(house, "samik")
    looks = 0

    async def pause(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            only_a(house)
        if looks == 4:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await house.control.steering.run(pause)
    assert workers.unsteered == [Unsteer("mail", hosts=[B])]
