"""The vault: client secrets that an installation wants to be able to show, kept encrypted.

The key is derived from the one in the state directory, so that the database alone gives nothing away.
"""

import hmac
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PURPOSE = b"ostiary client secrets 1"
NONCE = 12


class Vault:
    """Seals and opens under a key derived from `key`."""

    def __init__(self, key: bytes, entropy: Callable[[int], bytes]) -> None:
        self._cipher = AESGCM(hmac.digest(key, PURPOSE, "sha256"))
        self._entropy = entropy

    def close(self, client_id: str, secret: str) -> bytes:
        """The secret of this client application, sealed."""
        nonce = self._entropy(NONCE)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), client_id.encode())

    def open(self, client_id: str, sealed: bytes) -> str:
        """What was sealed; empty for what another key sealed, or for another application."""
        try:
            return self._cipher.decrypt(sealed[:NONCE], sealed[NONCE:], client_id.encode()).decode()
        except (InvalidTag, ValueError):
            return ""
