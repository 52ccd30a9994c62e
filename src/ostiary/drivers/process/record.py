"""What is kept of a droplet on disk: one block, written in place, so that a full disk hides no exit."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

SIZE = 4096
"""One page: it is written wholly or not at all, as far as a kill is concerned."""


class Record(NamedTuple):
    """Where a droplet is in its life. Times are Unix microseconds; `began` is the process's start in ticks."""

    state: str = "created"
    code: int | None = None
    started: int | None = None
    finished: int | None = None
    starved: bool = False
    pid: int = 0
    began: int = 0
    boot: str = ""
    groups: tuple[str, ...] = ()


def write(file: Path, record: Record) -> None:
    """Write it; the first time the block is taken, which may raise OSError for want of space."""
    text = json.dumps(record._asdict()).encode().ljust(SIZE)
    if len(text) > SIZE:
        raise OSError(f"{file}: the paths of control groups are too long")
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, text, 0)
    finally:
        os.close(descriptor)


def read(file: Path) -> Record | None:
    """What was written; None: nothing that could be read (the machine went down while it was made)."""
    try:
        kept: dict[str, Any] = json.loads(file.read_bytes())
        return Record(**{**kept, "groups": tuple(kept["groups"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
