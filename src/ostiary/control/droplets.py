"""Droplets, as operators list, make and change them. What is done is the reconciler's."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Annotated, Protocol

from msgspec import Meta, Struct

from ostiary.control.call import Call
from ostiary.control.charge import Droplet
from ostiary.control.config import NoParameters
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.droplets import Template, check_env, check_name, recipe
from ostiary.core.refusal import NotFound
from ostiary.core.snapshot import SECOND
from ostiary.drivers.port import Image
from ostiary.store.fleet import Job
from ostiary.store.ports import Record

Name = Annotated[str, Meta(description="name of the droplet")]
Wait = Annotated[bool, Meta(description="answer when it is done; false: at once, with a job")]


class ListDroplets(Struct, frozen=True):
    """Which droplets."""

    template: Annotated[str, Meta(description="only those of this template")] = ""
    app: Annotated[str, Meta(description="only those of this app")] = ""
    state: Annotated[str, Meta(description="only those in this state")] = ""
    limit: Annotated[int, Meta(ge=1, le=10_000, description="at most so many")] = 10_000
    offset: Annotated[int, Meta(ge=0, description="without the first so many")] = 0


class OneDroplet(Struct, frozen=True):
    """Which droplet."""

    droplet: Name


class DropletLogs(Struct, frozen=True):
    """Which part of which log."""

    droplet: Name
    tail: Annotated[int, Meta(ge=0, le=10_000, description="the last so many lines")] = 100


class CreateDroplet(Struct, frozen=True):
    """What to make."""

    template: Annotated[str, Meta(description="empty: the default one")] = ""
    name: Annotated[str, Meta(description="empty: one is given")] = ""
    env: Annotated[dict[str, str], Meta(description="environment, above the template's")] = {}
    wait: Wait = True


class ChangeDroplet(Struct, frozen=True):
    """Which droplet to change."""

    droplet: Name
    wait: Wait = True


class Work(Protocol):
    """A change of the droplet of that name, with its audit record."""

    async def __call__(self, name: str, *, record: Record | None = None) -> object: ...


class Lines(Struct, frozen=True):
    """Lines of a log, oldest first; bytes that are no UTF-8 are replaced."""

    lines: Sequence[str]


class Stats(Struct, frozen=True):
    """What a droplet uses; null: nobody can know."""

    cpu_seconds: float | None
    memory_bytes: int | None
    pids: int | None
    uptime_seconds: int | None
    restarts: int
    at: int
    """Unix microseconds."""


class Done(Struct, frozen=True):
    """What a change came to: the droplet as it is now (null: it is gone), or the job that nobody waited for."""

    droplet: Droplet | None = None
    job: Job | None = None


@operation("droplets.list", reads=True)
async def list_(control: Control, call: Call, params: ListDroplets) -> list[Droplet]:
    """List droplets, newest first, as they are now."""
    found = [
        each
        for each in control.reconciler.all()
        if params.template in ("", each.template) and params.app in ("", each.app) and params.state in ("", each.state)
    ]
    return found[params.offset : params.offset + params.limit]


@operation("droplets.get", reads=True)
async def get(control: Control, call: Call, params: OneDroplet) -> Droplet:
    """Show a droplet as it is now."""
    return control.reconciler.get(params.droplet)


def follow(control: Control, call: Call, params: DropletLogs) -> AsyncIterator[bytes]:
    """The end of what a droplet has printed, and each line as it comes, until it is deleted."""
    return control.reconciler.follow(params.droplet, params.tail)


@operation("droplets.logs", reads=True, permission="droplets:logs", follow=follow)
async def logs(control: Control, call: Call, params: DropletLogs) -> Lines:
    """Show the end of what a droplet has printed."""
    lines = await control.reconciler.logs(params.droplet, params.tail)
    return Lines([line.decode(errors="replace") for line in lines])


@operation("droplets.stats", reads=True)
async def stats(control: Control, call: Call, params: OneDroplet) -> Stats:
    """Show what a droplet uses."""
    usage, now = await control.reconciler.usage(params.droplet), control.clock()
    droplet = control.reconciler.get(params.droplet)
    lives = droplet.started_at is not None and droplet.finished_at is None
    uptime = max(0, now - (droplet.started_at or now)) // SECOND if lives else None
    return Stats(usage.cpu_seconds, usage.memory_bytes, usage.pids, uptime, droplet.restarts, now)


@operation("droplets.images", reads=True)
async def images(control: Control, call: Call, params: NoParameters) -> list[Image]:
    """List the images that are there; a driver of processes has none."""
    return list(await control.reconciler.images())


async def foresee_making(control: Control, call: Call, params: CreateDroplet) -> list[str]:
    """What `droplets.create` would do; the limit and the name are looked at when it does."""
    template = _checked(control, params)
    return [f"a droplet of template {template.name} is made and started"]


async def foresee(control: Control, call: Call, params: ChangeDroplet) -> list[str]:
    """What a change of a droplet would do."""
    if call.operation == "droplets.delete":
        control.reconciler.disposable(params.droplet)
    droplet = control.reconciler.get(params.droplet)
    return [f"{droplet.name}: {call.operation.partition('.')[2]}, which is {droplet.state}"]


def _checked(control: Control, params: CreateDroplet) -> Template:
    template = control.rules.droplets.template(params.template)
    if params.name:
        check_name(params.name)
    check_env(params.env)
    return template


@operation("droplets.create", target="name", preview=foresee_making)
async def create(control: Control, call: Call, params: CreateDroplet) -> Done:
    """Make a droplet and start it."""
    made = recipe(_checked(control, params), params.env)
    name = await control.reconciler.make(made, params.name, record=call.wanted(control.clock()))
    call.trail.about = name
    work = partial(control.reconciler.begin, name)
    if not params.wait:
        return Done(job=await control.jobs.begin(call, name, work))
    await work()
    return _done(control, name)


@operation("droplets.start", target="droplet", preview=foresee)
async def start(control: Control, call: Call, params: ChangeDroplet) -> Done:
    """Start a droplet; one that runs goes on."""
    return await _change(control, call, params, control.reconciler.start)


@operation("droplets.stop", target="droplet", preview=foresee)
async def stop(control: Control, call: Call, params: ChangeDroplet) -> Done:
    """Drain and stop a droplet; nothing but an operator starts it again."""
    return await _change(control, call, params, control.reconciler.stop)


@operation("droplets.restart", target="droplet", preview=foresee)
async def restart(control: Control, call: Call, params: ChangeDroplet) -> Done:
    """Drain, stop and start a droplet."""
    return await _change(control, call, params, control.reconciler.restart)


@operation("droplets.delete", target="droplet", preview=foresee)
async def delete(control: Control, call: Call, params: ChangeDroplet) -> Done:
    """Drain, stop and remove a droplet with all that it left."""
    control.reconciler.disposable(params.droplet)
    return await _change(control, call, params, control.reconciler.delete)


async def _change(control: Control, call: Call, params: ChangeDroplet, work: Work) -> Done:
    """Do it now, or have it done."""
    name = params.droplet
    control.reconciler.get(name)
    control.reconciler.reach()
    if not params.wait:
        return Done(job=await control.jobs.begin(call, name, partial(work, name)))
    await work(name, record=call.wanted(control.clock()))
    return _done(control, name)


def _done(control: Control, name: str) -> Done:
    try:
        return Done(control.reconciler.get(name))
    except NotFound:
        return Done()
