"""Pages of lists, and what users look like."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import urlencode

from msgspec import Struct

from ostiary.core.people import User
from ostiary.core.permission import ADMINISTRATORS
from ostiary.core.snapshot import SECOND
from ostiary.dialects.deis.asked import Asked
from ostiary.dialects.deis.words import NO_PAGE, Said, error
from ostiary.dialects.message import Answer, json_answer

_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
MOST = 1000
"""Entries of a page."""


class Page(Struct, frozen=True):
    """Which part of a list is asked for. `number` counts from 1."""

    asked: Asked
    number: int
    size: int

    @property
    def offset(self) -> int:
        """Entries before it."""
        return (self.number - 1) * self.size

    def answer(self, total: int, results: Iterable[object]) -> Answer:
        """The page. Said: there is none of that number; the first one always is."""
        if self.number > 1 and self.offset >= total:
            raise Said(error(404, NO_PAGE))
        more = self.offset + self.size < total
        return json_answer(200, {
            "count": total, "next": self._url(self.number + 1) if more else None,
            "previous": self._url(self.number - 1) if self.number > 1 else None, "results": list(results),
        })  # fmt: skip

    def _url(self, number: int) -> str:
        """The address of another page; the other parameters stay."""
        request = self.asked.request
        base = self.asked.desk.settings().admin.public_url
        base = base.rstrip("/") if base else f"http{'s' if request.secure else ''}://{request.host}"
        pairs = [*((name, value) for name, value in request.pairs() if name != "page"), ("page", str(number))]
        return f"{base}{request.path}?{urlencode(pairs)}"


def page(asked: Asked) -> Page:
    """The page that the query asks for. Said: its number is none."""
    given = dict(asked.request.pairs())
    number = _number(given.get("page", "1"))
    if not number:
        raise Said(error(404, NO_PAGE))
    size = _number(given.get("page_size", ""))
    return Page(asked, number, size if 1 <= size <= MOST else asked.desk.settings().deis.page_size)


def _number(text: str) -> int:
    return int(text) if _NUMBER.fullmatch(text) else 0


def user_object(user: User) -> dict[str, object]:
    """A user; who never logged in did so, for Deis, when the account was made."""
    administrator = user.role in ADMINISTRATORS
    return {
        "email": user.email, "username": user.name, "first_name": user.first_name, "last_name": user.last_name,
        "is_superuser": administrator, "is_staff": administrator, "groups": [], "user_permissions": [],
        "last_login": _time(user.last_login or user.created), "date_joined": _time(user.created),
        "is_active": user.active,
    }  # fmt: skip


def _time(at: int) -> str:
    """Unix microseconds as Deis writes a user's times."""
    moment = datetime.fromtimestamp(at // SECOND, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at % SECOND:06d}Z"
