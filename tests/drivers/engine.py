"""A container engine for tests: dockerd of Debian's docker.io, as root, with everything of its own in one directory.

Its one image is made of a static busybox, so that no registry is needed. Packets are neither filtered nor forwarded:
published ports are served by docker-proxy.
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


class Dockerd:
    """An engine at `socket`."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.socket = place / "s"
        self.containerd = place / "exec/containerd/containerd.pid"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["dockerd", *OPTIONS, "-H", f"unix://{self.socket}", "--data-root", self.place / "data",
                 "--exec-root", self.place / "exec", "--pidfile", self.place / "pid"],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"dockerd does not start:\n{(self.place / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

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
        self.containerd.unlink(missing_ok=True)  # which ends with it; as a zombie it would be waited for

    def clean(self) -> None:
        """End all that runs, then the engine."""
        with self.client() as client:
            for each in client.get("/containers/json", params={"all": "true"}).json():
                client.delete(f"/containers/{each['Id']}", params={"force": "true"})
        self.end(signal.SIGTERM)


def absent() -> str:
    """Why there can be no engine here; empty: there can."""
    if os.geteuid():
        return "dockerd needs root"
    if shutil.which("dockerd") is None:
        return "dockerd is not installed (Debian: docker.io)"
    if not BUSYBOX.exists():
        return "there is no static busybox (Debian: busybox-static)"
    if Path("/var/run/docker.sock").exists():
        return "an engine of the machine's own may use the bridge docker0"
    return ""


@contextmanager
def running() -> Iterator[Dockerd]:
    """An engine with the image, or a skipped test."""
    if why := absent():
        pytest.skip(why)
    place = Path(mkdtemp(prefix="od"))  # short: a socket's path may have 107 bytes
    engine = Dockerd(place)
    try:
        engine.start()
        with engine.client() as client:
            name, tag = IMAGE.split(":")
            query = {"fromSrc": "-", "repo": name, "tag": tag}
            assert client.post("/images/create", params=query, content=image()).status_code == 200
        yield engine
        engine.clean()
    finally:
        for each in (
            place / "data",
            *(place / "exec/netns").glob("*"),
        ):  # what an engine that was killed leaves mounted
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


async def gone(engine: Dockerd) -> None:
    """Kill the engine as a crash would."""
    await asyncio.to_thread(engine.end, signal.SIGKILL)
