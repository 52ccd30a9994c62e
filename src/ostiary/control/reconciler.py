"""The reconciler: the one place that brings droplets to what is wanted of them.

What is wanted is committed before anything is done, what came of it afterwards. So whatever control dies in, its
successor finds in the store what should be and at the driver what is, and goes on from there:

    wanted running: starts it, or adopts its process     wanted stopped: ends it     wanted gone: removes it
    unknown to the store: removed (its row is written first and deleted last)

Operations on one droplet hold its lock, in order of arrival. Nothing that happens by itself (an end, a restart that is
due, a verdict of a health check) waits for an operation: it is noted at once, and acted upon under the lock.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from msgspec.structs import replace

from ostiary.control.charge import Charge, Droplet, recipe_of, sealed_text, seconds
from ostiary.control.minder import Minder
from ostiary.core import lifecycle
from ostiary.core.droplets import Place, Recipe, Template
from ostiary.core.lifecycle import Life, Wanted
from ostiary.core.refusal import Conflict, NotFound, Refusal, Unavailable
from ostiary.core.snapshot import SECOND
from ostiary.drivers.port import Driver, Image, Seen, Usage
from ostiary.store.fleet import Kept
from ostiary.store.ports import Record

log = logging.getLogger("ostiary.droplets")

RETRY = 1.0
"""Seconds between two tries to reach the engine."""
OPENING = 1.0
"""Seconds that a start of control waits for the engine: workers need it back before their leases end."""
TRIES = 20
"""Sets of ports that are tried where others take them at the same moment."""
PLAY = SECOND
"""How far a driver's clock may be behind ours (processes are timed in ticks)."""


class Reconciler(Minder):
    """All droplets of this node, for operators, and in step with the engine that runs them."""

    # Beginning and end

    async def open(self, driver: Driver) -> None:
        """Take every droplet into care and adopt what runs. Where the engine is away, `run` goes on trying."""
        self._driver = driver
        for kept in await self._store.all():
            self._take(kept, self._recipe(kept))
        self._opened = True
        self._members.open()
        self.configured()
        try:
            async with asyncio.timeout(OPENING):
                if self._needed.is_set():
                    await self._reach()
        except (Unavailable, TimeoutError) as problem:
            log.error("The engine of droplets cannot be reached: %s; trying on", str(problem) or "no answer yet")

    async def run(self) -> None:
        """Follow what happens, for ever; ends by being cancelled."""
        while True:
            await self._needed.wait()
            try:
                await self._follow()
            except Unavailable as problem:
                if self._closing:
                    return
                log.warning("The engine of droplets is away: %s", problem.message)
            self._lose()
            await asyncio.sleep(RETRY)

    async def close(self) -> None:
        """Let go of all droplets: they live on, or are ended if the settings say so. They come again at a start."""
        self._closing = True
        for charge in self._charges.values():
            charge.quiet()
            charge.wake()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        stop = self._reached and not self._rules().keep
        if stop:
            living = [each for each in self._charges.values() if each.life.alive]
            await asyncio.gather(*map(self._park, living), return_exceptions=True)
        if self._needed.is_set():
            await self._driver.close(stop=stop)

    async def _park(self, charge: Charge) -> None:
        """End one that is to start again with the node."""
        if charge.life.wanted == "running":
            await self._store.live(charge.id, replace(charge.life, state="created", health="none"))
        stop = charge.recipe.template.stop
        await self._driver.stop(charge.id, stop.signal, stop.timeout)

    def configured(self) -> None:
        """The rules have changed: workers hear who serves which upstream now."""
        if self._opened and (self._charges or self._rules().templates):
            self._needed.set()
        if self._opened:
            self._members.enlist()
        if self._reached:
            self._spawn(self._members.tell())

    # What operators ask. A `record` is committed with what is wanted.

    @property
    def driver(self) -> Driver:
        return self._driver

    def all(self) -> list[Droplet]:
        """All, as they are now, newest first."""
        return [self._shown(each) for each in reversed(self._charges.values())]

    def get(self, name: str) -> Droplet:
        """One, as it is now. Refuses NotFound `droplet.unknown`."""
        return self._shown(self._charge(name))

    def of_app(self, app: str) -> list[tuple[Place, Droplet]]:
        """Those of an app, by type and number."""
        places = [(each.kept.place, each) for each in self._charges.values() if each.app == app]
        found = [(place, self._shown(each)) for place, each in places if place is not None]
        return sorted(found, key=lambda each: (each[0].type, each[0].number))

    def wanted(self, name: str) -> Wanted:
        """What operators want of it. Refuses NotFound `droplet.unknown`."""
        return self._charge(name).life.wanted

    def disposable(self, name: str) -> None:
        """Refuse NotFound `droplet.unknown`, Conflict `droplet.app` to who would delete it by itself."""
        charge = self._charge(name)
        if charge.app:
            raise Conflict("droplet.app", f"The droplet belongs to app {charge.app}")

    async def make(
        self, recipe: Recipe, name: str = "", place: Place | None = None, record: Record | None = None
    ) -> str:
        """Keep a new droplet, which is wanted running; its name. `begin` starts it.

        Refuses Conflict `droplets.limit`, `droplet.exists`, Unavailable `driver.unavailable`, `ports.none`.
        """
        self.reach()
        rules = self._rules()
        for _ in range(TRIES):
            ident = self._entropy(6).hex()
            ports = self._free(recipe.template)
            sealed = self._vault.close(ident, sealed_text(recipe))
            kept = Kept(ident, name, recipe.template.name, self._clock(), ports, sealed, Life(), place)
            try:
                kept = await self._store.create(kept, rules.prefix, rules.max, record)
            except Refusal as refusal:
                self._taken.difference_update(ports.values())
                if refusal.code != "port.taken":
                    raise
            else:
                return self._take(kept, recipe).name
        raise Unavailable("ports.none", "No port is free", 60)

    async def begin(self, name: str) -> None:
        """Start what was made. What could not even be created is forgotten. Refuses Conflict `droplet.failed`."""
        async with self._held(name) as charge:
            if charge.life.wanted != "running" or charge.life.state != "created":
                return
            try:
                await self._driver_makes(charge)
            except Refusal:
                # What an engine that went away may have of it is unknown to the store, and removed when it is back.
                await self._forget(charge)
                raise
            await self._bring_up(charge)

    async def create(self, recipe: Recipe, name: str = "", place: Place | None = None) -> Droplet:
        """Make and start one; returns when it is ready. Refuses as `make` and `begin` do."""
        made = await self.make(recipe, name, place)
        await self.begin(made)
        return self.get(made)

    async def start(self, name: str, record: Record | None = None) -> Droplet:
        """Start it; one that runs goes on. Returns when it is ready. Refuses Conflict `droplet.failed`."""
        async with self._held(name) as charge:
            await self._want(charge, "running", record)
            await self._bring_up(charge)
            return self._shown(charge)

    async def stop(self, name: str, record: Record | None = None) -> Droplet:
        """Drain and end it; returns when it has ended. Nothing starts it again but an operator."""
        async with self._held(name) as charge:
            await self._want(charge, "stopped", record)
            await self._bring_down(charge)
            await self._note(charge)
            return self._shown(charge)

    async def restart(
        self, name: str, recipe: Recipe | None = None, release: int | None = None, record: Record | None = None
    ) -> Droplet:
        """Drain and end it, and start it again, with a `recipe` made anew from that. Returns when it is ready."""
        async with self._held(name) as charge:
            await self._want(charge, "running", record)
            # Until it is launched the store says that it is being ended and is wanted: a successor launches it.
            await self._bring_down(charge)
            if recipe is not None:
                await self._remake(charge, recipe, release)
            await self._bring_up(charge)
            return self._shown(charge)

    async def remake(self, name: str, recipe: Recipe, release: int) -> None:
        """Have one that is stopped be made from `recipe` when it starts again; one that runs is restarted."""
        async with self._held(name) as charge:
            alive = charge.life.alive
            await self._bring_down(charge)
            await self._remake(charge, recipe, release)
            await (self._bring_up(charge) if alive else self._driver_makes(charge))

    async def delete(self, name: str, *, owned: bool = False, record: Record | None = None) -> None:
        """Drain, end and remove it; returns when nothing of it is left. `owned`: its app asks."""
        if not owned:
            self.disposable(name)
        async with self._held(name) as charge:
            await self._want(charge, "gone", record)
            await self._bring_down(charge)
            await self._erase(charge)

    async def logs(self, name: str, tail: int) -> Sequence[bytes]:
        """The last lines without line ends; none of one that has never run."""
        charge = self._charge(name)
        self.reach()
        try:
            return await self._driver.logs(charge.id, tail)
        except NotFound:
            return []

    async def printed(self, name: str, tail: int) -> list[tuple[int, bytes]]:
        """The same, each with its time; where nobody knows that, when it was started."""
        charge = self._charge(name)
        self.reach()
        began = charge.life.started or charge.kept.created
        try:
            found = await self._driver.printed(charge.id, tail)
        except NotFound:
            return []
        return [(began if each.at is None else each.at, each.line) for each in found]

    def follow(self, name: str, tail: int) -> AsyncIterator[bytes]:
        """The same, then each line as it comes, until the droplet is deleted."""
        charge = self._charge(name)
        self.reach()
        return self._driver.follow(charge.id, tail)

    async def usage(self, name: str) -> Usage:
        """What it uses now; nothing is known of one that does not live."""
        charge = self._charge(name)
        if not charge.life.alive:
            return Usage()
        self.reach()
        try:
            return await self._driver.usage(charge.id)
        except NotFound:
            return Usage()

    async def images(self) -> Sequence[Image]:
        """The images that are there. An engine that nothing was asked of yet may be away without our knowing."""
        if self._needed.is_set():
            self.reach()
        return await self._driver.images()

    # The engine

    async def _reach(self) -> None:
        """Begin to follow the engine and adopt what it runs. Refuses Unavailable."""
        await self._driver.open()
        self._events = self._driver.watch()
        seen = await self._driver.look()
        self._reached = True
        self._warn()
        for charge in tuple(self._charges.values()):
            charge.wake()
            self._adopt(charge, seen.get(charge.id))
        for ident in seen.keys() - self._ids.keys():
            self._stray(ident)
        self._spawn(self._members.tell())

    async def _follow(self) -> None:
        if self._events is None:
            await self._reach()
        events, self._events = self._events, None
        if events is not None:
            async for seen in events:
                self._see(seen)

    def _lose(self) -> None:
        """The engine is away: what is known holds, and nothing is known."""
        self._reached, self._events = False, None
        for charge in self._charges.values():
            charge.wake()

    def _adopt(self, charge: Charge, seen: Seen | None) -> None:
        """Go on from what is wanted and what is."""
        life, runs = charge.life, seen is not None and seen.state == "running"
        if charge.lock.locked():
            self._spawn(self._adopt_later(charge))
        elif life.wanted == "gone":
            self._spawn(self._finish(charge, partial(self.delete, charge.name, owned=True)))
        elif runs and seen is not None:
            self._found(charge, seen)
        elif life.wanted == "stopped":
            self._rest(charge, seen)
        elif life.state == "crashed":
            charge.later(seconds(life.due - self._clock()), lambda: self._spawn(self._again(charge)))
        elif life.state == "running" or (life.state == "starting" and _of_this_life(life, seen)):
            self._lost(charge, seen or Seen(charge.id, "gone"))
        elif life.state in ("created", "starting", "stopping"):
            self._spawn(self._again(charge, anew=True))
        elif seen is None or seen.state == "gone":
            self._lost(charge, Seen(charge.id, "gone"))

    async def _adopt_later(self, charge: Charge) -> None:
        """The same, when the operation that was cut off is over."""
        async with charge.lock:
            seen = (await self._driver.look()).get(charge.id)
        if not charge.removed:
            self._adopt(charge, seen)

    def _found(self, charge: Charge, seen: Seen) -> None:
        """Its process runs."""
        if charge.life.wanted != "running":
            self._spawn(self._finish(charge, partial(self.stop, charge.name)))
            return
        if charge.life.state == "stopping":  # for a restart: what was begun may end it at any time
            self._spawn(self._finish(charge, partial(self.restart, charge.name)))
            return
        checked = charge.recipe.template.health is not None
        charge.become(lifecycle.found(charge.life, seen.started, checked=checked))
        self._watch_over(charge)
        if charge.life.health == "unhealthy":
            self._spawn(self._replace(charge))
        elif charge.life.state == "starting":
            self._spawn(self._await_start(charge))

    async def _await_start(self, charge: Charge) -> None:
        """Give one that was found starting its whole time."""
        launched = charge.life.launched
        try:
            async with asyncio.timeout(seconds(charge.recipe.template.start_timeout)):
                while charge.life.state == "starting":
                    await charge.moved()
        except TimeoutError:
            async with charge.lock:
                if charge.life.state == "starting" and charge.life.launched == launched:
                    await self._give_up(charge)

    def _rest(self, charge: Charge, seen: Seen | None) -> None:
        """It is stopped and should be."""
        life, at = charge.life, self._clock()
        if (seen is None or seen.state == "gone") and life.state == "exited":
            charge.become(lifecycle.failed(life, at, None))
        elif life.alive and seen is not None:
            charge.become(lifecycle.stopped(life, seen.finished or at, seen.exit_code, killed=False))
        self._spawn(self._note(charge))

    async def _finish(self, charge: Charge, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Do what a predecessor has begun."""
        log.info("Droplet %s: going on with what was begun", charge.name)
        await work()

    def _warn(self) -> None:
        """Say which limits this machine cannot apply."""
        for name, template in self._rules().templates.items():
            for limit in template.limits.given().keys() - self._driver.enforced:
                log.warning("droplets.templates.%s.limits.%s cannot be applied on this machine", name, limit)

    # Small things

    def _take(self, kept: Kept, recipe: Recipe) -> Charge:
        charge = Charge(kept, recipe, self._turned)
        self._charges[kept.name] = self._ids[kept.id] = charge
        self._taken.update(kept.ports.values())
        return charge

    def _recipe(self, kept: Kept) -> Recipe:
        """What it is made from; of one that another key sealed nothing is known, but that it is there."""
        text = self._vault.open(kept.id, kept.recipe)
        if text:
            return recipe_of(text)
        log.error("Droplet %s is kept under another key: what it is made from is not known", kept.name)
        return Recipe(Template(kept.template, ports=tuple(kept.ports)), (), "", {})

    def _charge(self, name: str) -> Charge:
        charge = self._charges.get(name)
        if charge is None:
            raise NotFound("droplet.unknown", f"Error response from daemon: No such container: {name}")
        return charge

    def _shown(self, charge: Charge) -> Droplet:
        return charge.shown(self._clock(), self._driver.name, self._driver.enforced, reached=self._reached)

    @asynccontextmanager
    async def _held(self, name: str) -> AsyncIterator[Charge]:
        """A droplet, with its lock. Refuses NotFound `droplet.unknown`, Conflict `droplet.busy`."""
        charge = self._charge(name)
        self.reach()
        try:
            async with asyncio.timeout(seconds(self._rules().lock_timeout)):
                await charge.lock.acquire()
        except TimeoutError:
            raise Conflict("droplet.busy", "The droplet is busy") from None
        try:
            if charge.removed:
                self._charge(name)
            yield charge
        finally:
            charge.lock.release()


def _of_this_life(life: Life, seen: Seen | None) -> bool:
    """Whether what was seen belongs to the life that was begun last."""
    started = None if seen is None else seen.started
    return started is not None and started != life.before and started + PLAY >= life.launched
