"""What tests of all subjects may ask for."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgresql import Absent, Server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A running PostgreSQL server, shared by all tests of a run."""
    with tempfile.TemporaryDirectory(prefix="pg") as place:
        try:
            server = Server(Path(place))
        except Absent as absent:
            pytest.skip(str(absent))
        server.start()
        yield server
        server.stop()
