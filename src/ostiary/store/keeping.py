"""Backups and checks of the store that a node runs on. What they are made with is imported when they are asked for."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ostiary.core.refusal import Unavailable
from ostiary.core.snapshot import SECOND
from ostiary.store.ports import Checked, Copied

BACKUPS = "backups"
"""The directory of backups, in the state directory."""


class SqlKeeping:
    """Keeping, for the store at `url`; backups go to `directory`. `clock` is Unix time in microseconds."""

    def __init__(self, url: str, directory: Path, clock: Callable[[], int]) -> None:
        self._url = url
        self._directory = directory
        self._clock = clock

    async def backup(self, name: str) -> Copied:
        return await asyncio.to_thread(self._backup, name)

    async def check(self) -> Checked:
        return await asyncio.to_thread(self._check)

    def _backup(self, name: str) -> Copied:
        from ostiary.store.backup import save

        now = datetime.fromtimestamp(self._clock() // SECOND, UTC)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable("backup.unwritable", f"{self._directory} cannot be made: {error.strerror}") from error
        file = self._directory / (name or f"{now:%Y%m%dT%H%M%SZ}.backup")
        return save(self._url, file, rfc3339(now), lambda table, rows: None)

    def _check(self) -> Checked:
        from ostiary.store.check import check

        return check(self._url)


def rfc3339(moment: datetime) -> str:
    """A moment, in seconds of UTC."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
