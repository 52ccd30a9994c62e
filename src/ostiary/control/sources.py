"""Sources: what a configuration was read from. What one load reads from the disk, another can be fed with later.

Names are relative to the directory of the main file, with slashes, unless they are absolute.
"""

import re
from pathlib import Path
from typing import Protocol

from msgspec import Struct

MAGIC = re.compile(r"[*?[]")
LARGEST = 64 << 20
"""Bytes of one file."""


class Sources(Struct):
    """Everything that a load read: the main file's name, files by name, and what patterns matched."""

    main: str
    files: dict[str, bytes] = {}
    patterns: dict[str, list[str]] = {}
    secrets: dict[str, bytes] = {}
    """Files that hold one secret each."""


class Reader(Protocol):
    """Where a load reads from. All of it raises OSError for what is not there or cannot be read."""

    def read(self, name: str) -> bytes:
        """A file."""

    def secret(self, name: str) -> bytes:
        """A file that holds one secret."""

    def match(self, pattern: str) -> list[str]:
        """The files that a pattern, a directory (all its `*.xml`) or a name stands for, in byte order."""


class Disk:
    """Reads below (or, for absolute names, beside) a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> bytes:
        """A file; OSError also for what is larger than LARGEST or no regular file."""
        path = self._path(name)
        if path.exists() and not path.is_file():
            raise OSError("not a file")
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise OSError(f"larger than {LARGEST >> 20} MiB")
        return text

    def secret(self, name: str) -> bytes:
        """A file that holds one secret."""
        return self.read(name)

    def match(self, pattern: str) -> list[str]:
        """The files, without hidden ones."""
        path = self._path(pattern)
        if path.is_dir():
            return self.match(f"{pattern.rstrip('/')}/*.xml")
        if not MAGIC.search(pattern):
            return [pattern] if path.exists() else _absent(pattern)
        folder, rest = _split(pattern)
        root = self._path(folder)
        if not root.is_dir():
            _absent(folder)
        try:
            names = [found.relative_to(root).as_posix() for found in root.glob(rest) if found.is_file()]
        except (ValueError, NotImplementedError) as problem:
            raise OSError(f"not a pattern: {problem}") from problem
        shown = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
        return sorted((folder + name for name in shown), key=str.encode)

    def _path(self, name: str) -> Path:
        if "\0" in name:
            raise OSError("a name with a NUL character")
        return self._root / name


def _split(pattern: str) -> tuple[str, str]:
    """The folders before the first part that is itself a pattern (with a final slash, or empty), and the rest."""
    found = MAGIC.search(pattern)
    end = pattern.rfind("/", 0, found.start() if found else len(pattern)) + 1
    return pattern[:end], pattern[end:]


def _absent(name: str) -> list[str]:
    raise FileNotFoundError(2, "No such file or directory", name)


class Recorder:
    """Reads through another reader and keeps what it gave."""

    def __init__(self, reader: Reader, main: str) -> None:
        self.sources = Sources(main)
        self._reader = reader

    def read(self, name: str) -> bytes:
        """A file, kept."""
        text = self.sources.files[name] = self._reader.read(name)
        return text

    def secret(self, name: str) -> bytes:
        """A secret, kept."""
        text = self.sources.secrets[name] = self._reader.secret(name)
        return text

    def match(self, pattern: str) -> list[str]:
        """What a pattern stands for, kept."""
        names = self.sources.patterns[pattern] = self._reader.match(pattern)
        return names


class Kept:
    """Reads what an earlier load has kept. Secrets are read from `live` as they are now, where they still are."""

    def __init__(self, sources: Sources, live: Reader) -> None:
        self._sources = sources
        self._live = live

    def read(self, name: str) -> bytes:
        """A kept file."""
        if name not in self._sources.files:
            _absent(name)
        return self._sources.files[name]

    def secret(self, name: str) -> bytes:
        """The secret of now, else the kept one."""
        try:
            return self._live.secret(name)
        except OSError:
            if name not in self._sources.secrets:
                raise
            return self._sources.secrets[name]

    def match(self, pattern: str) -> list[str]:
        """What the pattern stood for."""
        if pattern not in self._sources.patterns:
            _absent(pattern)
        return self._sources.patterns[pattern]
