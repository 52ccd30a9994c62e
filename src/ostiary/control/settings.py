"""Settings that operators change at run time. They are kept in the store and stand above the file's."""

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.refusal import Invalid, NotFound

CHOICES: dict[str, tuple[str, ...]] = {"registration.mode": ("enabled", "disabled", "admin_only")}
"""What can be set, and the values that it takes."""


class GetSettings(Struct, frozen=True):
    """Which settings."""

    names: Annotated[list[str], Meta(description="names; empty: all")] = []


class SetSettings(Struct, frozen=True):
    """What is set; null goes back to the file's value."""

    values: Annotated[dict[str, str | None], Meta(description="name -> value")]


class Effective(Struct, frozen=True):
    """A setting as it holds now."""

    name: str
    value: str
    source: str
    """`store` or `file`."""


@operation("settings.get", reads=True)
async def get(control: Control, call: Call, params: GetSettings) -> list[Effective]:
    """Show settings that can be changed at run time."""
    _check(params.names)
    kept = await control.settings.all()
    return [_effective(control, name, kept) for name in params.names or CHOICES]


@operation("settings.set")
async def set_(control: Control, call: Call, params: SetSettings) -> list[Effective]:
    """Change settings, all or none; they hold before this answers."""
    _check(params.values)
    for name, value in params.values.items():
        if value is not None and value not in CHOICES[name]:
            raise Invalid("setting.value", f"{name} is one of {', '.join(CHOICES[name])}")
    record = call.done(control.clock(), " ".join(sorted(params.values)))
    await control.settings.set(params.values, call.principal.name, record)
    kept = await control.settings.all()
    return [_effective(control, name, kept) for name in params.values]


def _check(names: Iterable[str]) -> None:
    if any(name not in CHOICES for name in names):
        raise NotFound("setting.unknown", f"There are the settings {', '.join(CHOICES)}")


def _effective(control: Control, name: str, kept: dict[str, str]) -> Effective:
    own = control.rules.people.registration_mode
    return Effective(name, kept.get(name, own), "store" if name in kept else "file")
