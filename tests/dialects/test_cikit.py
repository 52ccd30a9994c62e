"""The CIKit surface: frame, credentials, log-in by code, tokens, users."""

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace
from tests.dialects.house import OWNER, PASSWORD, House, basic
from tests.dialects.test_apifest import said

from ostiary.control.call import Call
from ostiary.control.login import ByPassword, LoggedIn
from ostiary.control.owner import NODE
from ostiary.control.roles import CreateRole
from ostiary.control.totp import code_of, step_at
from ostiary.control.users import CreateUser, OneUser
from ostiary.core.configuration.settings import CikitSettings, Settings
from ostiary.core.digest import digest
from ostiary.core.permission import OWNER as ALL
from ostiary.core.permission import Principal
from ostiary.core.snapshot import SECOND
from ostiary.dialects.message import Answer

DAY = 86_400 * SECOND
STEP = 30 * SECOND
BOSS = Principal("user", OWNER, ALL, "test", 1, "owner")
SECRET = "JBSWY3DPEHPK3PXP"
FORM = "application/x-www-form-urlencoded"
PLAIN = 'Bearer realm="Ostiary"'
INVALID = f'{PLAIN}, error="invalid_token"'


class Pair(NamedTuple):
    access: str
    refresh: str


def no(status: int, number: int, text: str) -> tuple[int, str]:
    """An answer of no, byte for byte."""
    return status, json.dumps({"error": text, "errorId": number}, separators=(",", ":"), ensure_ascii=False)


INCOMPLETE_LOGIN = no(400, 901, 'The request body must contain "code" and "username"')
WRONG_CODE = no(400, 902, "TOTP code invalid")
NO_USER = no(400, 903, "User not found")
OTHERS = no(401, 904, "Only system owner can revoke access for others")
NO_GROUP = no(400, 905, "The group is unknown")
OWNERS = no(403, 906, "The system cannot have multiple owners")
NO_TOKEN = no(401, 908, "Access token not found")
EXPIRED = no(401, 909, "Access token expired")
NO_REFRESH = no(401, 910, "Refresh token not found")
DENIED = no(403, 912, "Access denied")
INCOMPLETE_USER = no(400, 913, 'The request body must contain "group" and "username"')
TAKEN = no(400, 914, "Username is already taken")
BAD_NAME = no(400, 917, "The username is invalid")
BAD_REQUEST = no(400, 400, "Bad Request")
UNAUTHORIZED = no(401, 401, "Unauthorized")
ROUTE = no(404, 404, "Route not found")
METHOD = no(405, 405, "Method not allowed")
TOO_LARGE = no(413, 413, "Request body too large")
MEDIA = no(415, 415, "Unsupported content type")
THROTTLED = no(429, 429, "Too many attempts")
OK = (200, '{"status":"ok"}')


def header(answer: Answer, name: str) -> str:
    return dict(answer.headers)[name]


class Cikit:
    """A client of the surface, and what it learned."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.secrets: dict[str, str] = {}
        self.boss = ""

    async def ask(self, method: str, path: str, body: object = b"", token: str = "", **more: Any) -> Answer:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        given: Mapping[str, str] = more.pop("headers", {})
        return await self.house.ask(
            method, f"/api/v1/{path}", body, owner=False, headers={**headers, **given}, **more
        )  # fmt: skip

    def code(self, name: str, steps: int = 0) -> str:
        return code_of(self.secrets[name], step_at(self.house.now) + steps)

    async def add(self, name: str, group: str = "viewer") -> dict[str, Any]:
        answer = await self.ask("POST", "user/add", {"username": name, "group": group}, self.boss)
        made: dict[str, Any] = json.loads(answer.body)[-1]
        self.secrets[name] = made["secret"]
        return made

    async def login(self, name: str, **more: Any) -> Answer:
        return await self.ask("POST", "user/auth", {"username": name, "code": self.code(name)}, **more)

    async def sign_in(self, name: str) -> Pair:
        answer = await self.login(name)
        assert answer.status == 200, answer.body
        given = json.loads(answer.body)
        self.house.now += STEP
        return Pair(given["access_token"], given["refresh_token"])

    async def refresh(self, token: str) -> Answer:
        return await self.ask("POST", "user/auth/refresh", {"grant_type": "refresh_token", "refresh_token": token})

    async def works(self, token: str) -> tuple[int, str]:
        return said(await self.ask("GET", "droplet/list", token=token))

    def turn(self, **settings: Any) -> None:
        self.house.settings = Settings(cikit=CikitSettings(**settings))


@pytest.fixture
async def cikit(house: House) -> Cikit:
    return await entered(house)


async def entered(house: House) -> Cikit:
    """A house whose owner has a secret, and is signed in."""
    client = Cikit(house)
    sealed = house.control.totp_vault.close("1", SECRET)
    await house.store.users.set_totp(1, sealed, Call(NODE).done(house.now), again=True)
    client.secrets[OWNER] = SECRET
    client.boss = (await client.sign_in(OWNER)).access
    return client


# -- the frame


@pytest.mark.parametrize(
    "path",
    ["", "user", "user/", "user/lists", "User/list", "user/list//", "user/list/x", "user/delete", "user/delete/",
     "user/delete/a/b", "user/delete/a%2Fb", "user/delete/a%2fb", "user/auth/revoke", "user/auth/setup//",
     "user//list", "droplet/l1st", "droplet/delete/*/x", "%75ser/list", "user/delete/*/", "../v1/user/list"],
)  # fmt: skip
async def test_other_paths_are_404_without_a_credential(cikit: Cikit, path: str) -> None:
    if path == "user/delete/*/":
        assert said(await cikit.ask("DELETE", path)) == UNAUTHORIZED
        return
    answer = await cikit.ask("GET", path)
    assert said(answer) == ROUTE
    assert header(answer, "Content-Type") == "application/json; charset=utf-8"
    assert header(answer, "Cache-Control") == "no-store"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "user/auth", "POST"),
        ("POST", "user/list", "GET, HEAD"),
        ("OPTIONS", "user/list", "GET, HEAD"),
        ("GET", "user/delete/ann", "DELETE"),
        ("POST", "user/auth/revoke/ann/", "DELETE"),
        ("DELETE", "user/auth/setup/ann", "GET, HEAD"),
        ("GET", "droplet/stop/a", "PATCH"),
        ("HEAD", "user/add", "POST"),
    ],
)
async def test_other_methods_are_405_and_say_which_there_are(
    cikit: Cikit, method: str, path: str, allowed: str
) -> None:
    answer = await cikit.ask(method, path, b"\xff" * 200_000)
    assert said(answer) == METHOD
    assert header(answer, "Allow") == allowed


async def test_one_trailing_slash_is_allowed_and_head_is_a_get(cikit: Cikit) -> None:
    plain = said(await cikit.ask("GET", "user/list", token=cikit.boss))
    assert plain[0] == 200
    for method, path in (("GET", "user/list/"), ("HEAD", "user/list"), ("HEAD", "user/list/")):
        assert said(await cikit.ask(method, path, token=cikit.boss)) == plain


@pytest.mark.parametrize(
    ("body", "media", "expected"),
    [
        (b"x" * 100_001, "text/plain", TOO_LARGE),
        (b"x", "text/plain", MEDIA),
        (b"{}", "", MEDIA),
        (b"{}", "multipart/form-data; boundary=x", MEDIA),
        (b"{", "application/json", no(400, 0, "The request body is not JSON")),
        (b'{"a":"\xff"}', "application/json", no(400, 0, "The request body is not JSON")),
        (b"[" * 50_000, "application/json", no(400, 0, "The request body is not JSON")),
        (b"a=1&a=2", FORM, no(400, 0, "A field of the request body is given more than once")),
        (b"", "text/plain", UNAUTHORIZED),
        (b"[1]", "application/json", UNAUTHORIZED),
        (b"null", "application/json; charset=utf-8", UNAUTHORIZED),
        (b'"access_token"', "application/json", UNAUTHORIZED),
        (b" " * 99_998 + b"{}", "application/json", UNAUTHORIZED),
    ],
)
async def test_bodies_are_judged_before_credentials(
    cikit: Cikit, body: bytes, media: str, expected: tuple[int, str]
) -> None:
    for method, path in (("GET", "user/list"), ("DELETE", "user/delete/ann")):
        assert said(await cikit.ask(method, path, body, media=media)) == expected
        if expected != UNAUTHORIZED:
            assert said(await cikit.ask(method, path, body, media=media, token=cikit.boss)) == expected


async def test_what_is_no_request_is_refused_in_these_words(cikit: Cikit) -> None:
    request = cikit.house.router
    from ostiary.dialects.message import Request

    asked = Request("GET", "/api/v1/user/list")
    assert said(request.refuse(asked, 500, "an unexpected error occurred")) == no(500, 500, "Internal error")
    assert said(request.refuse(asked, 400, "bad field")) == no(400, 0, "bad field")
    assert said(request.refuse(asked, 408, "too late")) == no(408, 408, "too late")


async def test_nothing_is_on_the_gateways_listener(cikit: Cikit) -> None:
    answer = await cikit.ask("GET", "user/list", token=cikit.boss, public=True)
    assert answer.status == 404


# -- presenting the token


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER  {}", "Bearer: {}", "bearer:\t{}"])
async def test_both_spellings_of_the_header_are_accepted(cikit: Cikit, form: str) -> None:
    answer = await cikit.ask("GET", "user/list", headers={"authorization": form.format(cikit.boss)})
    assert answer.status == 200


async def test_the_token_may_be_in_the_body_of_any_method(cikit: Cikit) -> None:
    form = f"access_token={cikit.boss}".encode()
    for method, path in (("GET", "user/list"), ("HEAD", "user/list"), ("GET", f"user/auth/setup/{OWNER}")):
        assert (await cikit.ask(method, path, {"access_token": cikit.boss})).status == 200
        assert (await cikit.ask(method, path, form, media=FORM)).status == 200
        assert (await cikit.ask(method, path, {"access_token": cikit.boss}, cikit.boss)).status == 200
    made = await cikit.ask("POST", "user/add", {"access_token": cikit.boss, "username": "ann", "group": "viewer"})
    assert made.status == 200


@pytest.mark.parametrize(
    ("authorization", "body", "expected", "challenge"),
    [
        (None, None, UNAUTHORIZED, PLAIN),
        ("", None, UNAUTHORIZED, PLAIN),
        (basic(OWNER, PASSWORD), None, UNAUTHORIZED, PLAIN),
        ("Token {}", None, UNAUTHORIZED, PLAIN),
        ("Bearer", None, BAD_REQUEST, ""),
        ("{}", None, BAD_REQUEST, ""),
        ("Bearer {} x", None, BAD_REQUEST, ""),
        ("Bearer : {}", None, BAD_REQUEST, ""),
        ("Bearer", "{}", BAD_REQUEST, ""),
        ("Bearer {}", "{}x", BAD_REQUEST, ""),
        ("Bearer {}", "", BAD_REQUEST, ""),
        ("Bearer {}", 7, BAD_REQUEST, ""),
        ("Bearer {}", None, (200, "[]"), ""),
        (basic(OWNER, PASSWORD), "{}", (200, "[]"), ""),
        (None, {"$ne": ""}, BAD_REQUEST, ""),
        (None, ["{}"], BAD_REQUEST, ""),
        (None, True, BAD_REQUEST, ""),
        ("Bearer bla", None, NO_TOKEN, INVALID),
        ("Bearer é", None, NO_TOKEN, INVALID),
        (None, "bla", NO_TOKEN, INVALID),
        (None, "\0", NO_TOKEN, INVALID),
        (None, "x" * 90_000, NO_TOKEN, INVALID),
        (None, "a.b.c", NO_TOKEN, INVALID),
        (None, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.", NO_TOKEN, INVALID),
    ],
)
async def test_other_forms_are_refused(
    cikit: Cikit, authorization: str | None, body: object, expected: tuple[int, str], challenge: str
) -> None:
    headers = {} if authorization is None else {"authorization": authorization.format(cikit.boss)}
    shown = body.format(cikit.boss) if isinstance(body, str) else body
    sent: object = b"" if body is None else {"access_token": shown}
    answer = await cikit.ask("GET", "droplet/list", sent, headers=headers)
    assert said(answer) == expected
    assert dict(answer.headers).get("WWW-Authenticate", "") == challenge


async def test_null_is_a_body_token_that_is_no_string(cikit: Cikit) -> None:
    answer = await cikit.ask("GET", "droplet/list", {"access_token": None}, cikit.boss)
    assert said(answer) == BAD_REQUEST


async def test_neither_query_nor_cookies_hold_a_credential(cikit: Cikit) -> None:
    assert said(await cikit.ask("GET", f"user/list?access_token={cikit.boss}")) == UNAUTHORIZED
    cookies = {"cookie": f"access_token_cookie={cikit.boss}; access_token={cikit.boss}"}
    assert said(await cikit.ask("GET", "user/list", headers=cookies)) == UNAUTHORIZED


async def test_two_authorization_headers_are_ambiguous(cikit: Cikit) -> None:
    from ostiary.dialects.message import Request

    both = {"authorization": [f"Bearer {cikit.boss}"] * 2}
    answer = await cikit.house.answer(Request("GET", "/api/v1/user/list", headers=both))
    assert said(answer) == BAD_REQUEST


@pytest.mark.parametrize("personal", [False, True])
async def test_session_and_personal_tokens_work_here(cikit: Cikit, personal: bool) -> None:
    given: LoggedIn = await cikit.house.registry.run(
        cikit.house.control, "login.password", ByPassword(OWNER, PASSWORD, personal), Call()
    )
    assert (await cikit.ask("GET", "user/list", token=given.access_token)).status == 200


async def test_oauth_access_tokens_carry_no_permission(cikit: Cikit) -> None:
    from tests.store.values import furnish, request

    await furnish(cikit.house.store)
    cikit.house.now = request("t").now
    await cikit.house.store.tokens.issue(request("ab" * 32), Call(NODE).done(cikit.house.now))
    for path in ("user/list", "droplet/list", "user/auth/setup/admin"):
        assert said(await cikit.ask("GET", path, token="ab" * 32)) == DENIED
    assert said(await cikit.ask("DELETE", "user/auth/revoke/admin", token="ab" * 32)) == OTHERS


# -- log-in


async def test_a_code_gives_a_pair_whose_members_have_their_order(cikit: Cikit) -> None:
    made = await cikit.add("ann")
    assert re.fullmatch("[A-Z2-7]{32}", made["secret"])
    status, body = said(await cikit.login("ann"))
    assert status == 200
    fields = '{"token_type":"Bearer","expires_in":7200,"access_token":"[0-9a-f]{64}","refresh_token":"[0-9a-f]{64}"}'
    assert re.fullmatch(fields, body)


@pytest.mark.parametrize(
    "fields",
    [{}, {"username": OWNER}, {"code": "123456"}, {"username": OWNER, "code": ""}, {"username": "", "code": "1"},
     {"username": OWNER, "code": 123456}, {"username": {"$ne": ""}, "code": "123456"},
     {"username": OWNER, "code": None},
     {"username": [OWNER], "code": "123456"}, {"username": True, "code": ["123456"]}, [OWNER, "123456"], "x"],
)  # fmt: skip
async def test_a_log_in_needs_two_strings(cikit: Cikit, fields: object) -> None:
    assert said(await cikit.ask("POST", "user/auth", fields)) == INCOMPLETE_LOGIN


async def test_log_in_and_refresh_ignore_credentials(cikit: Cikit) -> None:
    pair = await cikit.sign_in(OWNER)
    for headers in ({"authorization": "Bearer"}, {"authorization": "Bearer stale"}, {"authorization": "a b c"}):
        body = {"username": OWNER, "code": cikit.code(OWNER), "access_token": 7}
        assert (await cikit.ask("POST", "user/auth", body, headers=headers)).status == 200
        cikit.house.now += STEP
        asked = {"grant_type": "refresh_token", "refresh_token": pair.refresh, "access_token": {}, "scope": 1}
        answer = await cikit.ask("POST", "user/auth/refresh", asked, headers=headers)
        pair = Pair("", json.loads(answer.body)["refresh_token"])


async def test_a_form_signs_in_and_its_plus_is_no_space_in_a_code(cikit: Cikit) -> None:
    form = f"username={OWNER}&code={cikit.code(OWNER)}".encode()
    assert (await cikit.ask("POST", "user/auth", form, media=FORM)).status == 200


@pytest.mark.parametrize(
    "code", ["000000", "12345", "1234567", "１２３４５６", "12345\n", " 12345", "-12345", "bla", "1e5000"]
)
async def test_a_wrong_code_is_902_whatever_its_form(cikit: Cikit, code: str) -> None:
    assert said(await cikit.ask("POST", "user/auth", {"username": OWNER, "code": code})) == WRONG_CODE
    assert (await cikit.login(OWNER)).status == 200


@pytest.mark.parametrize(
    "name",
    ["nobody", "ADMIN", "admin ", "admin\0", "admin@example.com", "x" * 90_000, "admin\r\nX: y", "ad%6din", "'--"],
)
async def test_an_unknown_name_is_903_and_letter_case_counts(cikit: Cikit, name: str) -> None:
    fields = {"username": name, "code": cikit.code(OWNER)}
    assert said(await cikit.ask("POST", "user/auth", fields)) == NO_USER
    cikit.turn(strict=True)
    assert said(await cikit.ask("POST", "user/auth", fields)) == WRONG_CODE


async def test_an_account_without_a_secret_has_no_code(cikit: Cikit) -> None:
    await _run(cikit, "users.create", CreateUser("plain", "viewer", PASSWORD))
    assert said(await cikit.ask("POST", "user/auth", {"username": "plain", "code": "000000"})) == WRONG_CODE


async def test_a_disabled_user_does_not_come_in(cikit: Cikit) -> None:
    await cikit.add("ann")
    pair = await cikit.sign_in("ann")
    await _run(cikit, "users.disable", OneUser("ann"))
    assert said(await cikit.login("ann")) == DENIED
    assert await cikit.works(pair.access) == NO_TOKEN
    assert said(await cikit.refresh(pair.refresh)) == NO_REFRESH


async def _run(cikit: Cikit, operation: str, params: Any) -> Any:
    return await cikit.house.registry.run(cikit.house.control, operation, params, Call(BOSS))


@pytest.mark.parametrize(("window", "taken"), [(0, [0]), (1, [-1, 0, 1]), (2, [-2, -1, 0, 1, 2])])
async def test_codes_of_the_window_are_taken_and_no_others(cikit: Cikit, window: int, taken: list[int]) -> None:
    rules = cikit.house.control.rules
    people = replace(rules.people, totp_window=window, account_failures=100)
    cikit.house.control.rules = replace(rules, people=people)
    found = []
    for steps in range(-3, 4):
        name = f"u{steps + 3}"
        await cikit.add(name)
        answer = await cikit.ask("POST", "user/auth", {"username": name, "code": cikit.code(name, steps)})
        found += [steps] if answer.status == 200 else []
    assert found == taken


async def test_a_code_is_taken_once_and_none_of_an_earlier_step_after_it(cikit: Cikit) -> None:
    await cikit.add("ann")
    assert (await cikit.login("ann")).status == 200
    for steps in (0, -1):
        answer = await cikit.ask("POST", "user/auth", {"username": "ann", "code": cikit.code("ann", steps)})
        assert said(answer) == WRONG_CODE
    later = await cikit.ask("POST", "user/auth", {"username": "ann", "code": cikit.code("ann", 1)})
    assert later.status == 200


async def test_of_two_equal_log_ins_at_once_one_wins(cikit: Cikit) -> None:
    for number in range(5):
        name = f"u{number}"
        await cikit.add(name)
        answers = await asyncio.gather(*(cikit.login(name) for _ in range(2)))
        assert sorted(each.status for each in answers) == [200, 400]


async def test_codes_may_be_used_again_where_that_is_configured(cikit: Cikit) -> None:
    rules = cikit.house.control.rules
    cikit.house.control.rules = replace(rules, people=replace(rules.people, totp_single_use=False))
    assert [(await cikit.login(OWNER)).status for _ in range(3)] == [200, 200, 200]


async def test_the_fifth_failure_starts_a_wait_that_doubles(cikit: Cikit) -> None:
    await cikit.add("ann")
    wrong = {"username": "ann", "code": "bla"}
    for _ in range(5):
        assert said(await cikit.ask("POST", "user/auth", wrong)) == WRONG_CODE
    for wait in (30, 60):
        answer = await cikit.login("ann")
        assert said(answer) == THROTTLED
        assert header(answer, "Retry-After") == str(wait)
        assert said(await cikit.ask("POST", "user/auth", {})) == INCOMPLETE_LOGIN
        cikit.house.now += wait * SECOND
        assert said(await cikit.ask("POST", "user/auth", wrong)) == WRONG_CODE
    cikit.house.now += 120 * SECOND
    assert (await cikit.login("ann")).status == 200
    cikit.house.now += STEP
    assert said(await cikit.ask("POST", "user/auth", wrong)) == WRONG_CODE
    assert (await cikit.login("ann")).status == 200


async def test_a_name_that_does_not_exist_waits_as_one_that_does(cikit: Cikit) -> None:
    for _ in range(5):
        assert said(await cikit.ask("POST", "user/auth", {"username": "nobody", "code": "bla"})) == NO_USER
    assert said(await cikit.ask("POST", "user/auth", {"username": "NOBODY", "code": "bla"})) == THROTTLED


async def test_a_user_has_several_sessions_or_one(cikit: Cikit) -> None:
    await cikit.add("ann")
    first, second = await cikit.sign_in("ann"), await cikit.sign_in("ann")
    assert [await cikit.works(each.access) for each in (first, second)] == [(200, "[]")] * 2
    rules = cikit.house.control.rules
    cikit.house.control.rules = replace(rules, people=replace(rules.people, single_session=True))
    third = await cikit.sign_in("ann")
    assert [await cikit.works(each.access) for each in (first, second, third)] == [NO_TOKEN, NO_TOKEN, (200, "[]")]
    assert said(await cikit.refresh(first.refresh)) == NO_REFRESH


# -- tokens


async def test_a_refresh_replaces_both_tokens(cikit: Cikit) -> None:
    await cikit.add("ann")
    old = await cikit.sign_in("ann")
    given = json.loads((await cikit.refresh(old.refresh)).body)
    assert list(given) == ["token_type", "expires_in", "access_token", "refresh_token"]
    assert await cikit.works(old.access) == NO_TOKEN
    assert await cikit.works(given["access_token"]) == (200, "[]")
    assert await cikit.works(given["refresh_token"]) == NO_TOKEN


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, no(400, 0, "Unsupported grant type: undefined")),
        ({"refresh_token": "x"}, no(400, 0, "Unsupported grant type: undefined")),
        ({"grant_type": {"$ne": ""}}, no(400, 0, "Unsupported grant type: undefined")),
        ({"grant_type": "password", "refresh_token": "x"}, no(400, 0, "Unsupported grant type: password")),
        ({"grant_type": 'a"b\r\n<é>'}, no(400, 0, 'Unsupported grant type: a"b\r\n<é>')),
        ({"grant_type": "refresh_token"}, no(400, 0, "Missing required parameter: refresh_token")),
        ({"grant_type": "refresh_token", "refresh_token": ""}, no(400, 0, "Missing required parameter: refresh_token")),
        ({"grant_type": "refresh_token", "refresh_token": 1}, no(400, 0, "Missing required parameter: refresh_token")),
        ({"grant_type": "refresh_token", "refresh_token": "bla"}, NO_REFRESH),
        ({"grant_type": "refresh_token", "refresh_token": "\0"}, NO_REFRESH),
    ],
)
async def test_a_refresh_that_makes_no_sense_says_so(
    cikit: Cikit, fields: dict[str, object], expected: tuple[int, str]
) -> None:
    assert said(await cikit.ask("POST", "user/auth/refresh", fields)) == expected


async def test_an_access_token_refreshes_nothing(cikit: Cikit) -> None:
    answer = await cikit.refresh(cikit.boss)
    assert said(answer) == NO_REFRESH
    assert header(answer, "WWW-Authenticate") == PLAIN


async def test_a_refresh_token_that_is_used_again_ends_the_pair_that_came_of_it(cikit: Cikit) -> None:
    await cikit.add("ann")
    old, other = await cikit.sign_in("ann"), await cikit.sign_in("ann")
    new = json.loads((await cikit.refresh(old.refresh)).body)
    assert said(await cikit.refresh(old.refresh)) == NO_REFRESH
    assert await cikit.works(new["access_token"]) == NO_TOKEN
    assert said(await cikit.refresh(new["refresh_token"])) == NO_REFRESH
    assert await cikit.works(other.access) == (200, "[]")
    outcomes = [each.outcome for each in await cikit.house.audit() if each.operation == "tokens.refresh"]
    assert outcomes == ["refresh.unknown", "credential.spent", "credential.reused", "done"]


async def test_within_the_grace_a_used_refresh_token_only_fails(cikit: Cikit) -> None:
    rules = cikit.house.control.rules
    cikit.house.control.rules = replace(rules, people=replace(rules.people, refresh_grace=10 * SECOND))
    await cikit.add("ann")
    old = await cikit.sign_in("ann")
    new = json.loads((await cikit.refresh(old.refresh)).body)
    cikit.house.now += 10 * SECOND - 1
    assert said(await cikit.refresh(old.refresh)) == NO_REFRESH
    assert await cikit.works(new["access_token"]) == (200, "[]")
    cikit.house.now += 1
    assert said(await cikit.refresh(old.refresh)) == NO_REFRESH
    assert await cikit.works(new["access_token"]) == NO_TOKEN


async def test_of_two_equal_refreshes_at_once_one_wins_and_then_nothing_is_left(cikit: Cikit) -> None:
    await cikit.add("ann")
    old = await cikit.sign_in("ann")
    answers = await asyncio.gather(*(cikit.refresh(old.refresh) for _ in range(2)))
    assert sorted(each.status for each in answers) == [200, 401]
    [won] = [json.loads(each.body) for each in answers if each.status == 200]
    assert await cikit.works(won["access_token"]) == NO_TOKEN


async def test_an_access_token_is_expired_for_a_day_and_then_unknown(cikit: Cikit) -> None:
    await cikit.add("ann")
    answer = json.loads((await cikit.login("ann")).body)
    cikit.house.now += 7200 * SECOND - 1
    assert await cikit.works(answer["access_token"]) == (200, "[]")
    cikit.house.now += 1
    late = await cikit.ask("GET", "droplet/list", token=answer["access_token"])
    assert said(late) == EXPIRED
    assert header(late, "WWW-Authenticate") == INVALID
    cikit.house.now += DAY - 1
    assert await cikit.works(answer["access_token"]) == EXPIRED
    cikit.house.now += 1
    assert await cikit.works(answer["access_token"]) == NO_TOKEN
    cikit.house.now += 30 * DAY
    assert said(await cikit.refresh(answer["refresh_token"])) == NO_REFRESH


async def test_revoking_oneself_ends_everything_and_can_be_repeated_after_a_log_in(cikit: Cikit) -> None:
    await cikit.add("ann")
    first, second = await cikit.sign_in("ann"), await cikit.sign_in("ann")
    answer = await cikit.ask("DELETE", "user/auth/revoke/ann", token=first.access)
    assert said(answer) == OK
    assert header(answer, "X-Ostiary-Applied").endswith("workers 2/2; nodes 1/1; 2 ms")
    assert cikit.house.workers.changes[-1].users == ["ann"]
    for each in (first, second):
        assert await cikit.works(each.access) == NO_TOKEN
        assert said(await cikit.refresh(each.refresh)) == NO_REFRESH
    third = await cikit.sign_in("ann")
    assert await cikit.works(third.access) == (200, "[]")
    assert said(await cikit.ask("DELETE", "user/auth/revoke/ann", token=cikit.boss)) == OK
    assert said(await cikit.ask("DELETE", "user/auth/revoke/ann", token=cikit.boss)) == OK


@pytest.mark.parametrize("form", ["Bearer {}", "Bearer: {}", ""])
async def test_a_refresh_token_revokes_its_own_user_only(cikit: Cikit, form: str) -> None:
    await cikit.add("ann")
    pair = await cikit.sign_in("ann")
    headers = {"authorization": form.format(pair.refresh)} if form else {}
    body: object = b"" if form else {"access_token": pair.refresh}
    for other in (OWNER, "nobody"):
        assert said(await cikit.ask("DELETE", f"user/auth/revoke/{other}", body, headers=headers)) == OTHERS
    assert said(await cikit.ask("DELETE", "user/auth/revoke/ann", body, headers=headers)) == OK
    assert said(await cikit.ask("DELETE", "user/auth/revoke/ann", body, headers=headers)) == NO_TOKEN


async def test_a_refresh_token_of_the_owner_has_no_permission_and_an_expired_one_nothing(cikit: Cikit) -> None:
    pair = await cikit.sign_in(OWNER)
    await cikit.add("ann")
    assert said(await cikit.ask("DELETE", "user/auth/revoke/ann", token=pair.refresh)) == OTHERS
    assert said(await cikit.ask("GET", "user/list", token=pair.refresh)) == NO_TOKEN
    cikit.house.now += 30 * DAY
    assert said(await cikit.ask("DELETE", f"user/auth/revoke/{OWNER}", token=pair.refresh)) == NO_TOKEN


async def test_others_are_revoked_by_whoever_manages_tokens(cikit: Cikit) -> None:
    groups = ("viewer", "manager", "admin")
    for group in groups:
        await cikit.add(f"a-{group}", group)
    tokens = {group: (await cikit.sign_in(f"a-{group}")).access for group in groups}
    for group in ("viewer", "manager"):
        for name in ("a-admin", "nobody", OWNER, "A-VIEWER", "%00"):
            assert said(await cikit.ask("DELETE", f"user/auth/revoke/{name}", token=tokens[group])) == OTHERS
    assert said(await cikit.ask("DELETE", "user/auth/revoke/a-viewer", token=tokens["admin"])) == OK
    assert said(await cikit.ask("DELETE", "user/auth/revoke/nobody", token=tokens["admin"])) == NO_USER
    assert await cikit.works(tokens["viewer"]) == NO_TOKEN
    assert await cikit.works(tokens["manager"]) == (200, "[]")


async def test_strict_statuses_are_what_they_mean(cikit: Cikit) -> None:
    await cikit.add("ann")
    token = (await cikit.sign_in("ann")).access
    cikit.turn(strict=True)
    others = await cikit.ask("DELETE", "user/auth/revoke/bob", token=token)
    assert said(others) == (403, OTHERS[1])
    assert "WWW-Authenticate" not in dict(others.headers)
    for method, path in (
        ("DELETE", "user/delete/bob"),
        ("GET", "user/auth/setup/bob"),
        ("DELETE", "user/auth/revoke/b"),
    ):
        assert said(await cikit.ask(method, path, token=cikit.boss)) == (404, NO_USER[1])
    assert (await cikit.ask("PATCH", "droplet/stop/a", token=cikit.boss)).status == 404


# -- users


async def test_a_user_is_listed_without_secrets_and_oldest_first(cikit: Cikit) -> None:
    for name in ("zoe", "ann", "bob"):
        await cikit.add(name)
    users = json.loads((await cikit.ask("GET", "user/list", token=cikit.boss)).body)
    assert [each["username"] for each in users] == [OWNER, "zoe", "ann", "bob"]
    assert users[1] == {
        "_id": f"{2:024x}", "username": "zoe", "group": "viewer", "created": "2015-11-08T16:27:10.000Z",
    }  # fmt: skip


async def test_a_new_user_stands_last_and_shows_its_secret_once(cikit: Cikit) -> None:
    answer = await cikit.ask("POST", "user/add", {"username": "ann", "group": "manager", "_id": {}}, cikit.boss)
    users = json.loads(answer.body)
    assert [sorted(each) for each in users] == [
        ["_id", "created", "group", "username"],
        ["_id", "created", "group", "qr", "secret", "username"],
    ]
    assert users[1]["qr"].startswith("data:image/png;base64,iVBOR")
    shown = json.loads((await cikit.ask("GET", "user/auth/setup/ann", token=cikit.boss)).body)
    assert shown == {"qr": users[1]["qr"], "secret": users[1]["secret"]}
    assert list(shown) == ["qr", "secret"]


async def test_qr_codes_may_be_bare_base64(cikit: Cikit) -> None:
    cikit.turn(qr="base64")
    assert (await cikit.add("ann"))["qr"].startswith("iVBOR")
    shown = json.loads((await cikit.ask("GET", f"user/auth/setup/{OWNER}", token=cikit.boss)).body)
    assert (shown["secret"], shown["qr"][:5]) == (SECRET, "iVBOR")


async def test_an_account_without_a_secret_gets_one_at_the_first_setup(cikit: Cikit) -> None:
    await _run(cikit, "users.create", CreateUser("plain", "viewer", PASSWORD))
    first, second = [said(await cikit.ask("GET", "user/auth/setup/plain", token=cikit.boss)) for _ in range(2)]
    assert first == second
    cikit.secrets["plain"] = json.loads(first[1])["secret"]
    assert (await cikit.login("plain")).status == 200
    setups = [each for each in await cikit.house.audit() if each.operation == "users.totp_setup"]
    assert [(each.target, each.outcome) for each in setups] == [("plain", "done")] * 2


async def test_secrets_are_unique(cikit: Cikit) -> None:
    assert len({(await cikit.add(f"u{number}"))["secret"] for number in range(20)}) == 20


@pytest.mark.parametrize(
    ("name", "group", "expected"),
    [
        (None, "viewer", INCOMPLETE_USER),
        ("ann", None, INCOMPLETE_USER),
        ("", "viewer", INCOMPLETE_USER),
        ({"$ne": ""}, "viewer", INCOMPLETE_USER),
        ("ann", ["viewer"], INCOMPLETE_USER),
        ("a b", "nobody", BAD_NAME),
        ("ann\n", "viewer", BAD_NAME),
        ("-ann", "owner", BAD_NAME),
        ("a" * 65, "viewer", BAD_NAME),
        ("é", "viewer", BAD_NAME),
        ("x" * 90_000, "viewer", BAD_NAME),
        ("a\0", "viewer", BAD_NAME),
        (OWNER, "owner", TAKEN),
        (OWNER.upper(), "nobody", TAKEN),
        ("admin@example.com", "viewer", TAKEN),
        ("ann", "owner", OWNERS),
        ("ann", "owner-1", NO_GROUP),
        ("ann", "Viewer", NO_GROUP),
        ("ann", "\0", NO_GROUP),
        ("ann", "x" * 90_000, NO_GROUP),
    ],
)
async def test_a_user_that_cannot_be_is_refused_in_order(
    cikit: Cikit, name: object, group: object, expected: tuple[int, str]
) -> None:
    fields = {key: value for key, value in (("username", name), ("group", group)) if value is not None}
    assert said(await cikit.ask("POST", "user/add", fields, cikit.boss)) == expected
    assert len(json.loads((await cikit.ask("GET", "user/list", token=cikit.boss)).body)) == 1


async def test_nobody_gives_or_deletes_what_is_above_them(cikit: Cikit) -> None:
    await _run(cikit, "roles.create", CreateRole("keeper", ["users:manage"]))
    await cikit.add("kim", "keeper")
    await cikit.add("max", "manager")
    kim = (await cikit.sign_in("kim")).access
    for name, group, expected in (("a1", "manager", DENIED), ("a1", "owner", OWNERS), ("a1", "nobody", NO_GROUP)):
        assert said(await cikit.ask("POST", "user/add", {"username": name, "group": group}, kim)) == expected
    assert (await cikit.ask("POST", "user/add", {"username": "a1", "group": "viewer"}, kim)).status == 200
    assert said(await cikit.ask("DELETE", "user/delete/max", token=kim)) == DENIED
    assert said(await cikit.ask("DELETE", f"user/delete/{OWNER}", token=kim)) == DENIED
    assert (await cikit.ask("DELETE", "user/delete/a1", token=kim)).status == 200


async def test_who_may_set_up_others_does_not_see_a_secret_above_them(cikit: Cikit) -> None:
    await _run(cikit, "roles.create", CreateRole("helper", ["users:secrets"]))
    await cikit.add("hal", "helper")
    await cikit.add("vic")
    hal = (await cikit.sign_in("hal")).access
    assert said(await cikit.ask("GET", f"user/auth/setup/{OWNER}", token=hal)) == DENIED
    assert (await cikit.ask("GET", "user/auth/setup/vic", token=hal)).status == 200


async def test_the_owner_cannot_be_deleted(cikit: Cikit) -> None:
    answer = await cikit.ask("DELETE", f"user/delete/{OWNER}", token=cikit.boss)
    assert said(answer) == no(403, 915, "The owner cannot be deleted")


async def test_a_deleted_users_tokens_are_gone_and_the_next_of_that_name_is_a_new_person(cikit: Cikit) -> None:
    before = await cikit.add("ann")
    pair = await cikit.sign_in("ann")
    answer = await cikit.ask("DELETE", "user/delete/ann", token=cikit.boss)
    assert [each["username"] for each in json.loads(answer.body)] == [OWNER]
    assert "X-Ostiary-Applied" in dict(answer.headers)
    assert await cikit.works(pair.access) == NO_TOKEN
    assert said(await cikit.refresh(pair.refresh)) == NO_REFRESH
    assert said(await cikit.ask("DELETE", "user/delete/ann", token=cikit.boss)) == NO_USER
    after = await cikit.add("ann")
    assert after["_id"] != before["_id"]
    assert await cikit.works(pair.access) == NO_TOKEN
    assert said(await cikit.refresh(pair.refresh)) == NO_REFRESH


ROWS = [
    ("DELETE", "user/auth/revoke/ann", {"admin", "owner"}),
    ("GET", "user/auth/setup/ann", {"owner"}),
    ("GET", "user/list", {"admin", "owner"}),
    ("POST", "user/add", {"admin", "owner"}),
    ("DELETE", "user/delete/nobody", {"admin", "owner"}),
    ("GET", "droplet/list", {"viewer", "manager", "admin", "owner"}),
    ("POST", "droplet/add", {"manager", "admin", "owner"}),
    ("PATCH", "droplet/stop/a", {"manager", "admin", "owner"}),
    ("PATCH", "droplet/start/a", {"manager", "admin", "owner"}),
    ("PATCH", "droplet/restart/a", {"manager", "admin", "owner"}),
    ("DELETE", "droplet/delete/a", {"manager", "admin", "owner"}),
    ("GET", "droplet/logs/a", {"manager", "admin", "owner"}),
    ("GET", "droplet/stats/a", {"viewer", "manager", "admin", "owner"}),
    ("GET", "job/a", {"viewer", "manager", "admin", "owner"}),
]


async def test_each_row_asks_for_its_permission_before_it_looks_at_anything(cikit: Cikit) -> None:
    await cikit.add("ann")
    tokens = {"owner": cikit.boss}
    for group in ("member", "viewer", "manager", "admin"):
        await cikit.add(f"a-{group}", group)
        tokens[group] = (await cikit.sign_in(f"a-{group}")).access
    for method, path, allowed in ROWS:
        assert said(await cikit.ask(method, path)) == UNAUTHORIZED
        for group, token in tokens.items():
            answer = said(await cikit.ask(method, path, {"x": 1}, token))
            refusal = OTHERS if "revoke" in path else DENIED
            assert (answer != refusal) == (group in allowed), (method, path, group)


async def test_a_setup_of_oneself_needs_the_permission_too(cikit: Cikit) -> None:
    await cikit.add("ann")
    token = (await cikit.sign_in("ann")).access
    assert said(await cikit.ask("GET", "user/auth/setup/ann", token=token)) == DENIED
    assert said(await cikit.ask("DELETE", "user/delete/ann", token=token)) == DENIED


async def test_refusals_of_changes_stand_in_the_audit(cikit: Cikit) -> None:
    await cikit.ask("DELETE", "user/delete/ann")
    await cikit.ask("POST", "user/auth", {"username": OWNER, "code": "bla"})
    seen = [(each.surface, each.operation, each.target, each.outcome) for each in await cikit.house.audit()]
    assert seen[:2] == [
        ("cikit", "login.totp", OWNER, "login.code"),
        ("cikit", "users.delete", "ann", "authentication.required"),
    ]


async def test_nothing_that_is_secret_is_kept_as_text(cikit: Cikit) -> None:
    secret = (await cikit.add("ann"))["secret"]
    pair = await cikit.sign_in("ann")
    found = await cikit.house.store.credentials.find(digest(pair.access))
    assert found is not None
    for text in (secret, pair.access, pair.refresh):
        assert text not in repr(await cikit.house.audit())
        for file in cikit.house.path.glob("ostiary.db*"):
            assert text.encode() not in file.read_bytes()


async def test_a_store_that_cannot_be_reached_is_503_in_these_words(cikit: Cikit) -> None:
    cikit.house.workers.away = True
    answer = await cikit.ask("DELETE", f"user/auth/revoke/{OWNER}", token=cikit.boss)
    assert said(answer) == no(503, 503, "A worker does not answer")
    assert header(answer, "Retry-After") == "1"
