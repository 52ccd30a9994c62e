"""Where comparisons run: sizes, cores, a directory, and the backends and programs that a part starts on them."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.generator import Job
from bench.load import HEADERS, PATH, Load, Saturation, saturate
from bench.machine import Cores, free_port
from bench.ostiary import Ostiary, Settings
from bench.peers import Absent, Peer, Running
from bench.process import Process, listens
from bench.scale import Scale


def say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Stage(NamedTuple):
    """One part's share of a run; the directory is its own."""

    scale: Scale
    cores: Cores
    directory: Path

    @contextlib.contextmanager
    def backend(self, kind: str) -> Iterator[int]:
        """A backend on the load core; gives its port."""
        port = free_port()
        words = [sys.executable, "-m", "bench.backend", str(port), kind]
        with Process(words, self.cores.load, self.directory / f"backend-{kind}.log") as process:
            process.wait_until(lambda: listens(port), "the backend")
            yield port

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Neither core sleeps meanwhile."""
        words = [sys.executable, "-m", "bench.awake"]
        with contextlib.ExitStack() as stack:
            for core in {self.cores.proxy, self.cores.load}:
                stack.enter_context(Process(words, core, self.directory / f"awake-{core}.log"))
            yield

    @contextlib.contextmanager
    def ostiary(
        self, name: str, settings: Settings, routes: list[Settings] | None = None, workers: int = 1
    ) -> Iterator[Ostiary]:
        """Ostiary on the proxy core, stopped at the end."""
        gateway = Ostiary(self.directory / name, self.cores.proxy, settings, routes, workers)
        try:
            yield gateway
        finally:
            gateway.stop()

    @contextlib.contextmanager
    def peers(self, wanted: list[Peer], backend: int) -> Iterator[tuple[list[Running], dict[str, str]]]:
        """Those that are installed, on the proxy core; and what the columns of the others say."""
        absent: dict[str, str] = {}
        with contextlib.ExitStack() as stack:
            running = []
            for peer in wanted:
                try:
                    started = peer.start(self.directory, self.cores.proxy, backend)
                except Absent as reason:
                    absent[peer.name] = str(reason)
                    say(f"  {peer.name}: {reason}")
                else:
                    stack.enter_context(started.process)
                    running.append(started)
            yield running, absent

    def saturate(self, program: Running, seconds: float, connections: int = 32) -> Saturation:
        """Closed-loop load on the one path that all programs know."""
        return saturate(job(program, seconds, connections), self.cores.load, self.directory)

    def load(self, asked: Job) -> Load:
        """Start a generator on the load core."""
        return Load(asked, self.cores.load, self.directory)


def job(program: Running, seconds: float, connections: int, rate: float = 0) -> Job:
    """Requests for the one path that all programs know."""
    return Job(program.port, connections, seconds, rate, [*HEADERS, *program.headers], [PATH])
