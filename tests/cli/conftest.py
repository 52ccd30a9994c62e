import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

import pytest
from tests.dialects.house import House, build
from tests.store.template import fresh

from ostiary.dialects.http import Listener


class Served:
    """A house that answers on a port, with its event loop in a thread."""

    def __init__(
        self, path: Path, around: Callable[[House], AbstractAsyncContextManager[object]] = nullcontext
    ) -> None:
        self.path = path
        self._around = around
        self.url = ""
        self.house: House
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._end: asyncio.Event
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def __enter__(self) -> "Served":
        self._thread.start()
        assert self._ready.wait(90)
        return self

    def __exit__(self, *raised: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(90)
        self._loop.close()

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        self.house = await build(self.path)
        listener = Listener(self.house.router)
        sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        await listener.listen(sock)
        async with self._around(self.house):
            self._ready.set()
            await self._end.wait()
        await listener.drain(1)
        await self.house.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A working directory with a configuration and its store."""
    (tmp_path / "ostiary.yaml").write_text("log: {level: WARNING}\n")
    (tmp_path / "var").mkdir()
    fresh(tmp_path / "var" / "ostiary.db")
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's directory for credentials, empty at first; what is learnt of operations is kept between tests."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp()))
    for name in ("OSTIARY_URL", "OSTIARY_USER", "OSTIARY_PASSWORD", "OSTIARY_TOKEN", "OSTIARY_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return home / "ostiary"
