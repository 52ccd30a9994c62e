"""Operations on this machine's store, for commands that must work whether a node runs or not."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ostiary import supervisor
from ostiary.control.control import Control
from ostiary.control.reload import Reloader, Setting
from ostiary.control.seal import Seal, key_in
from ostiary.core.configuration.rules import rules
from ostiary.core.configuration.settings import Settings
from ostiary.core.refusal import Unavailable
from ostiary.core.snapshot import Snapshot
from ostiary.gateway.bundled import BUNDLED
from ostiary.gateway.plugins import Plugins
from ostiary.link.messages import Change, Order, Report
from ostiary.link.orders import Result
from ostiary.link.receipt import Receipt, WorkerStatus
from ostiary.node.start import TOLD, run_directory
from ostiary.node.wiring import Wiring, monotonic_microseconds, unix_microseconds
from ostiary.store.keeping import BACKUPS, SqlKeeping
from ostiary.store.store import open_store

STEP, LOOKS = 0.05, 300
"""Seconds between two looks, and how many: a node takes one second to see a change, and a lease where workers hang."""


class Elsewhere:
    """The workers of the node that runs here, if one does. Its control follows the change log and tells them."""

    def __init__(self, settings: Settings) -> None:
        self._pid_file = Path(settings.pid_file)
        self._told = run_directory(settings.state_dir) / TOLD
        self.unconfirmed = 0
        """Pid of a node that did not say in time that its workers know."""

    async def apply(self, change: Change) -> Receipt:
        """Returns when the node's workers know of the change, there is no node, or its time is over."""
        for _ in range(LOOKS):
            if not supervisor.living(self._pid_file) or self._seq() >= change.seq:
                break
            await asyncio.sleep(STEP)
        else:
            self.unconfirmed = supervisor.living(self._pid_file)
        return Receipt(change.seq, 0, 0, 0)

    def _seq(self) -> int:
        try:
            return int(self._told.read_text())
        except (OSError, ValueError):
            return 0

    async def order(self, order: Order, patience: float = 10.0) -> list[Result]:
        raise Unavailable("workers.elsewhere", "Workers take no orders from here")

    async def install(self, snapshot: Snapshot, routes: Sequence[bytes]) -> Receipt:
        raise Unavailable("workers.elsewhere", "No configuration is installed from here")

    async def collect(self) -> list[Report]:
        return []

    def status(self) -> list[WorkerStatus]:
        return []


@asynccontextmanager
async def control_of(config: Path, settings: Settings, workers: Elsewhere) -> AsyncIterator[Control]:
    """What operations on people work with, until the end of the block. Refuses as `open_store` and `key_in` do."""
    state = Path(settings.state_dir)
    key = key_in(state, os.urandom)
    store = await open_store(settings.store.url, alone=False)
    keeping = SqlKeeping(settings.store.url, state / BACKUPS, unix_microseconds)
    wiring = Wiring(store, keeping, key, os.urandom, unix_microseconds, monotonic_microseconds)
    seal = Seal(key, os.urandom)
    serving = Reloader(
        Setting(
            config, os.environ, lambda: Plugins(BUNDLED), "", store.revisions, workers, seal, unix_microseconds,
            lambda built: None,
        )
    )  # fmt: skip
    control = wiring.connect(workers, serving)
    control.rules = rules(settings)
    try:
        yield control
    finally:
        await serving.close()
        control.passwords.close()
        await store.close()
