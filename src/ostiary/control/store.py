"""The store as operators see it: a backup while the node runs, and whether all is whole."""

from typing import Annotated

from msgspec import Meta, Struct

from ostiary.control.call import Call
from ostiary.control.config import NoParameters
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.store.ports import Checked, Copied

FileName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z",
        description="name of the file in the directory backups of the state directory; without: the time",
    ),
]


class WriteBackup(Struct, frozen=True):
    """Where to."""

    name: FileName = ""


async def foresee(control: Control, call: Call, params: WriteBackup) -> list[str]:
    """What a backup would write."""
    return [f"a new file {params.name}" if params.name else "a new file, named for the time"]


@operation("store.backup", target="name", preview=foresee)
async def backup(control: Control, call: Call, params: WriteBackup) -> Copied:
    """Write all that the store holds to a new file on the node's machine; the state directory's keys are not in it."""
    return await control.keeping.backup(params.name)


@operation("store.check", reads=True)
async def check(control: Control, call: Call, params: NoParameters) -> Checked:
    """Check that the store is whole: its file, its references, the change log, tokens, and the schema."""
    return await control.keeping.check()
