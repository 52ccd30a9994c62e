"""How the standards say no: RFC 6749 section 5.2, by the code of a refusal, else by its meaning."""

import msgspec

from ostiary.core.refusal import Forbidden, Limited, Refusal, TooLarge, Unauthenticated, Unavailable
from ostiary.dialects.message import JSON, Answer

NO_STORE = (("Content-Type", JSON), ("Cache-Control", "no-store"), ("Pragma", "no-cache"))
CHALLENGE = (("WWW-Authenticate", 'Basic realm="ostiary"'),)

ERRORS: dict[str, tuple[int, str]] = {
    "client.invalid": (401, "invalid_client"),
    "grant.unsupported": (400, "unsupported_grant_type"),
    "grant.unauthorized": (400, "unauthorized_client"),
    "scope.not_valid": (400, "invalid_scope"),
    "code.invalid": (400, "invalid_grant"),
    "code.foreign": (400, "invalid_grant"),
    "refresh.invalid": (400, "invalid_grant"),
    "token.foreign": (400, "invalid_grant"),
    "user.failed": (400, "invalid_grant"),
    "user.refused": (400, "invalid_grant"),
    "user.undecided": (400, "invalid_grant"),
}
MEANINGS: dict[type[Refusal], tuple[int, str]] = {
    Unauthenticated: (401, "invalid_client"),
    Forbidden: (403, "access_denied"),
    TooLarge: (413, "invalid_request"),
    Limited: (429, "temporarily_unavailable"),
    Unavailable: (503, "temporarily_unavailable"),
    Refusal: (400, "invalid_request"),
}


def refused(refusal: Refusal) -> Answer:
    """A refusal in the standards' words."""
    meaning = next(MEANINGS[each] for each in type(refusal).__mro__ if each in MEANINGS)
    status, word = ERRORS.get(refusal.code, meaning)
    return error(status, word, refusal.message, _headers(refusal, status))


def error(status: int, word: str, description: str, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """An error answer. A description holds no quotation marks or backslashes (RFC 6749 section 5.2)."""
    plain = "".join(each for each in description if " " <= each <= "~" and each not in '"\\')
    body = msgspec.json.encode({"error": word, "error_description": plain})
    return Answer(status, body, (*NO_STORE, *headers))


def _headers(refusal: Refusal, status: int) -> tuple[tuple[str, str], ...]:
    if status == 401:
        return CHALLENGE
    if isinstance(refusal, Limited | Unavailable):
        return (("Retry-After", str(refusal.retry_after)),)
    return ()
