"""What the command line knows of operations: read from the registry once, then from a file in the user's cache.

The registry brings all of control with it, half a second on a small machine; its outline is a few kilobytes. The file
is good as long as no source file of this installation has changed.
"""

import os
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, UnsetType

from ostiary.cli.files import directory, replace

if TYPE_CHECKING:
    from ostiary.control.registry import Operation

PACKAGE = Path(__file__).parent.parent
KINDS: dict[Any, str] = {str: "text", int: "integer", float: "number", bool: "truth", list[str]: "texts"}

MOMENT = "Unix time in microseconds"
"""Says of a parameter that it is a moment: people write those otherwise."""


class Parameter(Struct, frozen=True, omit_defaults=True):
    """A parameter as a flag or an argument."""

    name: str
    kind: str
    """One of KINDS, `choice`, `moment`, `pairs` (NAME=VALUE), `counts` (NAME=NUMBER), `json` for everything else."""
    description: str = ""
    required: bool = False
    choices: tuple[str, ...] = ()
    default: int = 0
    """Of a number that is greater than 0 where nothing is said of it."""


class Entry(Struct, frozen=True, omit_defaults=True):
    """An operation as a command."""

    name: str
    summary: str
    parameters: tuple[Parameter, ...] = ()
    leading: str = ""
    """The parameter that needs no flag."""
    cursor: str = ""
    """The parameter by which a listing goes on: `after`, `before` or `offset`."""
    member: str = ""
    """The member of a row that `after` and `before` name."""
    enrols: bool = False
    """Whether its result may hold a TOTP secret with its pictures."""

    @property
    def verb(self) -> str:
        """The command's name."""
        return self.name.partition(".")[2].replace("_", "-")


Catalog = dict[str, tuple[Entry, ...]]


class _Kept(Struct):
    fingerprint: str
    subjects: Catalog


@cache
def catalog() -> Catalog:
    """Subject -> its commands."""
    fingerprint = _fingerprint()
    file = directory("XDG_CACHE_HOME", ".cache") / f"operations-{sha256(bytes(PACKAGE)).hexdigest()[:12]}.json"
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=_Kept)
        if kept.fingerprint == fingerprint:
            return kept.subjects
    except (OSError, msgspec.MsgspecError):
        pass  # There is none yet, or none that can be read: then it is made.
    subjects = read()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace(file, msgspec.json.encode(_Kept(fingerprint, subjects)))
    except OSError:
        pass  # Without a place for it the next command reads the registry again.
    return subjects


def _fingerprint() -> str:
    """Of the names, times and sizes of all source files."""
    return sha256("\n".join(sorted(_files(str(PACKAGE)))).encode()).hexdigest()


def _files(path: str) -> Iterator[str]:
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(entry.path)
            elif entry.name.endswith(".py"):
                stat = entry.stat()
                yield f"{entry.path} {stat.st_mtime_ns} {stat.st_size}"


def read() -> Catalog:
    """The catalog as the registry has it now."""
    from ostiary.control.subjects import registry

    subjects: dict[str, list[Entry]] = {}
    for operation in registry().operations.values():
        subjects.setdefault(operation.name.partition(".")[0], []).append(entry(operation))
    return {subject: tuple(found) for subject, found in subjects.items()}


def entry(operation: "Operation") -> Entry:
    """An operation's outline."""
    fields = msgspec.structs.fields(operation.params)
    required = [field.name for field in fields if field.required]
    one = required[0] if len(required) == 1 else ""
    cursor, member = _cursor(operation, {field.name for field in fields})
    return Entry(
        operation.name, operation.summary, tuple(_parameter(field) for field in fields),
        operation.target if operation.target in required else one, cursor, member, _enrols(operation.result),
    )  # fmt: skip


def _cursor(operation: "Operation", names: set[str]) -> tuple[str, str]:
    """How a listing goes on. `after` and `before` name the first member of a row, or its number if they are numbers."""
    cursor = next((name for name in ("offset", "after", "before") if name in names and "limit" in names), "")
    if cursor in ("", "offset"):
        return cursor, ""
    kinds = {field.name: _plain(field.type) for field in msgspec.structs.fields(operation.params)}
    (row,) = get_args(operation.result)
    return cursor, "number" if kinds[cursor] is int else msgspec.structs.fields(row)[0].name


def _enrols(result: Any) -> bool:
    names = {"secret", "uri", "png", "svg", "text"}
    kinds = [result, *(_plain(field.type) for field in _members(result))]
    return any(names == {field.name for field in _members(kind)} for kind in kinds)


def _members(kind: Any) -> tuple[Any, ...]:
    return msgspec.structs.fields(kind) if isinstance(kind, type) and issubclass(kind, Struct) else ()


def _parameter(field: msgspec.structs.FieldInfo) -> Parameter:
    kind = _plain(field.type)
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    description = _description(field.type)
    if choices:
        said = "choice"
    elif kind is int and MOMENT in description:
        said = "moment"
    elif get_origin(kind) is dict:
        said = "counts" if get_args(kind)[1] is int else "pairs"
    else:
        said = KINDS.get(kind, "json")
    default = field.default if type(field.default) is int else 0
    return Parameter(field.name, said, description, field.required, choices, default)


def _plain(hint: Any) -> Any:
    """A type without Annotated, None and UNSET around it; the empty text is no choice."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, UnionType):
        (hint, *_) = [each for each in get_args(hint) if each not in (type(None), UnsetType)]
        return _plain(hint)
    if get_origin(hint) is Literal:
        return Literal[tuple(each for each in get_args(hint) if each)]
    return hint


def _description(hint: Any) -> str:
    while get_origin(hint) is Annotated:
        hint, *said = get_args(hint)
        for meta in said:
            if isinstance(meta, Meta) and meta.description:
                return meta.description
    return ""
