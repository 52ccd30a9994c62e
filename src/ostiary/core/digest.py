"""Digests: the only form in which a token or a machine-made secret is kept."""

import re
from hashlib import sha256
from hmac import compare_digest

_HANDLE = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)


def digest(token: str) -> bytes:
    """SHA-256 of a token's text. Any text has one, a lone surrogate too."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def handle(kept: bytes) -> str:
    """The name of a token in listings: `sha256:` and the digest in hex."""
    return "sha256:" + kept.hex()


def named(token_or_handle: str) -> bytes:
    """The digest that a handle names, or that of the token."""
    found = _HANDLE.fullmatch(token_or_handle)
    return bytes.fromhex(found[1]) if found else digest(token_or_handle)


def equal(presented: str, kept: str) -> bool:
    """Whether two hex digests are the same, in constant time."""
    return compare_digest(presented.encode(), kept.encode())
