"""The reconciler: what is wanted of droplets comes about, whatever ends, hangs or dies meanwhile."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.control.directing import Nobody
from tests.control.drivers import Memory
from tests.control.house import Workers
from tests.store.template import fresh
from tests.undisturbed import undisturbed

from ostiary.control.charge import Droplet
from ostiary.control.reconciler import Reconciler
from ostiary.control.vault import DROPLETS, Vault
from ostiary.core.droplets import DropletRules, Health, Place, Restarts, Source, Stopping, Template, recipe
from ostiary.core.refusal import Invalid, NotFound, Refusal
from ostiary.link.messages import Change, Drain, Order
from ostiary.link.orders import Result
from ostiary.link.receipt import Receipt
from ostiary.store.store import Store, open_store

MS = 1000
WEB = Template(
    "web", ("web",), ports=(80,), health=Health(80, "/", every=20 * MS, timeout=30_000 * MS, unhealthy_after=2),
    start_timeout=30_000 * MS, stop=Stopping(drain=7 * MS),
)  # fmt: skip
JOB = Template("job", ("deaf",))
CRASH = Template("crash", ("exit", "3"), restart=Restarts("never"))
LOOP = Template("loop", ("exit", "3"), restart=Restarts(max=2, first_wait=10 * MS))
SLOW = replace(WEB, name="slow", command=("deaf",), start_timeout=100 * MS)
RULES = DropletRules(
    templates={each.name: each for each in (WEB, JOB, CRASH, LOOP, SLOW)}, default="web",
    upstreams={"shop": Source("web", port=80), "app": Source(app="shop", type="web")},
)  # fmt: skip


def now() -> int:
    return time.time_ns() // 1000


class Mortal:
    """Passes calls on until it is dead; then whoever calls waits for ever. `left`: so many calls live on, None: all."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.died = asyncio.Event()
        self.under_way: set[asyncio.Future[Any]] = set()

    def guard(self, inner: Any) -> Any:
        return _Guarded(inner, self)

    async def settled(self) -> None:
        """Return when nothing that it has begun goes on: who is dead writes nothing more."""
        while self.under_way:
            await asyncio.wait(self.under_way)

    async def pass_(self) -> None:
        if self.left is not None:
            if self.left == 0:
                self.died.set()
                await asyncio.Event().wait()
            self.left -= 1


class _Guarded:
    def __init__(self, inner: Any, mortal: Mortal) -> None:
        self._inner = inner
        self._mortal = mortal

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*arguments: Any, **named: Any) -> Any:
            await self._mortal.pass_()
            under_way = asyncio.ensure_future(found(*arguments, **named))
            self._mortal.under_way.add(under_way)
            under_way.add_done_callback(self._mortal.under_way.discard)
            outcome = await under_way
            await self._mortal.pass_()
            return outcome

        return call


class Heard(Workers):
    """Workers that note in a journal when they are told something."""

    def __init__(self, journal: list[tuple[str, str]]) -> None:
        super().__init__()
        self.journal = journal

    async def apply(self, change: Change) -> Receipt:
        self.journal.append(("apply", ""))
        return await super().apply(change)

    async def order(self, order: Order, patience: float = 10.0) -> list[Result]:
        self.journal.append(("order", ""))
        return await super().order(order, patience)


class Node:
    """A node whose control can be killed and started again. The store, the engine and the workers live on."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.engine = Memory(now)
        self.workers = Heard(self.engine.calls)
        self.rules = RULES
        self.key = bytes(32)
        self.mortal = Mortal()
        self.control: Reconciler
        self.running: asyncio.Task[None] | None = None
        self.all: list[tuple[Mortal, Reconciler]] = []
        """Every control that there was."""

    async def begin(self) -> None:
        """Start control."""
        self.mortal = Mortal()
        self.control = Reconciler(
            self.mortal.guard(self.store.droplets), self.mortal.guard(self.workers), Nobody(),
            Vault(self.key, os.urandom, DROPLETS), lambda: self.rules, now, os.urandom, "python",
        )  # fmt: skip
        self.all.append((self.mortal, self.control))
        await self.control.open(self.mortal.guard(self.engine))
        self.running = asyncio.create_task(self.control.run())

    async def kill(self) -> None:
        """Control does nothing any more."""
        self.mortal.left = 0
        if self.running is not None:
            self.running.cancel()
            await asyncio.gather(self.running, return_exceptions=True)
        await self.mortal.settled()

    async def bury(self) -> None:
        """Have every control let go of its tasks and probes; droplets live on."""
        self.rules = replace(RULES, keep=True)
        await self.kill()
        for mortal, control in self.all:
            mortal.left = None
            await control.close()

    async def add(self, template: Template = WEB, name: str = "", **env: str) -> Droplet:
        return await self.control.create(recipe(template, env), name)

    def states(self) -> dict[str, str]:
        return {each.name: each.state for each in self.control.all()}

    @property
    def members(self) -> dict[str, list[str]]:
        """What workers know."""
        known: dict[str, list[str]] = {}
        for change in self.workers.told:
            known |= change.members
        return known


async def until(condition: Callable[[], bool]) -> None:
    """Return when it holds; fail after half a minute."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def refused(asked: Awaitable[object]) -> tuple[str, str]:
    with pytest.raises(Refusal) as refusal:
        await asked
    return refusal.value.code, refusal.value.message


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node with its control."""
    store = await open_store(fresh(tmp_path / "ostiary.db"))
    made = Node(store)
    await made.begin()
    yield made
    await made.bury()
    await made.engine.rest()
    await store.close()


# Operations


async def test_what_is_added_serves_when_the_answer_comes(node: Node) -> None:
    droplet = await node.add()
    assert (droplet.name, droplet.state, droplet.health) == ("droplet01", "running", "healthy")
    assert (droplet.template, droplet.app, droplet.exit_code, droplet.restarts) == ("web", None, None, 0)
    port = droplet.ports["80"]
    assert (port.type, port.ip, 20_000 <= port.port <= 32_767) == ("tcp", "127.0.0.1", True)
    await until(lambda: node.members.get("shop") == [f"127.0.0.1:{port.port}"])


async def test_one_without_a_health_check_is_ready_after_a_second_of_life(node: Node) -> None:
    began = time.monotonic()
    assert (await node.add(JOB)).state == "running"
    assert time.monotonic() - began > 0.9


async def test_stop_start_restart_and_delete_do_what_they_say_and_nothing_twice(node: Node) -> None:
    name, control = (await node.add()).name, node.control
    port = control.get(name).ports["80"].port
    stopped = await control.stop(name)
    assert (stopped.state, stopped.status, stopped.exit_code) == ("exited", "Exited (0) 0 seconds ago", 143)
    assert (stopped.ports, stopped.health) == ({}, "none")
    assert await control.stop(name) == stopped
    assert (await control.start(name)).ports["80"].port == port
    ident = node.engine.named(name)
    assert node.engine.lives[ident].starts == 2
    await control.start(name)
    assert node.engine.lives[ident].starts == 2
    await control.restart(name)
    assert node.engine.lives[ident].starts == 3
    await control.stop(name)
    assert (await control.restart(name)).state == "running"
    await control.delete(name)
    assert (control.all(), node.engine.lives, await node.store.droplets.all()) == ([], {}, [])
    assert await refused(control.stop(name)) == (
        "droplet.unknown", f"Error response from daemon: No such container: {name}",
    )  # fmt: skip


async def test_it_leaves_its_upstream_and_is_drained_before_the_signal(node: Node) -> None:
    name = (await node.add()).name
    port = node.control.get(name).ports["80"].port
    await until(lambda: node.members.get("shop") == [f"127.0.0.1:{port}"])
    node.engine.calls.clear()
    await node.control.stop(name)
    assert [call for call, _ in node.engine.calls] == ["apply", "order", "stop"]
    assert node.members["shop"] == []
    assert node.workers.orders == [Drain("shop", hosts=[f"127.0.0.1:{port}"], grace=7 * MS)]


async def test_a_kill_shows_in_the_prose(node: Node) -> None:
    name = (await node.add(replace(JOB, command=("stubborn",)))).name
    stopped = await node.control.stop(name)
    assert (stopped.status, stopped.exit_code) == ("Exited (137) 0 seconds ago", 137)


async def test_a_start_that_fails_says_why_and_the_droplet_stays(node: Node) -> None:
    assert await refused(node.add(CRASH, "crash1")) == ("droplet.failed", "Droplet crash1 exited with code 3")
    assert node.control.get("crash1").status == "Exited (3) 0 seconds ago"
    assert await refused(node.add(SLOW, "slow1")) == ("droplet.failed", "Droplet slow1 was not healthy within 0.1 s")
    assert (node.control.get("slow1").state, node.engine.running_names()) == ("failed", [])
    nope = replace(JOB, command=("nope",))
    assert await refused(node.add(nope, "nope1")) == ("droplet.failed", "No such program: nope")
    assert node.states() == {"nope1": "failed", "slow1": "failed", "crash1": "exited"}


async def test_what_could_not_even_be_created_does_not_stay_and_its_number_is_not_given_again(node: Node) -> None:
    node.engine.refusal = Invalid("image.unknown", "No such image: x")
    assert await refused(node.add()) == ("droplet.failed", "No such image: x")
    assert (node.control.all(), await node.store.droplets.all()) == ([], [])
    assert (await node.add()).name == "droplet02"


async def test_twenty_at_once_have_twenty_names_and_ports_and_few_are_launched_at_once(node: Node) -> None:
    node.engine.hold.clear()
    adding = [asyncio.create_task(node.add()) for _ in range(20)]
    await until(lambda: node.engine.running == RULES.concurrency)
    node.engine.hold.set()
    made = await asyncio.gather(*adding)
    assert len({each.name for each in made}) == len({each.ports["80"].port for each in made}) == 20
    assert node.engine.most == RULES.concurrency
    assert [each.name for each in node.control.all()] == [f"droplet{number:02d}" for number in range(20, 0, -1)]


async def test_there_are_no_more_than_the_limit(node: Node) -> None:
    node.rules = replace(RULES, max=1)
    await node.add()
    assert await refused(node.add()) == ("droplets.limit", "The limit of droplets is reached")


async def test_operations_on_one_droplet_come_one_after_the_other_or_say_that_it_is_busy(node: Node) -> None:
    name = (await node.add()).name
    await node.control.stop(name)
    node.rules = replace(RULES, lock_timeout=20 * MS)
    node.engine.hold.clear()
    starting = asyncio.create_task(node.control.start(name))
    await until(lambda: node.states()[name] == "starting")
    assert await refused(node.control.stop(name)) == ("droplet.busy", "The droplet is busy")
    node.engine.hold.set()
    assert (await starting).state == "running"


async def test_adding_and_deleting_one_name_at_once_ends_in_one_state(node: Node) -> None:
    work = [node.add(WEB, "shop") for _ in range(5)] + [node.control.delete("shop") for _ in range(5)]
    await asyncio.gather(*work, return_exceptions=True)
    assert node.engine.running_names() == [name for name, state in node.states().items() if state == "running"]
    assert [each.name for each in await node.store.droplets.all()] == list(node.states())


# What happens by itself


async def test_a_crash_leaves_the_upstream_and_is_restarted(node: Node) -> None:
    droplet = await node.add(replace(WEB, restart=Restarts(first_wait=10 * MS)))
    await until(lambda: node.members["shop"] != [])
    ident = node.engine.named(droplet.name)
    node.engine.end(ident, 9)
    await until(lambda: node.states()[droplet.name] == "crashed")
    await until(lambda: node.members["shop"] == [])
    assert "Restarting (9)" in node.control.get(droplet.name).status
    await until(lambda: node.states()[droplet.name] == "running")
    after = node.control.get(droplet.name)
    assert (after.restarts, after.ports, after.id) == (1, droplet.ports, droplet.id)
    await until(lambda: node.members["shop"] != [])


async def test_one_that_crashes_in_a_loop_is_given_up(node: Node) -> None:
    assert (await refused(node.add(LOOP, "loop1")))[1] == "Droplet loop1 exited with code 3"
    await until(lambda: node.states()["loop1"] == "failed")
    assert node.engine.lives[node.engine.named("loop1")].starts == 3
    assert node.control.get("loop1").restarts == 2


@undisturbed
async def test_an_operators_stop_beats_a_restart_that_is_due(node: Node) -> None:
    name = f"loop{len(node.states())}"
    await refused(node.add(replace(LOOP, restart=Restarts(first_wait=200 * MS)), name))
    assert (await node.control.stop(name)).state == "exited"
    await asyncio.sleep(0.3)
    assert node.engine.lives[node.engine.named(name)].starts == 1


async def test_who_ended_for_want_of_memory_is_shown_so_until_it_is_started_again(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    starve = replace(CRASH, command=("starve",))
    assert (await refused(node.add(starve, "big")))[1] == "Droplet big exited with code 137 (out of memory)"
    await node.kill()
    await node.begin()
    assert node.control.get("big").out_of_memory
    droplet = await node.add(replace(WEB, restart=Restarts(first_wait=10 * MS)))
    node.engine.end(node.engine.named(droplet.name), 137, starved=True)
    await until(lambda: f"Droplet {droplet.name} ended with code 137 (out of memory); restart" in caplog.text)
    await until(lambda: node.control.get(droplet.name).restarts == 1)
    assert not node.control.get(droplet.name).out_of_memory


async def test_an_unhealthy_one_leaves_its_upstream_and_is_restarted(node: Node) -> None:
    droplet = await node.add(replace(WEB, restart=Restarts(first_wait=10 * MS)))
    await until(lambda: node.members["shop"] != [])
    node.engine.well = False
    await until(lambda: node.members["shop"] == [])
    node.engine.well = True
    await until(lambda: node.control.get(droplet.name).restarts == 1)
    await until(lambda: node.members["shop"] != [])


async def test_one_that_may_not_be_restarted_comes_back_when_it_is_healthy_again(node: Node) -> None:
    droplet = await node.add(replace(WEB, restart=Restarts("never")))
    node.engine.well = False
    await until(lambda: node.control.get(droplet.name).health == "unhealthy")
    node.engine.well = True
    await until(lambda: node.control.get(droplet.name).health == "healthy")
    assert node.engine.lives[droplet.id].starts == 1


async def test_one_that_others_removed_is_made_again_or_has_failed(node: Node) -> None:
    runs = await node.add(replace(WEB, restart=Restarts(first_wait=10 * MS)))
    stopped = await node.add()
    await node.control.stop(stopped.name)
    node.engine.vanish(runs.id)
    node.engine.vanish(stopped.id)
    await until(lambda: node.states() == {stopped.name: "failed", runs.name: "running"})
    assert node.engine.running_names() == [runs.name]


async def test_an_engine_that_is_away_stops_nothing_and_is_adopted_from_when_it_is_back(node: Node) -> None:
    droplet = await node.add()
    await until(lambda: node.members["shop"] != [])
    told = len(node.workers.told)
    node.engine.leave()
    await until(lambda: node.states() == {droplet.name: "unknown"})
    assert node.control.get(droplet.name).status == "Unknown"
    assert (await refused(node.control.stop(droplet.name)))[0] == "driver.unavailable"
    assert (await refused(node.add()))[0] == "driver.unavailable"
    assert (await refused(node.control.logs(droplet.name, 1)))[0] == "driver.unavailable"
    assert (await refused(node.control.usage(droplet.name)))[0] == "driver.unavailable"
    assert (await refused(node.control.images()))[0] == "driver.unavailable"
    assert len(node.workers.told) == told
    node.engine.away = False
    await until(lambda: node.states() == {droplet.name: "running"})
    assert node.control.get(droplet.name) == replace(
        droplet, created=node.control.get(droplet.name).created, status=node.control.get(droplet.name).status
    )


# Apps


async def test_a_droplet_of_an_app_serves_its_upstream_and_is_the_apps(node: Node) -> None:
    place = Place("shop", "web", 1, 1)
    droplet = await node.control.create(recipe(WEB), place.name, place)
    assert (droplet.name, droplet.app) == ("shop.web.1", "shop")
    await until(lambda: node.members["app"] == [f"127.0.0.1:{droplet.ports['80'].port}"])
    assert node.members["shop"] == []
    assert await refused(node.control.delete(droplet.name)) == ("droplet.app", "The droplet belongs to app shop")
    assert node.control.of_app("shop") == [(place, node.control.get(droplet.name))]
    await node.control.delete(droplet.name, owned=True)
    assert node.control.all() == []


async def test_a_restart_can_make_it_anew_from_something_else(node: Node) -> None:
    place = Place("shop", "web", 1, 1)
    before = await node.control.create(recipe(WEB), place.name, place)
    after = await node.control.restart(place.name, recipe(WEB, {"A": "2"}), 2)
    assert (after.id, after.ports) == (before.id, before.ports)
    assert node.engine.lives[after.id].spec.env["A"] == "2"
    assert node.control.of_app("shop")[0][0].release == 2
    [kept] = await node.store.droplets.all()
    assert kept.place == Place("shop", "web", 1, 2)


# Control dies


async def test_a_successor_adopts_what_runs_and_traffic_goes_on(node: Node) -> None:
    droplet = await node.add()
    await until(lambda: node.members["shop"] != [])
    await node.kill()
    told = len(node.workers.told)
    await node.begin()
    after = node.control.get(droplet.name)
    assert (after.id, after.started_at, after.state, after.health) == (
        droplet.id, node.engine.lives[droplet.id].seen.started, "running", "healthy",
    )  # fmt: skip
    await until(lambda: len(node.workers.told) > told)
    assert [change.members["shop"] for change in node.workers.told[told:]] == [node.members["shop"]] != [[]]
    assert node.engine.lives[droplet.id].starts == 1


async def test_what_ended_while_control_was_away_is_restarted_as_its_policy_says(node: Node) -> None:
    quick = replace(WEB, restart=Restarts(first_wait=10 * MS))
    crashed, finished = await node.add(quick), await node.add(replace(quick, restart=Restarts("never")))
    await node.kill()
    node.engine.end(crashed.id, 9)
    node.engine.end(finished.id, 9)
    await node.begin()
    await until(lambda: node.states() == {crashed.name: "running", finished.name: "exited"})
    assert node.control.get(finished.name).exit_code == 9


async def test_what_is_stopped_with_the_node_starts_with_it_and_what_an_operator_stopped_does_not(node: Node) -> None:
    runs, stopped = await node.add(), await node.add()
    await node.control.stop(stopped.name)
    await node.control.close()
    assert node.engine.running_names() == []
    await node.kill()
    await node.begin()
    await until(lambda: node.states() == {runs.name: "running", stopped.name: "exited"})


async def test_what_is_to_live_on_is_left_alone_when_the_node_ends(node: Node) -> None:
    droplet = await node.add()
    node.rules = replace(RULES, keep=True)
    await node.control.close()
    assert node.engine.running_names() == [droplet.name]


async def test_what_the_store_does_not_know_is_removed(node: Node) -> None:
    droplet = await node.add()
    await node.kill()
    await node.store.droplets.delete(droplet.id)
    await node.begin()
    await until(lambda: node.engine.lives == {})


async def test_what_an_engine_begins_after_all_when_nobody_knows_it_any_more_is_removed(node: Node) -> None:
    droplet = await node.add()
    spec = replace(node.engine.lives[droplet.id].spec, droplet="0123456789ab", ports={})
    await node.engine.create(spec)
    await node.engine.start(spec.droplet)
    await until(lambda: node.engine.lives.keys() == {droplet.id})


async def test_a_template_that_is_gone_leaves_its_droplets_in_care(node: Node) -> None:
    droplet = await node.add()
    node.rules = replace(RULES, templates={})
    await node.kill()
    await node.begin()
    await node.control.restart(droplet.name)
    assert node.states() == {droplet.name: "running"}


def work(node: Node, what: str) -> Awaitable[object]:
    control = node.control
    operations: dict[str, Callable[[], Awaitable[object]]] = {
        "create": lambda: node.add(WEB, "shop"),
        "stop": lambda: control.stop("shop"),
        "start": lambda: control.start("shop"),
        "restart": lambda: control.restart("shop"),
        "remake": lambda: control.restart("shop", recipe(WEB, {"A": "2"})),
        "delete": lambda: control.delete("shop"),
    }
    return operations[what]()


async def test_what_another_key_has_sealed_runs_on_and_can_be_deleted(node: Node) -> None:
    name = (await node.add()).name
    await node.kill()
    node.key = bytes(31) + b"1"
    await node.begin()
    assert node.states() == {name: "running"}
    await node.control.delete(name)
    assert node.engine.lives == {}


async def test_one_that_was_being_ended_for_a_restart_is_started_again_however_it_ends(node: Node) -> None:
    droplet = await node.add(JOB)
    for point in range(40):
        node.mortal.left = point
        task = asyncio.ensure_future(node.control.restart(droplet.name))
        await asyncio.wait_for(node.mortal.died.wait(), 10)
        task.cancel()
        await node.kill()
        [kept] = await node.store.droplets.all()
        if kept.life.state == "stopping":
            break
        await node.begin()
        await until(lambda: settled(node))
    assert node.engine.lives[droplet.id].seen.state == "running"
    await node.begin()
    if node.engine.lives[droplet.id].seen.state == "running":
        node.engine.end(droplet.id, 0)  # the stop that was ordered is carried out
    await until(lambda: settled(node) and node.states() == {droplet.name: "running"})
    assert node.engine.lives[droplet.id].starts == 2


ENDS = {
    "create": {"running"}, "stop": {"exited", "running"}, "start": {"running", "exited"}, "restart": {"running"},
    "remake": {"running"}, "delete": {"running"},
}  # fmt: skip


@pytest.mark.parametrize("what", ENDS)
async def test_killed_at_any_point_its_successor_ends_what_was_begun_or_never_heard_of_it(
    node: Node, what: str
) -> None:
    for point in range(40):
        if what != "create":
            await node.add(WEB, "shop")
        if what == "start":
            await node.control.stop("shop")
        node.mortal.left = point
        task = asyncio.ensure_future(work(node, what))
        dying = asyncio.create_task(node.mortal.died.wait())
        await asyncio.wait({task, dying}, return_when=asyncio.FIRST_COMPLETED)
        survived = task.done()
        await node.kill()
        await node.begin()
        await until(lambda: settled(node) and set(node.states().values()) <= ENDS[what])
        assert len({each.starts for each in node.engine.lives.values()}) <= 1
        kept = await node.store.droplets.all()
        assert [each.name for each in kept] == list(node.states())
        assert sorted(node.engine.lives) == sorted(each.id for each in kept if each.life.state != "created")
        with suppress(NotFound):
            await node.control.delete("shop")
        task.cancel()
        dying.cancel()
        if survived:
            assert point > 1
            return
    raise AssertionError("it never ended")


def settled(node: Node) -> bool:
    """Whether reality is as the list says."""
    states = node.states()
    runs = sorted(name for name, state in states.items() if state == "running")
    known = {each.id for each in node.control.all()}
    still = set(states.values()) <= {"running", "exited", "failed"}
    return still and node.engine.running_names() == runs and node.engine.lives.keys() <= known
