"""Droplets, what they print and use, and the jobs of changes that nobody waited for."""

from collections.abc import Awaitable, Callable
from typing import Any

from ostiary.control.charge import Droplet
from ostiary.control.droplets import ChangeDroplet, CreateDroplet, Done, DropletLogs, ListDroplets, OneDroplet, Stats
from ostiary.control.jobs import OneJob
from ostiary.core.droplets import check_name
from ostiary.core.refusal import Invalid, NotFound
from ostiary.dialects.cikit.asked import PREFIX, Asked, Row
from ostiary.dialects.cikit.bodies import Fields
from ostiary.dialects.cikit.query import Query
from ostiary.dialects.cikit.words import moment, number_of, say
from ostiary.dialects.desk import applied
from ostiary.dialects.message import Answer
from ostiary.store.fleet import Job

TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))
LINES, MOST_LINES = 100, 10_000
KEYS = ("template", "name", "env")


async def list_(asked: Asked) -> Answer:
    """List them, newest first."""
    return say(await _all(asked))


async def _all(asked: Asked) -> list[dict[str, Any]]:
    droplets: list[Droplet] = await asked.run("droplets.list", ListDroplets())
    return [_item(each) for each in droplets]


async def add(asked: Asked) -> Answer:
    """Make one and start it."""
    return await _changed(asked, await asked.run("droplets.create", _wanted(asked)))


def _wanted(asked: Asked) -> CreateDroplet:
    """What is to be made, by keys and types; an empty text is a name, and never a right one. Refuses Invalid."""
    fields, wait = asked.fields, _waits(asked)
    unknown = next((key for key in fields if key not in KEYS), None)
    if unknown is not None:
        raise Invalid("field.unknown", f"Unknown field: {unknown}")
    template, name, env = _text(fields, "template"), _text(fields, "name"), _env(fields)
    if template == "":
        raise Invalid("template.unknown", "The template is unknown")
    if name == "":
        asked.desk.control.rules.droplets.template(template or "")
        check_name(name)
    return CreateDroplet(template or "", name or "", env, wait)


def _text(fields: Fields, key: str) -> str | None:
    given = fields.get(key)
    if key in fields and not isinstance(given, str):
        raise Invalid("field.type", f"{key} must be a string")
    return given


def _env(fields: Fields) -> dict[str, str]:
    env = fields.get("env", {})
    if not isinstance(env, dict):
        raise Invalid("field.type", "env must be an object of strings")
    wrong = next((key for key, value in env.items() if not isinstance(value, str)), None)
    if wrong is not None:
        raise Invalid("field.type", f"env.{wrong} must be a string")
    return env


def _waits(asked: Asked) -> bool:
    return Query(asked.query).truth("wait", True)


def change(operation: str) -> Callable[[Asked], Awaitable[Answer]]:
    """What answers on a change of one droplet."""

    async def answer(asked: Asked) -> Answer:
        return await _changed(asked, await asked.run(operation, ChangeDroplet(asked.item, _waits(asked))))

    return answer


async def start(asked: Asked) -> Answer:
    """Start one; of one that does not exist the original says more than elsewhere."""
    try:
        return await change("droplets.start")(asked)
    except NotFound as refusal:
        more = f"Error: failed to start containers: {asked.item}"
        raise NotFound(refusal.code, f"{refusal.message}\n{more}") from refusal


async def _changed(asked: Asked, done: Done) -> Answer:
    """The list as it is now, or the job."""
    if done.job is None:
        return say(await _all(asked), *applied(asked.call))
    href = f"{PREFIX}/job/{done.job.id}"
    return say({"job": done.job.id, "state": "queued", "href": href}, ("Location", href), status=202)


async def logs(asked: Asked) -> Answer:
    """Show what one has printed, byte for byte; or what it prints too, until it is deleted or the client leaves."""
    query = Query(asked.query)
    tail, follow = query.number("tail", LINES, MOST_LINES), query.truth("follow", False)
    desk = asked.desk
    if follow:
        shown = desk.registry.follow(desk.control, "droplets.logs", DropletLogs(asked.item, tail), asked.call)
        return Answer(200, headers=TEXT, stream=desk.followed(shown, asked.again))
    await asked.run("droplets.logs", DropletLogs(asked.item, 0))
    lines = await desk.control.reconciler.logs(asked.item, tail)
    return Answer(200, b"".join(line + b"\n" for line in lines), TEXT)


async def stats(asked: Asked) -> Answer:
    """Show what one uses."""
    found: Stats = await asked.run("droplets.stats", OneDroplet(asked.item))
    return say({
        "cpu_seconds": found.cpu_seconds, "memory_bytes": found.memory_bytes, "pids": found.pids,
        "uptime_seconds": found.uptime_seconds, "restarts": found.restarts, "at": moment(found.at),
    })  # fmt: skip


async def job(asked: Asked) -> Answer:
    """Show what became of a change that nobody waited for."""
    found: Job = await asked.run("jobs.get", OneJob(asked.item))
    return say({
        "id": found.id, "operation": found.operation, "droplet": found.droplet, "state": found.state,
        "error": found.error, "errorId": None if found.code is None else number_of(found.code),
        "created_at": moment(found.created_at), "finished_at": _moment(found.finished_at),
    })  # fmt: skip


def _item(droplet: Droplet) -> dict[str, Any]:
    """A droplet as CIKit shows one, and what it did not know after that."""
    ports = {
        inside: {"type": port.type, "from": {"ip": port.ip, "port": port.port}}
        for inside, port in droplet.ports.items()
    }
    return {
        "id": droplet.id, "name": droplet.name, "created": droplet.created, "status": droplet.status, "ports": ports,
        "state": droplet.state, "health": droplet.health, "template": droplet.template, "app": droplet.app,
        "driver": droplet.driver, "exit_code": droplet.exit_code, "created_at": moment(droplet.created_at),
        "started_at": _moment(droplet.started_at), "finished_at": _moment(droplet.finished_at),
        "restarts": droplet.restarts, "limits": droplet.limits, "enforced": droplet.enforced,
    }  # fmt: skip


def _moment(at: int | None) -> str | None:
    return None if at is None else moment(at)


ROWS = (
    Row("GET", "droplet/list", "droplets.list", "droplets:read", list_),
    Row("POST", "droplet/add", "droplets.create", "droplets:manage", add),
    Row("PATCH", "droplet/stop/:droplet", "droplets.stop", "droplets:manage", change("droplets.stop")),
    Row("PATCH", "droplet/start/:droplet", "droplets.start", "droplets:manage", start),
    Row("PATCH", "droplet/restart/:droplet", "droplets.restart", "droplets:manage", change("droplets.restart")),
    Row("DELETE", "droplet/delete/:droplet", "droplets.delete", "droplets:manage", change("droplets.delete")),
    Row("GET", "droplet/logs/:droplet", "droplets.logs", "droplets:logs", logs),
    Row("GET", "droplet/stats/:droplet", "droplets.stats", "droplets:read", stats),
    Row("GET", "job/:id", "jobs.get", "droplets:read", job),
)
