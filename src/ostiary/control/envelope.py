"""Envelopes: the text of a refresh token, kept so that only the holder of its access token can read it.

The key is derived from the access token, of which the store has no more than a digest. A key seals once, because each
access token is new: so the nonce may be constant.
"""

import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PURPOSE = b"ostiary refresh token 1"
_NONCE = bytes(12)


def close(access: str, refresh: str) -> bytes:
    """`refresh`, sealed for the holder of `access`."""
    return AESGCM(_key(access)).encrypt(_NONCE, refresh.encode("utf-8", "surrogatepass"), PURPOSE)


def unfold(access: str, sealed: bytes) -> str:
    """What was sealed; empty for what was sealed for another token, or not at all."""
    if not sealed:
        return ""
    try:
        return AESGCM(_key(access)).decrypt(_NONCE, sealed, PURPOSE).decode()
    except (InvalidTag, UnicodeDecodeError):
        return ""


def _key(access: str) -> bytes:
    return hmac.digest(access.encode("utf-8", "surrogatepass"), PURPOSE, "sha256")
