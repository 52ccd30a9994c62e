"""Container engines for tests: dockerd of Debian's docker.io and, where it is installed, Podman; as root, each with
everything of its own in one directory.

Their one image is made of a static busybox, so that no registry is needed. Docker neither filters nor forwards packets:
published ports are served by docker-proxy. Podman forwards them (netavark, by iptables).
"""

import asyncio
import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
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

    def end(self, number: int) -> None:
        super().end(number)
        # containerd ends with it; as a zombie it would be waited for.
        (self.place / "exec/containerd/containerd.pid").unlink(missing_ok=True)


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
    try:
        engine.start()
        with engine.client() as client:
            query = {"fromSrc": "-", "repo": IMAGE}
            assert client.post("/images/create", params=query, content=image()).status_code == 200
        yield engine
        engine.clean()
    finally:
        unmount(place)
        shutil.rmtree(place, ignore_errors=True)


def unmount(place: Path) -> None:
    """What an engine that was killed leaves mounted below its directory."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for each in reversed(mounted):
        if each.startswith(f"{place}/"):
            subprocess.run(["umount", "-l", each], check=False, stderr=subprocess.DEVNULL)


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
