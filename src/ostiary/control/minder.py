"""The minder: how one droplet is brought up and down under its lock, and what is done when something happens to it.

What happens by itself is noted at once; what follows from it waits for the lock. See the reconciler for the whole.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from msgspec.structs import replace

from ostiary.control.charge import Charge, Gate, sealed_text, seconds
from ostiary.control.free_ports import FreePorts
from ostiary.control.members import Directors, Members, Workers
from ostiary.control.vault import Vault
from ostiary.core import lifecycle
from ostiary.core.droplets import DropletRules, Recipe, Template
from ostiary.core.lifecycle import Life, Wanted, told_code
from ostiary.core.refusal import Conflict, Invalid, NotFound, Refusal, Unavailable
from ostiary.core.snapshot import SECOND
from ostiary.drivers.absent import Absent
from ostiary.drivers.port import Driver, Seen
from ostiary.store import fleet
from ostiary.store.ports import Record

log = logging.getLogger("ostiary.droplets")

ALIVE_AFTER = 1.0
"""Seconds after which one without a health check counts as ready."""
NOTICE = 0.1
"""Seconds in which a driver tells of an end that it has brought about; then it is asked."""


class Minder:
    """Minds the droplets of this node. `clock` is Unix microseconds; `python` is what `{python}` stands for."""

    def __init__(
        self,
        droplets: fleet.Droplets,
        workers: Workers,
        directors: Directors,
        vault: Vault,
        rules: Callable[[], DropletRules],
        clock: Callable[[], int],
        entropy: Callable[[int], bytes],
        python: str,
    ) -> None:
        self._store = droplets
        self._driver: Driver = Absent()
        self._vault = vault
        self._rules = rules
        self._clock = clock
        self._entropy = entropy
        self._python = python
        self._charges: dict[str, Charge] = {}
        """By name, oldest first."""
        self._ids: dict[str, Charge] = {}
        self._ports = FreePorts(entropy)
        self._taken: set[int] = set()
        self._gate = Gate(rules)
        self._members = Members(workers, directors, rules, self._charges.values)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._needed = asyncio.Event()
        """Set when there are droplets, or may be: until then no engine is asked for."""
        self._opened = False
        self._reached = False
        self._closing = False
        self._events: AsyncIterator[Seen] | None = None

    def reach(self) -> None:
        """Refuse Unavailable `driver.unavailable` while the engine is away."""
        if not self._reached or self._closing:
            raise Unavailable("driver.unavailable", "The droplet engine cannot be reached")

    # Under the lock

    async def _bring_up(self, charge: Charge) -> None:
        """Have it run and be ready."""
        if charge.life.state == "running":
            return
        if charge.life.state != "starting":
            await self._launch(charge)
        launched = charge.life.launched
        try:
            await self._ready(charge)
        except TimeoutError:
            await self._give_up(charge)
        if charge.life.launched != launched or not charge.runs:
            raise self._failure(charge)
        await self._note(charge)
        await self._members.tell()

    async def _launch(self, charge: Charge) -> None:
        """Start its process. What it waits for next is noted by itself."""
        async with self._gate:
            checked = charge.recipe.template.health is not None
            at = self._clock()
            await self._commit(charge, lambda life: lifecycle.launch(life, at, checked=checked))
            charge.end = None
            try:
                await self._driver_makes(charge)
                with meaning():
                    await self._driver.start(charge.id)
            except Conflict:
                charge.become(lifecycle.failed(charge.life, self._clock(), None))
                await self._note(charge)
                raise
        if charge.life.state == "starting":
            if charge.life.started is None:
                charge.become(replace(charge.life, started=self._clock()))
            self._watch_over(charge)

    async def _bring_down(self, charge: Charge) -> None:
        """Have it ended, as was asked for."""
        if not charge.life.alive:
            charge.become(lifecycle.stop(charge.life))
        else:
            code, at, killed = await self._end(charge)
            charge.become(lifecycle.stopped(charge.life, at, code, killed=killed))

    async def _end(self, charge: Charge) -> tuple[int | None, int, bool]:
        """Drain it and end its process: the exit code, when, and whether it had to be killed."""
        # Where it is being ended already, it may be a predecessor of this process that has not drained it.
        served, stop = charge.life.state in ("running", "stopping"), charge.recipe.template.stop
        charge.end = None
        charge.quiet()
        charge.become(lifecycle.stop(charge.life))
        await self._note(charge)
        await self._members.tell()
        if served and charge.end is None:
            await self._members.drain(charge, stop.drain)
        try:
            with meaning():
                killed = await self._driver.stop(charge.id, stop.signal, stop.timeout)
        except NotFound:
            return None, self._clock(), False
        seen = await self._seen_end(charge)
        return seen.exit_code, seen.finished or self._clock(), killed

    async def _seen_end(self, charge: Charge) -> Seen:
        """How it ended, as the driver tells it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(NOTICE):
                while charge.end is None and self._reached:
                    await charge.moved()
        seen = charge.end or (await self._driver.look()).get(charge.id) or Seen(charge.id, "gone")
        self._began(charge, seen)
        return seen

    async def _give_up(self, charge: Charge) -> None:
        """End one that was not ready in time."""
        code, at, _ = await self._end(charge)
        charge.become(lifecycle.failed(charge.life, at, code))
        await self._note(charge)
        limit = charge.recipe.template.start_timeout / SECOND
        raise Conflict("droplet.failed", f"Droplet {charge.name} was not healthy within {limit:g} s")

    async def _remake(self, charge: Charge, recipe: Recipe, release: int | None) -> None:
        """Have it made from something else. Its ports stay those that it was given, unless that has others."""
        with meaning():
            await self._driver.remove(charge.id)
        place, template = charge.kept.place, recipe.template
        if place is not None and release is not None:
            place = replace(place, release=release)
        before = charge.kept.ports
        ports = before if tuple(before) == template.ports else self._free(template)
        sealed = self._vault.close(charge.id, sealed_text(recipe))
        kept = replace(charge.kept, template=template.name, ports=ports, place=place, recipe=sealed)
        # Nothing is left of it: a successor starts what is wanted as if it were new.
        wanted = charge.life.wanted == "running"
        await self._store.remake(replace(kept, life=replace(charge.life, state="created") if wanted else charge.life))
        self._taken.difference_update(set(before.values()) - set(ports.values()))
        charge.kept, charge.recipe = kept, recipe

    async def _erase(self, charge: Charge) -> None:
        """Leave nothing of it; its row goes last."""
        with meaning():
            await self._driver.remove(charge.id)
        await self._forget(charge)

    async def _forget(self, charge: Charge) -> None:
        await self._store.delete(charge.id)
        charge.removed = True
        charge.quiet()
        self._charges.pop(charge.name, None)
        self._ids.pop(charge.id, None)
        self._taken.difference_update(charge.ports.values())
        charge.wake()

    async def _want(self, charge: Charge, wanted: Wanted, record: Record | None = None) -> None:
        """Commit what is wanted and who wants it, before anything is done for it."""
        await self._commit(charge, lambda life: lifecycle.want(life, wanted), record)

    async def _commit(self, charge: Charge, change: Callable[[Life], Life], record: Record | None = None) -> None:
        """Keep a change of its life, then have it be so; what happened meanwhile is kept too."""
        kept = change(charge.life)
        await self._store.live(charge.id, kept, record)
        charge.become(change(charge.life))
        if charge.life != kept:
            await self._note(charge)

    async def _driver_makes(self, charge: Charge) -> None:
        with meaning():
            await self._driver.create(charge.spec(self._driver.name, self._python))

    async def _note(self, charge: Charge) -> None:
        await self._store.live(charge.id, charge.life)

    # What happens by itself

    def _watch_over(self, charge: Charge) -> None:
        """Find out when it is ready, and whether it stays so."""
        if self._closing:
            return
        if charge.recipe.template.health is not None:
            charge.probed(lambda well: self._told(charge, well), relayed=self._driver.name == "docker")
        elif charge.life.state == "starting":
            charge.later(ALIVE_AFTER, lambda: self._ready_now(charge))

    def _ready_now(self, charge: Charge) -> None:
        charge.become(lifecycle.ready(charge.life))
        self._spawn(self._note(charge))

    def _told(self, charge: Charge, well: bool) -> None:
        """Its health check has come to a verdict."""
        if charge.life.state == "starting":
            if well:
                self._ready_now(charge)
            return
        charge.become(lifecycle.beat(charge.life, healthy=well))
        self._spawn(self._note(charge))
        if not well and charge.life.state == "running":
            log.warning("Droplet %s is unhealthy", charge.name)
            self._spawn(self._replace(charge))

    async def _replace(self, charge: Charge) -> None:
        """Restart one that is unhealthy, as its policy says; `never` leaves it as it is, outside its upstreams."""
        restart = charge.recipe.template.restart
        async with charge.lock:
            life = charge.life
            if life.state != "running" or life.health != "unhealthy" or restart.policy == "never":
                return
            code, at, _ = await self._end(charge)
            self._over(charge, lifecycle.ended(charge.life, at, code, restart, unwell=True))
            await self._note(charge)

    def _see(self, seen: Seen) -> None:
        """The driver tells what has happened to a droplet."""
        charge = self._ids.get(seen.droplet)
        if charge is None or self._closing:
            if charge is None and seen.state in ("created", "running"):
                self._stray(seen.droplet)  # an engine that hung has done after all what nobody waits for any more
            return
        life = charge.life
        if seen.state == "running":
            self._began(charge, seen)
        elif seen.state == "gone":
            self._spawn(self._look_for(charge))
        elif seen.state != "exited" or (seen.started is not None and seen.started == life.before):
            return  # the end of a life that is known to have ended
        elif life.state == "stopping":
            charge.end = seen
            charge.wake()
        elif life.alive:
            self._lost(charge, seen)

    def _stray(self, ident: str) -> None:
        """Remove what the store does not know: its row is written first and deleted last."""
        log.warning("Droplet %s is unknown here and is removed", ident)
        self._spawn(self._driver.remove(ident))

    def _began(self, charge: Charge, seen: Seen) -> None:
        """When its life has begun, as the driver has it: by that lives are told apart."""
        if charge.life.alive and seen.started is not None:
            charge.become(replace(charge.life, started=seen.started))

    async def _look_for(self, charge: Charge) -> None:
        """It may have been removed behind our back, if it was not we who removed it."""
        async with charge.lock:
            seen = (await self._driver.look()).get(charge.id)
            if not charge.removed and (seen is None or seen.state == "gone"):
                self._lost(charge, Seen(charge.id, "gone"))

    def _lost(self, charge: Charge, seen: Seen) -> None:
        """It has ended by itself, or was removed behind our back: then it is made again, or has failed."""
        at = seen.finished or self._clock()
        self._began(charge, seen)
        if charge.life.alive:
            restart, starved = charge.recipe.template.restart, seen.out_of_memory
            self._over(charge, lifecycle.ended(charge.life, at, seen.exit_code, restart, out_of_memory=starved))
        if seen.state == "gone" and charge.life.state == "exited":
            charge.become(lifecycle.failed(charge.life, at, None))
        self._spawn(self._note(charge))

    def _over(self, charge: Charge, life: Life) -> None:
        """Its life is over; what follows is decided."""
        charge.become(life)
        if life.state == "crashed":
            wait = life.due - self._clock()
            about = round(seconds(wait), 1)
            log.warning("Droplet %s ended with code %s; restart in %g s", charge.name, told_code(life), about)
            charge.later(seconds(wait), lambda: self._spawn(self._again(charge)))
        elif life.state == "failed":
            log.error("Droplet %s ended with code %s and is given up", charge.name, told_code(life))

    async def _again(self, charge: Charge, *, anew: bool = False) -> None:
        """Start one whose restart is due; `anew`: or that control was about to start when it died."""
        async with charge.lock:
            if charge.removed or charge.life.wanted != "running" or (charge.life.alive and not anew):
                return
            await self._launch(charge)
            launched = charge.life.launched
        try:
            await self._ready(charge)
        except TimeoutError:
            async with charge.lock:
                if charge.life.state == "starting" and charge.life.launched == launched:
                    await self._give_up(charge)

    async def _ready(self, charge: Charge) -> None:
        """Wait until it does not start any more. Raises TimeoutError when its time is over."""
        limit = charge.recipe.template.start_timeout
        left = charge.life.launched + limit - self._clock()
        async with asyncio.timeout(seconds(max(0, min(left, limit)))):
            while charge.life.state == "starting":
                self.reach()
                await charge.moved()

    def _failure(self, charge: Charge) -> Refusal:
        """Why it does not run."""
        if not self._reached:
            return Unavailable("driver.unavailable", "The droplet engine cannot be reached")
        life = charge.life
        how = "ended" if life.exit_code is None else f"exited with code {told_code(life)}"
        return Conflict("droplet.failed", f"Droplet {charge.name} {how}")

    # Small things

    def _turned(self) -> None:
        """A life has changed: perhaps workers have to hear of it."""
        if self._reached and not self._closing and self._rules().upstreams:
            self._spawn(self._members.tell())

    def _free(self, template: Template) -> dict[int, int]:
        """A free port for each of the template's, which nobody else is given."""
        ports = self._ports.take(len(template.ports), self._taken)
        self._taken.update(ports)
        return dict(zip(template.ports, ports, strict=True))

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        if self._closing:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        failure = None if task.cancelled() else task.exception()
        if isinstance(failure, Refusal):
            log.warning("%s", failure.message)
        elif failure is not None:
            log.error("A task of droplets failed", exc_info=failure)


@contextmanager
def meaning() -> Iterator[None]:
    """Refusals of a driver become Conflict `droplet.failed`, but for an engine that is away."""
    try:
        yield
    except (Unavailable, Invalid) as refusal:
        if refusal.code == "driver.unavailable":
            raise
        raise Conflict("droplet.failed", refusal.message) from refusal
