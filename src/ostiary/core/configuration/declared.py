"""Reading the declarations of settings: the fields of a section, their types and what was said about them."""

from functools import cache, reduce
from operator import or_
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeGuard, Union, get_args, get_origin, get_type_hints

from msgspec import NODEFAULT, Meta
from msgspec.structs import FieldInfo
from msgspec.structs import fields as declared_fields

from ostiary.core.configuration.settings.section import Section


class Field(NamedTuple):
    """A field of a section: its type without None and Annotated, and what was said about it."""

    name: str
    hint: Any
    """The type as written."""
    type: Any
    required: bool
    default: object
    description: str
    example: str
    restart: bool


@cache
def fields(section: type[Section]) -> tuple[Field, ...]:
    """The fields of a section, as declared."""
    hints = get_type_hints(section, include_extras=True)
    return tuple(_field(each, hints[each.name]) for each in declared_fields(section))


def _field(each: FieldInfo, hint: object) -> Field:
    said = next(meta for meta in get_args(hint)[1:] if isinstance(meta, Meta) and meta.description is not None)
    default = each.default if each.default is not NODEFAULT else None
    if each.default_factory is not NODEFAULT:
        default = each.default_factory()
    example = str(said.examples[0]) if said.examples else ""
    restart = bool((said.extra or {})["restart"])
    return Field(each.name, hint, plain(hint), each.required, default, said.description or "", example, restart)


def plain(hint: Any) -> Any:
    """A type without Annotated around it and without None beside it."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, UnionType):
        return reduce(or_, (plain(each) for each in get_args(hint) if each is not NoneType))
    return hint


def is_section(kind: object) -> TypeGuard[type[Section]]:
    """Whether a type is a section (and so its fields are settings)."""
    return isinstance(kind, type) and issubclass(kind, Section)


def is_scalar(kind: object) -> bool:
    """Whether a type holds one value, or a list of such: what has a key."""
    if get_origin(kind) is list:
        inner = plain(get_args(kind)[0])
        return get_origin(inner) is not list and is_scalar(inner)
    if get_origin(kind) in (Union, UnionType):
        return all(is_scalar(each) for each in get_args(kind))
    return get_origin(kind) is Literal or (isinstance(kind, type) and not is_section(kind))
