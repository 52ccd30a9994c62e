"""Apps: named groups of droplets with an owner, who shares them with collaborators.

Who may not see an app learns nothing of it, not even whether it exists. Everybody who may work with it may change what
it runs; who it belongs to and who shares it is its owner's. Who holds apps:manage may do all of that with every app.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID, uuid5

from msgspec import Meta, Struct

from ostiary.control.call import Call
from ostiary.control.charge import Droplet
from ostiary.control.control import Control
from ostiary.control.formations import busy
from ostiary.control.registry import operation
from ostiary.core.apps import (
    Value,
    id_ok,
)
from ostiary.core.droplets import Place
from ostiary.core.lifecycle import Shown
from ostiary.core.permission import USER
from ostiary.core.refusal import Forbidden, NotFound, Unavailable
from ostiary.store.fleet import App, Release

OWN, ALL = "apps:own", "apps:manage"
MOST_LINES = 10_000
MOST_LOG = 8 << 20
"""Characters of a log that is shown; older lines are left out."""

Id = Annotated[str, Meta(description="id of the app")]
Types = Annotated[str, Meta(description="only droplets of this process type")]
Number = Annotated[int, Meta(ge=0, description="only the droplet of that type with this number; 0: all")]


class ListApps(Struct, frozen=True):
    """Which of the apps that one may work with."""

    limit: Annotated[int, Meta(ge=1, le=10_000, description="at most so many")] = 1000
    offset: Annotated[int, Meta(ge=0, description="without the first so many")] = 0


class OneApp(Struct, frozen=True):
    """Which app."""

    app: Id


class SomeContainers(Struct, frozen=True):
    """Which droplets of an app."""

    app: Id
    type: Types = ""
    number: Number = 0


class AppLogs(Struct, frozen=True):
    """Which part of the log of an app."""

    app: Id
    lines: Annotated[int, Meta(ge=1, le=MOST_LINES, description="the last so many lines")] = 1000


class AppShown(Struct, frozen=True):
    """An app. Times are Unix microseconds."""

    id: str
    uuid: str
    owner: str
    template: str
    """Empty: none yet."""
    url: str
    release: int
    structure: dict[str, int]
    created: int
    updated: int


class AppPage(Struct, frozen=True):
    """Some apps, by id; `total` counts all."""

    apps: list[AppShown]
    total: int


class Container(Struct, frozen=True):
    """A droplet as a part of its app. Times are Unix microseconds."""

    app: str
    owner: str
    type: str
    number: int
    release: int
    state: Shown
    droplet: str
    """Its name."""
    uuid: str
    created: int
    updated: int


class Config(Struct, frozen=True):
    """The environment of an app, above its template's."""

    app: str
    owner: str
    """Who set it."""
    uuid: str
    values: dict[str, Value]
    release: int
    """In force."""
    created: int


class Build(Struct, frozen=True):
    """What an app was told to run."""

    app: str
    owner: str
    """Who told it."""
    uuid: str
    image: str
    release: int
    """In which it came into force."""
    created: int


class Collaborators(Struct, frozen=True):
    """Names of those who work with an app, its owner not among them."""

    users: list[str]


class LogLine(Struct, frozen=True):
    """A line of what was done to an app, or of what its droplets have printed."""

    at: int
    """Unix microseconds."""
    source: str
    """`api`, or a droplet's type and number: `web.1`."""
    text: str


# Who may


async def reach(control: Control, call: Call, ident: str, *, own: bool = False) -> App:
    """The app, if who asks may work with it; `own`: if it is theirs.

    Refuses NotFound `app.unknown`, also where it is hidden, and Forbidden `app.shared`.
    """
    app = await control.apps.get(ident) if id_ok(ident) else None
    if app is None:
        raise unknown()
    if owns(call, app):
        return app
    if call.principal.kind != USER or not await control.apps.shared(ident, call.principal.number):
        raise unknown()
    if own:
        raise Forbidden("app.shared", "Only the owner of the app may do that")
    return app


def owns(call: Call, app: App) -> bool:
    """Whether who asks may do everything with the app."""
    who = call.principal
    return who.may(ALL) or (who.kind == USER and who.number == app.owner)


def unknown() -> NotFound:
    """What an app that is not there, or not to be seen, is called."""
    return NotFound("app.unknown", "There is no such app")


@asynccontextmanager
async def held(control: Control, call: Call, ident: str, *, to_delete: bool = False) -> AsyncIterator[App]:
    """The app, changed by nobody else. Refuses as `reach`, and Conflict `app.busy`.

    One whose deletion has begun is changed no more; to delete it again is no change.
    """
    await reach(control, call, ident, own=to_delete)
    async with control.formations.held(ident):
        app = await reach(control, call, ident, own=to_delete)
        if app.ending and not to_delete:
            raise busy(ident)
        yield app


async def begin(control: Control, call: Call) -> None:
    """Have the audit know of a change that takes its time, before anything of it is done."""
    await control.audit.append(call.begun(control.clock()))


# Reading


@operation("apps.list", reads=True, permission=OWN, also=(ALL,))
async def list_(control: Control, call: Call, params: ListApps) -> AppPage:
    """List the apps that one may work with."""
    everybody = None if call.principal.may(ALL) else call.principal.number
    apps, total = await control.apps.page(everybody, params.limit, params.offset)
    return AppPage([shown(control, each) for each in apps], total)


@operation("apps.get", reads=True, permission=OWN, also=(ALL,))
async def get(control: Control, call: Call, params: OneApp) -> AppShown:
    """Show an app."""
    return shown(control, await reach(control, call, params.app))


def shown(control: Control, app: App) -> AppShown:
    """An app as operators see it."""
    url = f"{app.id}.{control.rules.apps.domain}"
    return AppShown(
        app.id, app.uuid, app.owner_name, app.template, url, app.release, app.structure, app.created, app.updated
    )


@operation("apps.containers", reads=True, permission=OWN, also=(ALL,))
async def containers(control: Control, call: Call, params: SomeContainers) -> list[Container]:
    """List the droplets of an app, by process type and number."""
    app = await reach(control, call, params.app)
    return [container(app, *each) for each in chosen(control, app, params)]


def chosen(control: Control, app: App, params: SomeContainers) -> list[tuple[Place, Droplet]]:
    """Droplets by type and number. Refuses NotFound `container.unknown`."""
    placed = [
        (place, droplet)
        for place, droplet in control.reconciler.of_app(app.id)
        if params.type in ("", place.type) and params.number in (0, place.number)
    ]
    known = not params.type or params.type in control.formations.types(app)
    if not known or (params.number and not placed):
        raise NotFound("container.unknown", "The app has no such container")
    return placed


def container(app: App, place: Place, droplet: Droplet) -> Container:
    uuid = str(uuid5(UUID(app.uuid), droplet.id))
    updated = max(droplet.created_at, droplet.started_at or 0, droplet.finished_at or 0)
    return Container(
        app.id, app.owner_name, place.type, place.number, place.release, droplet.state, droplet.name, uuid,
        droplet.created_at, updated,
    )  # fmt: skip


@operation("apps.logs", reads=True, permission=OWN, also=(ALL,))
async def logs(control: Control, call: Call, params: AppLogs) -> list[LogLine]:
    """Show the last of what was done to an app and of what its droplets have printed, oldest first."""
    app = await reach(control, call, params.app)
    found = [LogLine(at, "api", text) for at, text in await control.apps.notes(app.id, params.lines)]
    for place, _ in control.reconciler.of_app(app.id):
        printed = await _printed(control, place, params.lines)
        found = _last(sorted([*found, *printed], key=lambda line: line.at), params.lines)
    return found


async def _printed(control: Control, place: Place, lines: int) -> list[LogLine]:
    """What a droplet has printed; nothing when it has been removed meanwhile."""
    try:
        found = await control.reconciler.printed(place.name, lines)
    except NotFound:
        return []
    source = f"{place.type}.{place.number}"
    return [LogLine(at, source, line.decode(errors="replace")) for at, line in found]


def _last(lines: list[LogLine], most: int) -> list[LogLine]:
    """As many of the last ones as are asked for and fit."""
    room, count = MOST_LOG, 0
    for line in reversed(lines[-most:]):
        room -= len(line.text)
        if room < 0:
            break
        count += 1
    return lines[len(lines) - count :]


@operation("apps.config", reads=True, permission=OWN, also=(ALL,))
async def config(control: Control, call: Call, params: OneApp) -> Config:
    """Show the environment of an app."""
    return await environment(control, await reach(control, call, params.app))


async def environment(control: Control, app: App) -> Config:
    release = await control.apps.config(app.id)
    if release is None:
        raise Unavailable("app.unreleased", "The app has no release")
    values = control.formations.values(app, release)
    return Config(app.id, release.author, release.uuid, values, app.release, release.created)


@operation("apps.builds", reads=True, permission=OWN, also=(ALL,))
async def builds(control: Control, call: Call, params: OneApp) -> list[Build]:
    """Show what an app was last told to run."""
    app = await reach(control, call, params.app)
    found = await control.apps.build(app.id)
    return [] if found is None else [build(app.id, found)]


def build(app: str, release: Release) -> Build:
    return Build(app, release.author, release.uuid, release.image, release.number, release.created)


@operation("apps.collaborators", reads=True, permission=OWN, also=(ALL,))
async def collaborators(control: Control, call: Call, params: OneApp) -> Collaborators:
    """List who works with an app besides its owner."""
    app = await reach(control, call, params.app)
    return Collaborators(await control.apps.collaborators(app.id))


async def note(control: Control, call: Call, app: str, text: str) -> None:
    """Keep a line of what was done."""
    await control.apps.note(app, control.clock(), f"{call.principal.name} {text}")


def new_uuid(control: Control) -> str:
    """A random one."""
    return str(UUID(bytes=control.entropy(16), version=4))
