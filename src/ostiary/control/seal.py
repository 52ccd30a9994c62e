"""Seals: what a configuration was read from, kept so that the database alone gives nothing away.

A configuration may hold literal secrets. It is compressed and encrypted (AES-256-GCM) under a key that lies in the
state directory, not in the database.
"""

import hmac
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ostiary.control.sources import Sources
from ostiary.core.refusal import Invalid

KEY_NAME = "revisions.key"
PURPOSE = b"ostiary revision 1"
NONCE = 12
LARGEST = 1 << 30
"""Bytes that a seal may unfold to."""


def key_in(directory: Path, entropy: Callable[[int], bytes]) -> bytes:
    """The key that lies in the state directory, made (for its owner only) the first time. 32 bytes.

    Refuses Invalid `revisions.key`.
    """
    path = directory / KEY_NAME
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make(path, entropy(32))
        key = path.read_bytes()
    except OSError as problem:
        raise Invalid("revisions.key", f"The key {path} cannot be had: {problem.strerror}") from problem
    if len(key) != 32:
        raise Invalid("revisions.key", f"{path} does not hold a key of 32 bytes: put the one back that was there")
    return key


def _make(path: Path, key: bytes) -> None:
    fresh = path.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


class Seal:
    """Seals and opens under one key."""

    def __init__(self, key: bytes, entropy: Callable[[int], bytes]) -> None:
        self._cipher = AESGCM(key)
        self._key = key
        self._entropy = entropy

    def digest(self, sources: Sources) -> str:
        """What tells configurations apart (hex): keyed, so that nobody can try out secrets against it."""
        parts = [sources.main, *(sorted(each.items()) for each in (sources.files, sources.patterns, sources.secrets))]
        return hmac.digest(self._key, PURPOSE + msgspec.msgpack.encode(parts), "sha256").hex()

    def close(self, sources: Sources) -> bytes:
        """`sources`, sealed."""
        nonce = self._entropy(NONCE)
        text = zlib.compress(msgspec.msgpack.encode(sources), 1)
        return nonce + self._cipher.encrypt(nonce, text, PURPOSE)

    def open(self, sealed: bytes) -> Sources:
        """What was sealed. Refuses Invalid `revision.sealed` for what another key sealed, or nobody did."""
        try:
            text = self._cipher.decrypt(sealed[:NONCE], sealed[NONCE:], PURPOSE)
            unfolded = zlib.decompressobj().decompress(text, LARGEST)
            return msgspec.msgpack.decode(unfolded, type=Sources)
        except (InvalidTag, ValueError, zlib.error) as problem:
            raise Invalid("revision.sealed", "This revision was sealed with another key") from problem
