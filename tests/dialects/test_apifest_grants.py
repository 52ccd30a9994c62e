"""Codes, log-ins and refreshes as ApiFest speaks of them (apifest.md B3 to B7)."""

from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from msgspec.structs import replace
from tests.dialects.house import OWNER, PASSWORD, House, basic

from ostiary.control.call import Call
from ostiary.control.users import CreateUser, OneUser, OwnUser
from ostiary.core.permission import OWNER as EVERYTHING
from ostiary.core.permission import Principal
from ostiary.dialects.message import FORM, Answer

BOSS = Principal("user", OWNER, EVERYTHING, "password", 1, "owner")
SCOPES = [{"scope": name, "description": "", "cc_expires_in": 1800, "pass_expires_in": 900} for name in ("basic", "aa")]
GRANTS = ["authorization_code", "client_credentials", "password", "refresh_token"]
URI = "http://127.0.0.1:8080"
APPLICATION = {"name": "app", "scope": "basic aa", "redirect_uri": URI, "grant_types": GRANTS}
PAIR = (400, '{"error": "invalid client_id/client_secret"}')
CODE = (400, '{"error": "invalid auth_code"}')
REFRESH = (400, '{"error":"invalid refresh token"}')
GONE = (401, '{"error":"invalid access token"}')
CANNOT = (401, '{"error": "cannot authenticate user"}')
STRANGER = (401, '{"error":"authentication required"}')


def said(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body.decode()


def read(answer: Answer) -> Any:
    return msgspec.json.decode(answer.body)


async def client(house: House, **more: object) -> dict[str, str]:
    for scope in SCOPES:
        await house.ask("POST", "/oauth20/scopes", scope)
    made: dict[str, str] = read(await house.ask("POST", "/oauth20/applications", APPLICATION | more))
    await house.ask("PUT", f"/oauth20/applications/{made['client_id']}", {"status": 1})
    return made


async def form(house: House, made: dict[str, str], **fields: str) -> Answer:
    body = urlencode({**made, **fields}).encode()
    return await house.ask("POST", "/oauth20/tokens", body, media=FORM, owner=False)


async def code(house: House, made: dict[str, str], **query: str) -> Answer:
    asked = {"client_id": made["client_id"], "response_type": "code", "redirect_uri": URI, **query}
    return await house.ask("GET", f"/oauth20/auth-codes?{urlencode(asked)}")


async def exchanged(house: House, made: dict[str, str], **query: str) -> Any:
    text = read(await code(house, made, **query))["redirect_uri"].partition("code=")[2]
    return read(await form(house, made, grant_type="authorization_code", code=text, redirect_uri=URI)) | {"code": text}


async def validated(house: House, token: str) -> Answer:
    return await house.ask("GET", f"/oauth20/tokens/validate?token={token}")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"client_id": ""}, (400, '{"error": "mandatory parameter client_id is missing"}')),
        ({"client_id": "ffff", "response_type": "x"}, PAIR),
        ({"response_type": "x", "redirect_uri": "x"}, (400, '{"error": "unsupported_response_type"}')),
        ({"response_type": ""}, (400, '{"error": "unsupported_response_type"}')),
        ({"redirect_uri": URI + "/", "scope": "no"}, (400, '{"error": "invalid redirect_uri"}')),
        ({"scope": "no", "code_challenge": "x"}, (400, '{"status":"scope not valid"}')),
        ({"code_challenge": "x", "user_id": "\0"}, (400, '{"error":"code_challenge is not valid"}')),
        ({"code_challenge": "E" * 43}, (400, '{"error":"code_challenge is not valid"}')),
        ({"code_challenge": ""}, (400, '{"error":"code_challenge is not valid"}')),
        ({"user_id": "a\nb"}, (400, '{"error":"user_id is not valid"}')),
        ({"user_id": "a" * 256}, (400, '{"error":"user_id is not valid"}')),
    ],
)
async def test_a_request_for_a_code_is_checked_in_order(
    house: House, query: dict[str, str], expected: tuple[int, str]
) -> None:
    assert said(await code(house, await client(house), **query)) == expected


async def test_any_well_formed_url_gets_a_code_where_the_settings_say_so(house: House) -> None:
    made = await client(house)
    house.control.rules = replace(house.control.rules, any_redirect=True)
    assert read(await code(house, made, redirect_uri="http://x.example"))["redirect_uri"].startswith(
        "http://x.example?code="
    )
    assert said(await code(house, made, redirect_uri="htp:/x")) == (400, '{"error": "invalid redirect_uri"}')


async def test_a_code_is_for_its_own_client_only_and_once(house: House) -> None:
    made, other = await client(house), await client(house)
    text = read(await code(house, made))["redirect_uri"].partition("code=")[2]
    fields = {"grant_type": "authorization_code", "code": text, "redirect_uri": URI}
    assert said(await form(house, other, **fields)) == PAIR
    assert said(await form(house, made, **fields, code_verifier="v" * 43)) == CODE
    first = read(await form(house, made, **fields))
    assert list(first) == [
        "access_token", "refresh_token", "token_type", "expires_in", "scope", "refresh_expires_in",
    ]  # fmt: skip
    assert (await validated(house, first["access_token"])).status == 200
    assert said(await form(house, other, **fields)) == CODE
    assert said(await validated(house, first["access_token"])) == GONE
    refresh = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    assert said(await form(house, made, **refresh)) == REFRESH


async def test_a_code_lives_as_long_as_the_settings_say(house: House) -> None:
    made = await client(house)
    text = read(await code(house, made))["redirect_uri"].partition("code=")[2]
    house.now += 60 * 10**6 + 1
    assert said(await form(house, made, grant_type="authorization_code", code=text, redirect_uri=URI)) == CODE


async def test_validate_shows_all_of_a_users_token_and_the_list_shows_handles(house: House) -> None:
    made = await client(house)
    found = await exchanged(house, made, user_id="ann é", scope="aa")
    shown = read(await validated(house, found["access_token"]))
    assert (shown["refreshToken"], shown["userId"], shown["scope"]) == (found["refresh_token"], "ann é", "aa")
    assert found["code"] not in shown["codeId"]
    assert len(shown["codeId"]) == 32
    assert said(await validated(house, found["refresh_token"])) == GONE
    query = urlencode({"client_id": made["client_id"], "user_id": "ann é"})
    (listed,) = read(await house.ask("GET", f"/oauth20/tokens?{query}"))
    assert listed["refreshToken"].startswith("sha256:")
    kept = b"".join(file.read_bytes() for file in house.path.glob("ostiary.db*"))
    assert [found[name].encode() in kept for name in ("access_token", "refresh_token", "code")] == [False] * 3


async def test_rotation_gives_a_new_refresh_token_each_time(house: House) -> None:
    made = await client(house, rotate_refresh_tokens=True)
    first = await exchanged(house, made, user_id="ann")
    refresh = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = read(await form(house, made, **refresh))
    assert second["refresh_token"] != first["refresh_token"]
    shown = read(await validated(house, second["access_token"]))
    assert shown["refreshToken"] == second["refresh_token"]
    assert said(await form(house, made, **refresh)) == REFRESH
    assert said(await validated(house, second["access_token"])) == GONE


@pytest.mark.parametrize(
    ("username", "password", "expected"),
    [
        (OWNER, "wrong", (401, '{"error": "invalid username/password"}')),
        ("nobody", PASSWORD, (401, '{"error": "invalid username/password"}')),
        ("\0", "\0", (401, '{"error": "invalid username/password"}')),
    ],
)
async def test_a_wrong_password_is_told_as_apifest_does(
    house: House, username: str, password: str, expected: tuple[int, str]
) -> None:
    made = await client(house)
    answer = await form(house, made, grant_type="password", username=username, password=password)
    assert said(answer) == expected


async def test_a_password_alone_does_not_do_for_who_needs_a_code(house: House) -> None:
    made = await client(house)
    await house.desk.run("users.totp_setup", OwnUser(OWNER), Call(BOSS, "test"))
    people = replace(house.control.rules.people, second_factor=True)
    house.control.rules = replace(house.control.rules, people=people)
    assert said(await form(house, made, grant_type="password", username=OWNER, password=PASSWORD)) == CANNOT
    answer = await house.ask("GET", "/oauth20/scopes")
    assert said(answer) == STRANGER
    assert dict(answer.headers)["WWW-Authenticate"] == 'Bearer realm="ostiary", Basic realm="ostiary"'


async def test_the_right_password_of_a_disabled_user_is_no_credential(house: House) -> None:
    made = await client(house)
    await house.desk.run("users.create", CreateUser("ann", "admin", PASSWORD), Call(BOSS, "test"))
    shown = {"authorization": basic("ann", PASSWORD)}
    assert (await house.ask("GET", "/oauth20/scopes", owner=False, headers=shown)).status == 200
    await house.desk.run("users.disable", OneUser("ann"), Call(BOSS, "test"))
    assert said(await form(house, made, grant_type="password", username="ann", password=PASSWORD)) == CANNOT
    assert said(await house.ask("GET", "/oauth20/scopes", owner=False, headers=shown)) == STRANGER


async def test_wrong_passwords_are_throttled_with_the_operators_own(house: House) -> None:
    made = await client(house)
    for _ in range(5):
        await form(house, made, grant_type="password", username=OWNER, password="wrong")
    answer = await form(house, made, grant_type="password", username=OWNER, password=PASSWORD)
    assert said(answer) == (429, '{"error":"rate limit reached"}')
    assert dict(answer.headers)["Retry-After"] == "30"


async def test_a_revoked_access_token_takes_its_refresh_token_along(house: House) -> None:
    made = await client(house)
    found = await exchanged(house, made, user_id="ann")
    refused = await house.ask("POST", "/oauth20/tokens/revoke", {"access_token": found["refresh_token"]})
    assert said(refused) == (200, '{"revoked":"false"}')
    done = await house.ask("POST", "/oauth20/tokens/revoke", {"access_token": found["access_token"]})
    assert said(done) == (200, '{"revoked":"true"}')
    answer = await form(house, made, grant_type="refresh_token", refresh_token=found["refresh_token"])
    assert said(answer) == REFRESH
