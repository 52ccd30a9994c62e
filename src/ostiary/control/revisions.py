"""Revisions: every configuration that was served, by number.

What is shown of one is what its settings say, secrets redacted, and the names of its files: their text may hold
secrets anywhere, and whoever may read the configuration need not know them.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct

from ostiary.control.call import Call
from ostiary.control.configuration import ChangedKey, RouteChanges, changes
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.control.reload import Reloaded
from ostiary.control.sources import Sources
from ostiary.core.configuration.keys import values
from ostiary.store.ports import Revision


class ListRevisions(Struct, frozen=True):
    """Which revisions."""

    limit: Annotated[int, Meta(ge=1, le=1000, description="at most so many")] = 100
    before: Annotated[int, Meta(ge=0, description="only those below this number; 0: from the newest")] = 0


class OneRevision(Struct, frozen=True):
    """A revision by number."""

    revision: Annotated[int, Meta(ge=1, description="number of the revision")]


class TwoRevisions(Struct, frozen=True):
    """Two revisions by number."""

    revision: Annotated[int, Meta(ge=1, description="number of the earlier revision")]
    other: Annotated[int, Meta(ge=0, description="number of the later one; 0: what serves now")] = 0


class Shown(Struct, frozen=True):
    """A revision and what its settings say, secrets redacted."""

    revision: Revision
    serving: bool
    config: dict[str, Any]
    upstreams: dict[str, list[str]]
    files: dict[str, int]
    """Names of the files that it was read from, and their bytes."""


class Difference(Struct, frozen=True):
    """How two revisions differ; secrets are redacted."""

    revision: int
    other: int
    changed: list[ChangedKey]
    routes: RouteChanges
    files: list[str]
    """Names of the files that are not the same."""


@operation("revisions.list", reads=True, permission="config:read")
async def list_(control: Control, call: Call, params: ListRevisions) -> list[Revision]:
    """List the revisions, newest first."""
    return await control.revisions.page(params.limit, params.before)


@operation("revisions.show", reads=True, permission="config:read", target="revision")
async def show(control: Control, call: Call, params: OneRevision) -> Shown:
    """Show one revision: its settings, upstreams and files."""
    revision, loaded = await control.configuration.read(params.revision)
    return Shown(
        revision,
        revision.number == control.configuration.revision,
        values(loaded.settings),
        {name: list(map(str, each.servers)) for name, each in loaded.settings.upstreams.items()},
        {name: len(text) for name, text in loaded.sources.files.items()},
    )


@operation("revisions.diff", reads=True, permission="config:read", target="revision")
async def diff(control: Control, call: Call, params: TwoRevisions) -> Difference:
    """Show how two revisions differ."""
    later = params.other or control.configuration.revision
    before = await control.configuration.rebuilt(params.revision)
    after = await control.configuration.rebuilt(later)
    change = changes(before, after, after.settings)
    files = differing(before.sources, after.sources)
    return Difference(params.revision, later, change.changed, change.routes, files)


async def foresee(control: Control, call: Call, params: OneRevision) -> list[str]:
    """What a rollback would change."""
    return await control.configuration.foresee(params.revision)


@operation("revisions.rollback", permission="config:reload", target="revision", preview=foresee)
async def rollback(control: Control, call: Call, params: OneRevision) -> Reloaded:
    """Serve an earlier revision again, as a new one. The files stay as they are: the next reload reads them."""
    return await control.configuration.rollback(params.revision, call)


def differing(one: Sources, other: Sources) -> list[str]:
    """Names of the files that the two do not have alike, sorted."""
    names = one.files.keys() | other.files.keys()
    return sorted(name for name in names if one.files.get(name) != other.files.get(name))
