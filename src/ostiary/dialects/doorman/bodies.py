"""The bodies that Doorman takes, bound strictly: each mistake with its place, none with what was sent.

null stands for "not given".
"""

import re
from functools import cache
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ostiary.core.people import MOST_EMAIL, MOST_PASSWORD
from ostiary.core.refusal import Invalid, Mistake
from ostiary.store.people import Attributes

B = TypeVar("B", bound=Struct)
_MEMBER = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_WHERE = re.compile(r" - at `\$(.*)`\Z", re.DOTALL)

Email = Annotated[str, Meta(min_length=1, max_length=MOST_EMAIL)]
Short = Annotated[str, Meta(max_length=255)]


class LoginBody(Struct, frozen=True):
    """A log-in."""

    email: Email
    """Or a user name."""
    password: Annotated[str, Meta(max_length=MOST_PASSWORD)]


class RegisterBody(Struct, frozen=True):
    """An account of one's own."""

    email: Email
    password: str
    username: str | UnsetType = UNSET


class NotKept(Struct, frozen=True, kw_only=True):
    """What Doorman keeps of a user beside, and Ostiary does not: read, named in a header, forgotten."""

    rate_limit_duration: int | UnsetType = UNSET
    rate_limit_duration_type: Short | UnsetType = UNSET
    rate_limit_enabled: bool | UnsetType = UNSET
    throttle_duration: int | UnsetType = UNSET
    throttle_duration_type: Short | UnsetType = UNSET
    throttle_wait_duration: int | UnsetType = UNSET
    throttle_wait_duration_type: Short | UnsetType = UNSET
    throttle_queue_limit: int | UnsetType = UNSET
    throttle_enabled: bool | UnsetType = UNSET
    bandwidth_limit_bytes: int | UnsetType = UNSET
    bandwidth_limit_window: Short | UnsetType = UNSET
    bandwidth_limit_enabled: bool | UnsetType = UNSET
    bandwidth_usage_bytes: int | UnsetType = UNSET
    bandwidth_resets_at: int | UnsetType = UNSET


NOT_KEPT = NotKept.__struct_fields__


class CreateUserBody(NotKept, frozen=True, kw_only=True):
    """A new user."""

    username: str
    email: Email
    password: str
    role: str
    groups: list[str] | UnsetType = UNSET
    custom_attributes: Attributes | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    ui_access: bool | UnsetType = UNSET


class UpdateUserBody(NotKept, frozen=True, kw_only=True):
    """What to change of a user."""

    username: str | UnsetType = UNSET
    email: Email | UnsetType = UNSET
    role: str | UnsetType = UNSET
    groups: list[str] | UnsetType = UNSET
    custom_attributes: Attributes | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    ui_access: bool | UnsetType = UNSET


class PasswordBody(Struct, frozen=True):
    """Another password."""

    new_password: str
    current_password: str | UnsetType = UNSET
    old_password: str | UnsetType = UNSET
    """The same under another name."""


def members(body: bytes) -> dict[str, Any] | None:
    """The given members of a JSON object; None for everything else."""
    try:
        found = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    return {name: value for name, value in found.items() if value is not None} if isinstance(found, dict) else None


def read(body: bytes, kind: type[B]) -> B:
    """A body as `kind`. Refuses Invalid `params.invalid`."""
    values = members(body)
    if values is None:
        raise Invalid("params.invalid", "The body is not valid", (Mistake("$", "expected a JSON object"),))
    return bind(values, kind)


def bind(values: dict[str, Any], kind: type[B]) -> B:
    """The members as `kind`. Refuses Invalid `params.invalid` with each mistake."""
    fields = _fields(kind)
    found = [_mistake(each, values) for each in fields.values()]
    found += [_unknown(name) for name in values if name not in fields]
    mistakes = tuple(each for each in found if each is not None)
    if mistakes:
        raise Invalid("params.invalid", "The body is not valid", mistakes)
    return msgspec.convert(values, kind)


@cache
def _fields(kind: type[Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """By name. Looked up once: it costs more than to read a body."""
    return {each.name: each for each in msgspec.structs.fields(kind)}


def given(bound: Struct) -> list[str]:
    """The names of the members that were given, sorted."""
    return sorted(name for name in bound.__struct_fields__ if getattr(bound, name) is not UNSET)


def _mistake(declared: msgspec.structs.FieldInfo, values: dict[str, Any]) -> Mistake | None:
    if declared.name not in values:
        return Mistake(f"$.{declared.name}", "required, and missing") if declared.required else None
    try:
        msgspec.convert(values[declared.name], declared.type)
    except msgspec.ValidationError as error:
        text = str(error)
        where = _WHERE.search(text)
        said = _WHERE.sub("", text).replace("`", "")
        return Mistake(f"$.{declared.name}{where[1] if where else ''}", said[:1].lower() + said[1:])
    return None


def _unknown(name: str) -> Mistake:
    return Mistake(f"$.{name}" if _MEMBER.fullmatch(name) else "$", "unknown member")
