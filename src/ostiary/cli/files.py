"""Files of the person at the keyboard: where they are (XDG Base Directory Specification), and how one is replaced."""

import os
import secrets
from pathlib import Path


def directory(variable: str, otherwise: str) -> Path:
    """Ostiary's directory under the one that `variable` names, else under `otherwise` at home."""
    given = os.environ.get(variable, "")
    return (Path(given) if given.startswith("/") else _home() / otherwise) / "ostiary"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")  # of a user who is in no list and has no HOME, as in containers


def replace(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, wholly or not at all. Raises OSError."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
