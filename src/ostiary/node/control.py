"""The control process: the store, the operations and their surfaces, the configuration, and its end of the link.

In the order in which it happens: the store; the link, so that workers have their leases; the configuration; the first
owner; the listeners; the supervisor is told. A successor does the same, with the configuration that the store has.
"""

import asyncio
import contextlib
import gc
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from functools import cache
from ipaddress import ip_network
from pathlib import Path

import msgspec
import uvloop

from ostiary.control.call import Call
from ostiary.control.config import NoParameters
from ostiary.control.configuration import Built
from ostiary.control.health import Health
from ostiary.control.owner import Owner, ensure_owner
from ostiary.control.reload import NotReloaded, Reloader, Setting
from ostiary.control.seal import Seal, key_in
from ostiary.control.subjects import registry
from ostiary.control.tail import Tail
from ostiary.control.upkeep import Upkeep
from ostiary.core.configuration.settings import Settings
from ostiary.core.mask import Network
from ostiary.core.permission import Principal
from ostiary.core.refusal import Refusal
from ostiary.core.snapshot import SECOND
from ostiary.dialects.apifest import Apifest
from ostiary.dialects.cikit import Cikit
from ostiary.dialects.deis import Deis
from ostiary.dialects.desk import Desk
from ostiary.dialects.doorman import Doorman
from ostiary.dialects.doveadm import Doveadm
from ostiary.dialects.http import Listener
from ostiary.dialects.native import Native
from ostiary.dialects.native.metrics import Metrics
from ostiary.dialects.oauth import Oauth
from ostiary.dialects.router import Router
from ostiary.gateway.bundled import BUNDLED
from ostiary.gateway.plugins import Plugins
from ostiary.gateway.worker import Worker
from ostiary.link.client import Client
from ostiary.link.messages import Place, Question
from ostiary.link.server import Server
from ostiary.link.steered import Past, Steering
from ostiary.node.child import keep_to_itself, until_told
from ostiary.node.drivers import driver_of
from ostiary.node.hashing import for_strangers
from ostiary.node.log import open_log
from ostiary.node.start import TOLD, Start, keep, recall
from ostiary.node.wiring import Wiring, monotonic_microseconds, unix_microseconds
from ostiary.store.keeping import BACKUPS, SqlKeeping
from ostiary.store.purge import SqlPurge
from ostiary.store.store import Store, open_store
from ostiary.supervisor import ADDRESSES_NAME, ADMIN, GATEWAY, LINK, PUBLIC, REPORT

log = logging.getLogger("ostiary.control")
SIGNAL = Principal("node", "signal", frozenset({"config:reload"}))
NICE = 5
"""How far control stands back behind workers: a third of their share of a core that is too busy for both."""
ENDING = 5.0
"""Seconds that workers may take longer than their own limit when the supervisor is gone."""


def main(node: str, gateway: str, admin: str, *words: str) -> None:
    """Be control of the node that the file `node` tells of, until told to end. `resume`: after a predecessor."""
    keep_to_itself()
    # Batch, for all its threads: control never preempts a worker that wakes up on the same core.
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    # A worker on the same core gets its turn sooner the smaller control's share is.
    os.nice(NICE)
    # Collecting was a tenth of the CPU time of issues and introspections, and found next to nothing.
    gc.set_threshold(20_000, 20, 100)
    sys.exit(uvloop.run(run(recall(Path(node)), resume="resume" in words)))


async def run(start: Start, *, resume: bool) -> int:
    """The exit status: 1 where the node cannot start, and the supervisor was told why."""
    ending, reloading = asyncio.Event(), asyncio.Event()
    until_told(ending.set, reloading.set)
    try:
        key = key_in(Path(start.state_dir), os.urandom)
        store = await open_store(start.store)
        before = Past(*await store.directors.late())
    except Refusal as refusal:
        return refused(refusal)
    room = Room(start, store, before, key)
    try:
        async with asyncio.TaskGroup() as tasks:
            status = await room.live(tasks, ending, reloading, resume)
    finally:
        await store.close()
    return status


def refused(refusal: Refusal) -> int:
    """Have a person told why there is no node."""
    said = [str(mistake) for mistake in refusal.mistakes]
    report(refused="\n".join([*said, refusal.message]))
    return 1


def report(**said: object) -> None:
    """Tell the supervisor, if it is there."""
    with contextlib.suppress(BrokenPipeError):
        os.write(REPORT, msgspec.json.encode(said) + b"\n")


class Room:
    """Everything in the control process, wired."""

    def __init__(self, start: Start, store: Store, before: Past, key: bytes) -> None:
        self.start = start
        self.form = "json"
        self.gateway = ""
        """Its URL, once it is known."""
        self.ready = asyncio.Event()
        """Set when there is a configuration and the droplets of a predecessor are known."""
        open_log("control", lambda: self.form)
        self.key = key
        keeping = SqlKeeping(start.store, Path(start.state_dir) / BACKUPS, unix_microseconds)
        clocks = (unix_microseconds, monotonic_microseconds)
        wiring = Wiring(
            store, keeping, key, os.urandom, *clocks, stop=lambda: report(stop=True), strangers=for_strangers()
        )
        authority = wiring.authority
        steering = OnceReady(wiring.steering, self.ready)
        self.server = Server(authority, max(1, start.processes), steering=steering, past=before)
        self.reloader = Reloader(
            Setting(
                path=Path(start.config),
                environ=os.environ,
                catalogue=lambda: Plugins(BUNDLED),
                public=str(start.public),
                revisions=store.revisions,
                workers=self.server,
                seal=Seal(key, os.urandom),
                clock=unix_microseconds,
                applied=self.applied,
                hold=start.hold,
            )
        )
        self.control = wiring.connect(self.server, self.reloader)
        self.registry = registry()
        self.desk = Desk(self.registry, self.control, self.settings)
        surfaces = (Oauth(self.desk, self.issuer), Doorman(self.desk), Deis(self.desk), Native(self.desk, Metrics()))
        router = Router([Apifest(self.desk), Cikit(self.desk), Doveadm(self.desk), *surfaces])
        self.admin = Listener(router, lambda: networks(tuple(self.settings().admin.trusted_proxies)))
        self.public = Listener(router, lambda: networks(tuple(self.settings().gateway.trusted_proxies)), public=True)
        self.inside: Worker | None = None
        # From what was the newest before any worker could ask: what came later it may have to forget.
        self.tail = Tail(
            store.changes, self.server, before.newest, self.told, asyncio.sleep, moved=wiring.steering.told
        )
        self.upkeep = Upkeep(SqlPurge(store.writer), unix_microseconds, monotonic_microseconds, asyncio.sleep)

    def issuer(self) -> str:
        """The gateway's URL, once it listens."""
        if not self.gateway:
            try:
                found = msgspec.json.decode((self.start.run / ADDRESSES_NAME).read_bytes(), type=dict[str, object])
            except FileNotFoundError:
                return f"http{'s' if self.start.tls else ''}://{self.start.gateway}"
            self.gateway = str(found["gateway"])
        return self.gateway

    def settings(self) -> Settings:
        """As they hold now."""
        return self.reloader.serving.settings

    def told(self, seq: int) -> None:
        """Workers were told of everything up to this number of the change log."""
        self.server.told = seq
        keep(self.start.run / TOLD, seq)

    def applied(self, built: Built) -> None:
        """Take from a configuration that serves what is not the workers'."""
        self.control.rules = built.compiled.rules
        self.control.reconciler.configured()
        self.form = built.settings.log.format
        logging.getLogger("ostiary").setLevel(built.settings.log.level)
        report(drain=built.settings.gateway.drain_timeout / SECOND)

    async def live(self, tasks: asyncio.TaskGroup, ending: asyncio.Event, reload: asyncio.Event, resume: bool) -> int:
        """Open, serve until `ending`, and close; the exit status."""
        linked = self.link(tasks)
        try:
            await self.open(resume)
        except Refusal as refusal:
            status = refused(refusal)
        else:
            status = 0
            linked.append(tasks.create_task(self.reload_when(reload)))
            linked.append(tasks.create_task(self.upkeep.run()))
            linked.append(tasks.create_task(self.tail.run()))
            linked.append(tasks.create_task(self.control.steering.run(asyncio.sleep)))
            linked.append(tasks.create_task(Health(self.control, monotonic_microseconds, asyncio.sleep).run()))
            linked.append(tasks.create_task(self.control.reconciler.run()))
            report(ready=self.reloader.revision)
            await ending.wait()
        await self.close()
        for task in linked:
            task.cancel()
        return status

    def link(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """The link with the workers, or with the data plane in this process."""
        if self.start.processes:
            return [tasks.create_task(self.server.serve(socket.socket(fileno=LINK)))]
        ours, theirs = socket.socketpair()
        client = Client(1, os.getpid())
        self.inside = Worker(1, client)
        return [
            tasks.create_task(self.server.serve(linked=ours)),
            tasks.create_task(client.run_over(theirs, self.inside)),
            tasks.create_task(self.inside.serve([socket.socket(fileno=GATEWAY)])),
        ]

    async def open(self, resume: bool) -> None:
        """Serve the configuration and open the listeners. Refuses what keeps a node from starting."""
        if not resume or await self.reloader.resume() is None:
            await self.reloader.start()
        await self.own()
        await self.control.jobs.open()
        await self.control.reconciler.open(driver_of(self.settings().droplets, Path(self.start.state_dir), self.key))
        if resume:
            self.control.steering.resume()
        self.ready.set()
        await self.control.formations.open()
        await self.public.listen(socket.socket(fileno=PUBLIC))
        await self.admin.listen(socket.socket(fileno=ADMIN))

    async def own(self) -> None:
        """Make the owner where nobody is registered. Its one-time password goes to the terminal, through no log."""
        wanted = self.settings().bootstrap.owner
        totp = wanted.totp_secret.reveal() if wanted and wanted.totp_secret else ""
        owner = Owner(wanted.name, wanted.password.reveal(), wanted.email, totp) if wanted else None
        made = await ensure_owner(self.control, owner)
        if made is not None:
            report(owner=f"owner {made.name}, one-time password {made.password} (shown this once)")

    async def reload_when(self, asked: asyncio.Event) -> None:
        """Reload at each SIGHUP; those that come while one runs are one more."""
        while True:
            await asked.wait()
            asked.clear()
            try:
                await self.registry.run(self.control, "config.reload", NoParameters(), Call(SIGNAL, "signal"))
            except NotReloaded:
                pass  # the reload has told every mistake to the log
            except Refusal as refusal:
                log.error("Configuration reload failed: %s", refusal.message)
            report(reloaded=self.reloader.revision)

    async def close(self) -> None:
        """Let end what is under way. Workers go first: without the supervisor, control waits for them here."""
        self.desk.draining = True
        if self.inside is not None:
            await self.inside.drain()
        else:
            await self.deserted()
        await asyncio.gather(self.public.drain(), self.admin.drain())
        await self.control.jobs.close()
        await self.control.reconciler.close()
        await self.control.steering.close()
        await self.registry.settled()
        await self.control.formations.close()
        await self.reloader.close()
        self.control.passwords.close()

    async def deserted(self) -> None:
        """Wait for the workers to end, no longer than they may take."""
        drain = self.settings().gateway.drain_timeout if self.reloader.revision else 0
        try:
            async with asyncio.timeout(drain / SECOND + ENDING):
                await self.server.deserted()
        except TimeoutError:
            log.warning("workers have not ended")


class OnceReady:
    """Steering that waits for the configuration and the hosts: workers of a predecessor ask before there are any."""

    def __init__(self, steering: Steering, ready: asyncio.Event) -> None:
        self._steering = steering
        self._ready = ready

    async def steer(self, questions: Sequence[Question], told: Callable[[list[Place]], None]) -> None:
        await self._ready.wait()
        await self._steering.steer(questions, told)

    async def touch(self, used: Sequence[tuple[str, str, int]]) -> None:
        await self._ready.wait()
        await self._steering.touch(used)


@cache
def networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Networks as the settings write them."""
    return tuple(ip_network(text) for text in texts)
