"""The Deis surface: frame, tokens, accounts, administrators, the registration switch; each row, error and header."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.dialects.house import OWNER, PASSWORD, House
from tests.dialects.test_apifest import said

from ostiary.control.call import Call
from ostiary.control.settings import SetSettings
from ostiary.control.users import OneUser, SetRole
from ostiary.core.configuration.settings import AdminSettings, DeisSettings, Settings
from ostiary.core.permission import ROLES, Principal
from ostiary.core.snapshot import SECOND
from ostiary.dialects.deis.rows import ROWS
from ostiary.dialects.message import FORM, Answer, Request
from ostiary.store.store import open_store

BOB = "correct-horse-7"
NEW = "battery-staple-8"
SYSTEM = Call(Principal("node", "test", ROLES["owner"]), "test")
NOT_FOUND = (404, '{"detail":"Not found"}')
FORBIDDEN = (403, '{"detail":"You do not have permission to perform this action."}')
NOT_PROVIDED = '{"detail":"Authentication credentials were not provided."}'
NO_LOGIN = (400, '{"non_field_errors":["Unable to log in with provided credentials."]}')
INVALID = (401, '{"detail":"Invalid token"}')


class Client:
    """Asks as the real client does: a token, a version, and JSON as the type of everything."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.tokens: dict[str, str] = {}

    async def ask(self, method: str, path: str, body: object = b"", *, by: str = "", **more: Any) -> Answer:
        headers = {"x-deis-version": "1", **more.pop("headers", {})}
        if by:
            headers["authorization"] = f"token {self.tokens.get(by, by)}"
        return await self.house.ask(method, f"/v1{path}", body, owner=False, headers=headers, **more)

    async def login(self, name: str, password: str = BOB) -> str:
        answer = await self.ask("POST", "/auth/login/", {"username": name, "password": password})
        assert answer.status == 200, answer.body
        self.tokens[name] = str(json.loads(answer.body)["token"])
        return self.tokens[name]

    async def register(self, name: str, **more: Any) -> Answer:
        return await self.ask("POST", "/auth/register", {"username": name, "password": BOB, **more})

    async def member(self, name: str) -> str:
        assert (await self.register(name)).status == 201
        return await self.login(name)

    async def role(self, name: str, role: str) -> None:
        await self.house.desk.run("users.set_role", SetRole(name, role), SYSTEM)

    async def switch(self, mode: str | None) -> None:
        await self.house.desk.run("settings.set", SetSettings({"registration.mode": mode}), SYSTEM)


@pytest.fixture
async def deis(house: House) -> Client:
    """With the owner and bob, a member, logged in."""
    client = Client(house)
    await client.login(OWNER, PASSWORD)
    await client.member("bob")
    return client


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[Client]:
    """Nobody is registered."""
    house = House(tmp_path, await open_store(f"sqlite:///{tmp_path}/ostiary.db"))
    await house.control.configuration.start()
    yield Client(house)
    await house.close()


def header(answer: Answer, name: str) -> list[str]:
    return [value for each, value in answer.headers if each.lower() == name.lower()]


def body(answer: Answer) -> Any:
    return json.loads(answer.body)


# -- frame

REASONS = [
    ("GET", "/v1/users", OWNER, b"", "200 OK"),
    ("POST", "/v1/auth/register", "", {"username": "r", "password": BOB}, "201 CREATED"),
    ("DELETE", "/v1/admin/perms/bob", OWNER, b"", "204 NO CONTENT"),
    ("POST", "/v1/auth/login", "", {}, "400 BAD REQUEST"),
    ("GET", "/v1/users", "", b"", "401 UNAUTHORIZED"),
    ("GET", "/v1/users", "bob", b"", "403 FORBIDDEN"),
    ("GET", "/v1/nothing", "", b"", "404 NOT FOUND"),
    ("PUT", "/v1/users", "", b"", "405 METHOD NOT ALLOWED"),
    ("DELETE", "/v1/auth/cancel", OWNER, b"", "409 CONFLICT"),
    ("POST", "/v1/auth/login", "", b"x" * 200_000, "413 CONTENT TOO LARGE"),
    ("GET", "/v1/keys", "bob", b"", "501 NOT IMPLEMENTED"),
]


@pytest.mark.parametrize(("method", "path", "by", "sent", "line"), REASONS)
async def test_every_answer_has_its_phrase_and_the_version(
    deis: Client, method: str, path: str, by: str, sent: object, line: str
) -> None:
    answer = await deis.ask(method, path.removeprefix("/v1"), sent, by=by)
    assert f"{answer.status} {answer.reason}" == line
    assert header(answer, "X_DEIS_API_VERSION") == ["1.1"]
    assert header(answer, "X_DEIS_PLATFORM_VERSION") == ["1.4.1"]
    assert header(answer, "DEIS_API_VERSION") == []
    assert header(answer, "Cache-Control") == ["no-store"]
    assert header(answer, "Access-Control-Allow-Origin") == []
    if answer.body:
        assert header(answer, "Content-Type") == ["application/json"]
        assert answer.body == msgspec.json.encode(msgspec.json.decode(answer.body))


async def test_newer_clients_see_their_version_or_none(deis: Client) -> None:
    deis.house.settings = Settings(deis=DeisSettings(api_version="1.5"))
    answer = await deis.ask("GET", "/nothing")
    for name in ("X_DEIS_API_VERSION", "DEIS_API_VERSION"):
        assert header(answer, name) == ["1.5"]
    for name in ("X_DEIS_PLATFORM_VERSION", "DEIS_PLATFORM_VERSION"):
        assert header(answer, name) == ["1.8.0"]
    deis.house.settings = Settings(deis=DeisSettings(api_version="none"))
    assert [name for name, _ in (await deis.ask("GET", "/nothing")).headers if "DEIS" in name] == []


async def test_what_is_no_request_is_refused_in_the_same_words(house: House) -> None:
    answer = house.router.refuse(Request("", "/v1/apps"), 431, "the head is too large")
    assert (said(answer), answer.reason) == (
        (431, '{"detail":"The head is too large"}'),
        "REQUEST HEADER FIELDS TOO LARGE",
    )


PATHS = [
    ("GET", "/v1", 401), ("GET", "/v1/", 401), ("GET", "/v1//", 404), ("GET", "/v1x", 404), ("GET", "/v10/users", 404),
    ("GET", "/v1/users", 401), ("GET", "/v1/users/", 401), ("GET", "/v1/users//", 404), ("GET", "/v1/Users", 404),
    ("GET", "/v1/usersXYZ", 404), ("GET", "/v1/appsXYZ", 404), ("GET", "/v1/users/bob", 404),
    ("DELETE", "/v1/admin/perms/bob/", 401), ("DELETE", "/v1/admin/perms/bob/x", 404), ("GET", "/v1/admin", 404),
    ("DELETE", "/v1/admin/perms", 405), ("DELETE", "/v1/admin/perms//", 404), ("GET", "/v1/auth/login", 405),
    ("GET", "/v1/apps/x/containers/web/1/", 401), ("GET", "/v1/apps/x/containers/web/1/2", 404),
    ("GET", "/v1/apps//perms", 404), ("PUT", "/v1/apps/x", 405), ("PATCH", "/v1/apps/x", 405),
    ("GET", "/v1/hooks", 404), ("POST", "/v1/hooks/push", 401), ("GET", "/v1/keys/x/y", 401),
    ("OPTIONS", "/v1/users", 405), ("TRACE", "/v1/users", 405), ("get", "/v1/users", 405),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "status"), PATHS)
async def test_a_path_matches_as_a_whole_before_anything_else(
    house: House, method: str, path: str, status: int
) -> None:
    answer = await house.ask(method, path, owner=False)
    assert answer.status == status
    if status == 404:
        assert said(answer) == NOT_FOUND
    if status == 405:
        assert said(answer) == (405, f'{{"detail":"Method \'{method}\' not allowed."}}')


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", "GET, HEAD"),
        ("/users", "GET, HEAD"),
        ("/admin/perms", "GET, HEAD, POST"),
        ("/auth/cancel", "DELETE"),
        ("/apps/x", "DELETE, GET, HEAD, POST"),
    ],
)
async def test_a_method_that_is_none_there_is_told_which_are(deis: Client, path: str, allowed: str) -> None:
    answer = await deis.ask("PUT", path)
    assert (answer.status, header(answer, "Allow")) == (405, [allowed])


@pytest.mark.parametrize("name", ["x-deis-version", "deis-version"])
@pytest.mark.parametrize("version", ["2", "1.1", "", "01", "x" * 3000, 'a"b'])
async def test_another_version_is_refused_before_method_and_token(deis: Client, name: str, version: str) -> None:
    text = f"Client and server versions do not match. Client version: {version} Server version: 1"
    for method in ("GET", "PUT"):
        answer = await deis.ask(method, "/apps", headers={name: version})
        assert (answer.status, body(answer)) == (405, {"error": text})
    assert (await deis.ask("GET", "/nothing", headers={name: version})).status == 404


async def test_the_root_asks_for_a_token_and_says_nothing(deis: Client) -> None:
    assert said(await deis.ask("GET", "/")) == (401, NOT_PROVIDED)
    assert said(await deis.ask("GET", "/", by="bob")) == (200, "{}")


BODIES = [
    (b"", "application/json", 400, '{"username":["This field is required."],"password":["This field is required."]}'),
    (b"", "text/html", 400, '{"username":["This field is required."],"password":["This field is required."]}'),
    (b"{}", "text/plain", 415, '{"detail":"Unsupported media type \'text/plain\' in request."}'),
    (b"x", "multipart/form-data; boundary=b", 415,
     '{"detail":"Unsupported media type \'multipart/form-data; boundary=b\' in request."}'),
    (b"x", "", 415, '{"detail":"Unsupported media type \'\' in request."}'),
    (b"{", "application/json", 400, '{"detail":"JSON parse error - the body is not JSON."}'),
    (b"\xff", "application/json", 400, '{"detail":"JSON parse error - the body is not JSON."}'),
    (b'{"username":"\\ud800"}', "application/json", 400, '{"detail":"JSON parse error - the body is not JSON."}'),
    (b"[" * 90_000, "application/json", 400, '{"detail":"JSON parse error - the body is not JSON."}'),
    (b"[]", "application/json; charset=utf-8", 400, '{"detail":"Expected a JSON object."}'),
    (b"null", "application/json", 400, '{"detail":"Expected a JSON object."}'),
    (b'"x"', "application/json", 400, '{"detail":"Expected a JSON object."}'),
    (b"x" * 102_401, "application/json", 413, '{"detail":"The request body has more than 100 kB."}'),
    (b'{"username":1,"password":{}}', "application/json", 400,
     '{"username":["Not a valid string."],"password":["Not a valid string."]}'),
    (b'{"username":null,"password":""}', "application/json", 400,
     '{"username":["Not a valid string."],"password":["This field may not be blank."]}'),
    (b"username=&password=%FF", FORM, 400,
     '{"username":["This field may not be blank."],"password":["Not a valid string."]}'),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "media", "status", "text"), BODIES)
async def test_a_body_is_an_object_or_a_form_or_nothing(
    deis: Client, sent: bytes, media: str, status: int, text: str
) -> None:
    answer = await deis.ask("POST", "/auth/login", sent, headers={"content-type": media})
    assert said(answer) == (status, text)


async def test_the_token_comes_before_the_body_and_the_permission_too(deis: Client) -> None:
    assert (await deis.ask("POST", "/admin/perms", b"{", by="bob")).status == 403
    assert (await deis.ask("POST", "/admin/perms", b"{")).status == 401
    assert (await deis.ask("POST", "/admin/perms", b"x" * 200_000, by="bob")).status == 403
    assert (await deis.ask("POST", "/admin/perms", b"{", by=OWNER)).status == 400
    assert (await deis.ask("DELETE", "/admin/perms/nobody", b"{", by=OWNER)).status == 400


# -- tokens

TOKENS = [
    ("", "Authentication credentials were not provided."),
    ("Basic YWRtaW46Y2hhbmdlLW1lLXBsZWFzZS0x", "Authentication credentials were not provided."),
    ("token", "Invalid token header. No credentials provided."),
    ("Token ", "Invalid token header. No credentials provided."),
    ("bearer", "Invalid token header. No credentials provided."),
    ("token a b", "Invalid token header. Token string should not contain spaces."),
    ("token deadbeef", "Invalid token"),
    ("token " + "0" * 64, "Invalid token"),
    ("token " + "0" * 9000, "Invalid token"),
    ("token eyJhbGciOiJub25lIiwia2lkIjoiLi4vLi4vZXRjL3Bhc3N3ZCJ9.eyJzdWIiOiJhZG1pbiJ9.", "Invalid token"),
    ("token \xe9\xa0", "Invalid token"),
]


@pytest.mark.parametrize(("value", "detail"), TOKENS)
async def test_a_token_that_does_not_hold(deis: Client, value: str, detail: str) -> None:
    headers = {"authorization": value} if value else {}
    answer = await deis.ask("GET", "/apps", headers=headers)
    assert (answer.status, body(answer)) == (401, {"detail": detail})
    assert header(answer, "WWW-Authenticate") == ["Token"]


async def test_the_scheme_has_any_case_and_may_be_bearer(deis: Client) -> None:
    for scheme in ("token", "TOKEN", "Bearer", "bearer  "):
        answer = await deis.ask("GET", "/apps", headers={"authorization": f"{scheme} {deis.tokens['bob']}"})
        assert said(answer) == (200, '{"count":0,"next":null,"previous":null,"results":[]}')


async def test_a_cookie_is_no_credential(deis: Client) -> None:
    cookie = {"cookie": f"access_token_cookie={deis.tokens[OWNER]}", "origin": "https://evil.example"}
    assert said(await deis.ask("GET", "/users", headers=cookie)) == (401, NOT_PROVIDED)
    token = {"authorization": f"token {deis.tokens[OWNER]}"}
    assert (await deis.ask("GET", "/users", headers=cookie | token)).status == 200


async def test_a_token_of_a_disabled_or_a_deleted_user(deis: Client) -> None:
    await deis.house.desk.run("users.disable", OneUser("bob"), SYSTEM)
    assert said(await deis.ask("GET", "/apps", by="bob")) == (401, '{"detail":"User inactive or deleted"}')
    assert said(await deis.ask("POST", "/auth/login", {"username": "bob", "password": BOB})) == (
        400,
        '{"non_field_errors":["User account is disabled."]}',
    )
    assert said(await deis.ask("POST", "/auth/login", {"username": "bob", "password": "wrong"})) == NO_LOGIN
    assert (await deis.ask("DELETE", "/auth/cancel", {"username": "bob"}, by=OWNER)).status == 204
    assert said(await deis.ask("GET", "/apps", by="bob")) == INVALID


async def test_a_token_that_is_not_used_for_long_ends(deis: Client) -> None:
    deis.house.now += 364 * 86_400 * SECOND
    assert (await deis.ask("GET", "/apps", by="bob")).status == 200
    deis.house.now += 366 * 86_400 * SECOND
    assert said(await deis.ask("GET", "/apps", by="bob")) == INVALID


# -- register and log in


async def test_a_registered_user_is_an_object_without_secrets(deis: Client) -> None:
    fields = {"email": "r@example.com", "first_name": "Rita", "last_name": "Rho", "is_superuser": True, "groups": [1]}
    answer = await deis.register("rita", **fields)
    assert said(answer) == (
        201,
        '{"email":"r@example.com","username":"rita","first_name":"Rita","last_name":"Rho","is_superuser":false,'
        '"is_staff":false,"groups":[],"user_permissions":[],"last_login":"2015-11-08T16:26:40.000000Z",'
        '"date_joined":"2015-11-08T16:26:40.000000Z","is_active":true}',
    )


async def test_a_form_does_and_a_stale_token_is_ignored(deis: Client) -> None:
    sent = b"username=form&password=correct-horse-7&email=form%40example.com"
    answer = await deis.ask("POST", "/auth/register/", sent, media=FORM, by="stale")
    assert (answer.status, body(answer)["email"]) == (201, "form@example.com")
    login = await deis.ask("POST", "/auth/login/", b"username=form&password=correct-horse-7", media=FORM, by="stale")
    assert (login.status, len(body(login)["token"]), list(body(login))) == (200, 64, ["token"])


REQUIRED, BLANK = "This field is required.", "This field may not be blank."
UNIQUE, LONG = "This field must be unique.", "Ensure this field has no more than 30 characters."
FAULTS: list[tuple[dict[str, object], dict[str, list[str]]]] = [
    ({}, {"username": [REQUIRED], "password": [REQUIRED]}),
    ({"username": "", "password": ""}, {"username": [BLANK], "password": [BLANK]}),
    ({"username": 5, "password": [BOB]}, {"username": ["Not a valid string."], "password": ["Not a valid string."]}),
    ({"username": "a b!", "password": BOB}, {"username": ["Enter a valid username."]}),
    ({"username": ".a", "password": BOB}, {"username": ["Enter a valid username."]}),
    ({"username": "é", "password": BOB}, {"username": ["Enter a valid username."]}),
    ({"username": "a\n", "password": BOB}, {"username": ["Enter a valid username."]}),
    ({"username": "a" * 31, "password": BOB}, {"username": [LONG]}),
    ({"username": "!" * 31, "password": BOB}, {"username": ["Enter a valid username.", LONG]}),
    ({"username": "Doveadm", "password": BOB}, {"username": ["Enter a valid username."]}),
    ({"username": "bob", "password": BOB}, {"username": [UNIQUE]}),
    ({"username": "BoB", "password": BOB}, {"username": [UNIQUE]}),
    ({"username": "admin@example.com", "password": BOB}, {"username": [UNIQUE]}),
    ({"username": "new", "password": "short"}, {"password": ["Ensure this field has at least 8 characters."]}),
    ({"username": "new", "password": "x" * 1025},
     {"password": ["Ensure this field has no more than 1024 characters."]}),
    ({"username": "long-enough", "password": "Long-Enough"}, {"password": ["This password is too common."]}),
    ({"username": "new", "password": BOB, "email": "nope"}, {"email": ["Enter a valid email address."]}),
    ({"username": "new", "password": BOB, "email": "a@b\r\nX: y"}, {"email": ["Enter a valid email address."]}),
    ({"username": "new", "password": BOB, "email": None}, {"email": ["Not a valid string."]}),
    ({"username": "new", "password": BOB, "first_name": "x" * 31, "last_name": {}},
     {"first_name": [LONG], "last_name": ["Not a valid string."]}),
    ({"username": "new", "password": BOB, "first_name": "a\u0000"}, {"first_name": ["Enter a valid value."]}),
    ({"username": "bob", "password": "short", "email": "nope"},
     {"username": [UNIQUE], "password": ["Ensure this field has at least 8 characters."],
      "email": ["Enter a valid email address."]}),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "wrong"), FAULTS)
async def test_all_faulty_fields_at_once(deis: Client, sent: dict[str, object], wrong: dict[str, list[str]]) -> None:
    answer = await deis.ask("POST", "/auth/register", sent)
    assert (answer.status, body(answer)) == (400, wrong)
    assert list(body(answer)) == list(wrong)


@pytest.mark.parametrize("email", ["admin@example.com", "ADMIN@example.com", "@"])
async def test_an_address_of_another_is_not_kept(deis: Client, email: str) -> None:
    if email == "@":
        assert (await deis.register("name@example.com")).status == 201
        email = "name@example.com"
    answer = await deis.register("second", email=email)
    assert (answer.status, body(answer)["email"]) == (201, "")


async def test_so_many_registrations_an_hour(deis: Client) -> None:
    await deis.switch("disabled")
    for _ in range(400):
        assert said(await deis.register("more")) == FORBIDDEN
    await deis.switch(None)
    for _ in range(299):
        assert (await deis.register("bob", password="short")).status == 400
    answer = await deis.register("late")
    assert said(answer) == (429, '{"detail":"Request was throttled."}')
    assert header(answer, "Retry-After") == ["3600"]
    deis.house.now += 3600 * SECOND
    assert (await deis.register("late")).status == 201


async def test_a_wrong_password_an_unknown_user_and_one_without_answer_the_same(deis: Client) -> None:
    for name in ("bob", "nobody", "no body", "x" * 5000, "a\u0000"):
        assert said(await deis.ask("POST", "/auth/login", {"username": name, "password": "wrong"})) == NO_LOGIN


async def test_too_many_failures_are_throttled(deis: Client) -> None:
    deis.house.control.login.forget()
    for _ in range(5):
        assert said(await deis.ask("POST", "/auth/login", {"username": "ann", "password": "wrong"})) == NO_LOGIN
    answer = await deis.ask("POST", "/auth/login", {"username": "ann", "password": "wrong"})
    assert said(answer) == (429, '{"detail":"Request was throttled."}')
    assert header(answer, "Retry-After") == ["30"]


async def test_each_login_has_its_own_token_and_the_101st_ends_the_oldest(deis: Client) -> None:
    first = deis.tokens["bob"]
    for _ in range(100):
        assert await deis.login("bob") != first
    assert said(await deis.ask("GET", "/apps", by=first)) == INVALID
    assert (await deis.ask("GET", "/apps", by="bob")).status == 200


async def test_the_token_that_is_ended_is_the_one_not_used_for_longest(deis: Client) -> None:
    first, second = deis.tokens["bob"], await deis.login("bob")
    for _ in range(98):
        await deis.login("bob")
    deis.house.now += SECOND
    assert (await deis.ask("GET", "/apps", by=first)).status == 200
    await deis.login("bob")
    assert said(await deis.ask("GET", "/apps", by=second)) == INVALID
    assert (await deis.ask("GET", "/apps", by=first)).status == 200


# -- the first user, and the switch


async def test_of_many_first_users_one_is_the_owner(empty: Client) -> None:
    answers = await asyncio.gather(*(empty.register(f"u{number}") for number in range(8)))
    assert [answer.status for answer in answers] == [201] * 8
    assert sorted(body(answer)["is_superuser"] for answer in answers) == [False] * 7 + [True]
    assert body(await empty.register("late"))["is_superuser"] is False


@pytest.mark.parametrize("mode", ["disabled", "admin_only"])
async def test_an_empty_system_that_is_closed_stays_empty(empty: Client, mode: str) -> None:
    await empty.switch(mode)
    assert (await empty.register("first")).status == 403
    assert await empty.house.control.users.empty() is True


SWITCH = [
    ("enabled", "", (201, "")), ("enabled", "bob", (201, "")), ("enabled", OWNER, (201, "")),
    ("enabled", "bad", (201, "")),
    ("disabled", "", FORBIDDEN), ("disabled", "bob", FORBIDDEN), ("disabled", OWNER, FORBIDDEN),
    ("disabled", "bad", FORBIDDEN),
    ("admin_only", "", (403, NOT_PROVIDED)), ("admin_only", "bob", FORBIDDEN), ("admin_only", OWNER, (201, "")),
    ("admin_only", "bad", INVALID),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "by", "wanted"), SWITCH)
async def test_the_switch(deis: Client, mode: str, by: str, wanted: tuple[int, str]) -> None:
    await deis.switch(mode)
    answer = await deis.ask("POST", "/auth/register", {"username": "new", "password": BOB}, by=by)
    if wanted[0] == 201:
        assert (answer.status, body(answer)["is_superuser"]) == (201, False)
    else:
        assert said(answer) == wanted
        refused = await deis.ask("POST", "/auth/register", b"{", by=by)
        assert said(refused) == wanted
        assert (await deis.house.audit())[0].operation == "users.register"


# -- passwords


async def passwd(deis: Client, sent: object, by: str = "bob") -> tuple[int, str]:
    return said(await deis.ask("POST", "/auth/passwd", sent, by=by))


DONE = (200, '{"status":"password set"}')


@pytest.mark.parametrize("extra", [{}, {"username": None}, {"username": ""}, {"username": "bob"}])
async def test_ones_own_password(deis: Client, extra: dict[str, object]) -> None:
    kept = deis.tokens["bob"]
    other = await deis.login("bob")
    assert await passwd(deis, {"password": BOB, "new_password": NEW} | extra, by=kept) == DONE
    assert (await deis.ask("GET", "/apps", by=kept)).status == 200
    assert said(await deis.ask("GET", "/apps", by=other)) == INVALID
    assert said(await deis.ask("POST", "/auth/login", {"username": "bob", "password": BOB})) == NO_LOGIN
    await deis.login("bob", NEW)


async def test_the_present_password_is_checked_and_throttled(deis: Client) -> None:
    wrong = {"password": "wrong", "new_password": NEW}
    for _ in range(5):
        assert await passwd(deis, wrong) == (400, '{"detail":"Current password does not match"}')
    assert await passwd(deis, {"password": BOB, "new_password": NEW}) == (429, '{"detail":"Request was throttled."}')


PASSWORDS: list[tuple[dict[str, object], dict[str, list[str]]]] = [
    ({}, {"password": [REQUIRED], "new_password": [REQUIRED]}),
    ({"password": "", "new_password": ""}, {"password": [BLANK], "new_password": [BLANK]}),
    ({"password": BOB, "new_password": "short"}, {"new_password": ["Ensure this field has at least 8 characters."]}),
    ({"password": [], "new_password": {}, "username": 7},
     {"username": ["Not a valid string."], "password": ["Not a valid string."],
      "new_password": ["Not a valid string."]}),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "wrong"), PASSWORDS)
async def test_new_passwords_obey_the_rules(deis: Client, sent: dict[str, object], wrong: dict[str, list[str]]) -> None:
    status, text = await passwd(deis, sent)
    assert (status, json.loads(text)) == (400, wrong)


async def test_anothers_password(deis: Client) -> None:
    for name in (OWNER, "nobody", "no body"):
        assert await passwd(deis, {"username": name, "new_password": NEW}) == FORBIDDEN
    assert await passwd(deis, {"username": "nobody", "new_password": NEW}, by=OWNER) == NOT_FOUND
    assert (await passwd(deis, {"username": "nobody"}, by=OWNER))[0] == 400
    assert await passwd(deis, {"username": "bob", "password": 5, "new_password": NEW}, by=OWNER) == DONE
    assert said(await deis.ask("GET", "/apps", by="bob")) == INVALID
    await deis.login("bob", NEW)


async def test_nobody_sets_the_password_of_someone_above_or_deletes_them(deis: Client) -> None:
    await deis.role("bob", "admin")
    assert await passwd(deis, {"username": OWNER, "new_password": NEW}) == FORBIDDEN
    assert said(await deis.ask("DELETE", "/auth/cancel", {"username": OWNER}, by="bob")) == FORBIDDEN


# -- cancel


async def test_who_cancels_is_gone(deis: Client) -> None:
    assert said(await deis.ask("DELETE", "/auth/cancel", by="bob")) == (204, "")
    assert said(await deis.ask("GET", "/apps", by="bob")) == INVALID
    assert said(await deis.ask("POST", "/auth/login", {"username": "bob", "password": BOB})) == NO_LOGIN


async def test_whom_one_may_cancel(deis: Client) -> None:
    for name in (OWNER, "nobody"):
        assert said(await deis.ask("DELETE", "/auth/cancel", {"username": name}, by="bob")) == FORBIDDEN
    assert said(await deis.ask("DELETE", "/auth/cancel", b"username=%FF", media=FORM, by="bob")) == (
        400,
        '{"username":["Not a valid string."]}',
    )
    assert said(await deis.ask("DELETE", "/auth/cancel", {"username": "nobody"}, by=OWNER)) == NOT_FOUND
    assert said(await deis.ask("DELETE", "/auth/cancel", {"username": "bob"}, by=OWNER)) == (204, "")
    answer = await deis.ask("DELETE", "/auth/cancel", by=OWNER)
    assert said(answer) == (409, '{"detail":"The owner cannot be cancelled. Hand the ownership over first."}')


# -- re-issue


@pytest.mark.parametrize("sent", [b"", {}, {"username": None}, {"username": ""}, {"username": "bob"}, {"all": False}])
async def test_ones_own_tokens(deis: Client, sent: object) -> None:
    old = deis.tokens["bob"]
    answer = await deis.ask("POST", "/auth/tokens/", sent, by="bob")
    fresh = body(answer)["token"]
    assert (answer.status, len(fresh)) == (200, 64)
    assert said(await deis.ask("GET", "/apps", by=old)) == INVALID
    assert (await deis.ask("GET", "/apps", by=fresh)).status == 200


async def test_anothers_tokens_and_those_of_all(deis: Client) -> None:
    for sent in (
        {"username": OWNER}, {"username": "nobody"}, {"all": True}, {"all": True, "username": "bob"},
        {"all": True, "username": []},
    ):  # fmt: skip
        assert said(await deis.ask("POST", "/auth/tokens", sent, by="bob")) == FORBIDDEN
    wrong = await deis.ask("POST", "/auth/tokens", {"all": "true", "username": []}, by=OWNER)
    assert said(wrong) == (400, '{"all":["Not a valid boolean."],"username":["Not a valid string."]}')
    assert said(await deis.ask("POST", "/auth/tokens", {"username": "nobody"}, by=OWNER)) == NOT_FOUND
    assert said(await deis.ask("POST", "/auth/tokens", {"username": "bob"}, by=OWNER)) == (200, '{"token":""}')
    assert said(await deis.ask("GET", "/apps", by="bob")) == INVALID
    await deis.login("bob")
    assert said(await deis.ask("POST", "/auth/tokens", {"all": True, "username": None}, by=OWNER)) == (200, '""')
    for name in ("bob", OWNER):
        assert said(await deis.ask("GET", "/apps", by=name)) == INVALID


# -- users and administrators


async def test_users_are_listed_oldest_first(deis: Client) -> None:
    answer = await deis.ask("GET", "/users", by=OWNER)
    page = body(answer)
    assert list(page) == ["count", "next", "previous", "results"]
    assert [(each["username"], each["is_staff"]) for each in page["results"]] == [(OWNER, True), ("bob", False)]
    assert (page["count"], page["next"], page["previous"]) == (2, None, None)
    head = await deis.ask("HEAD", "/users", by=OWNER)
    assert (head.status, head.body) == (200, answer.body)


async def test_pages_name_their_neighbours(deis: Client) -> None:
    for number in range(3):
        await deis.register(f"u{number}")
    page = body(await deis.ask("GET", "/users/?page=2&page_size=2&x=%26", by=OWNER))
    assert [each["username"] for each in page["results"]] == ["u0", "u1"]
    assert page["next"] == "http://127.0.0.1:8081/v1/users/?page_size=2&x=%26&page=3"
    assert page["previous"] == "http://127.0.0.1:8081/v1/users/?page_size=2&x=%26&page=1"
    deis.house.settings = Settings(
        admin=AdminSettings(public_url="https://ops.example/"), deis=DeisSettings(page_size=4)
    )
    page = body(await deis.ask("GET", "/users?page_size=1001", by=OWNER))
    assert (page["count"], len(page["results"])) == (5, 4)
    assert page["next"] == "https://ops.example/v1/users?page_size=1001&page=2"


@pytest.mark.parametrize("number", ["0", "2", "-1", "x", "", "last", "9" * 4000, "1.0", "%EF%BC%91"])
async def test_a_page_that_is_none(deis: Client, number: str) -> None:
    assert said(await deis.ask("GET", f"/users?page={number}", by=OWNER)) == (404, '{"detail":"Invalid page."}')


@pytest.mark.parametrize("size", ["0", "1001", "-1", "x", "", "9" * 4000])
async def test_a_bad_page_size_is_the_usual_one(deis: Client, size: str) -> None:
    assert body(await deis.ask("GET", f"/users?page_size={size}", by=OWNER))["count"] == 2


async def test_administrators_come_and_go(deis: Client) -> None:
    for _ in range(2):
        assert said(await deis.ask("POST", "/admin/perms", {"username": "bob"}, by=OWNER)) == (201, "")
    assert said(await deis.ask("GET", "/admin/perms", by="bob")) == (
        200,
        '{"count":2,"next":null,"previous":null,"results":[{"username":"admin","is_superuser":true},'
        '{"username":"bob","is_superuser":true}]}',
    )
    assert said(await deis.ask("POST", "/admin/perms", {"username": OWNER}, by="bob")) == (201, "")
    assert said(await deis.ask("DELETE", "/admin/perms/bob", by="bob")) == (204, "")
    assert said(await deis.ask("DELETE", "/admin/perms/bob", by=OWNER)) == (204, "")
    found = await deis.house.control.users.get("bob")
    assert found is not None
    assert found.role == "member"


async def test_a_disabled_administrator_is_not_listed(deis: Client) -> None:
    await deis.role("bob", "admin")
    await deis.house.desk.run("users.disable", OneUser("bob"), SYSTEM)
    assert body(await deis.ask("GET", "/admin/perms", by=OWNER))["count"] == 1


OWNER_STAYS = (409, '{"detail":"The owner cannot be demoted. Hand the ownership over first."}')
PERMS: list[tuple[str, str, object, tuple[int, str]]] = [
    ("POST", "", {}, (400, '{"username":["This field is required."]}')),
    ("POST", "", {"username": ""}, (400, '{"username":["This field may not be blank."]}')),
    ("POST", "", {"username": ["bob"]}, (400, '{"username":["Not a valid string."]}')),
    ("POST", "", {"username": "zed"}, NOT_FOUND),
    ("POST", "", {"username": "a b"}, NOT_FOUND),
    ("DELETE", "/zed", b"", NOT_FOUND),
    ("DELETE", "/bob.doe", b"", NOT_FOUND),
    ("DELETE", "/BOB", b"", NOT_FOUND),
    ("DELETE", "/bob%2F..", b"", NOT_FOUND),
    ("DELETE", "/%62ob", b"", (204, "")),
    ("DELETE", "/%2562ob", b"", NOT_FOUND),
    ("DELETE", "/%00%FF", b"", NOT_FOUND),
    ("DELETE", f"/{OWNER}", b"", OWNER_STAYS),
]


@pytest.mark.parametrize(("method", "path", "sent", "wanted"), PERMS)
async def test_whom_an_administrator_may_be_made_of(
    deis: Client, method: str, path: str, sent: object, wanted: tuple[int, str]
) -> None:
    assert said(await deis.ask(method, f"/admin/perms{path}", sent, by=OWNER)) == wanted
    assert said(await deis.ask(method, f"/admin/perms{path}", sent, by="bob")) == FORBIDDEN
    assert (await deis.house.audit())[0].outcome == "permission.denied"


async def test_an_administrator_does_not_demote_the_owner(deis: Client) -> None:
    await deis.role("bob", "admin")
    assert said(await deis.ask("DELETE", f"/admin/perms/{OWNER}", by="bob")) == OWNER_STAYS


# -- what is not there

ABSENT = sorted(
    {(row.method, row.path.replace(":id", "shop").replace(":", "").replace("...", "x/y")) for row in ROWS
     if row.path.startswith(("apps/", "keys", "certs", "hooks"))}
)  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ABSENT)
async def test_an_app_that_is_not_there_is_not_found_and_the_rest_is_named(
    deis: Client, method: str, path: str
) -> None:
    assert (await deis.ask(method, f"/{path}")).status == 401
    answer = await deis.ask(method, f"/{path}", by=OWNER)
    if path.startswith("apps/"):
        assert said(answer) == NOT_FOUND
    else:
        name = path.partition("/")[0]
        assert said(answer) == (501, f'{{"detail":"Not supported by this controller: {name}"}}')


# -- who may what

MATRIX = [
    ("GET", "/", b"", {"member": 200, "viewer": 200, "manager": 200, "admin": 200, "owner": 200}),
    ("GET", "/apps", b"", {"member": 200, "viewer": 200, "manager": 200, "admin": 200, "owner": 200}),
    ("GET", "/users", b"", {"member": 403, "viewer": 403, "manager": 403, "admin": 200, "owner": 200}),
    ("GET", "/admin/perms", b"", {"member": 403, "viewer": 403, "manager": 403, "admin": 200, "owner": 200}),
    ("POST", "/admin/perms", {"username": "victim"},
     {"member": 403, "viewer": 403, "manager": 403, "admin": 201, "owner": 201}),
    ("DELETE", "/admin/perms/victim", b"",
     {"member": 403, "viewer": 403, "manager": 403, "admin": 204, "owner": 204}),
    ("POST", "/auth/tokens", {"username": "victim"},
     {"member": 403, "viewer": 403, "manager": 403, "admin": 200, "owner": 200}),
    ("POST", "/auth/tokens", {"all": True}, {"member": 403, "viewer": 403, "manager": 403, "admin": 200, "owner": 200}),
    ("POST", "/auth/passwd", {"username": "victim", "new_password": NEW},
     {"member": 403, "viewer": 403, "manager": 403, "admin": 200, "owner": 200}),
    ("DELETE", "/auth/cancel", {"username": "victim"},
     {"member": 403, "viewer": 403, "manager": 403, "admin": 204, "owner": 204}),
]  # fmt: skip


@pytest.mark.parametrize("role", ["member", "viewer", "manager", "admin", "owner"])
async def test_the_matrix(deis: Client, role: str) -> None:
    for method, path, sent, wanted in MATRIX:
        await deis.register("victim")
        by = OWNER
        if role != "owner":
            await deis.role("bob", role)
            by = await deis.login("bob")
        else:
            await deis.login(OWNER, PASSWORD)
        answer = await deis.ask(method, path, sent, by=by)
        assert (method, path, answer.status) == (method, path, wanted[role])
        assert said(await deis.ask(method, path, sent))[0] == 401
