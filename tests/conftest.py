"""What tests of all subjects may ask for, and how they share two processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.postgresql import Server, running

HERE = Path(__file__).parent
# What is promised is never a time: a machine that runs tests may be busy.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
NODES = {"conformance", "drivers", "e2e", "foreign"}
"""Folders whose tests run whole nodes, engines or browsers: one after the other, beside all others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `-n 2 --dist loadgroup`: what runs nodes is one group, and each other file is one."""
    for item in items:
        folder, *rest = item.path.relative_to(HERE).parts
        item.add_marker(pytest.mark.xdist_group("nodes" if folder in NODES else "/".join((folder, *rest))))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A running PostgreSQL server, shared by all tests of a process."""
    with running() as server:
        yield server
