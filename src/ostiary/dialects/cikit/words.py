"""How CIKit says no, by the code of a refusal, else by its meaning."""

from datetime import UTC, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from ostiary.core.refusal import Forbidden, Limited, Refusal, TooLarge, Unauthenticated, Unavailable, Unsupported
from ostiary.dialects.message import JSON, Answer, json_answer

Pair = tuple[str, str]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
REALM = 'Bearer realm="Ostiary"'


class No(Struct, frozen=True):
    """An answer of no: HTTP's status, CIKit's `errorId`, and the text."""

    status: int
    number: int
    text: str
    """Empty: the refusal's own sentence."""
    strictly: "No | None" = None
    """What `cikit.strict` says instead."""


Words = dict[str, No]
"""Code of a refusal -> what it is called."""

NOT_FOUND = No(404, 404, "Route not found")
NOT_ALLOWED = No(405, 405, "Method not allowed")
DEFECT = No(500, 500, "Internal error")
WRONG_CODE = No(400, 902, "TOTP code invalid")
NO_USER = No(400, 903, "User not found", No(404, 903, "User not found"))
NO_USER_AT_LOGIN = No(400, 903, "User not found", WRONG_CODE)
_OTHERS = "Only system owner can revoke access for others"
NOT_OWNER = No(401, 904, _OTHERS, No(403, 904, _OTHERS))
NO_TOKEN = No(401, 908, "Access token not found")
EXPIRED = No(401, 909, "Access token expired")
NO_REFRESH_TOKEN = No(401, 910, "Refresh token not found")
FAILED = No(400, 900, "")

WORDS: Words = {
    "credential.ambiguous": No(400, 400, "Bad Request"),
    "authentication.required": No(401, 401, "Unauthorized"),
    "credential.expired": EXPIRED,
    "login.incomplete": No(400, 901, 'The request body must contain "code" and "username"'),
    "login.code": WRONG_CODE,
    "login.stale": WRONG_CODE,
    "user.unknown": NO_USER,
    "role.unknown": No(400, 905, "The group is unknown"),
    "owner.exists": No(403, 906, "The system cannot have multiple owners"),
    "user.incomplete": No(400, 913, 'The request body must contain "group" and "username"'),
    "user.exists": No(400, 914, "Username is already taken"),
    "owner.delete": No(403, 915, "The owner cannot be deleted"),
    "user.owns_apps": No(409, 916, ""),
    "user.name": No(400, 917, "The username is invalid"),
    "droplet.unknown": No(400, 900, "", No(404, 900, "")),
    "droplet.failed": FAILED,
    "droplet.name": No(400, 918, "The droplet name is invalid"),
    "droplet.exists": No(409, 919, "Droplet name is already taken"),
    "template.unknown": No(400, 920, "The template is unknown"),
    "env.invalid": No(400, 921, ""),
    "droplets.limit": No(409, 922, "The limit of droplets is reached"),
    "droplet.busy": No(409, 923, "The droplet is busy"),
    "droplet.app": No(409, 924, ""),
    "job.unknown": No(404, 925, "Job not found"),
}
AWAY = frozenset({"driver.unavailable", "store.unavailable", "workers.silent"})
"""Codes of jobs that failed because something could not be reached."""
MEANINGS: dict[type[Refusal], No] = {
    Unauthenticated: NO_TOKEN,
    Forbidden: No(403, 912, "Access denied"),
    TooLarge: No(413, 413, "Request body too large"),
    Unsupported: No(415, 415, "Unsupported content type"),
    Limited: No(429, 429, "Too many attempts"),
}


def moment(at: int) -> str:
    """Unix microseconds as ISO 8601, UTC, as JavaScript writes it."""
    text = (EPOCH + timedelta(microseconds=at)).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def say(value: object, *headers: Pair, status: int = 200) -> Answer:
    """A value as JSON."""
    body = json_answer(status, value).body
    return Answer(status, body, (("Content-Type", f"{JSON}; charset=utf-8"), ("Cache-Control", "no-store"), *headers))


def error(no: No, *headers: Pair) -> Answer:
    """An answer of no; every 401 says how to come in (RFC 6750 section 3)."""
    if no.status == 401:
        invalid = ', error="invalid_token"' if no in (NO_TOKEN, EXPIRED) else ""
        headers = (*headers, ("WWW-Authenticate", REALM + invalid))
    return say({"error": no.text, "errorId": no.number}, *headers, status=no.status)


def refused(refusal: Refusal, words: Words, *, strict: bool) -> Answer:
    """A refusal, by `words` first."""
    no = words.get(refusal.code) or WORDS.get(refusal.code) or _meaning(refusal)
    again = [("Retry-After", str(refusal.retry_after))] if isinstance(refusal, Limited | Unavailable) else []
    no = (no.strictly if strict else None) or no
    return error(no if no.text else replace(no, text=refusal.message), *again)


def _meaning(refusal: Refusal) -> No:
    found = next((MEANINGS[each] for each in type(refusal).__mro__ if each in MEANINGS), None)
    if isinstance(refusal, Unavailable):
        return No(503, 503, refusal.message)
    return found or No(400, 0, refusal.message)


def number_of(code: str) -> int:
    """The `errorId` of a job that failed with a refusal of this code."""
    return 503 if code in AWAY else WORDS.get(code, FAILED).number


def unreadable(status: int, reason: str) -> No:
    """What is called what is no request, or one that nobody could answer."""
    known = {404: NOT_FOUND, 500: DEFECT}
    return known.get(status) or No(status, 0 if status == 400 else status, reason)
