"""The CIKit surface: droplets, their logs and figures, and jobs."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest
from tests.dialects.fleet import Fleet, fleet
from tests.dialects.house import OWNER, House
from tests.dialects.test_apifest import said
from tests.dialects.test_cikit import DENIED, FORM, UNAUTHORIZED, Cikit, entered, header, no

from ostiary.core.droplets import Place, recipe
from ostiary.core.refusal import Invalid
from ostiary.core.snapshot import SECOND
from ostiary.dialects.message import Answer

ITEM = [
    "id", "name", "created", "status", "ports", "state", "health", "template", "app", "driver", "exit_code",
    "created_at", "started_at", "finished_at", "restarts", "limits", "enforced",
]  # fmt: skip
NOBODY = "Error response from daemon: No such container: {}"
BAD_NAME = no(400, 918, "The droplet name is invalid")
TAKEN = no(409, 919, "Droplet name is already taken")
NO_TEMPLATE = no(400, 920, "The template is unknown")
AWAY = no(503, 503, "The droplet engine cannot be reached")
NO_JOB = no(404, 925, "Job not found")


@pytest.fixture
async def cikit(house: House) -> Cikit:
    return await entered(house)


@pytest.fixture
async def droplets(house: House) -> AsyncIterator[Fleet]:
    async with fleet(house) as found:
        yield found


async def ask(cikit: Cikit, method: str, path: str, body: object = b"", **more: Any) -> Answer:
    """By the owner."""
    return await cikit.ask(method, path, body, cikit.boss, **more)


async def add(cikit: Cikit, **fields: object) -> list[dict[str, Any]]:
    return listed(await ask(cikit, "POST", "droplet/add", fields))


def listed(answer: Answer) -> list[dict[str, Any]]:
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = json.loads(answer.body)
    return found


def named(answer: Answer) -> list[str]:
    return [each["name"] for each in listed(answer)]


async def until(cikit: Cikit, state: str) -> dict[str, Any]:
    """The newest droplet, once it is in this state."""
    async with asyncio.timeout(10):
        while (found := listed(await ask(cikit, "GET", "droplet/list"))[0])["state"] != state:
            pass
    return found


# -- what a droplet looks like


async def test_a_droplet_is_made_of_the_default_template_and_listed_with_all_its_members(
    cikit: Cikit, droplets: Fleet
) -> None:
    answer = await ask(cikit, "POST", "droplet/add")
    (item,) = listed(answer)
    assert list(item) == ITEM
    assert re.fullmatch("[0-9a-f]{12}", item.pop("id"))
    ports = item.pop("ports")
    assert list(ports) == ["22", "80", "443"]
    assert len({each["from"]["port"] for each in ports.values()}) == 3
    assert all(list(each) == ["type", "from"] and each["type"] == "tcp" for each in ports.values())
    assert all(list(each["from"]) == ["ip", "port"] and each["from"]["ip"] == "127.0.0.1" for each in ports.values())
    moment = "2015-11-08T16:27:10.000Z"
    assert item == {
        "name": "droplet01", "created": "0 seconds ago", "status": "Up 0 seconds", "state": "running",
        "health": "healthy", "template": "web", "app": None, "driver": "process", "exit_code": None,
        "created_at": moment, "started_at": moment, "finished_at": None, "restarts": 0,
        "limits": {"memory": 1 << 20, "cpu": 0.5}, "enforced": ["memory"],
    }  # fmt: skip
    assert header(answer, "Content-Type") == "application/json; charset=utf-8"
    assert header(answer, "Cache-Control") == "no-store"
    assert said(await ask(cikit, "GET", "droplet/list")) == said(answer)


async def test_the_newest_droplet_is_first_and_names_are_never_given_again(cikit: Cikit, droplets: Fleet) -> None:
    for name in ("droplet01", "droplet02", "droplet03"):
        assert (await add(cikit))[0]["name"] == name
    assert named(await ask(cikit, "DELETE", "droplet/delete/droplet03")) == ["droplet02", "droplet01"]
    assert (await add(cikit))[0]["name"] == "droplet04"
    assert (await add(cikit, name="my-own"))[0]["name"] == "my-own"
    assert named(await ask(cikit, "GET", "droplet/list")) == ["my-own", "droplet04", "droplet02", "droplet01"]


async def test_template_name_and_environment_may_be_chosen_and_no_answer_shows_the_environment(
    cikit: Cikit, droplets: Fleet
) -> None:
    env = {"GREETING": "from $HOME; \"and\" 'on'\nä"}
    answer = await ask(cikit, "POST", "droplet/add", {"name": "d1-x", "template": "hello", "env": env})
    (item,) = listed(answer)
    assert (item["name"], item["template"], item["state"], item["health"]) == ("d1-x", "hello", "running", "none")
    assert (item["ports"], item["limits"], item["enforced"]) == ({}, {}, [])
    (life,) = droplets.engine.lives.values()
    assert life.spec.env["GREETING"] == env["GREETING"]
    assert "GREETING" not in answer.body.decode()


async def test_a_form_chooses_too(cikit: Cikit, droplets: Fleet) -> None:
    answer = await ask(cikit, "POST", "droplet/add", b"name=formed&template=web", media=FORM)
    assert named(answer) == ["formed"]


async def test_the_life_of_a_droplet(cikit: Cikit, droplets: Fleet) -> None:
    first = (await add(cikit))[0]
    (stopped,) = listed(await ask(cikit, "PATCH", "droplet/stop/droplet01"))
    assert (stopped["state"], stopped["status"]) == ("exited", "Exited (0) 0 seconds ago")
    assert (stopped["exit_code"], stopped["ports"], stopped["health"]) == (143, {}, "none")
    assert stopped["finished_at"] == "2015-11-08T16:27:10.000Z"
    assert said(await ask(cikit, "PATCH", "droplet/stop/droplet01")) == (200, json_of([stopped]))
    cikit.house.now += 61 * SECOND
    (started,) = listed(await ask(cikit, "PATCH", "droplet/start/droplet01"))
    assert (started["state"], started["status"], started["created"]) == ("running", "Up 0 seconds", "1 minute ago")
    assert (started["id"], started["ports"]) == (first["id"], first["ports"])
    assert (started["started_at"], started["finished_at"]) == ("2015-11-08T16:28:11.000Z", None)
    assert said(await ask(cikit, "PATCH", "droplet/start/droplet01")) == (200, json_of([started]))
    (again,) = listed(await ask(cikit, "PATCH", "droplet/restart/droplet01"))
    assert (again["state"], again["ports"]) == ("running", first["ports"])
    assert said(await ask(cikit, "DELETE", "droplet/delete/droplet01")) == (200, "[]")
    assert droplets.engine.lives == {}


def json_of(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


async def test_restart_of_a_stopped_one_starts_it_and_delete_of_a_running_one_removes_it(
    cikit: Cikit, droplets: Fleet
) -> None:
    await add(cikit, name="one")
    await ask(cikit, "PATCH", "droplet/stop/one")
    (again,) = listed(await ask(cikit, "PATCH", "droplet/restart/one"))
    assert again["state"] == "running"
    assert said(await ask(cikit, "DELETE", "droplet/delete/one/")) == (200, "[]")


# -- what there is no droplet of


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("PATCH", "stop", ""),
        ("PATCH", "start", "\nError: failed to start containers: {}"),
        ("PATCH", "restart", ""),
        ("DELETE", "delete", ""),
        ("GET", "logs", ""),
        ("GET", "stats", ""),
    ],
)
@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("bla", "bla"),
        ("BLA", "BLA"),
        ("x%3Bid", "x;id"),
        ("%24(id)", "$(id)"),
        ("a%0Ab%00", "a\nb\0"),
        ("..%5C..", "..\\.."),
        ("%252F", "%2F"),
        ("*", "*"),
        ("%7Bname%7D", "{name}"),
        ("%FF", "\N{REPLACEMENT CHARACTER}"),
        ("a" * 15_000, "a" * 15_000),
    ],
)
async def test_an_unknown_name_is_said_as_the_original_says_it(
    cikit: Cikit, droplets: Fleet, method: str, path: str, more: str, sent: str, name: str
) -> None:
    await add(cikit, name="bla-bla")
    text = (NOBODY + more).replace("{}", name)
    calls = list(droplets.engine.calls)
    for query in ("", "?wait=false"):
        assert said(await ask(cikit, method, f"droplet/{path}/{sent}{query}")) == no(400, 900, text)
    cikit.turn(strict=True)
    assert said(await ask(cikit, method, f"droplet/{path}/{sent}")) == no(404, 900, text)
    assert droplets.engine.calls == calls


async def test_there_is_no_droplet_of_an_encoded_path(cikit: Cikit, droplets: Fleet) -> None:
    for name in ("..%2F..", "a/b", "", "%2F"):
        answer = await ask(cikit, "PATCH", f"droplet/stop/{name}")
        assert said(answer) == no(404, 404, "Route not found")


# -- what cannot be made


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"image": "x"}, no(400, 0, "Unknown field: image")),
        ({"command": ["id"], "template": 7}, no(400, 0, "Unknown field: command")),
        ({"template": {"$ne": ""}}, no(400, 0, "template must be a string")),
        ({"template": None, "name": 1}, no(400, 0, "template must be a string")),
        ({"template": "nothing", "name": ["a"]}, no(400, 0, "name must be a string")),
        ({"name": True}, no(400, 0, "name must be a string")),
        ({"name": None}, no(400, 0, "name must be a string")),
        ({"env": "A=1"}, no(400, 0, "env must be an object of strings")),
        ({"env": None, "template": "nothing"}, no(400, 0, "env must be an object of strings")),
        ({"env": [["A", "1"]]}, no(400, 0, "env must be an object of strings")),
        ({"env": {"A": 1}, "name": "!"}, no(400, 0, "env.A must be a string")),
        ({"env": {"A": {"$gt": ""}}}, no(400, 0, "env.A must be a string")),
        ({"env": {"A": None}}, no(400, 0, "env.A must be a string")),
        ({"template": "nothing", "name": "!", "env": {"PATH": ""}}, NO_TEMPLATE),
        ({"template": "", "name": "!"}, NO_TEMPLATE),
        ({"template": "WEB"}, NO_TEMPLATE),
        ({"template": "web\0"}, NO_TEMPLATE),
        ({"name": "!", "env": {"PATH": ""}}, BAD_NAME),
        ({"name": "", "env": {"PATH": ""}}, BAD_NAME),
        ({"name": "", "template": "nothing"}, NO_TEMPLATE),
        ({"name": "ab"}, BAD_NAME),
        ({"name": "a" * 41}, BAD_NAME),
        ({"name": "1ab"}, BAD_NAME),
        ({"name": "ab-"}, BAD_NAME),
        ({"name": "Abc"}, BAD_NAME),
        ({"name": "abc\n"}, BAD_NAME),
        ({"name": "x;id"}, BAD_NAME),
        ({"name": "$(id)"}, BAD_NAME),
        ({"name": "../../etc"}, BAD_NAME),
        ({"name": "a.b.c"}, BAD_NAME),
        ({"name": "äbc"}, BAD_NAME),
        ({"name": "taken", "env": {"PATH": ""}}, no(400, 921, "The environment is invalid: PATH")),
        ({"env": {"A": "1", "LD_PRELOAD": "/x"}}, no(400, 921, "The environment is invalid: LD_PRELOAD")),
        ({"env": {"A": "\0"}}, no(400, 921, "The environment is invalid: A")),
        ({"env": {"A": "x" * 32_769}}, no(400, 921, "The environment is invalid: A")),
        ({"env": {"": "x"}}, no(400, 921, "The environment is invalid: ")),
        ({"env": {"a=b\n\x1b": "x"}}, (400, r'{"error":"The environment is invalid: a=b\n\u001b","errorId":921}')),
        ({"env": {f"A{number}": "" for number in range(101)}}, no(400, 921, "The environment is invalid: A100")),
        ({"name": "taken"}, TAKEN),
    ],
)  # fmt: skip
async def test_what_cannot_be_made_is_refused_in_this_order_and_leaves_nothing(
    cikit: Cikit, droplets: Fleet, fields: dict[str, object], expected: tuple[int, str]
) -> None:
    await add(cikit, name="taken")
    for query in ("", "?wait=false"):
        assert said(await ask(cikit, "POST", f"droplet/add{query}", fields)) == expected
    assert named(await ask(cikit, "GET", "droplet/list")) == ["taken"]


async def test_the_largest_body_gives_an_answer_and_a_larger_one_another(cikit: Cikit, droplets: Fleet) -> None:
    longest = "x" * 99_900
    assert said(await ask(cikit, "POST", "droplet/add", {"name": longest})) == BAD_NAME
    assert said(await ask(cikit, "POST", "droplet/add", {longest: ""})) == no(400, 0, f"Unknown field: {longest}")
    answer = await ask(cikit, "POST", "droplet/add", {"name": "x" * 10_000_000})
    assert said(answer) == no(413, 413, "Request body too large")


async def test_a_body_that_is_no_object_chooses_nothing(cikit: Cikit, droplets: Fleet) -> None:
    assert named(await ask(cikit, "POST", "droplet/add", [{"name": "x"}])) == ["droplet01"]
    assert named(await ask(cikit, "POST", "droplet/add", {"access_token": cikit.boss})) == ["droplet02", "droplet01"]


async def test_no_more_than_the_limit_are_made_and_the_limit_comes_before_the_name(
    cikit: Cikit, droplets: Fleet
) -> None:
    droplets.rule(max=1)
    await add(cikit, name="only")
    full = no(409, 922, "The limit of droplets is reached")
    for fields in ({}, {"name": "only"}, {"name": "other"}):
        assert said(await ask(cikit, "POST", "droplet/add", fields)) == full
    assert said(await ask(cikit, "POST", "droplet/add", {"env": {"PATH": ""}})) != full


async def test_a_template_that_is_gone_leaves_its_droplets_and_makes_no_more(cikit: Cikit, droplets: Fleet) -> None:
    await add(cikit, name="one")
    droplets.rule(templates={}, default="")
    for fields in ({}, {"template": "web"}):
        assert said(await ask(cikit, "POST", "droplet/add", fields)) == NO_TEMPLATE
    (item,) = listed(await ask(cikit, "PATCH", "droplet/restart/one"))
    assert (item["state"], item["template"]) == ("running", "web")
    assert said(await ask(cikit, "DELETE", "droplet/delete/one")) == (200, "[]")


# -- what does not start


@pytest.mark.parametrize(
    ("template", "text", "state"),
    [
        ("crash", "Droplet one exited with code 3", "exited"),
        ("starve", "Droplet one exited with code 137 (out of memory)", "exited"),
        ("never", "Droplet one was not healthy within 0.1 s", "failed"),
        ("nope", "No such program: nope", "failed"),
    ],
)
async def test_what_does_not_start_is_said_and_stays_in_the_list(
    cikit: Cikit, droplets: Fleet, template: str, text: str, state: str
) -> None:
    answer = await ask(cikit, "POST", "droplet/add", {"name": "one", "template": template})
    assert said(answer) == no(400, 900, text)
    cikit.turn(strict=True)
    for verb in ("start", "restart"):
        cikit.house.now += SECOND
        assert said(await ask(cikit, "PATCH", f"droplet/{verb}/one")) == no(400, 900, text)
    (item,) = listed(await ask(cikit, "GET", "droplet/list"))
    assert (item["state"], item["ports"]) == (state, {})
    assert (await ask(cikit, "GET", "droplet/logs/one")).status == 200
    assert said(await ask(cikit, "DELETE", "droplet/delete/one")) == (200, "[]")


async def test_what_could_not_even_be_created_is_not_in_the_list(cikit: Cikit, droplets: Fleet) -> None:
    droplets.engine.refusal = Invalid("image.unknown", "No such image: x")
    assert said(await ask(cikit, "POST", "droplet/add")) == no(400, 900, "No such image: x")
    assert said(await ask(cikit, "GET", "droplet/list")) == (200, "[]")


async def test_a_droplet_that_is_busy_for_too_long_says_so(cikit: Cikit, droplets: Fleet) -> None:
    await add(cikit, name="one")
    await ask(cikit, "PATCH", "droplet/stop/one")
    droplets.engine.hold.clear()
    droplets.rule(lock_timeout=SECOND // 100)
    starting = asyncio.create_task(ask(cikit, "PATCH", "droplet/start/one"))
    await until(cikit, "starting")
    assert said(await ask(cikit, "PATCH", "droplet/stop/one")) == no(409, 923, "The droplet is busy")
    droplets.engine.hold.set()
    assert (await starting).status == 200


async def test_an_apps_droplet_is_listed_and_changed_but_deleted_with_its_app_alone(
    cikit: Cikit, droplets: Fleet
) -> None:
    template = cikit.house.control.rules.droplets.template("web")
    place = Place("shop", "web", 1, 3)
    await cikit.house.control.reconciler.create(recipe(template), place.name, place)
    (item,) = listed(await ask(cikit, "PATCH", "droplet/restart/shop.web.1"))
    assert (item["name"], item["app"]) == ("shop.web.1", "shop")
    answer = await ask(cikit, "DELETE", "droplet/delete/shop.web.1")
    assert said(answer) == no(409, 924, "The droplet belongs to app shop")


async def test_while_the_engine_is_away_changes_are_503_and_the_list_says_unknown(
    cikit: Cikit, droplets: Fleet
) -> None:
    await add(cikit, name="one")
    droplets.engine.leave()
    item = await until(cikit, "unknown")
    assert (item["status"], item["health"], item["ports"]) == ("Unknown", "none", {})
    changes = [("PATCH", f"droplet/{verb}/one") for verb in ("start", "stop", "restart")]
    for method, path in (*changes, ("DELETE", "droplet/delete/one"), ("POST", "droplet/add")):
        answer = await ask(cikit, method, path)
        assert said(answer) == AWAY
        assert header(answer, "Retry-After") == "1"


# -- who may


VIEWERS = ["GET droplet/list", "GET droplet/stats/one", "GET job/none"]
MANAGERS = [
    "POST droplet/add", "PATCH droplet/start/one", "PATCH droplet/stop/one", "PATCH droplet/restart/one",
    "GET droplet/logs/one", "GET droplet/logs/one?follow=true&tail=x", "DELETE droplet/delete/one",
]  # fmt: skip


@pytest.mark.parametrize(("role", "allowed"), [("member", []), ("viewer", VIEWERS), ("manager", VIEWERS + MANAGERS)])
async def test_each_role_may_what_the_table_says_and_learns_nothing_else(
    cikit: Cikit, droplets: Fleet, role: str, allowed: list[str]
) -> None:
    await add(cikit, name="one")
    await cikit.add("ann", role)
    token = (await cikit.sign_in("ann")).access
    for each in VIEWERS + MANAGERS:
        method, path = each.split()
        denied = said(await cikit.ask(method, path, b"", token)) == DENIED
        assert denied == (each not in allowed)
        assert said(await cikit.ask(method, path)) == UNAUTHORIZED


async def test_without_the_permission_names_and_fields_are_not_looked_at(cikit: Cikit, droplets: Fleet) -> None:
    await cikit.add("ann", "viewer")
    token = (await cikit.sign_in("ann")).access
    for body in ({"image": "x"}, {"name": 1}):
        assert said(await cikit.ask("POST", "droplet/add?wait=x", body, token)) == DENIED
    assert said(await cikit.ask("PATCH", "droplet/stop/nobody", b"", token)) == DENIED


async def test_changes_and_their_refusals_are_in_the_audit_without_the_environment(
    cikit: Cikit, droplets: Fleet
) -> None:
    await add(cikit, env={"KEY": "hidden-value"})
    await ask(cikit, "PATCH", "droplet/stop/droplet01")
    await ask(cikit, "DELETE", "droplet/delete/nobody")
    await cikit.ask("DELETE", "droplet/delete/droplet01")
    records = await cikit.house.audit()
    found = [(each.operation, each.target, each.outcome, each.name) for each in records if each.surface == "cikit"]
    assert found[:4] == [
        ("droplets.delete", "droplet01", "authentication.required", ""),
        ("droplets.delete", "nobody", "droplet.unknown", OWNER),
        ("droplets.stop", "droplet01", "done", OWNER),
        ("droplets.create", "droplet01", "done", OWNER),
    ]
    assert "hidden-value" not in str(records)


async def test_what_is_wanted_is_in_the_audit_before_it_is_done(cikit: Cikit, droplets: Fleet) -> None:
    await add(cikit, name="one")
    droplets.engine.hold.clear()
    restarting = asyncio.create_task(ask(cikit, "PATCH", "droplet/restart/one"))
    await until(cikit, "starting")
    known = [("droplets.create", "one", "done"), ("droplets.restart", "one", "done")]
    assert await changes(cikit) == known
    droplets.engine.hold.set()
    assert (await restarting).status == 200
    assert await changes(cikit) == known


@pytest.mark.parametrize("query", ["", "?wait=false"])
async def test_why_a_change_failed_stands_in_the_audit_after_who_wanted_it(
    cikit: Cikit, droplets: Fleet, query: str
) -> None:
    ticks = count(cikit.house.now)
    droplets.engine.clock = lambda: next(ticks)  # no two lives begin at the same moment
    answer = await ask(cikit, "POST", f"droplet/add{query}", {"name": "one", "template": "crash"})
    if query:
        await finished(cikit, json.loads(answer.body)["href"])
    assert await changes(cikit) == [("droplets.create", "one", "done"), ("droplets.create", "one", "droplet.failed")]
    answer = await ask(cikit, "PATCH", f"droplet/start/one{query}")
    if query:
        await finished(cikit, json.loads(answer.body)["href"])
    assert (await changes(cikit))[2:] == [
        ("droplets.start", "one", "done"),
        ("droplets.start", "one", "droplet.failed"),
    ]


async def changes(cikit: Cikit) -> list[tuple[str, str, str]]:
    """What the audit has of changes of droplets, oldest first."""
    records = [each for each in await cikit.house.audit() if each.operation.startswith("droplets.")]
    return [(each.operation, each.target, each.outcome) for each in reversed(records)]


# -- jobs


async def finished(cikit: Cikit, href: str) -> dict[str, Any]:
    """A job when it has ended."""
    async with asyncio.timeout(10):
        while True:
            answer = await ask(cikit, "GET", href.removeprefix("/api/v1/"))
            found: dict[str, Any] = json.loads(answer.body)
            if found["state"] in ("done", "failed"):
                return found


async def begun(cikit: Cikit, method: str, path: str, body: object = b"") -> str:
    """Where the job of a change is that nobody waits for."""
    answer = await ask(cikit, method, f"{path}?wait=false", body)
    assert answer.status == 202, answer.body
    found = json.loads(answer.body)
    href = f"/api/v1/job/{found['job']}"
    assert list(found.items()) == [("job", found["job"]), ("state", "queued"), ("href", href)]
    assert header(answer, "Location") == href
    return href


async def test_each_change_can_be_a_job(cikit: Cikit, droplets: Fleet) -> None:
    changes = [
        ("POST", "droplet/add", "create"),
        ("PATCH", "droplet/stop/one", "stop"),
        ("PATCH", "droplet/start/one", "start"),
        ("PATCH", "droplet/restart/one", "restart"),
        ("DELETE", "droplet/delete/one", "delete"),
    ]
    for method, path, verb in changes:
        href = await begun(cikit, method, path, {"name": "one"})
        found = await finished(cikit, href)
        assert list(found.items()) == [
            ("id", href.rpartition("/")[2]), ("operation", f"droplets.{verb}"), ("droplet", "one"), ("state", "done"),
            ("error", None), ("errorId", None), ("created_at", "2015-11-08T16:27:10.000Z"),
            ("finished_at", "2015-11-08T16:27:10.000Z"),
        ]  # fmt: skip
    assert said(await ask(cikit, "GET", "droplet/list")) == (200, "[]")


async def test_a_job_that_fails_says_why(cikit: Cikit, droplets: Fleet) -> None:
    href = await begun(cikit, "POST", "droplet/add", {"template": "crash", "name": "one"})
    found = await finished(cikit, href)
    assert (found["state"], found["error"], found["errorId"]) == ("failed", "Droplet one exited with code 3", 900)


async def test_a_job_whose_engine_goes_away_fails_with_503(cikit: Cikit, droplets: Fleet) -> None:
    droplets.engine.hold.clear()
    href = await begun(cikit, "POST", "droplet/add")
    await until(cikit, "starting")
    droplets.engine.leave()
    await until(cikit, "unknown")
    droplets.engine.hold.set()
    found = await finished(cikit, href)
    assert (found["state"], found["error"], found["errorId"]) == ("failed", "The droplet engine cannot be reached", 503)


async def test_a_job_that_waits_for_what_is_deleted_meanwhile_fails(cikit: Cikit, droplets: Fleet) -> None:
    await add(cikit, name="one")
    droplets.engine.hold.clear()  # neither is done before both are begun
    await begun(cikit, "PATCH", "droplet/restart/one")
    await until(cikit, "starting")
    gone, late = [await begun(cikit, "DELETE", "droplet/delete/one"), await begun(cikit, "PATCH", "droplet/stop/one")]
    droplets.engine.hold.set()
    assert (await finished(cikit, gone))["state"] == "done"
    found = await finished(cikit, late)
    assert (found["state"], found["error"], found["errorId"]) == ("failed", NOBODY.format("one"), 900)


async def test_a_job_that_was_cut_off_is_interrupted(cikit: Cikit, droplets: Fleet) -> None:
    droplets.engine.hold.clear()
    href = await begun(cikit, "POST", "droplet/add")
    await cikit.house.control.jobs.close()
    await cikit.house.control.jobs.open()
    found = await finished(cikit, href)
    assert (found["state"], found["error"], found["errorId"]) == ("failed", "interrupted", 900)
    droplets.engine.hold.set()


async def test_a_job_that_meets_a_mistake_of_ours_fails_and_says_where_to_look(
    cikit: Cikit, droplets: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    await add(cikit, name="one")
    await add(cikit, name="two")
    droplets.engine.defect = RuntimeError("out of order")
    href = await begun(cikit, "PATCH", "droplet/stop/one")
    found = await finished(cikit, href)
    ident = href.rpartition("/")[2]
    text = f"Internal error; the log of Ostiary has it under job {ident}"
    assert (found["state"], found["error"], found["errorId"]) == ("failed", text, 900)
    [line] = [each for each in caplog.records if each.getMessage().startswith("A job failed")]
    assert (line.getMessage(), line.exc_info) == ("A job failed: RuntimeError: out of order", None)
    pairs = line.__dict__["pairs"]
    assert (pairs["job"], pairs["operation"], pairs["droplet"]) == (ident, "droplets.stop", "one")
    assert re.fullmatch(r"drivers\.py:\d+", pairs["where"])
    assert (await changes(cikit))[2:] == [("droplets.stop", "one", "done"), ("droplets.stop", "one", "internal")]
    assert (await finished(cikit, await begun(cikit, "PATCH", "droplet/stop/two")))["state"] == "done"
    assert (await finished(cikit, await begun(cikit, "PATCH", "droplet/stop/one")))["state"] == "done"


@pytest.mark.parametrize("ident", ["bla", "0" * 16, "%00", "x" * 15_000, "'--"])
async def test_an_unknown_job_is_925(cikit: Cikit, droplets: Fleet, ident: str) -> None:
    assert said(await ask(cikit, "GET", f"job/{ident}")) == NO_JOB


@pytest.mark.parametrize("query", ["wait=no", "wait=", "wait=False", "wait=0", "wait=true&wait=false"])
async def test_a_wait_that_is_no_truth_changes_nothing(cikit: Cikit, droplets: Fleet, query: str) -> None:
    text = "A parameter of the query is given more than once" if "&" in query else "wait must be true or false"
    await add(cikit, name="one")
    calls = list(droplets.engine.calls)
    for method, path in (("POST", "droplet/add"), ("PATCH", "droplet/stop/one"), ("DELETE", "droplet/delete/nobody")):
        assert said(await ask(cikit, method, f"{path}?{query}")) == no(400, 0, text)
    assert droplets.engine.calls == calls
    assert (await ask(cikit, "PATCH", "droplet/start/one?wait=true")).status == 200


# -- logs and figures


async def with_lines(cikit: Cikit, droplets: Fleet, *lines: bytes) -> None:
    await add(cikit, name="one")
    droplets.engine.lives[droplets.engine.named("one")].lines.extend(lines)


async def test_logs_are_plain_text_byte_for_byte(cikit: Cikit, droplets: Fleet) -> None:
    await with_lines(cikit, droplets, b"first", b"\xff\0\x1b[31m", "ä".encode())
    answer = await ask(cikit, "GET", "droplet/logs/one")
    assert (answer.status, answer.body) == (200, b"first\n\xff\0\x1b[31m\n\xc3\xa4\n")
    assert header(answer, "Content-Type") == "text/plain; charset=utf-8"
    assert header(answer, "Cache-Control") == "no-store"
    assert (await ask(cikit, "GET", "droplet/logs/one?tail=1")).body == b"\xc3\xa4\n"
    assert (await ask(cikit, "GET", "droplet/logs/one?tail=0")).body == b""
    assert (await ask(cikit, "HEAD", "droplet/logs/one")).status == 200


async def test_a_hundred_lines_are_shown_unless_asked_for_more(cikit: Cikit, droplets: Fleet) -> None:
    await with_lines(cikit, droplets, *(b"%d" % number for number in range(20_000)))
    assert (await ask(cikit, "GET", "droplet/logs/one")).body.splitlines()[0] == b"19900"
    assert (await ask(cikit, "GET", "droplet/logs/one?tail=10000")).body.splitlines()[0] == b"10000"


@pytest.mark.parametrize("tail", ["-1", "10001", "1e3", "", "abc", "1.5", "٣", "+1", "0x10", "9" * 5000, "null"])
async def test_a_tail_that_is_no_such_number_is_refused(cikit: Cikit, droplets: Fleet, tail: str) -> None:
    await with_lines(cikit, droplets)
    wrong = no(400, 0, "tail must be a number from 0 to 10000")
    for name in ("one", "nobody"):
        assert said(await ask(cikit, "GET", f"droplet/logs/{name}?tail={tail.replace('+', '%2B')}")) == wrong
    assert said(await ask(cikit, "GET", "droplet/logs/one?follow=1")) == no(400, 0, "follow must be true or false")


async def test_what_is_followed_comes_line_by_line(cikit: Cikit, droplets: Fleet) -> None:
    await with_lines(cikit, droplets, b"first", b"second", b"third")
    answer = await ask(cikit, "GET", "droplet/logs/one?follow=true&tail=2")
    assert (answer.status, answer.body) == (200, b"")
    assert header(answer, "Content-Type") == "text/plain; charset=utf-8"
    assert answer.stream is not None
    assert [piece async for piece in answer.stream] == [b"second\n", b"third\n"]


async def test_nothing_is_followed_of_what_the_engine_has_nothing_of(cikit: Cikit, droplets: Fleet) -> None:
    await with_lines(cikit, droplets, b"first")
    answer = await ask(cikit, "GET", "droplet/logs/one?follow=true")
    await ask(cikit, "DELETE", "droplet/delete/one")
    assert answer.stream is not None
    assert [piece async for piece in answer.stream] == []


async def test_whose_token_is_ended_while_they_follow_is_told_nothing_more(cikit: Cikit, droplets: Fleet) -> None:
    cikit.house.desk.looks_again = 0.0
    await with_lines(cikit, droplets, b"first", b"second")
    await cikit.add("ann", "manager")
    token = (await cikit.sign_in("ann")).access
    answer = await cikit.ask("GET", "droplet/logs/one?follow=true", b"", token)
    assert answer.stream is not None
    assert await anext(answer.stream) == b"first\n"
    await ask(cikit, "DELETE", "user/delete/ann")
    assert [piece async for piece in answer.stream] == []


async def test_stats_say_what_is_known(cikit: Cikit, droplets: Fleet) -> None:
    await add(cikit, name="one")
    cikit.house.now += 90 * SECOND
    assert said(await ask(cikit, "GET", "droplet/stats/one")) == (200, json_of({
        "cpu_seconds": 1.5, "memory_bytes": 1024, "pids": 2, "uptime_seconds": 90, "restarts": 0,
        "at": "2015-11-08T16:28:40.000Z",
    }))  # fmt: skip
    await ask(cikit, "PATCH", "droplet/stop/one")
    found = json.loads((await ask(cikit, "GET", "droplet/stats/one")).body)
    assert [found[name] for name in ("cpu_seconds", "memory_bytes", "pids", "uptime_seconds")] == [None] * 4


# -- several at once


async def test_twenty_adds_at_once_make_twenty_droplets_with_distinct_names_and_ports(
    cikit: Cikit, droplets: Fleet
) -> None:
    answers = await asyncio.gather(*(ask(cikit, "POST", "droplet/add") for _ in range(20)))
    assert [each.status for each in answers] == [200] * 20
    found = listed(await ask(cikit, "GET", "droplet/list"))
    assert len({each["name"] for each in found}) == 20
    assert len({port["from"]["port"] for each in found for port in each["ports"].values()}) == 60


async def test_of_two_adds_of_one_name_at_once_one_wins(cikit: Cikit, droplets: Fleet) -> None:
    answers = await asyncio.gather(*(ask(cikit, "POST", "droplet/add", {"name": "one"}) for _ in range(2)))
    assert sorted(each.status for each in answers) == [200, 409]
    assert named(await ask(cikit, "GET", "droplet/list")) == ["one"]
