"""Apps over the Deis surface: each row, who may, what is refused in which words, and that a release is whole or not."""

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest
from msgspec.structs import replace
from tests.dialects.doorman import entered
from tests.dialects.doorman import said as doorman_said
from tests.dialects.fleet import Fleet, fleet
from tests.dialects.house import OWNER, PASSWORD, House
from tests.dialects.test_apifest import said
from tests.dialects.test_deis import FORBIDDEN, NOT_FOUND, SYSTEM, Client, body, header

from ostiary.control.roles import CreateRole
from ostiary.core.snapshot import SECOND
from ostiary.dialects.message import FORM

BUSY = (409, '{"detail":"Another operation on shop is in progress."}')
TIME = "2015-11-08T16:26:40UTC"


class Apps(Client):
    """Asks about apps."""

    fleet: Fleet

    async def made(self, name: str, by: str = "bob", **more: object) -> None:
        answer = await self.ask("POST", "/apps", {"id": name, **more}, by=by)
        assert answer.status == 201, answer.body

    async def scaled(self, name: str, **wanted: int) -> None:
        answer = await self.ask("POST", f"/apps/{name}/scale", wanted, by="bob")
        assert (answer.status, answer.body) == (204, b"")

    async def states(self, name: str = "shop") -> list[tuple[str, str, str]]:
        found = body(await self.ask("GET", f"/apps/{name}/containers", by="bob"))["results"]
        return [(f"{each['type']}.{each['num']}", each["state"], each["release"]) for each in found]

    async def log(self, name: str = "shop", query: str = "") -> list[str]:
        text = body(await self.ask("GET", f"/apps/{name}/logs{query}", by="bob"))
        assert text.endswith("\n")
        return [line.partition(" ")[2] for line in text[:-1].split("\n")]

    def envs(self) -> dict[str, dict[str, str]]:
        """Of what runs now: its name and its variables of one letter."""
        lives = [life for life in self.fleet.engine.lives.values() if life.seen.state == "running"]
        return {life.spec.name: {key: value for key, value in life.spec.env.items() if len(key) == 1} for life in lives}


@pytest.fixture
async def deis(house: House) -> AsyncIterator[Apps]:
    """With the owner, and bob, al and eve, members, logged in."""
    client = Apps(house)
    await client.login(OWNER, PASSWORD)
    for name in ("bob", "al", "eve"):
        await client.member(name)
    async with fleet(house) as client.fleet:
        ticks = count(house.now)
        client.fleet.engine.clock = lambda: next(ticks)  # no two lives begin at the same moment
        yield client
    await house.control.formations.close()


# -- whose they are


async def test_the_life_of_an_app(deis: Apps) -> None:
    answer = await deis.ask("POST", "/apps", {"id": "shop"}, by="bob")
    made = body(answer)
    assert (answer.status, header(answer, "Location")) == (201, ["/v1/apps/shop"])
    assert list(made) == ["uuid", "id", "owner", "url", "structure", "created", "updated"]
    assert made == {
        "uuid": made["uuid"], "id": "shop", "owner": "bob", "url": "shop.ostiary.local", "structure": {},
        "created": TIME, "updated": TIME,
    }  # fmt: skip
    assert len(made["uuid"]) == 36
    assert body(await deis.ask("GET", "/apps/shop/", by="bob")) == made
    assert body(await deis.ask("GET", "/apps", by="bob"))["results"] == [made]
    for path in ("containers", "domains", "builds", "containers/web"):
        page: dict[str, object] = {"count": 0, "next": None, "previous": None, "results": []}
        assert body(await deis.ask("GET", f"/apps/shop/{path}", by="bob")) == page
    assert await deis.log() == ["ostiary[api]: bob created initial release"]
    assert said(await deis.ask("DELETE", "/apps/shop", by="bob")) == (204, "")
    assert said(await deis.ask("GET", "/apps/shop", by="bob")) == NOT_FOUND
    assert said(await deis.ask("DELETE", "/apps/shop", by="bob")) == NOT_FOUND


CREATE_ERRORS: list[tuple[object, str]] = [
    ({"id": "taken"}, '{"id":["This field must be unique."]}'),
    ({"id": "Web"}, '{"id":["App IDs can only contain [a-z0-9-]."]}'),
    ({"id": "-a"}, '{"id":["App IDs can only contain [a-z0-9-]."]}'),
    ({"id": "deis"}, '{"id":["deis is a reserved name."]}'),
    ({"id": "a" * 65}, '{"id":["Ensure this field has no more than 64 characters."]}'),
    ({"id": 5}, '{"id":["Not a valid string."]}'),
    ({"template": "nothing"}, '{"template":["Unknown template or image."]}'),
    (
        {"id": "a_b", "template": "nothing"},
        '{"id":["App IDs can only contain [a-z0-9-]."],"template":["Unknown template or image."]}',
    ),
    (
        {"id": "taken", "template": "nothing"},
        '{"id":["This field must be unique."],"template":["Unknown template or image."]}',
    ),
    ({"id": [], "template": "nothing"}, '{"id":["Not a valid string."],"template":["Unknown template or image."]}'),
    (
        {"id": "a_b", "template": 5},
        '{"id":["App IDs can only contain [a-z0-9-]."],"template":["Not a valid string."]}',
    ),
    ([], '{"detail":"Expected a JSON object."}'),
]


@pytest.mark.parametrize(("sent", "text"), CREATE_ERRORS)
async def test_what_is_no_app(deis: Apps, sent: object, text: str) -> None:
    await deis.made("taken")
    assert said(await deis.ask("POST", "/apps", sent, by="eve")) == (400, text)


async def test_an_id_is_made_up(deis: Apps) -> None:
    names = {body(await deis.ask("POST", "/apps", sent, by="bob"))["id"] for sent in (b"", {}, {"id": None})}
    assert len(names) == 3
    assert all(name.count("-") >= 1 for name in names)


async def test_there_are_so_many_apps_of_one_owner(deis: Apps) -> None:
    rules = deis.house.control.rules
    deis.house.control.rules = replace(rules, apps=replace(rules.apps, max_apps=1))
    await deis.made("one")
    limit = (403, '{"detail":"You have reached the limit of apps."}')
    assert said(await deis.ask("POST", "/apps", {"id": "two"}, by="bob")) == limit
    await deis.made("two", by="al")
    full = (409, '{"detail":"The new owner has reached the limit of apps"}')
    assert said(await deis.ask("POST", "/apps/one", {"owner": "al"}, by="bob")) == full
    assert body(await deis.ask("GET", "/apps/one", by="bob"))["owner"] == "bob"
    assert said(await deis.ask("POST", "/apps/one", {"owner": "bob"}, by="bob")) == (200, "")


APP_PATHS = [
    ("GET", ""), ("POST", ""), ("DELETE", ""), ("GET", "/perms"), ("POST", "/perms"), ("DELETE", "/perms/al"),
    ("GET", "/config"), ("POST", "/config"), ("GET", "/builds"), ("POST", "/builds"), ("GET", "/containers"),
    ("GET", "/containers/web"), ("GET", "/containers/web/1"), ("POST", "/containers/restart"),
    ("POST", "/containers/web/restart"), ("POST", "/containers/web/1/restart"), ("POST", "/scale"), ("GET", "/logs"),
    ("GET", "/domains"), ("POST", "/domains"), ("DELETE", "/domains/x"), ("GET", "/releases"), ("POST", "/run"),
    ("GET", "/releases/v1"), ("POST", "/releases/rollback"), ("GET", "/builds/5"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), APP_PATHS)
async def test_strangers_see_no_difference_between_an_app_and_none(deis: Apps, method: str, path: str) -> None:
    await deis.made("shop")
    answers = [await deis.ask(method, f"/apps/{name}{path}", b"garbage", by="eve") for name in ("shop", "none", "A_b")]
    assert [said(answer) for answer in answers] == [NOT_FOUND] * 3
    assert answers[0].headers == answers[1].headers
    assert (await deis.ask(method, f"/apps/shop{path}", b"garbage")).status == 401


async def test_who_may_work_with_no_app_is_a_stranger_too(deis: Apps) -> None:
    await deis.made("shop")
    await deis.house.desk.run("roles.create", CreateRole("reader", ["routes:read"]), SYSTEM)
    await deis.role("eve", "reader")
    for method, path in APP_PATHS:
        answers = [await deis.ask(method, f"/apps/{name}{path}", by="eve") for name in ("shop", "none")]
        assert [said(answer) for answer in answers] == [NOT_FOUND] * 2
    assert said(await deis.ask("GET", "/apps", by="eve")) == FORBIDDEN


CHANGES = [("DELETE", ""), ("DELETE", "/perms/nobody"), ("POST", "/containers/restart"), ("POST", "/scale")]


@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_what_is_no_request_changes_nothing(deis: Apps, method: str, path: str) -> None:
    await deis.made("shop")
    answer = await deis.ask(method, f"/apps/shop{path}", b"{", by="bob")
    assert said(answer) == (400, '{"detail":"JSON parse error - the body is not JSON."}')
    assert (await deis.ask("GET", "/apps/shop", by="bob")).status == 200


async def test_collaborators_work_with_an_app_that_is_not_theirs(deis: Apps) -> None:
    await deis.made("shop")
    assert body(await deis.ask("GET", "/apps/shop/perms", by="bob")) == {"users": []}
    for _ in range(2):
        assert said(await deis.ask("POST", "/apps/shop/perms", {"username": "al"}, by="bob")) == (201, "")
    assert said(await deis.ask("POST", "/apps/shop/perms", {"username": "bob"}, by="bob")) == (201, "")
    assert said(await deis.ask("GET", "/apps/shop/perms", by="al")) == (200, '{"users":["al"]}')
    assert [app["id"] for app in body(await deis.ask("GET", "/apps", by="al"))["results"]] == ["shop"]
    assert (await deis.ask("POST", "/apps/shop/scale", {"web": 1}, by="al")).status == 204
    for method, path, sent in (
        ("POST", "", {"owner": "al"}), ("DELETE", "", b""), ("POST", "/perms", b"garbage"),
        ("DELETE", "/perms/bob", b""), ("DELETE", "/perms/nobody", b""),
    ):  # fmt: skip
        assert said(await deis.ask(method, f"/apps/shop{path}", sent, by="al")) == FORBIDDEN
    assert said(await deis.ask("DELETE", "/apps/shop/perms/al", by="al")) == (204, "")
    assert said(await deis.ask("GET", "/apps/shop", by="al")) == NOT_FOUND


async def test_grants_that_cannot_be(deis: Apps) -> None:
    await deis.made("shop")
    missing = (400, '{"username":["This field is required."]}')
    assert said(await deis.ask("POST", "/apps/shop/perms", {}, by="bob")) == missing
    assert said(await deis.ask("POST", "/apps/shop/perms", {"username": "zed"}, by="bob")) == NOT_FOUND
    assert said(await deis.ask("DELETE", "/apps/shop/perms/zed", by="bob")) == NOT_FOUND
    assert said(await deis.ask("DELETE", "/apps/shop/perms/al", by="bob")) == FORBIDDEN


async def test_an_app_is_given_away(deis: Apps) -> None:
    await deis.made("shop")
    assert said(await deis.ask("POST", "/apps/shop", {}, by="bob")) == (400, '{"owner":["This field is required."]}')
    assert said(await deis.ask("POST", "/apps/shop", {"owner": "zed"}, by="bob")) == NOT_FOUND
    assert said(await deis.ask("POST", "/apps/shop", {"owner": "al"}, by="bob")) == (200, "")
    assert said(await deis.ask("GET", "/apps/shop", by="bob")) == NOT_FOUND
    assert body(await deis.ask("GET", "/apps/shop", by="al"))["owner"] == "al"


async def test_administrators_may_do_everything_with_every_app(deis: Apps) -> None:
    await deis.made("shop")
    await deis.made("own", by=OWNER)
    listed = body(await deis.ask("GET", "/apps?page_size=1", by=OWNER))
    assert (listed["count"], listed["results"][0]["id"]) == (2, "own")
    assert listed["next"].endswith("/v1/apps?page_size=1&page=2")
    assert (await deis.ask("POST", "/apps/shop/perms", {"username": "al"}, by=OWNER)).status == 201
    assert (await deis.ask("DELETE", "/apps/shop", by=OWNER)).status == 204


async def test_who_owns_an_app_cannot_leave(deis: Apps) -> None:
    await deis.made("shop")
    text = '{"detail":"bob still has applications assigned. Delete or transfer ownership"}'
    assert said(await deis.ask("DELETE", "/auth/cancel", by="bob")) == (409, text)
    assert said(await deis.ask("DELETE", "/auth/cancel", {"username": "bob"}, by=OWNER)) == (409, text)
    await deis.ask("DELETE", "/apps/shop", by="bob")
    assert (await deis.ask("DELETE", "/auth/cancel", by="bob")).status == 204


async def test_what_is_not_served_says_its_name(deis: Apps) -> None:
    await deis.made("shop")
    for method, path, name in (
        ("GET", "releases", "releases"), ("POST", "releases/rollback", "releases"), ("POST", "run", "run"),
        ("GET", "builds/5", "builds"), ("POST", "domains", "domains"), ("DELETE", "domains/x", "domains"),
    ):  # fmt: skip
        text = f'{{"detail":"Not supported by this controller: {name}"}}'
        assert said(await deis.ask(method, f"/apps/shop/{path}", by="bob")) == (501, text)
    for method, path in (("PUT", ""), ("PATCH", "/config"), ("DELETE", "/containers/web/1"), ("POST", "/logs")):
        assert (await deis.ask(method, f"/apps/shop{path}", by="bob")).status == 405


# -- what they run


async def test_scale_list_restart_scale_down_destroy(deis: Apps) -> None:
    await deis.made("shop")
    await deis.scaled("shop", web=3)
    assert await deis.states() == [("web.1", "up", "v1"), ("web.2", "up", "v1"), ("web.3", "up", "v1")]
    found = body(await deis.ask("GET", "/apps/shop/containers/web/2", by="bob"))
    assert list(found) == ["owner", "app", "release", "type", "num", "state", "created", "updated", "uuid"]
    assert (found["owner"], len(found["uuid"])) == ("bob", 36)
    assert body(await deis.ask("GET", "/apps/shop", by="bob"))["structure"] == {"web": 3}
    assert [each.name for each in deis.house.control.reconciler.all()][::-1] == [
        "shop.web.1",
        "shop.web.2",
        "shop.web.3",
    ]
    starts = [life.starts for life in deis.fleet.engine.lives.values()]
    restarted = body(await deis.ask("POST", "/apps/shop/containers/web/2/restart", by="bob"))
    assert [each["num"] for each in restarted] == [2]
    assert len(body(await deis.ask("POST", "/apps/shop/containers/restart/", by="bob"))) == 3
    assert [life.starts for life in deis.fleet.engine.lives.values()] == [starts[0] + 1, starts[1] + 2, starts[2] + 1]
    await deis.scaled("shop", web=1)
    assert await deis.states() == [("web.1", "up", "v1")]
    assert body(await deis.ask("POST", "/apps/shop/containers/web/restart", by="bob"))[0]["num"] == 1
    assert said(await deis.ask("DELETE", "/apps/shop", by="bob")) == (204, "")
    assert (deis.fleet.engine.lives, deis.house.control.reconciler.all()) == ({}, [])


@pytest.mark.parametrize(
    "path",
    [
        "containers/job", "containers/web/9", "containers/web/0", "containers/web/x", "containers/web/-1",
        "containers/job/1", "containers/web%2F1", f"containers/{'w' * 5000}", "containers/web/99999999999999999999",
    ],
)  # fmt: skip
async def test_containers_that_are_not_there(deis: Apps, path: str) -> None:
    await deis.made("shop")
    await deis.scaled("shop", web=1)
    assert said(await deis.ask("GET", f"/apps/shop/{path}", by="bob")) == NOT_FOUND
    assert said(await deis.ask("POST", f"/apps/shop/{path}/restart", by="bob")) == NOT_FOUND


SCALE_ERRORS: list[tuple[object, str]] = [
    ({}, "Invalid scaling format"),
    (b"", "Invalid scaling format"),
    ({"web": "not_an_int"}, "Invalid scaling format"),
    ({"web": "2"}, "Invalid scaling format"),
    ({"web": True}, "Invalid scaling format"),
    ({"web": 1.5}, "Invalid scaling format"),
    ({"web": None}, "Invalid scaling format"),
    ({"web": -1, "job": {}}, "Invalid scaling format"),
    ({"web": -1}, "Must be greater than or equal to zero"),
    ({"web": 33}, "Must be less than or equal to 32"),
    ({"web": 10**18}, "Must be less than or equal to 32"),
    ({"nope": 1}, "Container type nope does not exist in application"),
    ({"": 0}, "Container type  does not exist in application"),
    ({"web.1; rm -rf /": 1}, "Container type web.1; rm -rf / does not exist in application"),
]


@pytest.mark.parametrize(("sent", "text"), SCALE_ERRORS)
async def test_what_cannot_be_scaled(deis: Apps, sent: object, text: str) -> None:
    await deis.made("shop")
    assert said(await deis.ask("POST", "/apps/shop/scale", sent, by="bob")) == (400, f'{{"detail":"{text}"}}')
    assert await deis.states() == []


async def test_without_a_template_nothing_can_be_scaled(deis: Apps) -> None:
    deis.fleet.rule(default="")
    await deis.made("shop")
    none = (400, '{"detail":"No build associated with this release"}')
    assert said(await deis.ask("POST", "/apps/shop/scale", {"web": 1}, by="bob")) == none
    assert (await deis.ask("POST", "/apps/shop/builds", {"image": "web"}, by="bob")).status == 201
    await deis.scaled("shop", web=1)
    assert await deis.states() == [("web.1", "up", "v2")]


async def test_a_scale_that_fails_leaves_nothing_behind(deis: Apps) -> None:
    await deis.made("shop", template="crash")
    answer = await deis.ask("POST", "/apps/shop/scale", {"web": 2}, by="bob")
    text = "web.1 did not become healthy: Droplet shop.web.1 exited with code 3"
    assert said(answer) == (503, f'{{"detail":"{text}"}}')
    assert (await deis.states(), deis.fleet.engine.lives) == ([], {})
    assert body(await deis.ask("GET", "/apps/shop", by="bob"))["structure"] == {}
    assert (await deis.log())[-1] == f"ostiary[api]: bob could not scale containers web=2: {text}"


async def test_when_the_node_is_full_a_scale_is_taken_back(deis: Apps) -> None:
    deis.fleet.rule(max=2)
    await deis.made("shop")
    await deis.scaled("shop", web=1)
    answer = await deis.ask("POST", "/apps/shop/scale", {"web": 3}, by="bob")
    assert answer.status == 503
    assert await deis.states() == [("web.1", "up", "v1")]


async def test_config_is_merged_and_each_change_is_a_release(deis: Apps) -> None:
    await deis.made("shop")
    await deis.scaled("shop", web=2)
    first = body(await deis.ask("GET", "/apps/shop/config", by="bob"))
    assert list(first) == ["uuid", "app", "owner", "values", "memory", "cpu", "tags", "created", "updated"]
    assert (first["owner"], first["values"], first["memory"]) == ("bob", {}, {})
    for number, (sent, values) in enumerate(
        [
            ('{"A": "1", "B": 2}', {"A": "1", "B": 2}),
            ({"C": "x", "A": "y"}, {"A": "y", "B": 2, "C": "x"}),
            ('{"A": null, "Z": null}', {"B": 2, "C": "x"}),
        ],
        2,
    ):
        answer = await deis.ask("POST", "/apps/shop/config", {"values": sent}, by="bob")
        assert (answer.status, body(answer)["values"]) == (201, values)
        assert (header(answer, "X-Deis-Release"), header(answer, "Deis-Release")) == ([str(number)], [str(number)])
        assert await deis.states() == [("web.1", "up", f"v{number}"), ("web.2", "up", f"v{number}")]
    assert deis.envs() == {"shop.web.1": {"B": "2", "C": "x"}, "shop.web.2": {"B": "2", "C": "x"}}
    assert (await deis.log())[-3:] == [
        "ostiary[api]: bob added A, B: v2",
        "ostiary[api]: bob added C, changed A: v3",
        "ostiary[api]: bob deleted A: v4",
    ]


async def test_the_same_config_again_restarts_nothing(deis: Apps) -> None:
    await deis.made("shop")
    await deis.scaled("shop", web=1)
    await deis.ask("POST", "/apps/shop/config", {"values": {"A": "1"}}, by="bob")
    [life] = deis.fleet.engine.lives.values()
    starts = life.starts
    for sent in ({"A": "1"}, {}, {"Q": None}):
        answer = await deis.ask("POST", "/apps/shop/config", {"values": sent}, by="bob")
        assert (answer.status, header(answer, "X-Deis-Release")) == (201, ["2"])
    assert [each.starts for each in deis.fleet.engine.lives.values()] == [starts]


CONFIG_ERRORS: list[tuple[object, int, str]] = [
    ({}, 400, '{"values":["This field is required."]}'),
    ({"values": []}, 400, '{"values":["Expected a JSON object."]}'),
    ({"values": None}, 400, '{"values":["Expected a JSON object."]}'),
    ({"values": "nope"}, 400, '{"values":["Expected a JSON object."]}'),
    ({"values": "[" * 5000}, 400, '{"values":["Expected a JSON object."]}'),
    ({"values": {"1A": "x"}}, 400, '{"values":["Invalid variable: 1A"]}'),
    ({"values": {"PATH": "x"}}, 400, '{"values":["Invalid variable: PATH"]}'),
    ({"values": {"A": True}}, 400, '{"values":["Invalid variable: A"]}'),
    ({"values": {"A": 1.5}}, 400, '{"values":["Invalid variable: A"]}'),
    ({"values": {"A": {}}}, 400, '{"values":["Invalid variable: A"]}'),
    ({"values": {"A": "\0"}}, 400, '{"values":["Invalid variable: A"]}'),
    ({"values": {"A": 10**19}}, 400, '{"values":["Invalid variable: A"]}'),
    ({"memory": {"web": "1G"}}, 501, '{"detail":"Not supported by this controller: limits"}'),
    ({"cpu": '{"web": 1}', "values": {}}, 501, '{"detail":"Not supported by this controller: limits"}'),
    ({"tags": {"a": "b"}}, 501, '{"detail":"Not supported by this controller: tags"}'),
]


@pytest.mark.parametrize(("sent", "status", "text"), CONFIG_ERRORS)
async def test_what_is_no_config(deis: Apps, sent: object, status: int, text: str) -> None:
    await deis.made("shop")
    assert said(await deis.ask("POST", "/apps/shop/config", sent, by="bob")) == (status, text)
    assert body(await deis.ask("GET", "/apps/shop/config", by="bob"))["values"] == {}


async def test_config_as_a_form(deis: Apps) -> None:
    await deis.made("shop")
    answer = await deis.ask(
        "POST", "/apps/shop/config", b"values=%7B%22A%22%3A1%7D&memory=%7B%7D", by="bob", media=FORM
    )
    assert (answer.status, body(answer)["values"]) == (201, {"A": 1})


async def test_a_release_that_does_not_become_healthy_is_taken_back(deis: Apps) -> None:
    await deis.made("shop")
    await deis.scaled("shop", web=2)
    answer = await deis.ask("POST", "/apps/shop/builds", {"image": "crash"}, by="bob")
    text = "web.1 did not become healthy: Droplet shop.web.1 exited with code 3"
    assert said(answer) == (503, f'{{"detail":"{text}"}}')
    assert await deis.states() == [("web.1", "up", "v1"), ("web.2", "up", "v1")]
    assert [life.spec.command for life in deis.fleet.engine.lives.values()] == [("web",), ("web",)]
    assert body(await deis.ask("GET", "/apps/shop/builds", by="bob"))["count"] == 0
    assert (await deis.log())[-1] == f"ostiary[api]: bob could not release v2 (deployed crash): {text}"
    answer = await deis.ask("POST", "/apps/shop/config", {"values": {"A": "1"}}, by="bob")
    assert header(answer, "X-Deis-Release") == ["2"]


async def test_a_build_is_rolled_like_config(deis: Apps) -> None:
    await deis.made("shop")
    await deis.scaled("shop", web=2)
    await deis.ask("POST", "/apps/shop/config", {"values": {"A": "1"}}, by="bob")
    answer = await deis.ask("POST", "/apps/shop/builds", {"image": "hello:latest"}, by="bob")
    made = body(answer)
    assert (answer.status, header(answer, "X-Deis-Release")) == (201, ["3"])
    assert made == {
        "owner": "bob", "app": "shop", "image": "hello:latest", "sha": "", "procfile": {}, "dockerfile": "",
        "created": TIME, "updated": TIME, "uuid": made["uuid"],
    }  # fmt: skip
    assert body(await deis.ask("GET", "/apps/shop/builds", by="bob"))["results"] == [made]
    assert deis.envs() == {"shop.web.1": {"A": "1"}, "shop.web.2": {"A": "1"}}
    assert [life.spec.ports for life in deis.fleet.engine.lives.values()] == [{}, {}]
    assert (await deis.ask("POST", "/apps/shop/builds", {"image": "web"}, by="bob")).status == 201
    assert [len(life.spec.ports) for life in deis.fleet.engine.lives.values()] == [3, 3]
    await deis.scaled("shop", web=3)
    assert [each[2] for each in await deis.states()] == ["v4"] * 3


@pytest.mark.parametrize("image", ["nothing", "web:3", "", "registry.example/x", "../../etc", "web\n"])
async def test_what_is_no_build(deis: Apps, image: str) -> None:
    await deis.made("shop")
    text = '{"image":["Unknown template or image."]}' if image else '{"image":["This field may not be blank."]}'
    assert said(await deis.ask("POST", "/apps/shop/builds", {"image": image}, by="bob")) == (400, text)
    assert said(await deis.ask("POST", "/apps/shop/builds", {}, by="bob")) == (
        400,
        '{"image":["This field is required."]}',
    )


async def test_what_an_operator_has_stopped_stays_so_and_follows_when_it_starts(deis: Apps) -> None:
    await deis.made("shop")
    await deis.scaled("shop", web=2)
    reconciler = deis.house.control.reconciler
    await reconciler.stop("shop.web.2")
    await deis.ask("POST", "/apps/shop/config", {"values": {"A": "1"}}, by="bob")
    assert await deis.states() == [("web.1", "up", "v2"), ("web.2", "down", "v2")]
    assert len(body(await deis.ask("POST", "/apps/shop/containers/restart", by="bob"))) == 1
    await reconciler.start("shop.web.2")
    assert deis.envs() == {"shop.web.1": {"A": "1"}, "shop.web.2": {"A": "1"}}
    assert said(await deis.ask("POST", "/apps/shop/containers/web/2/restart", by="bob"))[0] == 200


async def test_operations_on_an_app_wait_for_each_other_and_give_up(deis: Apps) -> None:
    await deis.made("shop")
    deis.fleet.rule(lock_timeout=SECOND // 20)
    async with deis.house.control.formations.held("shop"):
        for method, path, sent in (
            ("POST", "/scale", {"web": 1}), ("POST", "/config", {"values": {"A": 1}}), ("DELETE", "", b""),
            ("POST", "/builds", {"image": "web"}), ("POST", "/containers/restart", b""),
        ):  # fmt: skip
            assert said(await deis.ask(method, f"/apps/shop{path}", sent, by="bob")) == BUSY
        assert (await deis.ask("POST", "/apps/shop/scale", {}, by="bob")).status == 400
        assert (await deis.ask("GET", "/apps/shop", by="bob")).status == 200


async def test_an_app_whose_deletion_has_begun_is_changed_no_more_and_goes(deis: Apps) -> None:
    await deis.made("shop")
    await deis.scaled("shop", web=1)
    deis.fleet.engine.leave()
    assert (await deis.ask("DELETE", "/apps/shop", by="bob")).status == 503
    for path, sent in (
        ("scale", {"web": 2}), ("config", {"values": {"A": 1}}), ("builds", {"image": "web"}),
        ("containers/restart", b""),
    ):  # fmt: skip
        assert said(await deis.ask("POST", f"/apps/shop/{path}", sent, by="bob")) == BUSY
    deis.fleet.engine.away = False
    deadline = asyncio.get_running_loop().time() + 60
    while (await deis.ask("GET", "/apps/shop", by="bob")).status == 200:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
    assert (deis.fleet.engine.lives, deis.house.control.reconciler.all()) == ({}, [])
    records: list[Any] = [each for each in await deis.house.audit() if each.operation == "apps.delete"]
    assert [(each.name, each.outcome) for each in records][::-1] == [
        ("bob", "begun"), ("bob", "driver.unavailable"), ("bob", "done")
    ]  # fmt: skip


async def test_many_at_once_end_in_one_clear_state(deis: Apps) -> None:
    await deis.made("shop")
    wanted = [{"web": count} for count in (3, 1, 2, 4, 0, 2)]
    answers = await asyncio.gather(*(deis.ask("POST", "/apps/shop/scale", each, by="bob") for each in wanted))
    assert [answer.status for answer in answers] == [204] * 6
    structure = body(await deis.ask("GET", "/apps/shop", by="bob"))["structure"]
    assert len(await deis.states()) == structure["web"]


async def test_logs_are_one_text_of_what_was_done_and_printed(deis: Apps) -> None:
    await deis.made("shop")
    await deis.scaled("shop", web=1)
    [life] = deis.fleet.engine.lives.values()
    life.lines = [b"one", b"\xff\x1b[31m", b"three"]
    assert await deis.log() == [
        "ostiary[api]: bob created initial release", "ostiary[api]: bob scaled containers web=1", "shop[web.1]: one",
        "shop[web.1]: \ufffd\x1b[31m", "shop[web.1]: three",
    ]  # fmt: skip
    assert await deis.log(query="?log_lines=1") == ["shop[web.1]: three"]
    for odd in ("0", "x", "-1", "99999999999999"):
        assert len(await deis.log(query=f"?log_lines={odd}")) == 5
    answer = await deis.ask("GET", "/apps/shop/logs", by="bob")
    assert header(answer, "Content-Type") == ["application/json"]
    assert isinstance(json.loads(answer.body), str)


async def test_lines_of_several_droplets_stand_in_the_order_in_which_they_were_printed(deis: Apps) -> None:
    await deis.made("shop")
    await deis.scaled("shop", web=2)
    one, two = sorted(deis.fleet.engine.lives.values(), key=lambda life: life.spec.name)
    noon = 1_800_000_000 * SECOND
    one.lines, one.times = [b"first", b"third"], [noon, noon + 2 * SECOND]
    two.lines, two.times = [b"second", b"last"], [noon + SECOND, noon + 3 * SECOND]
    text = body(await deis.ask("GET", "/apps/shop/logs?log_lines=4", by="bob"))
    assert text.splitlines() == [
        "2027-01-15T08:00:00UTC shop[web.1]: first", "2027-01-15T08:00:01UTC shop[web.2]: second",
        "2027-01-15T08:00:02UTC shop[web.1]: third", "2027-01-15T08:00:03UTC shop[web.2]: last",
    ]  # fmt: skip


async def test_values_are_sealed_and_in_no_log(deis: Apps) -> None:
    await deis.made("shop")
    await deis.ask("POST", "/apps/shop/config", {"values": {"KEY": "s3cret-value"}}, by="bob")
    kept = (deis.house.path / "ostiary.db").read_bytes() + (deis.house.path / "ostiary.db-wal").read_bytes()
    assert b"s3cret-value" not in kept
    assert "s3cret-value" not in "\n".join(await deis.log())
    assert "s3cret-value" not in repr(await deis.house.audit())


async def test_every_change_stands_in_the_audit_and_one_that_takes_its_time_before_it_is_done(deis: Apps) -> None:
    await deis.made("shop")
    await deis.scaled("shop", web=1)
    await deis.ask("POST", "/apps/shop/perms", {"username": "al"}, by="bob")
    await deis.ask("POST", "/apps/shop/config", {"values": {"A": "1"}}, by="bob")
    await deis.ask("POST", "/apps/shop/builds", {"image": "web"}, by="bob")
    await deis.ask("POST", "/apps/shop/containers/restart", by="bob")
    await deis.ask("DELETE", "/apps/shop/perms/al", by="bob")
    await deis.ask("DELETE", "/apps/shop", by="eve")
    await deis.ask("POST", "/apps/shop", {"owner": "al"}, by="bob")
    await deis.ask("DELETE", "/apps/shop", by="al")
    records: list[Any] = [each for each in await deis.house.audit() if each.operation.startswith("apps.")]
    assert [(each.name, each.operation, each.outcome) for each in records][::-1] == [
        ("bob", "apps.create", "done"), ("bob", "apps.scale", "begun"), ("bob", "apps.scale", "done"),
        ("bob", "apps.share", "done"), ("bob", "apps.configure", "begun"), ("bob", "apps.configure", "done"),
        ("bob", "apps.deploy", "begun"), ("bob", "apps.deploy", "done"), ("bob", "apps.restart", "begun"),
        ("bob", "apps.restart", "done"), ("bob", "apps.unshare", "done"), ("eve", "apps.delete", "app.unknown"),
        ("bob", "apps.transfer", "done"), ("al", "apps.delete", "begun"), ("al", "apps.delete", "done"),
    ]  # fmt: skip
    assert {each.target for each in records if each.name != "eve"} == {"shop"}


async def test_a_change_that_failed_after_it_began_says_so_in_the_audit(deis: Apps) -> None:
    await deis.made("shop", template="never")
    answer = await deis.ask("POST", "/apps/shop/scale", {"web": 1}, by="bob")
    assert answer.status == 503
    records: list[Any] = [each for each in await deis.house.audit() if each.operation == "apps.scale"]
    assert [(each.target, each.outcome) for each in records][::-1] == [("shop", "begun"), ("shop", "app.unhealthy")]


async def test_the_native_surface_has_the_same_apps(deis: Apps) -> None:
    await deis.made("shop")
    made = await deis.house.ask("POST", "/operations/apps.scale", {"app": "shop", "structure": {"web": 1}})
    assert (made.status, body(made)["structure"]) == (200, {"web": 1})
    for sent, status in (
        ({"app": "shop", "structure": {"web": "2"}}, 400), ({"app": "shop", "structure": {"nope": 2}}, 400),
        ({"app": "none", "structure": {"web": 2}}, 404), ({"app": "\0", "structure": {"web": 2}}, 404),
    ):  # fmt: skip
        assert (await deis.house.ask("POST", "/operations/apps.scale", sent)).status == status
    config = await deis.house.ask("POST", "/operations/apps.configure", {"app": "shop", "values": {"A": 1, "B": "x"}})
    assert (config.status, body(config)["release"]) == (200, 2)
    assert (
        await deis.house.ask("POST", "/operations/apps.configure", {"app": "shop", "values": {"A": True}})
    ).status == 400


async def test_on_the_other_surfaces_who_owns_an_app_cannot_be_deleted_either(deis: Apps) -> None:
    await deis.made("shop")
    headers = {"authorization": f"Bearer {deis.tokens[OWNER]}"}
    answer = await deis.house.ask("DELETE", "/api/v1/user/delete/bob", owner=False, headers=headers)
    assert said(answer) == (409, '{"error":"bob still owns apps","errorId":916}')
    visitor = await entered(deis.house, OWNER, PASSWORD)
    assert doorman_said(await visitor.ask("DELETE", "/platform/user/bob")) == (400, "USR003", "Unable to delete user")
