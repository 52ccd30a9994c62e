"""Reload: build new, swap once, keep the old on failure.

    load -> build -> deliver to every worker -> keep as a revision -> take what control itself needs

Reloads run one at a time; those asked for while one runs share the next. Reading and building happen in a thread of
their own, of low priority and without garbage collection, because the event loop renews the workers' leases meanwhile.
"""

import asyncio
import gc
import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
from msgspec import Struct

from ostiary.control.call import Call
from ostiary.control.configuration import (
    Built,
    ChangedKey,
    Changes,
    Hold,
    Loaded,
    RouteChanges,
    build,
    changes,
    load,
)
from ostiary.control.delivery import frames
from ostiary.control.seal import Seal
from ostiary.control.sources import Disk, Kept, Reader, Sources
from ostiary.core.configuration.catalogue import Catalogue
from ostiary.core.configuration.keys import kept, values
from ostiary.core.configuration.settings import Settings
from ostiary.core.refusal import Invalid, Mistake, NotFound, Unavailable
from ostiary.core.routing.table import Table
from ostiary.core.snapshot import Fixed, Route, Snapshot
from ostiary.link.messages import Change
from ostiary.link.receipt import Receipt
from ostiary.store.ports import Record, Revision, Revisions

log = logging.getLogger("ostiary.configuration")
acknowledgements = logging.getLogger("ostiary.reload")
"""Written whatever the level is."""
acknowledgements.setLevel(logging.INFO)
NICE = 2

T = TypeVar("T")


class NotReloaded(Invalid):
    """The configuration has mistakes; `revision` keeps serving."""

    def __init__(self, mistakes: list[Mistake], revision: int) -> None:
        number = f"{len(mistakes)} mistake" + ("" if len(mistakes) == 1 else "s")
        keeps = f"revision {revision} keeps serving" if revision else "nothing serves"
        super().__init__("config.invalid", f"Configuration not reloaded: {number}, {keeps}", tuple(mistakes))
        self.revision = revision
        self.outcome = f"Configuration reload failed: {number}, {keeps}"


class Reloaded(Struct, frozen=True):
    """What a reload made different. Lists are sorted and have at most 1,000 entries."""

    config: dict[str, Any]
    """Every setting with its effective value, secrets redacted."""
    revision: int
    changed: list[ChangedKey]
    restart_needed: list[str]
    """Keys that changed and keep their values until Ostiary is started anew."""
    routes: RouteChanges


class Validated(Struct, frozen=True):
    """What a reload would find."""

    valid: bool
    mistakes: list[Mistake]
    warnings: list[Mistake]
    routes: int


class Installer(Protocol):
    """The part of Workers that a reload uses."""

    async def install(self, snapshot: Snapshot, routes: list[bytes]) -> Receipt:
        """Returns when every worker serves `snapshot`. Refuses Invalid where a worker cannot build it."""

    async def apply(self, change: Change) -> Receipt:
        """Returns when every worker has applied `change` or can no longer act on the old state."""


class Setting(NamedTuple):
    """What a Reloader works with. `catalogue` makes a fresh catalogue of the bundled plug-ins."""

    path: Path
    environ: Mapping[str, str]
    catalogue: Callable[[], Catalogue]
    public: str
    """Path of the Unix socket on which control takes what workers forward to it."""
    revisions: Revisions
    workers: Installer
    seal: Seal
    clock: Callable[[], int]
    applied: Callable[[Built], None]
    """Told of what serves from now on: log level, limits, whatever control itself takes from the settings."""
    hold: Hold | None = None
    """At the start: keeps what this node was started with, and control may have been replaced since."""


class Draft(NamedTuple):
    """What would serve, and how it differs from what does."""

    built: Built
    change: Changes
    same: bool


class Reloader:
    """What serves now, and how another comes in its place. `start` comes first, `close` last."""

    def __init__(self, setting: Setting) -> None:
        self._with = setting
        self._serving: Built | None = None
        self._table: Table[Route] | None = None
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[tuple[Reloaded, Receipt]] | None = None
        self._tasks: set[asyncio.Task[tuple[Reloaded, Receipt]]] = set()
        self._thread = ThreadPoolExecutor(1, "build", _yield_to_others)
        self._disk = Disk(setting.path.parent)

    @property
    def serving(self) -> Built:
        """What serves. Refuses Unavailable before the first start."""
        if self._serving is None:
            raise Unavailable("config.starting", "Ostiary is starting")
        return self._serving

    @property
    def revision(self) -> int:
        """The number of what serves; 0: nothing yet."""
        return self._serving.compiled.snapshot.revision if self._serving else 0

    async def start(self, record: Record | None = None) -> Receipt:
        """Serve the files on the disk, kept as a new revision unless they are those of the newest.

        Refuses NotReloaded with all their mistakes.
        """
        built = await self._built(self._disk, self._with.hold)
        newest = await self._with.revisions.newest()
        digest = await self.build_thread(lambda: self._with.seal.digest(built.sources))
        if newest and newest[0].digest == digest:
            return await self._install(built, newest[0].number)
        return await self._replace(built, "start", "node", record)

    async def resume(self) -> Receipt | None:
        """Serve the newest revision out of the store, as before this process; None if there is none to be had."""
        newest = await self._with.revisions.newest()
        if newest is None:
            return None
        try:
            sources = await self.build_thread(lambda: self._with.seal.open(newest[1]))
            built = await self._built(Kept(sources, self._disk), self._with.hold)
        except Invalid as refusal:
            log.error("revision %d cannot be resumed: %s", newest[0].number, refusal.message)
            return None
        return await self._install(built, newest[0].number)

    async def reload(self, call: Call) -> Reloaded:
        """Read the files again and serve them. Refuses NotReloaded; then the old revision keeps serving."""
        acknowledgements.info("%s: reloading configuration...", _asked(call))
        task = self._next or self._begin(call)
        done, call.trail.receipt = await asyncio.shield(task)
        return done

    def _begin(self, call: Call) -> "asyncio.Task[tuple[Reloaded, Receipt]]":
        """The reload after the one that runs, if one does. It goes on when those who asked have gone."""
        self._next = asyncio.get_running_loop().create_task(self._take_turn(call))
        self._next.add_done_callback(self._tasks.discard)
        self._tasks.add(self._next)
        return self._next

    async def _take_turn(self, call: Call) -> tuple[Reloaded, Receipt]:
        async with self._turn:
            self._next = None
            return await self._change(self._disk, "reload", call.principal.name)

    async def rollback(self, number: int, call: Call) -> Reloaded:
        """Serve an earlier revision again, as a new one; the files stay as they are. Refuses NotFound, NotReloaded."""
        sources = (await self.earlier(number))[1]
        acknowledgements.info("%s: rolling back to revision %d...", _asked(call), number)
        async with self._turn:
            reader = Kept(sources, self._disk)
            done, call.trail.receipt = await self._change(reader, f"rollback {number}", call.principal.name)
        return done

    async def validate(self) -> Validated:
        """What a reload would find now."""
        try:
            built = await self._built(self._disk, self._hold)
        except NotReloaded as refusal:
            return Validated(False, list(refusal.mistakes), [], 0)
        return Validated(True, [], built.warnings, len(built.compiled.configured))

    async def foresee(self, number: int = 0) -> list[str]:
        """What a reload, or a rollback to revision `number`, would change, a text each. Refuses as they do."""
        reader = Kept((await self.earlier(number))[1], self._disk) if number else self._disk
        return (await self.build_thread(lambda: self._draft(reader))).change.texts()

    async def earlier(self, number: int) -> tuple[Revision, Sources]:
        """A revision and what it was read from. Refuses NotFound `revision.unknown`, Invalid `revision.sealed`."""
        found = await self._with.revisions.get(number)
        if found is None:
            raise NotFound("revision.unknown", "There is no such revision")
        return found[0], await self.build_thread(lambda: self._with.seal.open(found[1]))

    async def read(self, number: int) -> tuple[Revision, Loaded]:
        """A revision, read again (which is not to say that it could serve). Refuses as `earlier`."""
        revision, sources = await self.earlier(number)
        reader = Kept(sources, self._disk)
        return revision, await self.build_thread(lambda: load(self._with.path, self._with.environ, reader))

    async def rebuilt(self, number: int) -> Built:
        """A revision as it would serve. Refuses as `earlier`, and NotReloaded where it could not any more."""
        return await self._built(Kept((await self.earlier(number))[1], self._disk), None)

    async def table(self) -> Table[Route]:
        """The routes that serve, to be looked up; made when it is first asked for."""
        if self._table is None:
            routes = self.serving.compiled.routes
            self._table = await self.build_thread(lambda: lookup(routes))
        return self._table

    async def close(self) -> None:
        """End what runs; nothing is half done by that, as workers swap as one."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def build_thread(self, work: Callable[[], T]) -> T:
        """Do some work where snapshots are built, out of the event loop's way."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, _without_collection, work)

    # One change

    async def _change(self, reader: Reader, origin: str, author: str) -> tuple[Reloaded, Receipt]:
        old = self.serving.settings
        try:
            draft = await self.build_thread(lambda: self._draft(reader))
            receipt = await self._swap(draft, origin, author)
        except NotReloaded as refusal:
            for mistake in refusal.mistakes:
                acknowledgements.error("%s", mistake)
            acknowledgements.error(refusal.outcome)
            raise
        change = draft.change
        self._tell(old, draft.built.settings, change)
        config = values(draft.built.settings)
        return Reloaded(config, self.revision, change.changed, change.restart_needed, change.routes), receipt

    async def _swap(self, draft: Draft, origin: str, author: str) -> Receipt:
        """Have it served; as the revision that serves if it is the same. Certificates are read anew all the same."""
        if draft.same:
            return await self._install(draft.built, self.revision)
        return await self._replace(draft.built, origin, author, None, draft.change)

    def _draft(self, reader: Reader) -> Draft:
        """In the thread: what would serve, beside what does."""
        old = self.serving
        built, asked = self._build(reader, self._hold)
        return Draft(built, changes(old, built, asked), same(old, built))

    def _hold(self, settings: Settings) -> Settings:
        return kept(self._serving.settings, settings) if self._serving else settings

    async def _built(self, reader: Reader, hold: Hold | None) -> Built:
        return (await self.build_thread(lambda: self._build(reader, hold)))[0]

    def _build(self, reader: Reader, hold: Hold | None) -> tuple[Built, Settings]:
        """In the thread: what can be served, and the settings as they were asked for."""
        loaded = load(self._with.path, self._with.environ, reader)
        built = build(loaded, self._with.catalogue(), self._with.public, hold)
        if isinstance(built, list):
            raise NotReloaded(built, self.revision)
        return built, loaded.settings

    async def _replace(
        self, built: Built, origin: str, author: str, record: Record | None, change: Changes | None = None
    ) -> Receipt:
        """Have it served under the next number and keep it; if that fails, the old one serves on."""
        newest = await self._with.revisions.newest()
        number = newest[0].number + 1 if newest else 1
        old = self._serving
        receipt = await self._install(built, number)
        seal, sources = self._with.seal, built.sources
        digest, sealed = await self.build_thread(lambda: (seal.digest(sources), seal.close(sources)))
        routes = len(built.compiled.configured)
        revision = Revision(number, self._with.clock(), author, origin, digest, routes, summary(built, change))
        try:
            await self._with.revisions.keep(revision, sealed, record)
        except Unavailable:
            if old is not None:
                await self._install(old, old.compiled.snapshot.revision)
            raise
        return receipt

    async def _install(self, built: Built, number: int) -> Receipt:
        compiled = built.compiled.revised(number)
        routes = await self.build_thread(lambda: frames(compiled.routes, number))
        try:
            receipt = await self._with.workers.install(compiled.snapshot, routes)
        except Invalid as refusal:
            raise NotReloaded([Mistake("", refusal.message, self._with.path.name)], self.revision) from refusal
        before, self._serving = self._serving, msgspec.structs.replace(built, compiled=compiled)
        self._table = None
        for warning in built.warnings:
            log.warning("%s", warning)
        self._with.applied(self._serving)
        if before is not None and before.compiled.rules.default_limit != compiled.rules.default_limit:
            # Workers remember the default limit with each token.
            await self._with.workers.apply(Change(0, everything=True, streams=False))
        return receipt

    def _tell(self, old: Settings, new: Settings, change: Changes) -> None:
        for each in change.changed:
            log.info("Config changed: %s = %s -> %s", each.key, each.old, each.new)
        if old.log.level != new.log.level:
            acknowledgements.info("Log level updated to %s", new.log.level)
        for key in change.restart_needed:
            log.warning("Config changed: %s takes effect when Ostiary is started anew", key)
        acknowledgements.info("Configuration reload complete")


def _yield_to_others() -> None:
    os.nice(NICE)


def _without_collection(work: Callable[[], T]) -> T:
    gc.disable()
    try:
        return work()
    finally:
        gc.enable()


def _asked(call: Call) -> str:
    return "SIGHUP received" if call.surface == "signal" else f"Reload requested by {call.principal.name or 'nobody'}"


def same(old: Built, new: Built) -> bool:
    """Whether two configurations serve and show the same."""
    return (
        old.settings == new.settings
        and old.versions == new.versions
        and old.compiled == new.compiled.revised(old.compiled.snapshot.revision)
    )


def lookup(routes: list[Route]) -> Table[Route]:
    """A table of routes."""
    table: Table[Route] = Table()
    exact = {}
    for route in routes:
        only = route.pieces[0]
        if len(route.pieces) == 1 and isinstance(only, Fixed):
            exact[f"{route.method} {only.text}".encode()] = route
        else:
            table.add(route.method, route.pieces, route.order, route)
    table.take(exact)
    return table


def summary(built: Built, change: Changes | None) -> str:
    """A revision in a sentence."""
    text = f"{len(built.compiled.configured)} routes, {len(built.settings.upstreams)} upstreams"
    if change is None:
        return text
    routes = change.routes
    return (
        f"{text}; {len(routes.added)} routes added, {len(routes.removed)} removed, {len(routes.changed)} changed; "
        f"{len(change.changed)} settings changed"
    )
