"""Hosts that do not answer go down by themselves, and come up again; what operators did stays theirs."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace
from tests.control.directing import MAIL, SAMIK, A, B, C, Slow, directed, steer
from tests.control.house import House
from tests.listening import listening

from ostiary.control.director import AddHost, TurnHost
from ostiary.control.health import Health, connect
from ostiary.control.whereabouts import DirectorStatusOf
from ostiary.core.director import Health as Pace
from ostiary.core.director import Host
from ostiary.core.snapshot import SECOND
from ostiary.link.messages import Drain

LOOKED_AFTER = replace(MAIL, health=Pace(2 * SECOND, SECOND, fall=3, rise=2))


class Backends:
    """Which of them are dead; who was looked at."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.looks: list[tuple[str, float]] = []

    async def connect(self, host: Host, timeout: float) -> bool:
        self.looks.append((host.backend, timeout))
        return host.host not in self.dead


class Watch:
    """Health, turned by hand."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.backends = Backends()
        self.waits: list[float] = []
        self.health = Health(house.control, house.clock, self.pause, self.backends.connect)

    async def pause(self, seconds: float) -> None:
        self.waits.append(seconds)
        if len(self.waits) == 3:
            raise asyncio.CancelledError
        self.house.now += int(seconds * SECOND)

    async def look(self, times: int) -> str:
        """So many looks; the states of the hosts after them."""
        for _ in range(times):
            await self.health.step()
            self.house.now += 2 * SECOND
        status = await self.house.run("director.status", DirectorStatusOf())
        return " ".join(each.state for each in status.hosts)


@pytest.fixture
async def watch(house: House) -> AsyncIterator[Watch]:
    """Over a director with two hosts."""
    directed(house, LOOKED_AFTER)
    yield Watch(house)
    await house.control.steering.close()


def workers(watch: Watch) -> Slow:
    slow = watch.house.control.workers
    assert isinstance(slow, Slow)
    return slow


async def test_a_host_that_does_not_answer_goes_down_and_its_users_elsewhere(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    assert await steer(watch.house, "samik") == [B]
    watch.backends.dead = {B}
    assert await watch.look(2) == "up up"
    with caplog.at_level(logging.WARNING, "ostiary.control"):
        assert await watch.look(2) == "up down"
    assert [each.getMessage() for each in caplog.records] == [
        f"Host {B} of mail does not answer: it is down, its users go elsewhere"
    ]
    await watch.house.control.steering.quiet("mail")
    [drain] = workers(watch).drains
    assert drain.mark is not None and drain.mark.takes(SAMIK)
    assert drain == Drain("mail", grace=0, mark=drain.mark)
    assert await steer(watch.house, "samik") == [A]


async def test_who_comes_while_a_dead_host_is_left_waits_for_that(watch: Watch) -> None:
    await steer(watch.house, "samik")
    watch.backends.dead = {B}
    workers(watch).free.clear()
    await watch.look(3)
    watch.house.now -= 2 * SECOND
    with pytest.raises(KeyError):
        await steer(watch.house, "samik")


async def test_it_comes_up_again_when_it_answers(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    watch.backends.dead = {B}
    await watch.look(3)
    watch.backends.dead = set()
    assert await watch.look(1) == "up down"
    caplog.clear()
    with caplog.at_level(logging.WARNING, "ostiary.control"):
        assert await watch.look(3) == "up up"
    assert [each.getMessage() for each in caplog.records] == [f"Host {B} of mail answers again: it is up"]


async def test_failures_must_come_in_a_row(watch: Watch) -> None:
    for dead in ({B}, {B}, set(), {B}, {B}):
        watch.backends.dead = dead
        assert await watch.look(1) == "up up"


async def test_what_an_operator_took_down_is_not_looked_at_and_stays_down(watch: Watch) -> None:
    await watch.house.run("director.down", TurnHost(B))
    assert await watch.look(3) == "up down"
    assert {backend for backend, _ in watch.backends.looks} == {f"{A}:8011"}


async def test_what_an_operator_takes_down_after_health_did_stays_down(watch: Watch) -> None:
    watch.backends.dead = {B}
    await watch.look(3)
    await watch.house.run("director.down", TurnHost(B))
    watch.backends.dead = set()
    assert await watch.look(3) == "up down"


async def test_it_stands_in_the_audit(watch: Watch) -> None:
    watch.backends.dead = {B}
    await watch.look(3)
    [record] = await watch.house.records()
    assert (record.kind, record.name, record.operation, record.target) == ("node", "health", "director.down", B)


async def test_looks_come_at_their_pace_and_are_bounded(watch: Watch) -> None:
    with pytest.raises(asyncio.CancelledError):
        await watch.health.run()
    assert watch.waits == [1.0, 1.0, 1.0]
    assert watch.backends.looks == [(f"{A}:8011", 1.0), (f"{B}:8012", 1.0)] * 2


async def test_without_the_setting_nobody_looks(house: House) -> None:
    directed(house)
    await house.run("director.add", AddHost(C))
    watch = Watch(house)
    assert await watch.look(5) == "up up up"
    assert watch.backends.looks == []


async def test_a_connection_is_a_look() -> None:
    async with listening(silent) as server:
        assert await connect(Host("127.0.0.1", server.port), 30.0) is True
    assert await connect(Host("127.0.0.1", server.port), 30.0) is False


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A backend that closes each connection."""
