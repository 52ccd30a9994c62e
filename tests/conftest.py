"""What tests of all subjects may ask for."""

from collections.abc import Iterator

import pytest
from tests.postgresql import Server, running


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A running PostgreSQL server, shared by all tests of a run."""
    with running() as server:
        yield server
