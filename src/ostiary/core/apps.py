"""Apps: what they may be called, what their environment may hold, and which droplets a scale adds and removes."""

import re
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from msgspec import Struct

from ostiary.core.droplets import MOST_KEYS, DropletRules, Place, key_ok, reserved, value_ok
from ostiary.core.refusal import Invalid, Mistake

Value = str | int
"""Of a variable: shown as it was given, set as text."""
MOST_ID = 64
"""Characters."""
RESERVED = frozenset({"deis", "ostiary"})
MOST_INTEGER = 1 << 63
"""Beyond, in either direction, a value must be a text."""
LATEST = ":latest"

_ID = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII)
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}", re.ASCII)
_ADJECTIVES = (
    "amber", "bold", "brave", "bright", "calm", "clear", "cool", "eager", "early", "fair", "fresh", "gentle", "golden",
    "grand", "happy", "honest", "jolly", "kind", "lively", "lucky", "merry", "mild", "noble", "patient", "polite",
    "proud", "quick", "quiet", "rapid", "silver", "steady", "swift",
)  # fmt: skip
_NOUNS = (
    "acorn", "badger", "beacon", "bridge", "brook", "cedar", "comet", "coral", "falcon", "fjord", "forest", "garden",
    "harbor", "heron", "island", "lantern", "maple", "meadow", "mirror", "ocean", "orchard", "otter", "pebble",
    "pilot", "planet", "raven", "river", "sailor", "summit", "valley", "willow", "window",
)  # fmt: skip


class AppRules(Struct, frozen=True):
    """What the settings say on apps."""

    domain: str = "ostiary.local"
    """Of their URLs."""
    template: str = ""
    """Of new ones; empty: the default template of droplets."""
    max_apps: int = 50
    """Of one owner."""
    max_scale: int = 32
    """Droplets of an app."""


# Names


def id_faults(ident: str) -> list[str]:
    """Codes of what is wrong with the id of a new app."""
    found = [] if _ID.fullmatch(ident) else ["app.id"]
    found += ["app.id.long"] if len(ident) > MOST_ID else []
    return found + (["app.id.reserved"] if ident in RESERVED else [])


def id_ok(ident: str) -> bool:
    """Whether there could be an app of that id."""
    return not id_faults(ident)


def generated(entropy: bytes, *, longer: bool) -> str:
    """An id for an app without one, out of two random bytes (`longer`: four): `quiet-harbor`."""
    name = f"{_ADJECTIVES[entropy[0] % len(_ADJECTIVES)]}-{_NOUNS[entropy[1] % len(_NOUNS)]}"
    return f"{name}-{entropy[2:].hex()}" if longer else name


class Choice(NamedTuple):
    """What the droplets of an app are made from."""

    template: str
    image: str
    """Empty: that of the template."""


def choose(image: str, template: str, rules: DropletRules) -> Choice:
    """What `image` means: a template, or an image that settings allow, on the template that the app has.

    Refuses Invalid `image.unknown`.
    """
    name = image.removesuffix(LATEST)
    if name in rules.templates:
        return Choice(name, "")
    if _IMAGE.fullmatch(image) and any(fnmatchcase(image, literal(pattern)) for pattern in rules.images):
        return Choice(template or rules.default, image)
    raise Invalid("image.unknown", "Unknown template or image.")


def literal(pattern: str) -> str:
    """A pattern in which only * and ? stand for other characters."""
    return pattern.replace("[", "[[]")


# Environment


def merged(values: Mapping[str, Value], changes: Mapping[str, Value | None]) -> dict[str, Value]:
    """The variables after `changes`, of which null unsets. Refuses Invalid `values.invalid` with each wrong key."""
    wrong = [key for key, value in changes.items() if value is not None and not _settable(key, value)]
    result = {key: value for key, value in {**values, **changes}.items() if value is not None}
    wrong += [key for key in list(result)[MOST_KEYS:] if key not in wrong]
    if wrong:
        mistakes = tuple(Mistake("values", f"Invalid variable: {key}") for key in wrong)
        raise Invalid("values.invalid", "; ".join(each.message for each in mistakes[:MOST_KEYS]), mistakes)
    return result


def _settable(key: str, value: Value) -> bool:
    fits = value_ok(value) if isinstance(value, str) else abs(value) < MOST_INTEGER
    return key_ok(key) and not reserved(key) and fits


def env(values: Mapping[str, Value]) -> dict[str, str]:
    """The variables as droplets get them."""
    return {key: str(value) for key, value in values.items()}


def difference(before: Mapping[str, Value], after: Mapping[str, Value]) -> str:
    """What a change has done, without values: `added A, changed B, deleted C`."""
    names = {
        "added": after.keys() - before.keys(),
        "changed": {key for key in after.keys() & before.keys() if after[key] != before[key]},
        "deleted": before.keys() - after.keys(),
    }
    return ", ".join(f"{what} {', '.join(sorted(keys))}" for what, keys in names.items() if keys)


# Scale


class Plan(NamedTuple):
    """What a scale does."""

    add: list[tuple[str, int]]
    """Type and number, the lowest free ones."""
    remove: list[Place]
    """Highest numbers first."""


def check_scale(wanted: Mapping[str, int], structure: Mapping[str, int], most: int) -> None:
    """Refuse Invalid `scale.format`, `scale.negative`, `scale.many`."""
    if not wanted:
        raise Invalid("scale.format", "Invalid scaling format")
    if any(count < 0 for count in wanted.values()):
        raise Invalid("scale.negative", "Must be greater than or equal to zero")
    if sum({**structure, **wanted}.values()) > most:
        raise Invalid("scale.many", f"Must be less than or equal to {most}")


def planned(places: Collection[Place], wanted: Mapping[str, int]) -> Plan:
    """What is to be added and removed so that there are as many of each named type as are wanted."""
    add: list[tuple[str, int]] = []
    remove: list[Place] = []
    for kind, count in wanted.items():
        there = sorted((place for place in places if place.type == kind), key=lambda place: place.number)
        add += [(kind, number) for number in _free({place.number for place in there}, count - len(there))]
        remove += reversed(there[count:])
    return Plan(add, remove)


def _free(taken: Collection[int], count: int) -> Iterable[int]:
    """The lowest numbers from 1 that nobody has."""
    number = 0
    while count > 0:
        number += 1
        if number not in taken:
            count -= 1
            yield number
