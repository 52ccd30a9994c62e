"""What a handler is given: one request to one row, admitted, and its body."""

from typing import Any

import msgspec
from msgspec import Struct

from ostiary.control.call import Call
from ostiary.control.registry import allow
from ostiary.core.people import check_password
from ostiary.core.refusal import Invalid, Refusal
from ostiary.dialects.deis.words import (
    BLANK,
    NO_BOOLEAN,
    NO_OBJECT,
    NO_STRING,
    PARSE_ERROR,
    REQUIRED,
    TOO_LARGE,
    Said,
    error,
    password_text,
)
from ostiary.dialects.desk import Desk
from ostiary.dialects.message import FORM, JSON, Request, parse_pairs


class Fields:
    """The members of a body, and what is wrong with them: all of it, in the order in which they are looked at."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.wrong: dict[str, list[str]] = {}

    def text(self, name: str, *, required: bool = False) -> str:
        """A string; empty where it is absent or wrong."""
        value = self.values.get(name, "")
        if required and name not in self.values:
            self.add(name, REQUIRED)
        elif not isinstance(value, str):
            self.add(name, NO_STRING)
        elif required and not value:
            self.add(name, BLANK)
        else:
            return value
        return ""

    def chosen(self, name: str) -> str:
        """The same, where null counts as absent too."""
        return "" if self.values.get(name, "") is None else self.text(name)

    def flag(self, name: str) -> bool:
        """A truth value; absent and null are false."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            self.add(name, NO_BOOLEAN)
        return value is True

    def password(self, name: str, user: str, least: int) -> str:
        """A new password of the user `user`."""
        value = self.text(name, required=True)
        try:
            if value:
                check_password(value, user, least)
        except Invalid as refusal:
            self.add(name, password_text(refusal, least))
        return value

    def add(self, name: str, text: str) -> None:
        """One thing that is wrong."""
        self.wrong.setdefault(name, []).append(text)

    def done(self) -> None:
        """Say what is wrong, if anything is."""
        if self.wrong:
            raise Said(error(400, self.wrong))


class Asked(Struct, frozen=True):
    """One request to one row, admitted."""

    desk: Desk
    request: Request
    call: Call
    names: dict[str, str]
    """Those in the path."""

    def own(self, name: str) -> bool:
        """Whether that is who asks (empty: it is)."""
        return name in ("", self.call.principal.name)

    async def run(self, name: str, params: Struct) -> Any:
        """The operation's result, or its Refusal."""
        return await self.desk.run(name, params, self.call)

    async def allow(self, name: str, params: Struct) -> None:
        """Refuse early what `run` would refuse for want of a permission; that stands in the audit too."""
        try:
            allow(self.desk.registry.get(name), self.call, params)
        except Refusal as refusal:
            await self.desk.registry.refused(self.desk.control, name, self.call, refusal)
            raise

    def fields(self) -> Fields:
        """The body. An empty one is no members, whatever its type says: the client names one with every request.

        A change that needs none of its members reads it too: what is no request changes nothing.
        """
        if self.request.oversized:
            raise Said(error(413, TOO_LARGE))
        if not self.request.body:
            return Fields({})
        read = {JSON: _members, FORM: _form}.get(self.request.media_type())
        if read is not None:
            return Fields(read(self.request.body))
        sent = ", ".join(self.request.headers.get("content-type", []))
        raise Said(error(415, f"Unsupported media type '{sent}' in request."))


def _members(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise Said(error(400, PARSE_ERROR)) from None
    if not isinstance(found, dict):
        raise Said(error(400, NO_OBJECT))
    return found


def _form(body: bytes) -> dict[str, Any]:
    """The last of each name; a value with bytes that are no UTF-8 is no string."""
    pairs = parse_pairs(body.decode(errors="replace"))
    return {name: 0 if "\ufffd" in value else value for name, value in pairs}
