"""The ApiFest surface from request to answer, bodies to the byte."""

import base64
import re
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from msgspec.structs import replace
from tests.dialects.house import MAPPING, House, basic

from ostiary.control.subjects import registry
from ostiary.dialects.apifest import ROWS, TRUSTED, find
from ostiary.dialects.message import FORM, Answer, Request

SCOPE = {"scope": "basic", "description": "d", "cc_expires_in": 1800, "pass_expires_in": 900}
APPLICATION = {"name": "app", "scope": "basic", "redirect_uri": "http://127.0.0.1:8080"}


def said(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body.decode()


def read(answer: Answer) -> Any:
    return msgspec.json.decode(answer.body)


async def form(house: House, fields: dict[str, str] | str, **more: Any) -> Answer:
    body = fields if isinstance(fields, str) else urlencode(fields)
    return await house.ask("POST", "/oauth20/tokens", body.encode(), media=FORM, owner=False, **more)


async def client(house: House, **more: object) -> dict[str, str]:
    """An active client application with the scope `basic`."""
    await house.ask("POST", "/oauth20/scopes", SCOPE)
    made = read(await house.ask("POST", "/oauth20/applications", APPLICATION | more))
    await house.ask("PUT", f"/oauth20/applications/{made['client_id']}", {"status": 1})
    return {"client_id": made["client_id"], "client_secret": made["client_secret"]}


async def token(house: House, made: dict[str, str]) -> str:
    answer = await form(house, {**made, "grant_type": "client_credentials"})
    assert answer.status == 200
    text: str = read(answer)["access_token"]
    return text


async def test_every_answer_forbids_to_be_stored_and_says_json_without_a_charset(house: House) -> None:
    answer = await house.ask("POST", "/oauth20/scopes", SCOPE)
    assert said(answer) == (200, '{"status":"scope successfully stored"}')
    assert answer.headers[:3] == (
        ("Content-Type", "application/json"),
        ("Cache-Control", "no-store"),
        ("Pragma", "no-cache"),
    )


MANDATORY = (400, '{"error":"scope, description, cc_expires_in and pass_expires_in are mandatory"}')
BAD_NAME = (400, '{"error":"scope name not valid - it may contain aplha-numeric, - and _"}')
INVALID = (400, '{"error":"invalid JSON"}')
MEDIA = (400, '{"error":"unsupported media type"}')


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"scope": "a"}, MANDATORY),
        ({"scope": None}, MANDATORY),
        ({"description": None}, MANDATORY),
        ({"description": ""}, (200, '{"status":"scope successfully stored"}')),
        ({"description": "d" * 65_000}, (200, '{"status":"scope successfully stored"}')),
        ({"cc_expires_in": 0}, MANDATORY),
        ({"cc_expires_in": -1}, MANDATORY),
        ({"pass_expires_in": None}, MANDATORY),
        ({"refresh_expires_in": 0}, MANDATORY),
        ({"refresh_expires_in": -5}, (200, '{"status":"scope successfully stored"}')),
        ({"scope": "a--b"}, BAD_NAME),
        ({"scope": "a b"}, BAD_NAME),
        ({"scope": "a" * 129}, BAD_NAME),
        ({"cc_expires_in": "300"}, (200, '{"status":"scope successfully stored"}')),
        ({"cc_expires_in": "abc"}, (400, '{"error":"cc_expires_in is not an integer"}')),
        ({"cc_expires_in": ""}, (400, '{"error":"cc_expires_in is not an integer"}')),
        ({"cc_expires_in": "2147483648"}, (400, '{"error":"cc_expires_in is not an integer"}')),
        ({"pass_expires_in": 1.5}, (400, '{"error":"pass_expires_in is not an integer"}')),
        ({"cc_expires_in": 2147483648}, INVALID),
        ({"cc_expires_in": True}, INVALID),
        ({"cc_expires_in": [1]}, INVALID),
        ({"scope": 1}, INVALID),
        ({"description": "a\0b"}, INVALID),
        ({"foo": 1}, INVALID),
        ({"foo": 1, "cc_expires_in": "abc"}, INVALID),
    ],
)
async def test_a_new_scope_is_checked_in_order(
    house: House, changes: dict[str, object], expected: tuple[int, str]
) -> None:
    assert said(await house.ask("POST", "/oauth20/scopes", SCOPE | changes)) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"x"', b"1", b'{"scope":"\\ud800"}', b'{"scope":"\xff"}', b"{} {}",
        b'{"scope":' + b"[" * 20_000, b'{"cc_expires_in":' + b"9" * 5000 + b"}", b'{"cc_expires_in":1e999}',
    ],
)  # fmt: skip
async def test_what_is_no_json_object_is_invalid_json(house: House, body: bytes) -> None:
    answer = await house.ask("POST", "/oauth20/scopes", body, headers={"content-type": "application/json"})
    assert said(answer) == INVALID


@pytest.mark.parametrize("media", ["text/plain", "application/jsonx", "application/x-www-form-urlencoded", ""])
async def test_another_media_type_is_refused_before_the_body_is_read(house: House, media: str) -> None:
    assert said(await house.ask("POST", "/oauth20/scopes", b"{", media=media)) == MEDIA


async def test_the_media_type_may_have_parameters_and_any_case(house: House) -> None:
    answer = await house.ask("POST", "/oauth20/scopes", SCOPE, media="Application/JSON ; charset=utf-8")
    assert answer.status == 200


async def test_a_scope_is_listed_shown_changed_and_deleted(house: House) -> None:
    await house.ask("POST", "/oauth20/scopes", SCOPE)
    body = '{"description":"d","cc_expires_in":1800,"pass_expires_in":900,"scope":"basic","refresh_expires_in":900}'
    assert said(await house.ask("GET", "/oauth20/scopes/basic?x=1&x=2")) == (200, body)
    assert said(await house.ask("GET", "/oauth20/scopes")) == (200, f"[{body}]")
    assert said(await house.ask("POST", "/oauth20/scopes", SCOPE)) == (400, '{"status":"scope already exists"}')
    updated = (200, '{"status":"scope successfully updated"}')
    assert said(await house.ask("PUT", "/oauth20/scopes/basic", {"cc_expires_in": 300, "scope": "other"})) == updated
    assert said(await house.ask("PUT", "/oauth20/scopes", {"scope": "basic", "description": "e"})) == updated
    shown = read(await house.ask("GET", "/oauth20/scopes/basic"))
    assert (shown["description"], shown["cc_expires_in"], shown["pass_expires_in"]) == ("e", 300, 900)
    deleted = (200, '{"status":"scope successfully deleted"}')
    assert said(await house.ask("DELETE", "/oauth20/scopes/basic")) == deleted
    unknown = '{"status":"scope does not exist"}'
    assert said(await house.ask("DELETE", "/oauth20/scopes/basic")) == (400, unknown)
    assert said(await house.ask("GET", "/oauth20/scopes/basic")) == (404, unknown)
    assert said(await house.ask("PUT", "/oauth20/scopes/basic", {"cc_expires_in": 3})) == (400, unknown)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (400, '{"error":"scope is mandatory"}')),
        ({"description": ""}, (400, '{"error":"scope is mandatory"}')),
        ({"cc_expires_in": 0}, (400, '{"error":"scope is mandatory"}')),
        ({"description": "x", "cc_expires_in": 0}, (400, '{"error":"cc_expires_in must be greater than 0"}')),
        (
            {"cc_expires_in": 5, "refresh_expires_in": -1},
            (400, '{"error":"refresh_expires_in must be greater than 0"}'),
        ),
        ({"description": "x"}, (400, '{"status":"scope does not exist"}')),
    ],
)
async def test_an_update_of_a_scope_is_checked_in_order(
    house: House, body: dict[str, object], expected: tuple[int, str]
) -> None:
    assert said(await house.ask("PUT", "/oauth20/scopes/nosuch", body)) == expected


@pytest.mark.parametrize(("strict", "status"), [(False, 200), (True, 409)])
async def test_a_scope_in_use_is_not_deleted(house: House, strict: bool, status: int) -> None:
    await client(house)
    house.apifest(strict_status=strict)
    body = '{"status":"scope cannot be deleted, there are client apps registered with it"}'
    assert said(await house.ask("DELETE", "/oauth20/scopes/basic")) == (status, body)


async def test_scopes_of_a_client_come_in_its_order(house: House) -> None:
    for name in ("basic", "zeta", "alpha"):
        await house.ask("POST", "/oauth20/scopes", SCOPE | {"scope": name})
    made = read(await house.ask("POST", "/oauth20/applications", APPLICATION | {"scope": "zeta basic"}))
    listed = read(await house.ask("GET", f"/oauth20/scopes?client_id={made['client_id']}"))
    assert [each["scope"] for each in listed] == ["zeta", "basic"]
    unknown = (404, '{"error": "client application does not exist"}')
    assert said(await house.ask("GET", "/oauth20/scopes?client_id=fff")) == unknown
    assert said(await house.ask("GET", "/oauth20/scopes?client_id=")) == unknown


NAME = (400, '{"error": "name, scope or redirect_uri is missing or invalid"}')
NO_SCOPE = (400, '{"error": "scope does not exist"}')
PAIR = (400, '{"error": "invalid client_id/client_secret"}')


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": ""}, NAME),
        ({"scope": None}, NAME),
        ({"redirect_uri": "htt://127.0.0.1"}, NAME),
        ({"redirect_uri": "http://"}, NAME),
        ({"redirect_uri": "http://a/#f"}, NAME),
        ({"redirect_uri": "com.example:/cb"}, NAME),
        ({"scope": "other"}, NO_SCOPE),
        ({"scope": "basic "}, NO_SCOPE),
        ({"scope": "basic  basic"}, NO_SCOPE),
        ({"scope": " "}, NO_SCOPE),
        ({"token_endpoint_auth_method": "magic", "redirect_uri": "bad"}, NAME),
        ({"grant_types": ["magic"]}, (400, '{"error":"grant_types is not valid"}')),
        ({"grant_types": ["magic"], "scope": "other"}, (400, '{"error":"grant_types is not valid"}')),
        ({"grant_types": "password"}, INVALID),
        ({"rate_limit": {"requests": 0, "per_seconds": 1}}, (400, '{"error":"rate_limit is not valid"}')),
        ({"rate_limit": {"requests": 1}}, (400, '{"error":"rate_limit is not valid"}')),
        ({"rate_limit": {"requests": "x", "per_seconds": 1}}, (400, '{"error":"requests is not an integer"}')),
        ({"rate_limit": {"requests": 1, "per_seconds": 1, "x": 1}}, INVALID),
        ({"token_endpoint_auth_method": "magic"}, (400, '{"error":"token_endpoint_auth_method is not valid"}')),
        ({"details": {"a": "b"}, "application_details": {"a": "c"}}, INVALID),
        ({"application_details": {"a": 1}}, INVALID),
        ({"client_id": "xyz", "client_secret": "abc"}, PAIR),
        ({"client_id": "abc", "client_secret": ""}, PAIR),
        ({"client_id": "a" * 129, "client_secret": "abc"}, PAIR),
        ({"status": 2.5}, (400, '{"error":"status is not an integer"}')),
    ],
)
async def test_a_new_application_is_checked_in_order(
    house: House, changes: dict[str, object], expected: tuple[int, str]
) -> None:
    await house.ask("POST", "/oauth20/scopes", SCOPE)
    assert said(await house.ask("POST", "/oauth20/applications", APPLICATION | changes)) == expected


async def test_an_application_gets_an_id_and_a_secret_that_are_never_shown_again(house: House) -> None:
    await house.ask("POST", "/oauth20/scopes", SCOPE)
    made = read(await house.ask("POST", "/oauth20/applications", APPLICATION | {"status": 1, "registered": [1]}))
    assert re.fullmatch(r"[0-9a-f]{40}", made["client_id"])
    assert re.fullmatch(r"[0-9a-f]{64}", made["client_secret"])
    shown = await house.ask("GET", f"/oauth20/applications/{made['client_id']}")
    assert said(shown) == (
        200,
        f'{{"name":"app","client_id":"{made["client_id"]}","scope":"basic",'
        '"registered":"Sun Nov 08 16:26:40 UTC 2015","redirect_uri":"http://127.0.0.1:8080","status":0}',
    )


async def test_a_secret_is_listed_only_where_it_is_kept_and_may_be_seen(house: House) -> None:
    house.control.rules = replace(house.control.rules, reveal_secrets=True)
    made = await client(house)
    path = f"/oauth20/applications/{made['client_id']}"
    shown = read(await house.ask("GET", path))
    assert list(shown)[:3] == ["name", "client_id", "client_secret"]
    assert shown["client_secret"] == made["client_secret"]
    assert read(await house.ask("GET", "/oauth20/applications"))[0] == shown
    kept = b"".join(file.read_bytes() for file in house.path.glob("ostiary.db*"))
    assert made["client_id"].encode() in kept
    assert made["client_secret"].encode() not in kept
    rotated = read(await house.ask("POST", "/operations/applications.rotate_secret", {"client_id": made["client_id"]}))
    house.control.rules = replace(house.control.rules, reveal_secrets=False)
    assert read(await house.ask("GET", path))["client_secret"] == rotated["client_secret"]
    await house.ask("POST", "/operations/applications.rotate_secret", {"client_id": made["client_id"]})
    assert "client_secret" not in read(await house.ask("GET", path))


async def test_a_client_id_is_taken_once(house: House) -> None:
    await house.ask("POST", "/oauth20/scopes", SCOPE)
    given = {"client_id": "abc1", "client_secret": "d43a"}
    assert read(await house.ask("POST", "/oauth20/applications", APPLICATION | given)) == given
    answer = await house.ask("POST", "/oauth20/applications", APPLICATION | given)
    assert said(answer) == (400, '{"error": "already registered client application"}')


async def test_an_application_that_keeps_no_secret_gets_none(house: House) -> None:
    await house.ask("POST", "/oauth20/scopes", SCOPE)
    body = APPLICATION | {"token_endpoint_auth_method": "none", "redirect_uri": "com.example:/cb"}
    assert list(read(await house.ask("POST", "/oauth20/applications", body))) == ["client_id"]


async def test_ostiarys_own_fields_are_shown_where_they_were_set(house: House) -> None:
    made = await client(house, rate_limit={"requests": 5, "per_seconds": "60"}, details={"k": "v"})
    path = f"/oauth20/applications/{made['client_id']}"
    await house.ask("PUT", path, {"grant_types": ["client_credentials"], "rotate_refresh_tokens": True})
    shown = read(await house.ask("GET", path))
    assert list(shown)[-5:] == ["status", "application_details", "grant_types", "rotate_refresh_tokens", "rate_limit"]
    assert shown["rate_limit"] == {"requests": 5, "per_seconds": 60}
    assert shown["application_details"] == {"k": "v"}


NOTHING = (400, '{"error": "scope, description or status is missing or invalid"}')
UPDATED = (200, '{"status":"client application updated"}')


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", INVALID),
        (b"{}", NOTHING),
        ({"scope": "", "description": ""}, NOTHING),
        ({"status": 2}, NOTHING),
        ({"status": "2", "description": "x"}, NOTHING),
        ({"name": "x", "redirect_uri": "y", "client_id": "z", "client_secret": "z", "registered": 1}, NOTHING),
        ({"status": 1, "scope": ""}, NO_SCOPE),
        ({"scope": "nosuch"}, NO_SCOPE),
        ({"application_details": {}}, UPDATED),
        ({"status": "1"}, UPDATED),
        ({"grant_types": []}, UPDATED),
        ({"grant_types": ["magic"]}, (400, '{"error":"grant_types is not valid"}')),
    ],
)
async def test_an_update_of_an_application_is_checked_in_order(
    house: House, body: object, expected: tuple[int, str]
) -> None:
    made = await client(house)
    assert said(await house.ask("PUT", f"/oauth20/applications/{made['client_id']}", body)) == expected
    assert said(await house.ask("PUT", "/oauth20/applications/fff0", body)) == PAIR


async def test_applications_are_listed_last_first_and_by_status(house: House) -> None:
    first = await client(house)
    house.now += 1
    second = read(await house.ask("POST", "/oauth20/applications", APPLICATION))

    async def listed(query: str) -> list[str]:
        return [each["client_id"] for each in read(await house.ask("GET", f"/oauth20/applications{query}"))]

    both = [second["client_id"], first["client_id"]]
    assert await listed("") == both
    assert await listed("?status=0") == both[:1]
    assert await listed("?status=1") == both[1:]
    assert await listed("?status=2") == []
    assert await listed("?status=99999999999") == []
    assert await listed("?status=x") == both
    assert await listed("?status=") == both


def parameter(name: str) -> tuple[int, str]:
    return 400, f'{{"error": "mandatory parameter {name} is missing"}}'


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("", parameter("client_id")),
        ("client_id=&client_secret=x", parameter("client_id")),
        ("client_id=x", parameter("client_secret")),
        ("client_id=x&client_secret=y", parameter("grant_type")),
        ("client_id=x&client_secret=y&grant_type=magic", (400, '{"error": "unsupported_grant_type"}')),
        ("client_id=x&client_secret=y&grant_type=authorization_code", parameter("code")),
        ("client_id=x&client_secret=y&grant_type=authorization_code&code=c", parameter("redirect_uri")),
        ("client_id=x&client_secret=y&grant_type=refresh_token", parameter("refresh_token")),
        ("client_id=x&client_secret=y&grant_type=password&password=x", parameter("username")),
        ("client_id=x&client_secret=y&grant_type=client_credentials", PAIR),
        ("client_id=%ff&client_secret=%ff&grant_type=client_credentials", PAIR),
        ("grant_type=a&grant_type=a", (400, '{"error":"parameter grant_type is given more than once"}')),
        ("%22=1&%22=2", (400, '{"error":"parameter \\" is given more than once"}')),
    ],
)
async def test_a_token_request_is_checked_in_order(house: House, fields: str, expected: tuple[int, str]) -> None:
    assert said(await form(house, fields)) == expected


async def test_the_token_endpoint_takes_a_form_only(house: House) -> None:
    assert said(await house.ask("POST", "/oauth20/tokens", {}, owner=False)) == MEDIA


async def test_a_token_lives_as_long_as_its_scope_says_in_text(house: House) -> None:
    made = await client(house)
    answer = await form(house, {**made, "grant_type": "client_credentials", "scope": ""})
    text = read(answer)["access_token"]
    assert re.fullmatch(r"[0-9a-f]{64}", text)
    body = f'{{"access_token":"{text}","token_type":"Bearer","expires_in":"1800","scope":"basic"}}'
    assert said(answer) == (200, body)


async def test_the_client_may_show_its_secret_in_a_basic_header(house: House) -> None:
    made = await client(house)
    grant = {"grant_type": "client_credentials"}
    header = {"authorization": basic(made["client_id"], made["client_secret"])}
    assert (await form(house, grant, headers=header)).status == 200
    assert said(await form(house, grant, headers={"authorization": "Basic !!"})) == parameter("client_id")
    assert said(await form(house, grant | {"client_id": "x"}, headers=header)) == parameter("client_secret")


async def test_scopes_that_are_not_the_clients_are_refused(house: House) -> None:
    made = await client(house)
    for scope in ("other", "basic other", "basic "):
        answer = await form(house, {**made, "grant_type": "client_credentials", "scope": scope})
        assert said(answer) == (400, '{"status":"scope not valid"}')


async def test_a_grant_that_is_switched_off_is_unauthorized(house: House) -> None:
    made = await client(house, grant_types=["password"])
    answer = await form(house, {**made, "grant_type": "client_credentials"})
    assert said(answer) == (400, '{"error":"unauthorized_client"}')


async def test_a_token_is_validated_until_it_is_revoked(house: House) -> None:
    made = await client(house, details={"k": "v"})
    text = await token(house, made)
    house.now += 1000
    answer = await house.ask("GET", f"/oauth20/tokens/validate?token={text}")
    assert said(answer) == (
        200,
        f'{{"token":"{text}","refreshToken":"","expiresIn":"1800","type":"Bearer","scope":"basic","valid":true,'
        f'"clientId":"{made["client_id"]}","codeId":"","userId":"","applicationDetails":{{"k":"v"}},'
        '"details":{"k":"v"},"created":1447000000000,"refreshExpiresIn":"1800"}',
    )
    revoked = await house.ask("POST", "/oauth20/tokens/revoke", {"access_token": text, "x": 1}, media="text/plain")
    assert said(revoked) == (200, '{"revoked":"true"}')
    assert re.fullmatch(r"epoch \d+; workers 2/2; nodes 1/1; 2 ms", dict(revoked.headers)["X-Ostiary-Applied"])
    gone = (401, '{"error":"invalid access token"}')
    assert said(await house.ask("GET", f"/oauth20/tokens/validate?token={text}")) == gone
    again = await house.ask("POST", "/oauth20/tokens/revoke", {"access_token": text})
    assert said(again) == (200, '{"revoked":"false"}')


async def test_an_expired_token_and_a_handle_are_not_valid(house: House) -> None:
    text = await token(house, await client(house))
    (listed,) = read(await house.ask("POST", "/operations/tokens.list", {}))
    gone = (401, '{"error":"invalid access token"}')
    assert said(await house.ask("GET", f"/oauth20/tokens/validate?token={listed['handle']}")) == gone
    house.now += 1801 * 10**6
    assert said(await house.ask("GET", f"/oauth20/tokens/validate?token={text}")) == gone
    assert said(await house.ask("GET", "/oauth20/tokens/validate?token=")) == parameter("token")


async def test_the_refresh_token_is_left_out_where_the_settings_say_so(house: House) -> None:
    text = await token(house, await client(house))
    house.apifest(validate_reveals_refresh=False)
    assert "refreshToken" not in read(await house.ask("GET", f"/oauth20/tokens/validate?token={text}"))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", parameter("access_token")),
        (b"{", parameter("access_token")),
        (b"[]", parameter("access_token")),
        ({"access_token": ""}, parameter("access_token")),
        ({"access_token": 1}, parameter("access_token")),
        ({"access_token": "zz"}, (200, '{"revoked":"false"}')),
        ({"access_token": "a\0"}, (200, '{"revoked":"false"}')),
        ({"access_token": "zz", "client_id": "fff"}, PAIR),
        ({"access_token": "zz", "client_id": "no hex"}, PAIR),
        ({"access_token": "zz", "client_id": 5}, PAIR),
        ({"access_token": "zz", "client_id": None}, (200, '{"revoked":"false"}')),
    ],
)
async def test_a_revocation_is_checked_in_order(house: House, body: object, expected: tuple[int, str]) -> None:
    assert said(await house.ask("POST", "/oauth20/tokens/revoke", body)) == expected


async def test_only_the_owner_of_a_token_may_be_named_with_it(house: House) -> None:
    made = await client(house)
    text = await token(house, made)
    other = read(await house.ask("POST", "/oauth20/applications", APPLICATION))
    revoke = "/oauth20/tokens/revoke"
    answer = await house.ask("POST", revoke, {"access_token": text, "client_id": other["client_id"]})
    assert said(answer) == (200, '{"revoked":"false"}')
    answer = await house.ask("POST", revoke, {"access_token": text, "client_id": made["client_id"]})
    assert said(answer) == (200, '{"revoked":"true"}')


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"revoke_as_string": False}, (200, '{"revoked":false}')),
        ({"strict_status": True}, (404, '{"revoked":"false"}')),
    ],
)
async def test_settings_turn_the_answer_of_a_revocation(
    house: House, settings: dict[str, bool], expected: tuple[int, str]
) -> None:
    house.apifest(**settings)
    assert said(await house.ask("POST", "/oauth20/tokens/revoke", {"access_token": "zz"})) == expected


async def test_tokens_are_listed_by_their_handles(house: House) -> None:
    made = await client(house)
    await token(house, made)
    path = f"/oauth20/tokens?client_id={made['client_id']}"
    assert said(await house.ask("GET", "/oauth20/tokens")) == parameter("client_id")
    assert said(await house.ask("GET", path)) == parameter("user_id")
    assert said(await house.ask("GET", f"{path}&user_id=nobody")) == (200, "[]")
    assert said(await house.ask("GET", "/oauth20/tokens?client_id=ff&user_id=x")) == PAIR
    twice = (400, '{"error":"parameter user_id is given more than once"}')
    assert said(await house.ask("GET", f"{path}&user_id=&user_id=x")) == twice


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"user_id":""}', b'{"user_id":null}', b'{"user_id":7}'])
async def test_whose_tokens_are_revoked_must_be_said(house: House, body: bytes) -> None:
    assert said(await house.ask("DELETE", "/oauth20/tokens", body)) == parameter("user_id")


async def test_revoking_a_user_says_yes_always(house: House) -> None:
    assert said(await house.ask("DELETE", "/oauth20/tokens", {"user_id": "nobody"})) == (200, '{"revoked":"true"}')
    assert house.workers.changes[-1].users == ["nobody"]


NOT_FOUND = (404, '{"error":"Not found"}')


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/oauth20/nosuch"),
        ("GET", "/oauth20"),
        ("GET", "/oauth20/scopes/"),
        ("GET", "/oauth20/scopes/a/b"),
        ("GET", "/oauth20/scopes/a%2Fb"),
        ("GET", "/oauth20/scopes/a%20b"),
        ("GET", "/oauth20/scopes/%ff"),
        ("GET", "/oauth20/scopes/" + "a" * 200),
        ("GET", "/oauth20/applications/XYZ"),
        ("GET", "/oauth20/applications/ab/"),
        ("DELETE", "/oauth20/applications/ab"),
        ("PATCH", "/oauth20/scopes"),
        ("HEAD", "/oauth20/scopes"),
        ("OPTIONS", "/oauth20/scopes"),
        ("POST", "/oauth20/tokens/"),
        ("POST", "/OAUTH20/tokens"),
        ("PUT", "/apifest-reload"),
        ("GET", "/apifest-nothing"),
    ],
)
async def test_what_is_not_offered_is_not_found_for_anybody(house: House, method: str, path: str) -> None:
    if path.startswith(("/oauth20", "/apifest-")):
        assert said(await house.ask(method, path, owner=False)) == NOT_FOUND
    else:
        assert (await house.ask(method, path, owner=False)).status == 404


async def test_a_scope_is_not_updated_without_a_name(house: House) -> None:
    assert said(await house.ask("PUT", "/oauth20/scopes", {"description": "x"})) == NOT_FOUND


async def test_a_body_over_64_kib_is_refused_after_the_credentials(house: House) -> None:
    body = b" " * 65_537
    assert said(await house.ask("POST", "/oauth20/scopes", body)) == (413, '{"error":"request body too large"}')
    assert (await house.ask("POST", "/oauth20/scopes", body, owner=False)).status == 401


# -- who may call

GUARDED = [row for row in ROWS if not row.clients]
SECRET = base64.b64encode(b"admin:wrong").decode()


@pytest.mark.parametrize("row", GUARDED, ids=lambda row: f"{row.method} {row.path}")
@pytest.mark.parametrize("sent", [{}, {"authorization": f"Basic {SECRET}"}, {"authorization": "Bearer x"}])
async def test_without_a_valid_credential_nothing_is_answered(house: House, row: Any, sent: dict[str, str]) -> None:
    path = row.path.replace("{scope}", "ab").replace("{client_id}", "ab")
    answer = await house.ask(row.method, path, b"nonsense", owner=False, headers=sent, media="text/plain")
    assert said(answer) == (401, '{"error":"authentication required"}')
    assert dict(answer.headers)["WWW-Authenticate"] == 'Bearer realm="ostiary", Basic realm="ostiary"'


async def test_a_refused_change_stands_in_the_audit(house: House) -> None:
    await house.ask("DELETE", "/oauth20/scopes/ab", owner=False)
    (record,) = await house.audit()
    told = (record.operation, record.outcome, record.surface, record.address, record.request_id, record.target)
    assert told == ("scopes.delete", "authentication.required", "apifest", "192.0.2.1", "req-1", "ab")


def test_a_trusted_peer_may_do_everything_that_this_surface_offers() -> None:
    operations = registry().operations
    assert {operations[row.operation].permission for row in GUARDED} <= TRUSTED


TRUSTING = {"trusted_networks": ["192.0.2.0/24"]}


async def test_a_trusted_peer_needs_no_credentials(house: House) -> None:
    house.apifest(**TRUSTING)
    for sent in ({}, {"authorization": "Bearer nonsense"}, {"authorization": basic("a", "b")}):
        assert (await house.ask("GET", "/oauth20/scopes", owner=False, headers=sent)).status == 200
    assert (await house.ask("POST", "/oauth20/scopes", SCOPE, owner=False)).status == 200
    (record,) = await house.audit()
    assert (record.kind, record.name, record.credential) == ("network", "192.0.2.1", "network")


async def test_an_operator_behind_a_trusted_peer_stands_in_the_audit(house: House) -> None:
    house.apifest(**TRUSTING)
    await house.ask("POST", "/oauth20/scopes", SCOPE)
    (record,) = await house.audit()
    assert (record.kind, record.name) == ("user", "admin")


@pytest.mark.parametrize(
    ("headers", "more"),
    [
        ({"origin": "http://evil.example"}, {}),
        ({"origin": "null"}, {}),
        ({"sec-fetch-site": "cross-site"}, {}),
        ({"sec-fetch-site": "same-site"}, {}),
        ({}, {"peer": "198.51.100.1"}),
        ({}, {"peer": ""}),
    ],
)
async def test_a_page_that_leads_a_browser_here_is_not_trusted(
    house: House, headers: dict[str, str], more: dict[str, str]
) -> None:
    house.apifest(**TRUSTING)
    answer = await house.ask("GET", "/oauth20/scopes", owner=False, headers=headers, **more)
    assert said(answer) == (401, '{"error":"authentication required"}')


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://127.0.0.1:8081"},
        {"origin": "HTTP://127.0.0.1:8081", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ],
)
async def test_a_page_of_ones_own_is_trusted(house: House, headers: dict[str, str]) -> None:
    house.apifest(**TRUSTING)
    assert (await house.ask("GET", "/oauth20/scopes", owner=False, headers=headers)).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8081", 200),
        ("[::1]:8081", 200),
        ("localhost:8081", 200),
        ("LOCALHOST", 200),
        ("ops.internal:8081", 200),
        ("evil.example:8081", 401),
        ("127.0.0.1.evil.example", 401),
        ("", 401),
    ],
)
async def test_a_trusted_peer_calls_by_an_address_or_a_known_name(house: House, host: str, status: int) -> None:
    house.apifest(**TRUSTING)
    admin = msgspec.structs.replace(house.settings.admin, hosts=["ops.internal"])
    house.settings = msgspec.structs.replace(house.settings, admin=admin)
    request = Request("GET", "/oauth20/scopes", host=host, peer="192.0.2.1", address="192.0.2.1")
    assert (await house.answer(request)).status == status


async def test_on_the_gateways_listener_only_clients_paths_are_known(house: House) -> None:
    house.apifest(**TRUSTING)
    for method, path in (("GET", "/oauth20/scopes"), ("POST", "/oauth20/tokens/revoke"), ("POST", "/apifest-reload")):
        assert said(await house.ask(method, path, public=True)) == NOT_FOUND
    made = await client(house)
    assert (await form(house, {**made, "grant_type": "client_credentials"}, public=True)).status == 200
    for path in ("/operations", "/metrics", "/api/health", "/platform/config/current"):
        assert (await house.ask("GET", path, public=True)).status == 404


async def test_a_reload_has_no_body(house: House) -> None:
    for method in ("GET", "POST"):
        answer = await house.ask(method, "/apifest-reload")
        assert said(answer) == (200, "")
        assert "Content-Type" not in dict(answer.headers)


async def test_a_reload_by_get_can_be_switched_off(house: House) -> None:
    house.apifest(reload_by_get=False)
    answer = await house.ask("GET", "/apifest-reload")
    assert said(answer) == (405, '{"error":"use POST"}')
    assert dict(answer.headers)["Allow"] == "POST"
    assert (await house.ask("POST", "/apifest-reload")).status == 200


async def test_a_reload_that_fails_says_every_mistake_in_apifests_words(house: House) -> None:
    (house.path / "broken.xml").write_text("<mappings")
    (house.path / "double.xml").write_text(MAPPING)
    before = await house.ask("GET", "/apifest-mappings")
    answer = await house.ask("POST", "/apifest-reload")
    assert answer.status == 400
    assert dict(answer.headers)["Content-Type"] == "application/json"
    first, second = read(answer)["error"].split("; ")
    assert first.startswith("mappings configuration file broken.xml is not valid against schema (broken.xml:1: ")
    assert second.startswith("external path GET /v1.0/me$ is duplicated in mappings (v1.0.xml:3: ")
    assert (await house.ask("GET", "/apifest-mappings")).body == before.body


async def test_the_listings_are_as_the_files_have_them(house: House) -> None:
    endpoint = {
        "backendPort": 5000,
        "backendHost": "127.0.0.1",
        "method": "GET",
        "internalEndpoint": "/me",
        "externalEndpoint": "/v1.0/me",
    }
    listed = read(await house.ask("GET", "/apifest-mappings"))
    version = {
        "mappings": {"com.apifest.MappingPattern@8bc81674": endpoint},
        "actions": {},
        "filters": {},
        "errors": {},
    }
    assert listed == {"v1.0": version}
    errors = await house.ask("GET", "/apifest-global-errors")
    assert said(errors) == (200, '{"404":"{\\"error\\":\\"resource not found\\"}"}')


async def test_six_wrong_passwords_are_throttled(house: House) -> None:
    for _ in range(5):
        await house.ask("GET", "/oauth20/scopes", owner=False, headers={"authorization": basic("admin", "wrong")})
    answer = await house.ask("GET", "/oauth20/scopes")
    assert said(answer) == (429, '{"error":"rate limit reached"}')
    assert dict(answer.headers)["Retry-After"] == "30"


async def test_an_application_deactivated_is_told_to_the_workers(house: House) -> None:
    made = await client(house)
    text = await token(house, made)
    answer = await house.ask("PUT", f"/oauth20/applications/{made['client_id']}", {"status": 0})
    assert house.workers.changes[-1].clients == [made["client_id"]]
    assert "X-Ostiary-Applied" in dict(answer.headers)
    gone = (401, '{"error":"invalid access token"}')
    assert said(await house.ask("GET", f"/oauth20/tokens/validate?token={text}")) == gone
    assert said(await form(house, {**made, "grant_type": "client_credentials"})) == PAIR


async def test_a_change_that_nobody_confirms_is_503(house: House) -> None:
    house.workers.away = True
    answer = await house.ask("DELETE", "/oauth20/tokens", {"user_id": "x"})
    assert said(answer) == (503, '{"error":"temporarily unavailable"}')
    assert dict(answer.headers)["Retry-After"] == "1"


def test_rows_are_found_by_whole_paths_only() -> None:
    found = find(Request("GET", "/oauth20/scopes/basic"))
    assert found is not None
    assert (found[0].operation, found[1]) == ("scopes.get", "basic")
    assert find(Request("GET", "/oauth20/scopes/basic", public=True)) is None
