"""What tests of all subjects may ask for."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from tests.postgresql import Server, running

# What is promised is never a time: a machine that runs tests may be busy.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A running PostgreSQL server, shared by all tests of a process."""
    with running() as server:
        yield server
