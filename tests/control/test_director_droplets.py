"""Droplets as hosts of a director: they join when they serve, leave before they end, are what operators made them."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Collection

import pytest
from msgspec.structs import replace
from tests.control.directing import A, Asked, Slow, directed, steer, waiting
from tests.control.drivers import Memory
from tests.control.house import House

from ostiary.control.director import AddHost, FlushHost, MoveUser, RemoveHost, Reset, TurnHost, UpdateHost
from ostiary.control.reconciler import Reconciler
from ostiary.control.steering import Steering
from ostiary.control.vault import DROPLETS, Vault
from ostiary.control.whereabouts import DirectorStatusOf, DumpHosts, DumpRow, HostStatus, MapUsers
from ostiary.core.director import UP, DirectorRules, Host, Ring, Unsteer, user_hash
from ostiary.core.droplets import DropletRules, Health, Restarts, Source, Stopping, Template, recipe
from ostiary.core.refusal import Conflict, NotFound, Refusal, Unavailable
from ostiary.link.messages import Drain
from ostiary.store.director import SqlDirectors
from ostiary.store.places import Directors
from ostiary.store.ports import Changed

MS = 1000
DRAIN = 7_000_000
HEALTH = Health(143, "/", every=20 * MS, timeout=30_000 * MS, unhealthy_after=2)
IMAP = Template(
    "imap", ("web",), ports=(143,), health=HEALTH, start_timeout=30_000 * MS, stop=Stopping(drain=DRAIN),
    restart=Restarts("never"),
)  # fmt: skip
OTHER = replace(IMAP, name="other")
MAIL = DirectorRules("mail")
SOURCES = {"mail": Source("imap", port=143)}
USERS = [f"user{number}" for number in range(40)]


async def until(condition: Callable[[], bool]) -> None:
    """Return when it holds; fail after half a minute."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


class Fleet:
    """A house whose director has droplets. Control can end without a word; the store and the engine live on."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.engine = Memory(house.clock)
        self.workers = directed(house, MAIL)
        self.sources(SOURCES)
        self.running: asyncio.Task[None] | None = None

    def sources(self, sources: dict[str, Source], *directors: DirectorRules) -> None:
        """Configure which droplets upstreams have."""
        droplets = DropletRules(
            templates={each.name: each for each in (IMAP, OTHER)}, default="imap", upstreams=sources, keep=True
        )
        rules = self.house.control.rules
        named = {each.name: each for each in directors} or rules.directors
        self.house.control.rules = replace(rules, droplets=droplets, directors=named)

    async def begin(self) -> None:
        """Start control on what there is."""
        house = self.house
        house.control.workers = self.workers = Slow()
        house.control.steering = Steering(
            house.store.directors, lambda: house.control.rules, lambda: house.control.workers, house.clock
        )
        await self.adopt()

    async def adopt(self) -> None:
        """Begin to look after droplets."""
        house = self.house
        self.droplets = house.control.reconciler = Reconciler(
            house.store.droplets, self.workers, house.control.steering, Vault(bytes(32), os.urandom, DROPLETS),
            lambda: house.control.rules.droplets, house.clock, os.urandom, "python",
        )  # fmt: skip
        await self.droplets.open(self.engine)
        self.running = asyncio.create_task(self.droplets.run())

    async def end(self) -> None:
        """Control ends; droplets live on."""
        if self.running is not None:
            self.running.cancel()
            await asyncio.gather(self.running, return_exceptions=True)
        await self.droplets.close()
        await self.house.control.steering.close()

    async def add(self, template: Template = IMAP) -> tuple[str, str]:
        """A droplet that serves: its name and its host."""
        droplet = await self.droplets.create(recipe(template))
        return droplet.name, f"127.0.0.1:{droplet.ports['143'].port}"

    async def hosts(self) -> list[HostStatus]:
        return list((await self.house.run("director.status", DirectorStatusOf())).hosts)

    async def named(self) -> list[str]:
        return [each.host for each in await self.hosts()]

    def stops(self) -> int:
        """How many signals droplets have been sent."""
        return sum(call == "stop" for call, _ in self.engine.calls)

    @property
    def left(self) -> list[str]:
        """Hosts that workers were told to forget, in order."""
        return [host for each in self.workers.unsteered for host in each.hosts if host]


@pytest.fixture
async def fleet(house: House) -> AsyncIterator[Fleet]:
    made = Fleet(house)
    await made.begin()
    yield made
    made.workers.free.set()
    await made.end()
    await made.engine.rest()


async def test_a_droplet_that_serves_is_a_host_and_is_called_by_address_and_port(fleet: Fleet) -> None:
    assert await steer(fleet.house, "samik") == [""]
    _, one = await fleet.add()
    _, two = await fleet.add()
    await fleet.add(OTHER)
    hosts = sorted((one, two), key=lambda host: int(host.rpartition(":")[2]))
    assert await fleet.hosts() == [HostStatus(host, "", 100, UP, 0, 0) for host in hosts]
    ring = Ring((host, 100) for host in hosts)
    asked = Asked(*USERS)
    await fleet.house.control.steering.steer(asked.questions, asked.told)
    assert asked.hosts == [ring.host(user_hash(name)) for name in USERS]
    assert all(place.backend == place.host for place in asked.places)


async def test_who_has_no_name_is_asked_about_anew_when_a_droplet_joins(fleet: Fleet) -> None:
    await fleet.add()
    await until(lambda: Unsteer("mail", hosts=[""]) in fleet.workers.unsteered)


async def test_servers_stand_beside_droplets(fleet: Fleet) -> None:
    fleet.sources(SOURCES, replace(MAIL, hosts={"127.0.0.1": 8011, A: 8011}))
    _, host = await fleet.add()
    assert await fleet.named() == ["127.0.0.1", host, A]
    await fleet.house.run("director.remove", RemoveHost("127.0.0.1"))
    assert await fleet.named() == [host, A]


@pytest.mark.parametrize("change", ["stop", "restart", "delete"])
async def test_who_is_at_a_droplet_that_ends_waits_and_goes_elsewhere_before_it_is_signalled(
    fleet: Fleet, change: str
) -> None:
    """New ones do not wait, and who is elsewhere stays there."""
    name, one = await fleet.add()
    _, two = await fleet.add()
    hosts = dict(zip(USERS, await steer(fleet.house, *USERS), strict=True))
    there = [user for user in USERS if hosts[user] == one]
    fleet.workers.free.clear()
    work = asyncio.create_task(getattr(fleet.droplets, change)(name))
    await fleet.workers.until(2)
    drain = Drain("mail", hosts=[one], grace=DRAIN)
    assert fleet.workers.drains == [drain, drain]  # for its users, and for the signal
    assert fleet.left == [one]
    assert await fleet.named() == [two]
    asked = await waiting(fleet.house, *there)
    assert set(await steer(fleet.house, "new1", "new2", "new3", *set(USERS) - set(there))) == {two}
    assert fleet.stops() == 0
    fleet.workers.free.set()
    await asked.answered.wait()
    assert set(asked.hosts) == {two}
    await work
    assert fleet.stops() == 1
    assert await fleet.named() == (sorted((one, two)) if change == "restart" else [two])
    assert set(await steer(fleet.house, *USERS)) == {two}


async def test_the_last_droplet_leaves_nobody_waiting(fleet: Fleet) -> None:
    name, _ = await fleet.add()
    await steer(fleet.house, "samik")
    await fleet.droplets.stop(name)
    assert await steer(fleet.house, "samik") == [""]


async def test_what_operators_say_of_a_droplet_lies_over_it_until_it_is_deleted(fleet: Fleet) -> None:
    name, one = await fleet.add()
    _, two = await fleet.add()
    await fleet.house.run("director.update", UpdateHost(one, 7))
    await fleet.house.run("director.down", TurnHost(one))
    before = await fleet.hosts()
    assert [(each.vhosts, each.state) for each in before if each.host == one] == [(7, "down")]
    await fleet.droplets.stop(name)
    assert await fleet.named() == [two]
    await fleet.droplets.start(name)
    assert await fleet.hosts() == before
    assert set(await steer(fleet.house, *USERS)) == {two}
    await fleet.droplets.delete(name)
    assert await fleet.house.store.directors.hosts("mail") == []


async def test_a_droplet_that_operators_removed_stays_away_until_they_add_it(fleet: Fleet) -> None:
    name, host = await fleet.add()
    await steer(fleet.house, "samik")
    assert (await fleet.house.run("director.remove", RemoveHost(host))).changes == [f"{host} removed"]
    await fleet.droplets.restart(name)
    assert await fleet.named() == []
    assert await fleet.house.run("director.dump", DumpHosts()) == [DumpRow("remove", host, "", None, "")]
    await fleet.house.run("director.add", AddHost(f"{host}@eu"))
    assert [(each.host, each.tag) for each in await fleet.hosts()] == [(host, "eu")]
    assert await steer(fleet.house, "samik", tag="eu") == [host]
    assert (await fleet.house.run("director.reset", Reset())).changes == [f"{host}: as configured"]
    assert [(each.host, each.tag) for each in await fleet.hosts()] == [(host, "")]


async def test_users_are_moved_to_and_flushed_from_a_droplet(fleet: Fleet) -> None:
    _, one = await fleet.add()
    _, two = await fleet.add()
    [where] = await steer(fleet.house, "samik")
    other = two if where == one else one
    assert (await fleet.house.run("director.move", MoveUser("samik", other))).changes == [f"{where} -> {other}"]
    await fleet.house.control.steering.quiet("mail")
    assert [each.user for each in await fleet.house.run("director.map", MapUsers(host=other))] == ["samik"]
    assert (await fleet.house.run("director.flush", FlushHost(other))).changes == [f"{other}: 1 users moved"]


@pytest.mark.parametrize(
    ("name", "params", "refusal", "code"),
    [
        ("director.add", AddHost("127.0.0.1:1"), Unavailable, "host.unresolved"),
        ("director.add", AddHost("{}", port=1), Conflict, "host.port"),
        ("director.add", AddHost("{}", tag="eu"), Conflict, "host.tag"),
        ("director.up", TurnHost("127.0.0.1:1"), Unavailable, "host.unresolved"),
        ("director.remove", RemoveHost("127.0.0.1"), NotFound, "host.unknown"),
        ("director.move", MoveUser("samik", "127.0.0.1"), NotFound, "host.unknown"),
    ],
)
async def test_what_no_droplet_is_and_what_none_can_be_is_refused(
    fleet: Fleet, name: str, params: AddHost, refusal: type[Refusal], code: str
) -> None:
    _, host = await fleet.add()
    with pytest.raises(refusal) as refused:
        await fleet.house.run(name, replace(params, host=params.host.format(host)))
    assert refused.value.code == code


async def test_users_of_a_droplet_that_crashes_go_elsewhere_at_once(fleet: Fleet) -> None:
    name, one = await fleet.add()
    _, two = await fleet.add()
    await steer(fleet.house, *USERS)
    fleet.engine.end(fleet.engine.named(name), 137)
    await until(lambda: fleet.left == [one])
    assert fleet.workers.drains == [Drain("mail", hosts=[one], grace=0)]
    await fleet.house.control.steering.quiet("mail")
    assert set(await steer(fleet.house, *USERS)) == {two}


async def test_an_unhealthy_droplet_leaves_and_comes_again(fleet: Fleet) -> None:
    _, host = await fleet.add()
    await steer(fleet.house, "samik")
    fleet.engine.well = False
    await until(lambda: fleet.left == [host])
    assert fleet.workers.drains == [Drain("mail", hosts=[host], grace=DRAIN)]
    assert await steer(fleet.house, "samik") == [""]
    fleet.engine.well = True
    await until(lambda: bool(fleet.house.control.steering.enlisted("mail").serving))
    assert await steer(fleet.house, "samik") == [host]


# Control, again


async def test_another_control_leaves_users_where_they_are(fleet: Fleet) -> None:
    await fleet.add()
    await fleet.add()
    before = await steer(fleet.house, *USERS)
    await fleet.end()
    await fleet.begin()
    await fleet.house.control.steering.settle()
    assert await steer(fleet.house, *USERS) == before
    assert (fleet.left, fleet.workers.drains) == ([], [])


async def test_while_the_engine_is_away_what_served_counts(fleet: Fleet) -> None:
    await fleet.add()
    await fleet.add()
    before = await steer(fleet.house, *USERS)
    await fleet.end()
    fleet.engine.leave()
    await fleet.begin()
    await fleet.house.control.steering.dismiss()
    assert await steer(fleet.house, *USERS) == before
    assert fleet.left == []


async def test_another_control_sends_users_of_a_droplet_that_has_ended_elsewhere(fleet: Fleet) -> None:
    name, one = await fleet.add()
    _, two = await fleet.add()
    await steer(fleet.house, *USERS)
    await fleet.end()
    fleet.engine.end(fleet.engine.named(name), 137)
    await fleet.begin()
    await until(lambda: fleet.left == [one])
    await fleet.house.control.steering.quiet("mail")
    assert set(await steer(fleet.house, *USERS)) == {two}


async def test_another_control_drains_what_its_predecessor_was_about_to_stop(fleet: Fleet) -> None:
    """It ended when the droplet had begun to leave, and its users had not been forgotten."""
    name, one = await fleet.add()
    _, two = await fleet.add()
    hosts = dict(zip(USERS, await steer(fleet.house, *USERS), strict=True))
    there = [user for user in USERS if hosts[user] == one]
    await fleet.end()
    kept = next(each for each in await fleet.house.store.droplets.all() if each.name == name)
    await fleet.house.store.droplets.live(kept.id, replace(kept.life, state="stopping", wanted="stopped"))
    fleet.workers.free.clear()
    house, before = fleet.house, fleet.workers.free
    await fleet.begin()
    fleet.workers.free = before
    await fleet.workers.until(2)
    asked = await waiting(house, *there)
    assert fleet.stops() == 0
    before.set()
    await asked.answered.wait()
    assert set(asked.hosts) == {two}
    await until(lambda: fleet.droplets.get(name).state == "exited")


# The configuration


async def test_droplets_that_a_reload_takes_out_leave_as_if_they_ended(fleet: Fleet) -> None:
    _, old = await fleet.add()
    _, new = await fleet.add(OTHER)
    await steer(fleet.house, "samik")
    fleet.sources({"mail": Source("other", port=143)})
    fleet.workers.free.clear()
    fleet.droplets.configured()
    assert await steer(fleet.house, "fresh") == [new]
    await fleet.workers.until(1)
    assert fleet.workers.drains == [Drain("mail", hosts=[old], grace=DRAIN)]
    asked = await waiting(fleet.house, "samik")
    fleet.workers.free.set()
    await asked.answered.wait()
    assert asked.hosts == [new]


async def test_an_upstream_that_becomes_a_director_has_its_droplets_at_once(fleet: Fleet) -> None:
    _, host = await fleet.add(OTHER)
    fleet.sources({"mail": Source("imap"), "late": Source("other")}, MAIL, DirectorRules("late"))
    fleet.droplets.configured()
    assert await steer(fleet.house, "samik", upstream="late") == [host]


async def test_an_upstream_that_is_no_director_any_more_is_let_be(fleet: Fleet) -> None:
    await fleet.add()
    fleet.sources(SOURCES, DirectorRules("late"))
    fleet.droplets.configured()
    await fleet.house.control.steering.dismiss()
    assert fleet.left == []


class Deaf(SqlDirectors):
    """A store that forgets nobody while it is `away`."""

    def __init__(self, other: Directors) -> None:
        vars(self).update(vars(other))
        self.away = True

    async def forget(self, upstream: str, hosts: Collection[str], held: int, at: int) -> Changed[int]:
        if self.away:
            raise Unavailable("store.unavailable", "The store cannot be reached")
        return await super().forget(upstream, tuple(hosts), held, at)


async def test_who_cannot_be_forgotten_now_is_forgotten_later(fleet: Fleet) -> None:
    name, one = await fleet.add()
    _, two = await fleet.add()
    before = await steer(fleet.house, *USERS)
    await fleet.end()
    store, looks = Deaf(fleet.house.store.directors), 0
    fleet.house.control.steering = steering = Steering(
        store, lambda: fleet.house.control.rules, lambda: fleet.house.control.workers, fleet.house.clock
    )
    await fleet.adopt()
    fleet.engine.end(fleet.engine.named(name), 137)
    await until(lambda: steering.enlisted("mail").leaving == {one})
    assert await steer(fleet.house, *USERS) == before

    async def pause(seconds: float) -> None:
        nonlocal looks
        looks, store.away = looks + 1, False
        if looks == 2:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await steering.run(pause)
    await steering.quiet("mail")
    assert set(await steer(fleet.house, *USERS)) == {two}


async def test_a_host_that_was_kept_of_a_droplet_is_nobodys(fleet: Fleet) -> None:
    """What operators made of it counts only while a droplet of that name serves."""
    _, host = await fleet.add()
    await fleet.house.run("director.update", UpdateHost(host, 7))
    fleet.sources({})
    fleet.droplets.configured()
    await fleet.house.control.steering.dismiss()
    assert await fleet.named() == []
    assert await fleet.house.store.directors.hosts("mail") == [Host(host, int(host.rpartition(":")[2]), vhosts=7)]
    assert (await fleet.house.run("director.reset", Reset())).changes == [f"{host}: as configured"]
