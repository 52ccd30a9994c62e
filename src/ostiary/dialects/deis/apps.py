"""Apps: made, shared, configured, scaled and watched, as Deis's clients do it."""

import re
from typing import Any

import msgspec

from ostiary.control.apps import (
    AppLogs,
    AppPage,
    AppShown,
    Build,
    Collaborators,
    Config,
    Container,
    ListApps,
    LogLine,
    OneApp,
    SomeContainers,
)
from ostiary.control.deployments import Configure, Deploy, Scale
from ostiary.control.owned_apps import CreateApp, SharedApp, check_new
from ostiary.core.apps import Value
from ostiary.core.refusal import Invalid, NotFound
from ostiary.dialects.deis.apps_shown import app_object, build_object, config_object, container_object, log_text
from ostiary.dialects.deis.asked import Asked, Fields
from ostiary.dialects.deis.pages import page
from ostiary.dialects.deis.words import NO_OBJECT, REQUIRED, TAKEN, Said, error, unserved
from ostiary.dialects.message import Answer, json_answer

LINES, MOST_LINES = 1000, 10_000
NO_SCALE = "Invalid scaling format"
WRONG = "\0"
"""Stands for a value that is neither a text nor an integer: refused with whatever else is no variable."""
_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


async def listing(asked: Asked) -> Answer:
    """The apps that one may work with, by id."""
    wanted = page(asked)
    found: AppPage = await asked.run("apps.list", ListApps(wanted.size, wanted.offset))
    return wanted.answer(found.total, map(app_object, found.apps))


async def create(asked: Asked) -> Answer:
    """Make an app."""
    fields = asked.fields()
    params = CreateApp(fields.chosen("id"), fields.chosen("template"))
    await _look_over(asked, fields, params)
    fields.done()
    made: AppShown = await asked.run("apps.create", params)
    return json_answer(201, app_object(made), [("Location", f"/v1/apps/{made.id}")])


async def _look_over(asked: Asked, fields: Fields, params: CreateApp) -> None:
    """Beside what is wrong already, say what the settings do not allow, and that the id is taken."""
    control = asked.desk.control
    try:
        check_new(control, params)
    except Invalid as refusal:
        for mistake in refusal.mistakes:
            fields.add(mistake.path, mistake.message)
    if fields.wrong and "id" not in fields.wrong and await control.apps.get(params.app) is not None:
        fields.add("id", TAKEN)
    fields.wrong = dict(sorted(fields.wrong.items()))


async def info(asked: Asked) -> Answer:
    """One app."""
    found: AppShown = await asked.run("apps.get", _one(asked))
    return json_answer(200, app_object(found))


async def transfer(asked: Asked) -> Answer:
    """Give it to another user."""
    fields = asked.fields()
    owner = fields.text("owner", required=True)
    fields.done()
    await asked.run("apps.transfer", SharedApp(asked.names["id"], owner))
    return Answer(200)


async def destroy(asked: Asked) -> Answer:
    """Remove it with all its droplets."""
    asked.fields()
    await asked.run("apps.delete", _one(asked))
    return Answer(204)


async def perms(asked: Asked) -> Answer:
    """Who works with it besides its owner."""
    found: Collaborators = await asked.run("apps.collaborators", _one(asked))
    return json_answer(200, {"users": found.users})


async def share(asked: Asked) -> Answer:
    """Let another user work with it."""
    fields = asked.fields()
    name = fields.text("username", required=True)
    fields.done()
    await asked.run("apps.share", SharedApp(asked.names["id"], name))
    return Answer(201)


async def unshare(asked: Asked) -> Answer:
    """Take that back, or leave."""
    asked.fields()
    await asked.run("apps.unshare", SharedApp(asked.names["id"], asked.names["username"]))
    return Answer(204)


async def config(asked: Asked) -> Answer:
    """Its environment."""
    found: Config = await asked.run("apps.config", _one(asked))
    return json_answer(200, config_object(found))


async def configure(asked: Asked) -> Answer:
    """Change its environment."""
    fields = asked.fields()
    for name, what in (("memory", "limits"), ("cpu", "limits"), ("tags", "tags")):
        if fields.values.get(name) not in (None, "", {}, "{}"):
            raise Said(unserved(what))
    changes = _changes(fields)
    fields.done()
    unset = [key for key, value in changes.items() if value is None]
    values = {key: value for key, value in changes.items() if value is not None}
    changed: Config = await asked.run("apps.configure", Configure(asked.names["id"], values, unset))
    return json_answer(201, config_object(changed), _release(changed.release))


def _changes(fields: Fields) -> dict[str, Value | None]:
    """Variables as an object, or as the JSON text of one, which the client sends."""
    sent = fields.values.get("values")
    try:
        found = msgspec.json.decode(sent) if isinstance(sent, str) else sent
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        fields.add("values", NO_OBJECT if "values" in fields.values else REQUIRED)
        return {}
    return {key: value if value is None or _is_value(value) else WRONG for key, value in found.items()}


def _is_value(value: Any) -> bool:
    return isinstance(value, str) or _is_integer(value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


async def builds(asked: Asked) -> Answer:
    """What it was last told to run."""
    wanted = page(asked)
    found: list[Build] = await asked.run("apps.builds", _one(asked))
    return wanted.answer(len(found), map(build_object, found[wanted.offset : wanted.offset + wanted.size]))


async def deploy(asked: Asked) -> Answer:
    """Have it run something else."""
    fields = asked.fields()
    image = fields.text("image", required=True)
    fields.done()
    made: Build = await asked.run("apps.deploy", Deploy(asked.names["id"], image))
    return json_answer(201, build_object(made), _release(made.release))


def _release(number: int) -> list[tuple[str, str]]:
    return [("X-Deis-Release", str(number)), ("Deis-Release", str(number))]


async def containers(asked: Asked) -> Answer:
    """Its droplets; with a number, one of them."""
    found: list[Container] = await asked.run("apps.containers", _some(asked))
    if "num" in asked.names:
        return json_answer(200, container_object(found[0]))
    wanted = page(asked)
    return wanted.answer(len(found), map(container_object, found[wanted.offset : wanted.offset + wanted.size]))


async def restart(asked: Asked) -> Answer:
    """Restart them, one by one."""
    asked.fields()
    done: list[Container] = await asked.run("apps.restart", _some(asked))
    return json_answer(200, [container_object(each) for each in done])


async def scale(asked: Asked) -> Answer:
    """Have so many of each type."""
    wanted = asked.fields().values
    if not all(map(_is_integer, wanted.values())):
        raise Said(error(400, NO_SCALE))
    await asked.run("apps.scale", Scale(asked.names["id"], wanted))
    return Answer(204)


async def logs(asked: Asked) -> Answer:
    """What happened to it and what it printed, as one text."""
    sent = dict(asked.request.pairs()).get("log_lines", "")
    lines = int(sent) if _NUMBER.fullmatch(sent) else LINES
    found: list[LogLine] = await asked.run("apps.logs", AppLogs(asked.names["id"], min(lines, MOST_LINES)))
    return json_answer(200, log_text(asked.names["id"], found))


async def domains(asked: Asked) -> Answer:
    """None: nothing is routed by an app's name."""
    return page(asked).answer(0, [])


def _one(asked: Asked) -> OneApp:
    return OneApp(asked.names["id"])


def _some(asked: Asked) -> SomeContainers:
    """Those that the path names. Refuses NotFound where it says no number."""
    number = asked.names.get("num", "")
    if number and not _NUMBER.fullmatch(number):
        raise NotFound("container.unknown", "The app has no such container")
    return SomeContainers(asked.names["id"], asked.names.get("type", ""), int(number or 0))
