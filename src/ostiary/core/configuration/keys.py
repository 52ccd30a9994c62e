"""The keys of the settings (`log.level` is LOG_LEVEL): what each stands for, its values, and what a restart keeps."""

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from ostiary.core.configuration.declared import fields, is_scalar, is_section
from ostiary.core.configuration.measure import Secret, shown
from ostiary.core.configuration.settings import Settings
from ostiary.core.configuration.settings.section import Section

S = TypeVar("S", bound=Section)


class Declared(NamedTuple):
    """One setting as declared. `path` is its place in the file, `type` without None."""

    path: tuple[str, ...]
    type: object
    optional: bool
    """Whether its section may be absent; then its value is None."""
    default: object
    description: str
    example: str
    restart: bool

    @property
    def key(self) -> str:
        """`log.level` is LOG_LEVEL."""
        return "_".join(self.path).upper()

    @property
    def secret(self) -> bool:
        """Whether it is never shown."""
        return self.type is Secret


def declared(section: type[Section], path: tuple[str, ...] = (), optional: bool = False) -> Iterator[Declared]:
    """Every setting that has a key, in the order of declaration."""
    for each in fields(section):
        here = (*path, each.name)
        if is_section(each.type):
            yield from declared(each.type, here, optional or each.default is None)
        elif is_scalar(each.type):
            yield Declared(here, each.type, optional, each.default, each.description, each.example, each.restart)


KEYS: dict[str, Declared] = {each.key: each for each in declared(Settings)}


def value_of(settings: Settings, path: tuple[str, ...]) -> object:
    """The value at `path`; None where its section is absent."""
    value: object = settings
    for name in path:
        if value is None:
            return None
        value = getattr(value, name)
    return value


def values(settings: Settings) -> dict[str, object]:
    """Every key with its effective value, secrets redacted, measures as they are written."""
    return {key: shown(value_of(settings, each.path)) for key, each in KEYS.items()}


def kept(old: S, new: S) -> S:
    """`new`, with what needs a restart as `old` has it."""
    changes: dict[str, object] = {}
    for each in fields(type(new)):
        before, after = getattr(old, each.name), getattr(new, each.name)
        if isinstance(before, Section) and isinstance(after, Section):
            changes[each.name] = kept(before, after)
        elif each.restart:
            changes[each.name] = before
    return replace(new, **changes)
