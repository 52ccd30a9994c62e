"""Deis's words: its answers, and what each refusal is called there."""

from collections.abc import Mapping

from ostiary.core.people import MOST_PASSWORD
from ostiary.core.refusal import Conflict, Forbidden, Invalid, Limited, NotFound, Refusal, Unauthenticated, Unavailable
from ostiary.dialects.message import Answer, json_answer

NOT_FOUND = "Not found"
NO_PAGE = "Invalid page."
NO_PERMISSION = "You do not have permission to perform this action."
NO_CREDENTIALS = "Authentication credentials were not provided."
EMPTY = "Invalid token header. No credentials provided."
SPACES = "Invalid token header. Token string should not contain spaces."
UNKNOWN = "Invalid token"
INACTIVE = "User inactive or deleted"
PARSE_ERROR = "JSON parse error - the body is not JSON."
NO_OBJECT = "Expected a JSON object."
TOO_LARGE = "The request body has more than 100 kB."
OWNS_APPS = "still has applications assigned. Delete or transfer ownership"
THROTTLED = "Request was throttled."

REQUIRED = "This field is required."
BLANK = "This field may not be blank."
NO_STRING = "Not a valid string."
NO_BOOLEAN = "Not a valid boolean."
NO_NAME = "Enter a valid username."
NO_EMAIL = "Enter a valid email address."
NO_TEXT = "Enter a valid value."
TAKEN = "This field must be unique."
COMMON = "This password is too common."

NO_LOGIN = {"non_field_errors": ["Unable to log in with provided credentials."]}
DISABLED = {"non_field_errors": ["User account is disabled."]}
CHALLENGE = ("WWW-Authenticate", "Token")
Body = str | Mapping[str, object]
"""An error: its detail, or all members."""

REFUSALS: dict[str, tuple[int, Body]] = {
    "login.refused": (400, NO_LOGIN),
    "login.second_factor": (400, NO_LOGIN),
    "login.stale": (400, NO_LOGIN),
    "login.inactive": (400, DISABLED),
    "password.current": (400, "Current password does not match"),
    "user.exists": (400, {"username": [TAKEN]}),
    "app.exists": (400, {"id": [TAKEN]}),
    "apps.limit": (403, "You have reached the limit of apps."),
    "image.unknown": (400, {"image": ["Unknown template or image."]}),
    "owner.delete": (409, "The owner cannot be cancelled. Hand the ownership over first."),
    "owner.role": (409, "The owner cannot be demoted. Hand the ownership over first."),
}
"""Refusals with words of their own, by code."""
BY_FIELD = ("app.invalid", "values.invalid")
"""Those whose mistakes each name a field, and say what is wrong in Deis's words."""


class Said(Exception):
    """An answer that ends the handling of a request."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def error(status: int, body: Body, *headers: tuple[str, str]) -> Answer:
    """An error: a text is its detail."""
    return json_answer(status, {"detail": body} if isinstance(body, str) else body, headers)


def refused(refusal: Refusal) -> Answer:
    """What a refusal is called."""
    if refusal.code in REFUSALS:
        return error(*REFUSALS[refusal.code])
    if refusal.code in BY_FIELD:
        return error(400, _by_field(refusal))
    match refusal:
        case Unauthenticated(code="credential.inactive"):
            return error(401, INACTIVE, CHALLENGE)
        case Unauthenticated(code="authentication.required"):
            return error(401, NO_CREDENTIALS, CHALLENGE)
        case Unauthenticated():
            return error(401, UNKNOWN, CHALLENGE)
        case Forbidden():
            return error(403, NO_PERMISSION)
        case NotFound():
            return error(404, NOT_FOUND)
        case Conflict():
            return error(409, refusal.message)
        case Limited():
            return error(429, THROTTLED, ("Retry-After", str(refusal.retry_after)))
        case Unavailable():
            return error(503, refusal.message, ("Retry-After", str(refusal.retry_after)))
    return error(400, refusal.message)


def _by_field(refusal: Refusal) -> dict[str, object]:
    found: dict[str, list[str]] = {}
    for mistake in refusal.mistakes:
        found.setdefault(mistake.path, []).append(mistake.message)
    return dict(found)


def unserved(name: str) -> Answer:
    """What Deis has and Ostiary has not."""
    return error(501, f"Not supported by this controller: {name}")


def longest(most: int) -> str:
    """What a text with more characters is called."""
    return f"Ensure this field has no more than {most} characters."


def password_text(refusal: Invalid, least: int) -> str:
    """What is wrong with a password."""
    match refusal.code:
        case "password.short":
            return f"Ensure this field has at least {least} characters."
        case "password.long":
            return longest(MOST_PASSWORD)
    return COMMON
