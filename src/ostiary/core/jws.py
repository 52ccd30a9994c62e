"""Signed tokens as they come in: what a header says, read strictly before anything is verified (RFC 7515)."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec
from msgspec import UNSET, Struct, UnsetType

from ostiary.core.refusal import Unauthenticated

LONGEST = 4096
"""Bytes of a token."""
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)


class Header(Struct, frozen=True):
    """The protected header, as far as it is looked at: whatever names or carries a key (`jku`, `jwk`, `x5c`) is not."""

    alg: str
    kid: str
    typ: str
    crit: msgspec.Raw | UnsetType = UNSET


def header(token: str) -> Header:
    """The header of a compact token: canonical unpadded base64url throughout, and no `crit`.

    Refuses Unauthenticated `token.refused`.
    """
    match = _COMPACT.fullmatch(token) if len(token) <= LONGEST else None
    parts = [_canonical(part) for part in match.groups()] if match else []
    if not parts or None in parts:
        raise refused()
    try:
        found = msgspec.json.decode(parts[0] or b"", type=Header)
    except msgspec.DecodeError:
        raise refused() from None
    if found.crit is not UNSET:
        raise refused()
    return found


def refused() -> Unauthenticated:
    """The one refusal, whatever is wrong."""
    return Unauthenticated("token.refused", "The token is not valid")


def _canonical(part: str) -> bytes | None:
    """The bytes of a part; None for text that is not the one encoding of them."""
    if len(part) % 4 == 1:
        return None
    read = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    return read if urlsafe_b64encode(read).rstrip(b"=") == part.encode() else None
