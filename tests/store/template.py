"""Databases of the current schema, copied from one that is made once: migrating takes longer than most tests."""

import asyncio
import tempfile
from functools import cache
from pathlib import Path
from threading import Thread

from ostiary.store.store import open_store


@cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ostiary.db"
        maker = Thread(target=asyncio.run, args=[_make(path)])
        maker.start()
        maker.join()
        return path.read_bytes()


async def _make(path: Path) -> None:
    await (await open_store(f"sqlite:///{path}")).close()


def fresh(path: Path) -> str:
    """The URL of an empty database, made at `path`."""
    path.write_bytes(_template())
    return f"sqlite:///{path}"
