"""Vaults: secrets that have to be read again (client secrets that are shown, TOTP secrets), kept encrypted.

The key is derived from the one in the state directory, so that the database alone gives nothing away.
"""

import hmac
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CLIENTS = b"ostiary client secrets 1"
TOTP = b"ostiary totp secrets 1"
DROPLETS = b"ostiary droplet environments 1"
NONCE = 12


class Vault:
    """Seals and opens under a key derived from `key` for one purpose. Each secret belongs to somebody by name."""

    def __init__(self, key: bytes, entropy: Callable[[int], bytes], purpose: bytes = CLIENTS) -> None:
        self._cipher = AESGCM(hmac.digest(key, purpose, "sha256"))
        self._entropy = entropy

    def close(self, owner: str, secret: str) -> bytes:
        """The secret, sealed."""
        nonce = self._entropy(NONCE)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), owner.encode())

    def open(self, owner: str, sealed: bytes) -> str:
        """What was sealed; empty for what another key sealed, or for another owner."""
        try:
            return self._cipher.decrypt(sealed[:NONCE], sealed[NONCE:], owner.encode()).decode()
        except (InvalidTag, ValueError):
            return ""
