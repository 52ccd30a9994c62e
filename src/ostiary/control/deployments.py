"""What apps run: scaled, configured, deployed, restarted and removed, while whoever asks waits.

Each begins with what it would refuse anyway, so that nobody waits for a lock to be told so; then it holds the app.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from ostiary.control.apps import (
    ALL,
    OWN,
    AppShown,
    Build,
    Config,
    Container,
    Id,
    OneApp,
    SomeContainers,
    begin,
    build,
    chosen,
    container,
    environment,
    held,
    new_uuid,
    note,
    reach,
    shown,
)
from ostiary.control.call import Call
from ostiary.control.charge import Droplet
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.apps import Choice, Value, check_scale, choose, difference, merged
from ostiary.core.droplets import Place
from ostiary.core.refusal import Unavailable
from ostiary.store.fleet import App, Release

Structure = Annotated[dict[str, int], Meta(description="droplets of each process type; others stay")]


class Configure(Struct, frozen=True):
    """What to change of an app's environment."""

    app: Id
    values: Annotated[dict[str, Value], Meta(description="variables to set")] = {}
    unset: Annotated[list[str], Meta(description="variables to remove")] = []


class Deploy(Struct, frozen=True):
    """What an app is to run."""

    app: Id
    image: Annotated[str, Meta(description="template, or image that the settings allow")]


class Scale(Struct, frozen=True):
    """How many droplets an app is to have."""

    app: Id
    structure: Structure


class Deleted(Struct, frozen=True):
    """What is gone."""

    app: str


async def _foresee(what: str, control: Control, call: Call, ident: str) -> list[str]:
    app = await reach(control, call, ident)
    return [f"would {what} {place.name}" for place, _ in control.reconciler.of_app(app.id)]


async def foresee_delete(control: Control, call: Call, params: OneApp) -> list[str]:
    """Which droplets would go."""
    await reach(control, call, params.app, own=True)
    return [*await _foresee("remove", control, call, params.app), f"would delete {params.app}"]


@operation("apps.delete", permission=OWN, also=(ALL,), target="app", preview=foresee_delete)
async def delete(control: Control, call: Call, params: OneApp) -> Deleted:
    """Drain and remove all droplets of an app, then the app."""
    async with held(control, call, params.app, to_delete=True) as app:
        await begin(control, call)
        await control.formations.delete(app, call.done(control.clock()))
    return Deleted(app.id)


async def foresee_scale(control: Control, call: Call, params: Scale) -> list[str]:
    """What would be scaled."""
    app = await reach(control, call, params.app)
    check_scale(params.structure, app.structure, control.rules.apps.max_scale)
    await control.formations.check(app, params.structure)
    return [f"would have {kind}={count}" for kind, count in params.structure.items()]


@operation("apps.scale", permission=OWN, also=(ALL,), target="app", preview=foresee_scale)
async def scale(control: Control, call: Call, params: Scale) -> AppShown:
    """Have an app have so many droplets; answers when the new ones serve and the surplus is gone."""
    await foresee_scale(control, call, params)
    async with held(control, call, params.app) as app:
        check_scale(params.structure, app.structure, control.rules.apps.max_scale)
        wanted = ", ".join(f"{kind}={count}" for kind, count in params.structure.items())
        await begin(control, call)
        try:
            await control.formations.scale(app, params.structure, call.done(control.clock()))
        except Unavailable as refusal:
            await note(control, call, app.id, f"could not scale containers {wanted}: {refusal.message}")
            raise
        await note(control, call, app.id, f"scaled containers {wanted}")
        return shown(control, await reach(control, call, app.id))


async def foresee_configure(control: Control, call: Call, params: Configure) -> list[str]:
    """Which droplets would be replaced, if a variable changes."""
    app = await reach(control, call, params.app)
    found = await environment(control, app)
    changed = merged(found.values, {**dict.fromkeys(params.unset), **params.values}) != found.values
    return await _foresee("replace", control, call, app.id) if changed else []


@operation("apps.configure", permission=OWN, also=(ALL,), target="app", preview=foresee_configure)
async def configure(control: Control, call: Call, params: Configure) -> Config:
    """Change the environment of an app: a new release, which its droplets follow one by one."""
    await foresee_configure(control, call, params)
    changes: dict[str, Value | None] = {**dict.fromkeys(params.unset), **params.values}
    async with held(control, call, params.app) as app:
        current, choice = await control.formations.current(app)
        before = control.formations.values(app, current)
        after = merged(before, changes)
        if after != before:
            sealed = control.formations.seal(app.uuid, after)
            release = _next(control, call, app, "config", sealed, current.image)
            await _roll(control, call, app, release, choice, difference(before, after))
        return await environment(control, await reach(control, call, app.id))


async def foresee_deploy(control: Control, call: Call, params: Deploy) -> list[str]:
    """Which droplets would be replaced."""
    app = await reach(control, call, params.app)
    choose(params.image, app.template, control.rules.droplets)
    return await _foresee("replace", control, call, app.id)


@operation("apps.deploy", permission=OWN, also=(ALL,), target="app", preview=foresee_deploy)
async def deploy(control: Control, call: Call, params: Deploy) -> Build:
    """Have an app run a template or an image: a new release, which its droplets follow one by one."""
    await foresee_deploy(control, call, params)
    async with held(control, call, params.app) as app:
        choice = choose(params.image, app.template, control.rules.droplets)
        current, _ = await control.formations.current(app)
        sealed = control.formations.seal(app.uuid, control.formations.values(app, current))
        release = _next(control, call, app, "build", sealed, params.image)
        await _roll(control, call, app, release, choice, f"deployed {params.image}")
        return build(app.id, release)


def _next(
    control: Control, call: Call, app: App, kind: Literal["config", "build"], values: bytes, image: str
) -> Release:
    now = control.clock()
    return Release(app.release + 1, kind, new_uuid(control), call.principal.name, values, image, now)


async def _roll(control: Control, call: Call, app: App, release: Release, choice: Choice, text: str) -> None:
    await begin(control, call)
    try:
        await control.formations.roll(app, release, choice, call.done(control.clock()))
    except Unavailable as refusal:
        await note(control, call, app.id, f"could not release v{release.number} ({text}): {refusal.message}")
        raise
    await note(control, call, app.id, f"{text}: v{release.number}")


async def foresee_restart(control: Control, call: Call, params: SomeContainers) -> list[str]:
    """Which droplets would be restarted."""
    app = await reach(control, call, params.app)
    return [f"would restart {place.name}" for place, _ in _restarted(control, app, params)]


@operation("apps.restart", permission=OWN, also=(ALL,), target="app", preview=foresee_restart)
async def restart(control: Control, call: Call, params: SomeContainers) -> list[Container]:
    """Restart droplets of an app one by one, each drained first; those that were stopped stay so."""
    await foresee_restart(control, call, params)
    async with held(control, call, params.app) as app:
        placed = _restarted(control, app, params)
        await begin(control, call)
        try:
            await control.formations.restart(placed)
        except Unavailable as refusal:
            await note(control, call, app.id, f"could not restart containers: {refusal.message}")
            raise
        if placed:
            await note(control, call, app.id, f"restarted {', '.join(f'{p.type}.{p.number}' for p, _ in placed)}")
        names = {place.name for place, _ in placed}
        return [container(app, *each) for each in control.reconciler.of_app(app.id) if each[0].name in names]


def _restarted(control: Control, app: App, params: SomeContainers) -> list[tuple[Place, Droplet]]:
    """Those that run, or should; one that is named, whatever it does."""
    wanted = control.reconciler.wanted
    return [each for each in chosen(control, app, params) if params.number or wanted(each[0].name) == "running"]
