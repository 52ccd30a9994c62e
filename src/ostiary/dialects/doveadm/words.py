"""Words of the surface: answers of its frame, and which exit code a refusal has (doveadm.md 1.1, 2.3)."""

from collections.abc import Collection, Mapping
from types import MappingProxyType

import msgspec

from ostiary.core.refusal import (
    Conflict,
    Forbidden,
    Invalid,
    Limited,
    NotFound,
    Refusal,
    Unauthenticated,
    Unavailable,
)
from ostiary.dialects.message import Answer

Headers = tuple[tuple[str, str], ...]
Codes = Mapping[type[Refusal], int]

NO_STORE = ("Cache-Control", "no-store")
TEXT = ("Content-Type", "text/plain; charset=utf-8")
JSON = ("Content-Type", "application/json; charset=utf-8")

USAGE, DATA, NO_USER, NOT_FOUND, DEFECT, TEMPORARY, DENIED, CONFIGURATION = 64, 65, 67, 68, 70, 75, 77, 78
ORIGINAL: Codes = MappingProxyType({
    Invalid: USAGE, Unauthenticated: DENIED, Forbidden: DENIED, NotFound: NOT_FOUND, Conflict: TEMPORARY,
    Limited: TEMPORARY, Unavailable: TEMPORARY, Refusal: TEMPORARY,
})  # fmt: skip
"""Of the commands that the original has."""
OWN: Codes = MappingProxyType({**ORIGINAL, Conflict: DATA})
"""Of operations under their own names."""
NAMED = {"config.invalid": CONFIGURATION, "director.unset": CONFIGURATION, "node.unset": CONFIGURATION}
"""Refusals that say that a setting is missing or wrong."""
CALLED: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "host": ("host", "user", "ip", "address"), "node": ("ip", "address"), "session": ("mask",),
    "vhosts": ("vhostCount", "vhosts"), "network": ("netmask",), "service": ("service", "services"),
})  # fmt: skip
"""What the subject of a refusal is called as a parameter, where that is not its own name."""


def exit_code(refusal: Refusal, codes: Codes) -> int:
    """What a command says that was refused."""
    if refusal.code in NAMED:
        return NAMED[refusal.code]
    if codes is OWN and isinstance(refusal, NotFound) and refusal.code == "user.unknown":
        return NO_USER
    return next(codes[each] for each in type(refusal).__mro__ if each in codes)


def blamed(refusal: Refusal, sent: Collection[str]) -> str:
    """Which of the parameters that were sent a refusal is about; empty: none."""
    subject = refusal.code.partition(".")[0]
    return next((name for name in CALLED.get(subject, (subject,)) if name in sent), "")


def text(status: int, words: str, *headers: tuple[str, str], reason: str = "", close: bool = False) -> Answer:
    """A text for people."""
    body = f"{words}\r\n".encode("utf-8", "replace")
    return Answer(status, body, (TEXT, NO_STORE, *headers), reason, close)


def done(rows: list[object], tag: str) -> bytes:
    """The entry of a command that was done."""
    return b'["doveadmResponse",%b,%b]' % (_json(rows), _json(tag))


def error(kind: str, code: int, tag: str, message: str | None = None, parameter: str = "") -> bytes:
    """The entry of a command that was not; the blank is the original's."""
    more = b"" if message is None else b',"message":' + _json(message)
    if message is not None and parameter:
        more += b',"parameter":' + _json(parameter)
    return b'["error",{"type":"%b", "exitCode":%d%b},%b]' % (kind.encode(), code, more, _json(tag))


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)
