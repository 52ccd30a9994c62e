"""Scopes: what an application may be allowed, and how long tokens with it live."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from ostiary.core.refusal import Invalid, Mistake

Lifetime = Literal["cc_expires_in", "pass_expires_in", "refresh_expires_in"]
GONE: Mapping[Lifetime, int] = {"cc_expires_in": 1800, "pass_expires_in": 900, "refresh_expires_in": 900}
"""Seconds that a scope counts for once it is gone."""
SCOPE_NAME_LENGTH = 128
MOST_TEXT = 65_536
"""Characters of a name, a description or a detail: what a request to register one can bring."""
MAX_SECONDS = 2**31 - 1

# Letters and digits in runs joined by `-`, `_` or `-_`, one of which may end the name. Each run is followed by a
# character that cannot belong to it, so the expression never tries a second way.
_SCOPE_NAME = re.compile(r"[A-Za-z0-9]+(?:(?:-_?|_)[A-Za-z0-9]+)*(?:-_?|_)?", re.ASCII)


class Scope(Struct, frozen=True):
    """What an application may be allowed, and how long tokens with it live, in seconds."""

    scope: str
    description: str
    cc_expires_in: int
    """Access tokens of client_credentials."""
    pass_expires_in: int
    """Access tokens of every other grant."""
    refresh_expires_in: int


def text_ok(text: str, most: int) -> bool:
    """Whether `text` can be kept: at most `most` characters, no NUL and no lone surrogate."""
    return len(text) <= most and "\0" not in text and not any("\ud800" <= each <= "\udfff" for each in text)


def scope_name_ok(name: str) -> bool:
    """Whether `name` may be a scope's (apifest.md B1); the length is looked at first."""
    return len(name) <= SCOPE_NAME_LENGTH and _SCOPE_NAME.fullmatch(name) is not None


def check_scope(scope: Scope) -> None:
    """Refuse `scope.incomplete` (a name of 2 characters or more and lifetimes above 0), `scope.text`, `scope.name`."""
    lifetimes = (scope.cc_expires_in, scope.pass_expires_in, scope.refresh_expires_in)
    if len(scope.scope) < 2 or not all(0 < each <= MAX_SECONDS for each in lifetimes):
        raise Invalid("scope.incomplete", "A scope has a name of two characters or more and lifetimes above zero")
    check_texts("scope", {"description": scope.description})
    if not scope_name_ok(scope.scope):
        raise Invalid("scope.name", "A scope name holds letters and digits, joined by - or _")


def check_texts(subject: str, texts: Mapping[str, str]) -> None:
    """Refuse `SUBJECT.field` for texts that cannot be kept."""
    wrong = [name for name, text in texts.items() if not text_ok(text, MOST_TEXT)]
    if wrong:
        raise field_refusal(subject, wrong)


def field_refusal(subject: str, names: list[str]) -> Invalid:
    """The refusal `SUBJECT.field` of these fields."""
    mistakes = tuple(Mistake(name, "is not valid") for name in names)
    return Invalid(f"{subject}.field", f"{names[0]} is not valid", mistakes)


def split_scopes(text: str) -> tuple[str, ...]:
    """Names separated by exactly one space; a further space makes an empty name. Duplicates are dropped."""
    return tuple(dict.fromkeys(text.split(" ")))


def lifetime(names: Sequence[str], scopes: Mapping[str, Scope], which: Lifetime = "cc_expires_in") -> int:
    """Seconds that a token lives: the least of its scopes."""
    return min(getattr(scopes[name], which) if name in scopes else GONE[which] for name in names)
