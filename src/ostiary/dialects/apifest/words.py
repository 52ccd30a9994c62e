"""How ApiFest says things: its answers by the code of a refusal, byte for byte (some bodies have a blank)."""

import msgspec

from ostiary.core.refusal import Forbidden, Limited, Refusal, TooLarge, Unauthenticated, Unavailable
from ostiary.dialects.credentials import CHALLENGE
from ostiary.dialects.message import JSON, Answer

HEADERS = (("Content-Type", JSON), ("Cache-Control", "no-store"), ("Pragma", "no-cache"))

Words = dict[str, tuple[int, str]]
"""Code of a refusal -> status and body."""

NOT_FOUND = (404, '{"error":"Not found"}')
STOPPED = 503, '{"error":"temporarily_unavailable"}'
INVALID_JSON = (400, '{"error":"invalid JSON"}')
MEDIA_TYPE = (400, '{"error":"unsupported media type"}')
TOO_LARGE = (413, '{"error":"request body too large"}')
UNAVAILABLE = (503, '{"error":"temporarily unavailable"}')
USE_POST = (405, '{"error":"use POST"}')

CLIENT = (400, '{"error": "invalid client_id/client_secret"}')
NO_SUCH_CLIENT = (404, '{"error": "client application does not exist"}')
SCOPE_INCOMPLETE = (400, '{"error":"scope, description, cc_expires_in and pass_expires_in are mandatory"}')
SCOPE_MANDATORY = (400, '{"error":"scope is mandatory"}')
APPLICATION_INCOMPLETE = (400, '{"error": "name, scope or redirect_uri is missing or invalid"}')
NOTHING_TO_UPDATE = (400, '{"error": "scope, description or status is missing or invalid"}')
INVALID_TOKEN = (401, '{"error":"invalid access token"}')
UNSUPPORTED_GRANT = (400, '{"error": "unsupported_grant_type"}')

WORDS: Words = {
    "scope.incomplete": SCOPE_INCOMPLETE,
    "scope.name": (400, '{"error":"scope name not valid - it may contain aplha-numeric, - and _"}'),
    "scope.exists": (400, '{"status":"scope already exists"}'),
    "scope.unknown": (400, '{"status":"scope does not exist"}'),
    "scope.nothing": SCOPE_MANDATORY,
    "scope.in_use": (200, '{"status":"scope cannot be deleted, there are client apps registered with it"}'),
    "scope.not_known": (400, '{"error": "scope does not exist"}'),
    "scope.not_valid": (400, '{"status":"scope not valid"}'),
    "application.incomplete": APPLICATION_INCOMPLETE,
    "application.nothing": NOTHING_TO_UPDATE,
    "application.exists": (400, '{"error": "already registered client application"}'),
    "application.unknown": CLIENT,
    "client.hex": CLIENT,
    "client.invalid": CLIENT,
    "grant.unsupported": UNSUPPORTED_GRANT,
    "grant.unauthorized": (400, '{"error":"unauthorized_client"}'),
    "user.missing": (400, '{"error": "mandatory parameter user_id is missing"}'),
}
"""What holds on every path; rows may say some codes otherwise."""

MEANINGS: dict[type[Refusal], tuple[int, str]] = {
    Unauthenticated: (401, '{"error":"authentication required"}'),
    Forbidden: (403, '{"error":"permission denied"}'),
    TooLarge: TOO_LARGE,
    Limited: (429, '{"error":"rate limit reached"}'),
    Unavailable: UNAVAILABLE,
}
STRICT: dict[str, int] = {"scope.in_use": 409}
"""Statuses with `strict_status`, where ApiFest answers 200."""


class Said(Exception):
    """An answer of no in ApiFest's own words."""

    def __init__(self, words: tuple[int, str]) -> None:
        super().__init__(words[1])
        self.status, self.body = words


def answer(status: int, body: str, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """A body as it is."""
    return Answer(status, body.encode(), (*HEADERS, *headers))


def encoded(value: object, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """200 and a value as compact JSON."""
    return Answer(200, msgspec.json.encode(value), (*HEADERS, *headers))


def error(status: int, text: str) -> tuple[int, str]:
    """`{"error":TEXT}`, whatever the text holds."""
    return status, '{"error":' + msgspec.json.encode(text).decode() + "}"


def missing(name: str) -> Said:
    """A parameter that has to be there."""
    return Said((400, f'{{"error": "mandatory parameter {name} is missing"}}'))


def refused(refusal: Refusal, words: Words, strict: bool) -> Answer:
    """A refusal: by its code, else by the fields that are wrong, else by its meaning."""
    found = words.get(refusal.code) or WORDS.get(refusal.code)
    if found is not None:
        status = STRICT.get(refusal.code, found[0]) if strict else found[0]
        return answer(status, found[1])
    meaning = next((MEANINGS[each] for each in type(refusal).__mro__ if each in MEANINGS), None)
    if meaning is None:
        return answer(*error(400, _field(refusal)))
    return answer(*meaning, _headers(refusal))


def _field(refusal: Refusal) -> str:
    if not refusal.mistakes:
        return refusal.message
    first = refusal.mistakes[0]
    return f"{first.path} {first.message}"


def _headers(refusal: Refusal) -> tuple[tuple[str, str], ...]:
    if isinstance(refusal, Unauthenticated):
        return (("WWW-Authenticate", CHALLENGE),)
    if isinstance(refusal, Limited | Unavailable):
        return (("Retry-After", str(refusal.retry_after)),)
    return ()
