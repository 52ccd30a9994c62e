"""Pages: `?page=1&page_size=10`."""

import re

from msgspec import Struct

from ostiary.core.refusal import Invalid
from ostiary.dialects.message import Request

MOST = 200
_NUMBER = re.compile(r"[0-9]{1,16}", re.ASCII)


class Page(Struct, frozen=True):
    """Which part of a list; counted from 1."""

    number: int
    size: int

    @property
    def offset(self) -> int:
        """How many stand before it."""
        return (self.number - 1) * self.size

    def show(self, name: str, entries: list[dict[str, object]], total: int) -> dict[str, object]:
        """The page with its entries, of `total` in all."""
        further = self.number * self.size < total
        return {name: entries, "page": self.number, "page_size": self.size, "has_next": further, "total": total}


def page_of(request: Request) -> Page:
    """The page that is asked for. Refuses Invalid `page.invalid`, `page.size`."""
    page = Page(_number(request, "page", 1), _number(request, "page_size", 10))
    if page.size > MOST:
        raise Invalid("page.size", f"A page has at most {MOST} entries")
    return page


def _number(request: Request, name: str, default: int) -> int:
    values = [value for found, value in request.pairs() if found == name]
    if not values:
        return default
    if len(values) > 1 or not _NUMBER.fullmatch(values[0]) or not int(values[0]):
        raise Invalid("page.invalid", "A page and its size are whole numbers from 1")
    return int(values[0])
