"""What tests of all subjects may ask for."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.postgresql import Server, running

# What is promised is never a time: a machine that runs tests may be busy.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

MEMORY = Path("/dev/shm")
ROOM = 4 << 30
"""Bytes that must be free there; a run of all tests takes less than a quarter of it."""


def in_memory() -> bool:
    """Whether tests write to memory. Their nodes wait for a disk ten thousand times in a run, and it makes no
    difference to any of them: what they end is processes, after which both kinds of file hold the same.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return False
    return not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC and shutil.disk_usage(MEMORY).free >= ROOM


if in_memory():
    tempfile.tempdir = os.environ["TMPDIR"] = str(MEMORY)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A running PostgreSQL server, shared by all tests of a process."""
    with running() as server:
        yield server
