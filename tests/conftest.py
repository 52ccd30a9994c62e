"""What tests of all subjects may ask for."""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from tests.postgresql import Server, running

# What is promised is never a time: a machine that runs tests may be busy.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A running PostgreSQL server, shared by all tests of a process."""
    with running() as server:
        yield server
