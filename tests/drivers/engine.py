"""Container engines for tests: dockerd of Debian's docker.io and, where it is installed, Podman; as root, each with
everything of its own in one directory.

Their one image is made of a static busybox, so that no registry is needed. Docker neither filters nor forwards packets:
published ports are served by docker-proxy. Podman forwards them (netavark, by iptables).

Each has a process beside it that ends it, with all that it runs, when the process that tests with it has died.
"""

import asyncio
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

import httpx2
import pytest

IMAGE = "ostiary-busybox:1"
BUSYBOX = Path("/bin/busybox")
OPTIONS = (
    "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--live-restore",
    "--storage-driver=vfs", "--shutdown-timeout=1", "--log-level=error",
)  # fmt: skip
NETAVARK = (Path("/usr/lib/podman/netavark"), Path("/usr/libexec/podman/netavark"))
"""What publishes ports for Podman."""
PODMAN = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=16384:16384"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{place}/tmp"
[network]
network_backend = "netavark"
network_config_dir = "{place}/networks"
default_subnet = "10.88.{slice}.0/24"
"""
"""Its settings. Without the limits it wants more open files than a container of ours may be allowed here."""


class Engine:
    """An engine at `socket`."""

    program = package = ""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.socket = place / "s"
        self.process: subprocess.Popen[bytes] | None = None
        self.slice = 1 + os.getpid() % 250
        """Of the addresses that engines of several test processes share, beside each other on one bridge."""

    def words(self) -> list[str]:
        """How it is started."""
        raise NotImplementedError

    def start(self) -> None:
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.words(), stdout=log, stderr=log, start_new_session=True, env=self.env(), cwd=self.place
            )
        deadline = time.monotonic() + 30
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.program} does not start:\n{(self.place / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def env(self) -> dict[str, str]:
        return dict(os.environ)

    def answers(self) -> bool:
        """Whether it serves; it listens before that."""
        with socket.socket(socket.AF_UNIX) as link:
            if link.connect_ex(str(self.socket)):
                return False
        try:
            with self.client() as client:
                return client.get("/_ping").status_code == 200
        except httpx2.TransportError:
            return False

    def client(self) -> httpx2.Client:
        transport = httpx2.HTTPTransport(uds=str(self.socket))
        return httpx2.Client(transport=transport, base_url="http://engine", timeout=60)

    def end(self, number: int) -> None:
        """End it by a signal; containers live on."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait()
        self.ended()

    def ended(self) -> None:
        """Put away what would keep it from starting again."""
        self.socket.unlink(missing_ok=True)

    def empty(self) -> None:
        """Remove all containers."""
        with self.client() as client:
            for each in client.get("/containers/json", params={"all": "true"}).json():
                client.post(f"/containers/{each['Id']}/kill")
                client.delete(f"/containers/{each['Id']}", params={"force": "true"})

    def clean(self) -> None:
        """End all that runs, then the engine."""
        self.empty()
        self.end(signal.SIGTERM)


class Dockerd(Engine):
    program, package = "dockerd", "docker.io"

    def words(self) -> list[str]:
        own = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
        return [
            self.program, *OPTIONS, f"--host=unix://{self.socket}", f"--fixed-cidr=172.17.{self.slice}.0/24",
            *(f"--{key}={self.place / name}" for key, name in own.items()),
        ]  # fmt: skip

    def ended(self) -> None:
        super().ended()
        # containerd ends with it; as zombies they would be waited for.
        for each in ("pid", "exec/containerd/containerd.pid"):
            (self.place / each).unlink(missing_ok=True)


class Podman(Engine):
    program = package = "podman"

    def words(self) -> list[str]:
        (self.place / "containers.conf").write_text(PODMAN.format(place=self.place, slice=self.slice))
        return [
            self.program, f"--root={self.place / 'data'}", f"--runroot={self.place / 'run'}", "--storage-driver=vfs",
            "system", "service", "--time=0", f"unix://{self.socket}",
        ]  # fmt: skip

    def env(self) -> dict[str, str]:
        return {**os.environ, "CONTAINERS_CONF": str(self.place / "containers.conf")}


KINDS: dict[str, type[Engine]] = {"docker": Dockerd, "podman": Podman}
ROOT = Path(__file__).parents[2]
REAPER = """
import sys
sys.stdin.read()  # until nobody holds the other end any more: only who started this does
from pathlib import Path
from tests.drivers.engine import reap
reap(sys.argv[1], Path(sys.argv[2]))
"""


def absent(kind: str) -> str:
    """Why there can be no engine here; empty: there can."""
    program, package = KINDS[kind].program, KINDS[kind].package
    if os.geteuid():
        return f"{program} needs root"
    if shutil.which(program) is None:
        return f"{program} is not installed (Debian: {package})"
    if not BUSYBOX.exists():
        return "there is no static busybox (Debian: busybox-static)"
    if kind == "podman" and not any(map(Path.exists, NETAVARK)):
        return "podman has no netavark (Debian: netavark)"
    if kind == "docker" and Path("/var/run/docker.sock").exists():
        return "an engine of the machine's own may use the bridge docker0"
    return ""


@contextmanager
def running(kind: str = "docker") -> Iterator[Engine]:
    """An engine with the image, or a skipped test."""
    if why := absent(kind):
        pytest.skip(why)
    place = Path(mkdtemp(prefix="od"))  # short: a socket's path may have 107 bytes
    engine = KINDS[kind](place)
    words = [sys.executable, "-c", REAPER, kind, str(place)]
    reaper = subprocess.Popen(words, stdin=subprocess.PIPE, cwd=ROOT, start_new_session=True)
    try:
        engine.start()
        with engine.client() as client:
            query = {"fromSrc": "-", "repo": IMAGE}
            assert client.post("/images/create", params=query, content=image()).status_code == 200
        yield engine
        engine.clean()
        discard(place)
    finally:
        reaper.communicate()  # where all went well it finds nothing left


def reap(kind: str, place: Path) -> None:
    """End all that an engine runs, which may hang or be dead, by another one in its place."""
    if not place.exists():
        return
    engine = KINDS[kind](place)
    deadline = time.monotonic() + 30
    while (found := _running(engine)) and time.monotonic() < deadline:
        for each in found:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        time.sleep(0.05)
    engine.ended()
    try:
        engine.start()
        engine.clean()
    finally:
        discard(place)


def _running(engine: Engine) -> list[int]:
    """Its processes; one that has ended has no words any more."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            program, *words = each.read_bytes().decode(errors="replace").split("\0")
            if Path(program).name == engine.program and any(str(engine.place) in word for word in words):
                found.append(int(each.parent.name))
    return found


def discard(place: Path) -> None:
    """Remove an engine's directory, with what it left mounted there when it was killed."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for each in reversed(mounted):
        if each.startswith(f"{place}/"):
            subprocess.run(["umount", "-l", each], check=False, stderr=subprocess.DEVNULL)
    shutil.rmtree(place, ignore_errors=True)


def image() -> bytes:
    """A tar of a system that is a busybox."""
    applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, mode in (("", 0o755), ("bin", 0o755), ("tmp", 0o1777)):
            directory = tarfile.TarInfo(f"./{name}")
            directory.type, directory.mode = tarfile.DIRTYPE, mode
            tar.addfile(directory)
        tar.add(BUSYBOX.resolve(), "bin/busybox")
        for each in applets:
            if each != "busybox":
                link = tarfile.TarInfo(f"bin/{each}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
    return data.getvalue()


async def gone(engine: Engine) -> None:
    """Kill the engine as a crash would."""
    await asyncio.to_thread(engine.end, signal.SIGKILL)
