"""How Doorman says things: {"error_code": ..., "error_message": ...}, by the code of a refusal or by its meaning."""

from collections.abc import Mapping
from typing import NamedTuple

from ostiary.control.penalties import Throttled
from ostiary.core.refusal import Forbidden, Limited, NotFound, Refusal, Unauthenticated, Unavailable
from ostiary.dialects.message import Answer, json_answer

ROOM = 1_048_576
"""Bytes of a body."""
HEADERS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)
Headers = tuple[tuple[str, str], ...]
Pair = tuple[str, str]
"""Error code and message."""


class Said(NamedTuple):
    """A status, an error code and a message; without one, the refusal's own."""

    status: int
    code: str
    message: str = ""


Words = Mapping[str, Said]
"""Code of a refusal -> how it is said."""

NOT_FOUND = ("GTW003", "Not Found")
NOT_ALLOWED = ("GTW004", "Method Not Allowed")
TOO_LARGE = ("REQ001", f"Request entity too large (max: {ROOM} bytes)")
UNAUTHORIZED = ("AUTH005", "Unauthorized")
VALIDATION = ("VAL001", "Validation Error")
DEFECT = ("GTW999", "An unexpected error occurred")
AWAY = ("GTW998", "Service unavailable")
NO_CONFIG = ("CFG001", "Insufficient permissions: manage_gateway required")
NO_FLUSH = ("GTW008", "You do not have permission to clear caches")
NO_AUTH = ("AUTH900", "You do not have permission to manage auth")
THROTTLED = "IP_RATE_LIMIT"

_ABOVE = Said(403, "AUTH901", "You cannot act on permissions that you do not hold")
_PASSWORD = Said(400, "USR005")
_CLOSED = Said(403, "AUTH008", "Registration is disabled")

WORDS: Words = {
    "csrf.invalid": Said(403, "AUTH006", "Invalid CSRF token"),
    "penalties.denied": Said(403, *NO_AUTH),
    "auth.denied": Said(403, *NO_AUTH),
    "registration.disabled": _CLOSED,
    "registration.administrators": _CLOSED,
    "user.unknown": Said(404, "USR002", "User not found"),
    "user.exists": Said(400, "USR001", "Username already exists"),
    "email.exists": Said(400, "USR001", "Email already exists"),
    "password.short": _PASSWORD,
    "password.long": _PASSWORD,
    "password.common": _PASSWORD,
    "password.current": Said(400, "USR017", "Current password does not match"),
    "user.attributes": Said(400, "USR016", "Maximum 10 custom attributes allowed. Please replace an existing one."),
    "user.above": _ABOVE,
    "role.above": _ABOVE,
    "role.unknown": Said(404, "ROLE004", "Role does not exist"),
    "owner.active": Said(403, "AUTH902", "The owner cannot be disabled"),
    "page.invalid": Said(400, "PAG001", "Invalid page or page size"),
    "page.size": Said(400, "PAG001", "Page size exceeds maximum limit"),
}
"""What holds on every path; rows may say some codes otherwise."""
PLACES = {
    "user.name": "$.username", "user.email": "$.email", "user.groups": "$.groups", "user.role": "$.role",
    "user.attribute": "$.custom_attributes", "role.name": "$.role_name", "role.description": "$.role_description",
}  # fmt: skip
"""Code of a refusal -> the member of the body that it is about."""


def done(value: object, *headers: tuple[str, str], status: int = 200) -> Answer:
    """A payload."""
    return json_answer(status, value, (*HEADERS, *headers))


def message(text: str, *headers: tuple[str, str], status: int = 200) -> Answer:
    """{"message": TEXT}."""
    return done({"message": text}, *headers, status=status)


def error(status: int, pair: Pair, *headers: tuple[str, str], **members: object) -> Answer:
    """The envelope of errors."""
    body = {"error_code": pair[0], "error_message": pair[1], **members}
    return json_answer(status, body, (*HEADERS, *headers))


def refused(refusal: Refusal, words: Words, denied: Pair, unauthorized: Pair, *, offered: bool) -> Answer:
    """A refusal: by its code, else by its meaning, else as a mistake in what was sent.

    `offered`: a credential was sent, and it is what was refused.
    """
    said = words.get(refusal.code) or WORDS.get(refusal.code)
    if said is not None:
        pair = (said.code, said.message or refusal.message)
        return error(said.status, pair, *(_challenge(False) if said.status == 401 else ()))
    match refusal:
        case Unauthenticated():
            return error(401, unauthorized, *_challenge(offered))
        case Forbidden():
            return error(403, denied)
        case NotFound():
            return error(404, NOT_FOUND)
        case Limited():
            return error(429, (THROTTLED, refusal.message), *_wait(refusal))
        case Unavailable():
            return error(503, AWAY, ("Retry-After", str(refusal.retry_after)))
        case _:
            return _mistaken(refusal)


def _challenge(offered: bool) -> Headers:
    """RFC 6750 section 3: no error where no credential was sent."""
    told = ', error="invalid_token"' if offered else ""
    return (("WWW-Authenticate", f'Bearer realm="ostiary"{told}'),)


def _wait(refusal: Limited) -> Headers:
    """How long, and of the count that refused: what it allows, that nothing is left, when it ends."""
    after = ("Retry-After", str(refusal.retry_after))
    if not isinstance(refusal, Throttled):
        return (after,)
    return (after, *limits(refusal.allowed, 0, refusal.reset))


def limits(allowed: int, remaining: int, reset: int) -> Headers:
    """The state of a count of log-ins; `reset` in Unix seconds."""
    values = {"Limit": allowed, "Remaining": remaining, "Reset": reset}
    return tuple((f"X-RateLimit-{name}", str(value)) for name, value in values.items())


def _mistaken(refusal: Refusal) -> Answer:
    """VAL001: each mistake with its place, never with what was sent."""
    errors = [{"path": each.path, "message": each.message} for each in refusal.mistakes]
    return error(
        422, VALIDATION, errors=errors or [{"path": PLACES.get(refusal.code, "$"), "message": refusal.message}]
    )
