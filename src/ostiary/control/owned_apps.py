"""Whose apps are: made, given away, shared with collaborators."""

from typing import Annotated

from msgspec import Meta, Struct

from ostiary.control.apps import (
    ALL,
    OWN,
    AppShown,
    Collaborators,
    Id,
    new_uuid,
    note,
    owns,
    reach,
    shown,
    unknown,
)
from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.control.users import named
from ostiary.core.apps import Choice, choose, generated, id_faults
from ostiary.core.people import User
from ostiary.core.permission import USER
from ostiary.core.refusal import Conflict, Forbidden, Invalid, Mistake, Unavailable
from ostiary.store.fleet import App, Release

TRIES = 20
"""Ids that are made up for an app without one; the later ones are longer."""
FAULTS = {
    "app.id": "App IDs can only contain [a-z0-9-].",
    "app.id.long": "Ensure this field has no more than 64 characters.",
    "app.id.reserved": "{} is a reserved name.",
}


class CreateApp(Struct, frozen=True):
    """A new app."""

    app: Annotated[str, Meta(description="its id: lower-case letters, digits and hyphens; empty: one is made up")] = ""
    template: Annotated[str, Meta(description="template or image that it runs; empty: as the settings say")] = ""


class SharedApp(Struct, frozen=True):
    """An app and a user."""

    app: Id
    user: Annotated[str, Meta(description="name of the user")]


@operation("apps.create", permission=OWN, also=(ALL,), target="app")
async def create(control: Control, call: Call, params: CreateApp) -> AppShown:
    """Make an app, which belongs to who makes it."""
    if call.principal.kind != USER:
        raise Forbidden("app.nobody", "An app belongs to a user; make it as one")
    image, choice = check_new(control, params)
    for attempt in range(TRIES):
        longer = attempt >= TRIES // 2
        ident = params.app or generated(control.entropy(4 if longer else 2), longer=longer)
        try:
            return shown(control, await _made(control, call, ident, image, choice))
        except Conflict:
            if params.app:
                raise
    raise Unavailable("app.no_id", "No id could be made up")


def check_new(control: Control, params: CreateApp) -> tuple[str, Choice]:
    """What a new app runs. Refuses Invalid `app.invalid` with everything that is wrong."""
    faults = [Mistake("id", FAULTS[code].format(params.app), code=code) for code in _faults(params.app)]
    image, choice = params.template or control.rules.apps.template or control.rules.droplets.default, Choice("", "")
    try:
        choice = choose(image, "", control.rules.droplets) if image else choice
    except Invalid as refusal:
        faults.append(Mistake("template", refusal.message, code=refusal.code))
    if faults:
        raise Invalid("app.invalid", "; ".join(each.message for each in faults), tuple(faults))
    return image, choice


def _faults(ident: str) -> list[str]:
    return id_faults(ident) if ident else []


async def _made(control: Control, call: Call, ident: str, image: str, choice: Choice) -> App:
    now, uuid = control.clock(), new_uuid(control)
    release = Release(
        1, "initial", new_uuid(control), call.principal.name, control.formations.seal(uuid, {}), image, now
    )
    most, record = control.rules.apps.max_apps, call.done(now, ident)
    return await control.apps.create(ident, uuid, call.principal.number, choice.template, release, most, record)


@operation("apps.transfer", permission=OWN, also=(ALL,), target="app")
async def transfer(control: Control, call: Call, params: SharedApp) -> AppShown:
    """Give an app to another user."""
    app = await reach(control, call, params.app, own=True)
    user = await named(control, call, params.user)
    most = control.rules.apps.max_apps
    await control.apps.transfer(app.id, user.number, most, call.done(control.clock()))
    await note(control, call, app.id, f"transferred the app to {user.name}")
    changed = await control.apps.get(app.id)
    if changed is None:
        raise unknown()
    return shown(control, changed)


@operation("apps.share", permission=OWN, also=(ALL,), target="app")
async def share(control: Control, call: Call, params: SharedApp) -> Collaborators:
    """Let another user work with an app."""
    app = await reach(control, call, params.app, own=True)
    user = await named(control, call, params.user)
    if user.number != app.owner:
        await control.apps.share(app.id, user.number, call.done(control.clock()))
        await note(control, call, app.id, f"shared the app with {user.name}")
    return Collaborators(await control.apps.collaborators(app.id))


@operation("apps.unshare", permission=OWN, also=(ALL,), target="app")
async def unshare(control: Control, call: Call, params: SharedApp) -> Collaborators:
    """Let a user work with an app no longer; everybody may leave."""
    app = await reach(control, call, params.app)
    user = await _leaving(control, call, app, params.user)
    record = call.record(control.clock(), "done")
    if not await control.apps.unshare(app.id, user.number, record):
        raise Forbidden("app.not_shared", "The app is not shared with that user")
    call.trail.recorded = True
    await note(control, call, app.id, f"no longer shares the app with {user.name}")
    return Collaborators(await control.apps.collaborators(app.id))


async def _leaving(control: Control, call: Call, app: App, name: str) -> User:
    """Who is to go, if who asks may say so. Refuses NotFound `user.unknown`, Forbidden `app.shared`."""
    if not owns(call, app) and name != call.principal.name:
        raise Forbidden("app.shared", "Only the owner of the app may do that")
    return await named(control, call, name)
