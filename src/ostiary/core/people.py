"""People: what names, addresses and passwords may be, and what failed log-ins cost."""

import re

from msgspec import Struct

from ostiary.core.snapshot import SECOND

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}", re.ASCII)
_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+")
MOST_EMAIL = 254
MOST_PASSWORD = 1024

FAILURES = 5
"""Wrong passwords in a row before the first wait."""
FIRST_WAIT = 30 * SECOND
LONGEST_WAIT = 3600 * SECOND
FORGOTTEN = 86_400 * SECOND
"""After so long without a failure a penalty is gone."""


class Penalty(Struct, frozen=True):
    """What failed log-ins of one account led to. `until`: no attempt is looked at before; `last`: of the failures."""

    failures: int = 0
    until: int = 0
    last: int = 0


def user_name_ok(name: str) -> bool:
    """Whether `name` may be a user's."""
    return _NAME.fullmatch(name) is not None


def email_ok(email: str) -> bool:
    """Whether `email` may be a user's address: one `@` with text on both sides, at most 254 characters."""
    return len(email) <= MOST_EMAIL and email.isprintable() and _EMAIL.fullmatch(email) is not None


def password_ok(password: str, name: str, least: int) -> bool:
    """Whether `password` may be that of the user `name`: `least` to 1,024 characters, and not the name."""
    return least <= len(password) <= MOST_PASSWORD and password != name


def wait(penalty: Penalty, now: int) -> int:
    """Microseconds until an attempt is looked at again; 0: it is now."""
    return max(0, penalty.until - now)


def fail(penalty: Penalty, now: int, allowed: int = FAILURES) -> Penalty:
    """One more failure at `now`. The `allowed`-th in a row starts a wait, which doubles with each further one."""
    failures = 1 if now - penalty.last >= FORGOTTEN else penalty.failures + 1
    if failures < allowed:
        return Penalty(failures, 0, now)
    doublings = min(failures - allowed, 16)
    return Penalty(failures, now + min(FIRST_WAIT << doublings, LONGEST_WAIT), now)
