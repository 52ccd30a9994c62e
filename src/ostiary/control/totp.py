"""Codes of authenticator applications: TOTP (RFC 6238) with SHA-1, six digits and steps of 30 s, and its enrolment.

Not by pyotp: it refuses secrets under 112 bits, and authenticator applications have made 80 for many years.
"""

import hmac
import io
import re
from base64 import b32decode, b32encode, b64encode
from collections.abc import Callable
from urllib.parse import quote

from msgspec import Struct

from ostiary.core.digest import equal
from ostiary.core.snapshot import SECOND

STEP = 30
_CODE = re.compile(r"[0-9]{6}", re.ASCII)
SECRET_BYTES = 20
"""160 bits, as RFC 4226 section 4 recommends."""


class Enrolment(Struct, frozen=True):
    """A TOTP secret on its way to its owner's authenticator application: shown to people, never kept."""

    secret: str
    """Base32 without padding."""
    uri: str
    png: str
    """The QR code of the URI as a data URL."""
    svg: str
    text: str
    """For a terminal."""


def new_secret(entropy: Callable[[int], bytes]) -> str:
    """A fresh secret: 32 base32 characters."""
    return b32encode(entropy(SECRET_BYTES)).decode()


def step_at(now: int) -> int:
    """The step of a moment in Unix microseconds."""
    return now // (STEP * SECOND)


def step_of(secret: str, code: str, now: int, window: int) -> int | None:
    """The step whose code this is, of those up to `window` steps away; each is compared in constant time."""
    if _CODE.fullmatch(code) is None:
        return None
    present = step_at(now)
    steps = range(max(0, present - window), present + window + 1)
    fitting = [step for step in steps if equal(code_of(secret, step), code)]
    return fitting[0] if fitting else None


def code_of(secret: str, step: int) -> str:
    """The code of a step (RFC 4226 section 5.3)."""
    key = b32decode(secret + "=" * (-len(secret) % 8))
    mac = hmac.digest(key, step.to_bytes(8, "big"), "sha1")
    offset = mac[-1] & 15
    return f"{(int.from_bytes(mac[offset : offset + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06}"


def enrolment(secret: str, name: str, issuer: str) -> Enrolment:
    """Everything that hands a secret over."""
    import segno  # here, because most starts of control never need it

    text = f"{quote(issuer, safe='')}:{quote(name, safe='')}"
    uri = f"otpauth://totp/{text}?secret={secret}&issuer={quote(issuer, safe='')}&algorithm=SHA1&digits=6&period=30"
    code = segno.make(uri, error="m", micro=False)
    png, terminal = io.BytesIO(), io.StringIO()
    code.save(png, kind="png", scale=5)
    code.terminal(terminal, compact=True)
    return Enrolment(
        secret, uri, f"data:image/png;base64,{b64encode(png.getvalue()).decode()}", code.svg_inline(scale=5),
        terminal.getvalue(),
    )  # fmt: skip
