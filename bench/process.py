"""A program under measurement or beside it: started on one core, stopped with all its children."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.measure import tree

ROOT = Path(__file__).resolve().parents[1]
"""Where `python -m bench...` finds the package."""


class Failed(Exception):
    """A program did not do what the comparison needs; the text says what."""


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started in here runs on `core`, with all that it starts itself."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Process:
    """A process tree on one core, its output in a file. As a context it is stopped at the end."""

    def __init__(
        self, words: Sequence[str], core: int, output: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.output = output
        with output.open("ab") as sink, on_core(core):
            self._popen = subprocess.Popen(
                words,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """Of the root of the tree."""
        return self._popen.pid

    def wait_until(self, ready: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        """Wait for `ready`. Failed, with the end of its output, when it ends before or takes longer."""
        until = time.monotonic() + seconds
        while not ready():
            if self._popen.poll() is not None or time.monotonic() > until:
                self.stop()
                raise Failed(f"{what} did not come up: {self.last_words()}")
            time.sleep(0.02)

    def last_words(self) -> str:
        """The end of what it has written."""
        return " | ".join(self.output.read_text(errors="replace").splitlines()[-4:]) or "no output"

    def signal(self, number: int) -> None:
        """Send a signal to the root."""
        self._popen.send_signal(number)

    def wait(self, seconds: float) -> int:
        """Its exit status; Failed if it goes on."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"still running: {self.last_words()}") from None

    def stop(self) -> None:
        """Ask the root to end; kill what is left of the tree after five seconds."""
        if self._popen.poll() is None:
            members = tree(self.pid)
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(5)
                return
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._popen.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def listens(port: int, address: str = "127.0.0.1") -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0
