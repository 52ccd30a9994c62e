"""A control room without processes: the real store, registry and dialects, and workers that confirm at once."""

import base64
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from tests.store.template import fresh

from ostiary.control.argon2id import Cost
from ostiary.control.owner import Owner, ensure_owner
from ostiary.control.registry import Operation, Registry
from ostiary.control.reload import Reloader, Setting
from ostiary.control.seal import Seal
from ostiary.control.subjects import SUBJECTS
from ostiary.core.configuration.settings import ApifestSettings, DialectSettings, Settings
from ostiary.core.refusal import Unavailable
from ostiary.core.snapshot import Snapshot
from ostiary.dialects.apifest import Apifest
from ostiary.dialects.cikit import Cikit
from ostiary.dialects.deis import Deis
from ostiary.dialects.desk import Desk
from ostiary.dialects.doorman import Doorman
from ostiary.dialects.doveadm import Doveadm
from ostiary.dialects.message import Answer, Request
from ostiary.dialects.native import Native
from ostiary.dialects.native.metrics import Metrics
from ostiary.dialects.oauth import Oauth
from ostiary.dialects.router import Router
from ostiary.gateway.bundled import BUNDLED
from ostiary.gateway.plugins import Plugins
from ostiary.link.messages import Change, Order, Report, RouteCount
from ostiary.link.orders import Result
from ostiary.link.receipt import Receipt, WorkerStatus
from ostiary.node.wiring import Wiring
from ostiary.store.keeping import SqlKeeping
from ostiary.store.ports import Record, RecordFilter
from ostiary.store.store import Store, open_store

ISSUER = "http://gateway.example"
OWNER, PASSWORD = "admin", "change-me-please-1"
DAY = 1_447_000_000_000_000
"""A moment in 2015, microseconds."""


class Workers:
    """Two workers that apply everything at once."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.orders: list[Order] = []
        self.says: dict[type[Order], dict[int, object]] = {}
        """Pid -> what that worker says to an order of the type."""
        self.serving = 2
        self.away = False

    async def apply(self, change: Change) -> Receipt:
        if self.away:
            raise Unavailable("workers.unconfirmed", "A worker does not answer")
        self.changes.append(change)
        return Receipt(change.seq, 2, 2, 1500, {"admissions": 3, "limits": 1})

    async def order(self, order: Order, patience: float = 10.0) -> list[Result]:
        self.orders.append(order)
        said = self.says.get(type(order), {})
        return [(pid, msgspec.Raw(msgspec.msgpack.encode(value))) for pid, value in said.items()]

    async def install(self, snapshot: Snapshot, routes: Sequence[bytes]) -> Receipt:
        return Receipt(snapshot.revision, 2, 2, 1500)

    async def collect(self) -> list[Report]:
        counted = RouteCount("GET /v1.0/x", {200: 2, 404: 1}, [0] * 9 + [2, 0, 1], 2500)
        return [Report(1, [counted], {"refused.bad_request": 4}, {"connections": 7}) for _ in range(2)]

    def status(self) -> list[WorkerStatus]:
        return [WorkerStatus(number, 100 + number, number <= self.serving, 5, 0) for number in (1, 2)]


CONFIGURATION = """\
log: {level: WARNING}
errors: {404: {error: resource not found}}
mappings: ["*.xml"]
"""
MAPPING = """\
<mappings version="v1.0">
  <backend host="127.0.0.1" port="5000"/>
  <endpoints><endpoint external="/v1.0/me" internal="/me" method="GET"/></endpoints>
</mappings>
"""


def configured(path: Path, store: Store, workers: Workers, clock: Callable[[], int]) -> Reloader:
    """The configuration in a directory, not started yet."""
    path.joinpath("ostiary.yaml").write_text(CONFIGURATION)
    path.joinpath("v1.0.xml").write_text(MAPPING)
    seal = Seal(bytes(32), os.urandom)
    file = path / "ostiary.yaml"
    return Reloader(
        Setting(file, {}, lambda: Plugins(BUNDLED), "", store.revisions, workers, seal, clock, lambda built: None)
    )


class House:
    """Everything between a Request and its Answer."""

    def __init__(self, path: Path, store: Store, *more: ModuleType) -> None:
        self.path = path
        self.store = store
        self.now = DAY
        self.workers = Workers()
        keeping = SqlKeeping(f"sqlite:///{path / 'ostiary.db'}", path / "backups", self.clock)
        wiring = Wiring(store, keeping, bytes(32), os.urandom, self.clock, self.clock, Cost(1, 8))
        self.control = wiring.connect(self.workers, configured(path, store, self.workers, self.clock))
        self.settings = Settings()
        self.registry = Registry([*SUBJECTS, *more])
        self.desk = Desk(self.registry, self.control, lambda: self.settings)
        native = Native(self.desk, Metrics())
        self.router = Router(
            [
                Cikit(self.desk),
                Apifest(self.desk),
                Oauth(self.desk, lambda: ISSUER),
                Doorman(self.desk),
                Deis(self.desk),
                Doveadm(self.desk),
                native,
            ]
        )

    def clock(self) -> int:
        return self.now

    def apifest(self, **settings: Any) -> None:
        """Turn settings of the ApiFest surface."""
        self.settings = Settings(dialects=DialectSettings(apifest=ApifestSettings(**settings)))

    async def answer(self, request: Request) -> Answer:
        """As the HTTP server asks."""
        if len(request.body) > self.router.room(request):
            request.oversized, request.body = True, b""
        return await self.router.answer(request)

    async def ask(
        self,
        method: str,
        path: str,
        body: object = b"",
        *,
        media: str = "application/json",
        owner: bool = True,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> Answer:
        """One request, by the owner unless told otherwise; a body that is no bytes is sent as JSON."""
        path, _, query = path.partition("?")
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        sent = {"content-type": media} if raw or method in ("POST", "PUT") else {}
        if owner:
            sent["authorization"] = basic(OWNER, PASSWORD)
        sent |= headers or {}
        request = Request(
            method, path, query, {name: [value] for name, value in sent.items()}, "127.0.0.1:8081", raw,
            peer=more.pop("peer", "192.0.2.1"), address="192.0.2.1", request_id="req-1", **more,
        )  # fmt: skip
        return await self.answer(request)

    async def close(self) -> None:
        """End threads."""
        await self.control.configuration.close()
        await self.store.close()

    async def audit(self) -> list[Record]:
        """All records, newest first, without the owner's own."""
        records = await self.store.audit.page(RecordFilter(limit=1000))
        return [record for record in records if record.surface != "start"]


async def build(path: Path, *more: ModuleType) -> House:
    """A house with its owner."""
    house = House(path, await open_store(fresh(path / "ostiary.db")), *more)
    await house.control.configuration.start()
    await ensure_owner(house.control, Owner(OWNER, PASSWORD, "admin@example.com"))
    return house


def basic(name: str, password: str) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def subject(*operations: Operation) -> ModuleType:
    """A module of operations."""
    module = ModuleType("subject")
    for number, each in enumerate(operations):
        setattr(module, f"operation{number}", each)
    return module
