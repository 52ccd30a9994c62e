"""A control process without its processes: a real store, and workers, clock and entropy that tests hold in hand."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from tests.store.template import fresh

from ostiary.control.argon2id import Cost
from ostiary.control.call import Call
from ostiary.control.registry import Registry
from ostiary.control.reload import Reloader, Setting
from ostiary.control.seal import Seal
from ostiary.control.subjects import registry
from ostiary.core.configuration.catalogue import Catalogue
from ostiary.core.permission import OWNER, Principal
from ostiary.core.snapshot import Snapshot
from ostiary.link.messages import Change, Order, Report
from ostiary.link.orders import Result
from ostiary.link.receipt import Receipt, WorkerStatus
from ostiary.node.wiring import Wiring
from ostiary.store.keeping import SqlKeeping
from ostiary.store.ports import Record, RecordFilter
from ostiary.store.store import Store, open_store

ADMIN = Principal("user", "admin", OWNER, "password")
NOW = 1_800_000_000_000_000


class Workers:
    """Two workers that remember what they were told."""

    def __init__(self) -> None:
        self.told: list[Change] = []
        self.orders: list[Order] = []
        self.says: dict[type[Order], dict[int, object]] = {}
        """Pid -> what that worker says to an order of the type."""
        self.statuses: list[WorkerStatus] = []

    async def apply(self, change: Change) -> Receipt:
        self.told.append(change)
        return Receipt(change.seq, 2, 2, 1_500, {"admissions": 3, "limits": 4})

    async def order(self, order: Order, patience: float = 10.0) -> list[Result]:
        self.orders.append(order)
        said = self.says.get(type(order), {})
        return [(pid, msgspec.Raw(msgspec.msgpack.encode(value))) for pid, value in said.items()]

    async def install(self, snapshot: Snapshot, routes: Sequence[bytes]) -> Receipt:
        return Receipt(snapshot.revision, 2, 2, 1_500)

    async def collect(self) -> list[Report]:
        return []

    def status(self) -> list[WorkerStatus]:
        return self.statuses


class Entropy:
    """Bytes that look random and are the same each time."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, count: int) -> bytes:
        self.asked += 1
        return sha256(str(self.asked).encode()).digest()[:count]


def unused() -> Catalogue:
    """The catalogue of plug-ins that nothing asks for here."""
    raise AssertionError


class House:
    """Everything of one control, to be turned by hand."""

    def __init__(self, store: Store, path: Path) -> None:
        self.path = path
        self.now = NOW
        self.store = store
        self.workers = Workers()
        self.registry: Registry = registry()
        entropy = Entropy()
        keeping = SqlKeeping(f"sqlite:///{path}", path.parent / "backups", self.clock)
        wiring = Wiring(store, keeping, bytes(32), entropy, self.clock, self.clock, Cost(1, 8))
        self.control = wiring.connect(self.workers, self.configuration(path.parent))
        self.passwords = wiring.passwords
        self.login = self.control.login
        self.authority = wiring.authority
        self.alg = wiring.alg

    def clock(self) -> int:
        return self.now

    def configuration(self, directory: Path) -> Reloader:
        """One that has not started: these tests are about everything else."""
        seal = Seal(bytes(32), lambda count: bytes(count))
        workers, revisions = self.workers, self.store.revisions
        none = directory / "none.yaml"
        return Reloader(Setting(none, {}, unused, "", revisions, workers, seal, self.clock, lambda built: None))

    async def run(self, name: str, params: Struct, principal: Principal = ADMIN, call: Call | None = None) -> Any:
        """Run an operation as `principal`, over the surface `test`."""
        return await self.registry.run(
            self.control, name, params, call or Call(principal, "test", "192.0.2.1", "request-1")
        )

    async def records(self, **fields: Any) -> list[Record]:
        """Audit records, newest first."""
        return await self.store.audit.page(RecordFilter(**fields))


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[House]:
    """A house on a database file."""
    store = await open_store(fresh(path))
    house = House(store, path)
    try:
        yield house
    finally:
        house.passwords.close()
        await store.close()
