"""The start of a node: from a configuration file to what the supervisor is told, and what control must remember of it.

Settings that need a restart are taken once, here. Control may be replaced at any time; it reads them out of
`node.json` in the state directory's `run`, so that a successor runs under the same ones.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ostiary import supervisor
from ostiary.control.configuration import Built, build, load
from ostiary.control.sources import Disk
from ostiary.core.configuration.measure import Address, Url
from ostiary.core.configuration.settings import Settings, TlsSettings
from ostiary.core.refusal import Mistake
from ostiary.core.snapshot import SECOND
from ostiary.gateway.bundled import BUNDLED
from ostiary.gateway.plugins import Plugins

NODE, PLAN = "node.json", "plan.json"
TOLD = "told"
"""In the run directory: the number of the change log up to which this node's workers know everything."""
PYTHON = [sys.executable, "-P", "-m", "ostiary.node"]
"""How the processes of a node are started."""
WORKERS = "OSTIARY_GATEWAY_WORKERS"


class Start(Struct, frozen=True):
    """What holds until the node is started anew."""

    config: str
    state_dir: str
    pid_file: str
    store: str
    gateway: str
    admin: str
    workers: int | Literal["auto"]
    """As configured."""
    tls: TlsSettings | None

    @property
    def run(self) -> Path:
        """Directory of sockets and of what is only true while the node runs."""
        return run_directory(self.state_dir)

    @property
    def public(self) -> Path:
        """The socket at which control takes what workers forward to it."""
        return self.run / supervisor.PUBLIC_NAME

    @property
    def processes(self) -> int:
        """How many worker processes; 0: the data plane runs inside control."""
        return self.workers if isinstance(self.workers, int) else cores()

    def hold(self, settings: Settings) -> Settings:
        """`settings`, as far as they need a restart as they were at the start."""
        gateway = replace(settings.gateway, listen=Address(self.gateway), workers=self.workers, tls=self.tls)
        return replace(
            settings,
            state_dir=self.state_dir,
            pid_file=self.pid_file,
            store=replace(settings.store, url=Url(self.store)),
            gateway=gateway,
            admin=replace(settings.admin, listen=Address(self.admin)),
        )


def run_directory(state_dir: str) -> Path:
    """Where a node with this state directory has its sockets."""
    return Path(state_dir) / "run"


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def configured(config: Path, environ: Mapping[str, str]) -> Built | list[Mistake]:
    """The configuration in the files, compiled; or everything that is wrong with it."""
    loaded = load(config, environ, Disk(config.parent.absolute()))
    public = run_directory(loaded.settings.state_dir) / supervisor.PUBLIC_NAME
    return build(loaded, Plugins(BUNDLED), str(public))


def environment(workers: int | None) -> dict[str, str]:
    """The environment, in which the command line's number of workers stands above the file's."""
    return dict(os.environ) if workers is None else {**os.environ, WORKERS: str(workers)}


def prepare(config: Path, settings: Settings) -> Path:
    """Write down what the supervisor and control are to know; the path of the supervisor's plan."""
    gateway = settings.gateway
    start = Start(
        str(config.absolute()),
        settings.state_dir,
        settings.pid_file,
        settings.store.url,
        gateway.listen,
        settings.admin.listen,
        gateway.workers,
        gateway.tls,
    )
    start.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    keep(start.run / NODE, start)
    plan = supervisor.Plan(
        gateway=start.gateway,
        admin=start.admin,
        scheme="https" if start.tls else "http",
        workers=start.processes,
        run=str(start.run),
        pid_file=start.pid_file,
        control=[*PYTHON, "control", str(start.run / NODE)],
        worker=[*PYTHON, "worker"],
        drain=gateway.drain_timeout / SECOND,
    )
    keep(start.run / PLAN, plan._asdict())
    return start.run / PLAN


def keep(path: Path, value: object) -> None:
    """Write `value` as JSON, whole, for this user only."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_bytes(msgspec.json.encode(value, enc_hook=str))
    draft.replace(path)


def recall(path: Path) -> Start:
    """What `prepare` kept."""
    return msgspec.json.decode(path.read_bytes(), type=Start)
