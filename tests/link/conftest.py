"""Fixtures of a link in one process."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.link.fakes import Authority, Link, listener, serving

from ostiary.link.server import Server


@pytest.fixture
def place() -> Iterator[str]:
    """A short path for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="ost-") as directory:
        yield str(Path(directory) / "link.sock")


@pytest.fixture
async def link(place: str) -> AsyncIterator[Link]:
    """Two expected workers, the lease of production, nobody connected yet."""
    authority = Authority()
    server = Server(authority, workers=2)
    async with serving(server, listener(place)):
        yield Link(authority, server, place)
