"""The standards' endpoints: tokens, revocation, introspection and metadata."""

from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from tests.dialects.house import ISSUER, House, basic

from ostiary.core.configuration.measure import Issuer, Origin
from ostiary.core.configuration.settings import OauthSettings, Settings
from ostiary.dialects.message import FORM, Answer
from ostiary.dialects.oauth import METADATA, RESOURCE, ROWS

GRANTS = ["authorization_code", "client_credentials", "password", "refresh_token"]
SCOPES = [{"scope": name, "description": "", "cc_expires_in": 1800, "pass_expires_in": 900} for name in ("basic", "aa")]
APPLICATION = {"name": "app", "scope": "basic aa", "redirect_uri": "http://127.0.0.1:8080", "grant_types": GRANTS}


def read(answer: Answer) -> Any:
    return msgspec.json.decode(answer.body)


def said(answer: Answer) -> tuple[int, str]:
    return answer.status, read(answer)["error"]


async def client(house: House, **more: object) -> dict[str, str]:
    """An active client application."""
    for scope in SCOPES:
        await house.ask("POST", "/oauth20/scopes", scope)
    made: dict[str, str] = read(await house.ask("POST", "/oauth20/applications", APPLICATION | more))
    await house.ask("PUT", f"/oauth20/applications/{made['client_id']}", {"status": 1})
    return made


async def post(house: House, path: str, fields: dict[str, str] | str, **more: Any) -> Answer:
    body = fields if isinstance(fields, str) else urlencode(fields)
    return await house.ask("POST", f"/oauth20/{path}", body.encode(), media=FORM, owner=False, **more)


async def token(house: House, made: dict[str, str], **fields: str) -> Any:
    return read(await post(house, "token", {**made, **fields}))


async def code(house: House, made: dict[str, str], **query: str) -> str:
    asked = {"client_id": made["client_id"], "response_type": "code", "user_id": "alice", **query}
    answer = await house.ask("GET", f"/oauth20/auth-codes?{urlencode(asked)}")
    text: str = read(answer)["redirect_uri"].partition("code=")[2]
    return text


async def alive(house: House, text: str) -> bool:
    return (await house.ask("GET", f"/oauth20/tokens/validate?token={text}")).status == 200


async def test_a_client_gets_a_token_with_numbers_for_numbers(house: House) -> None:
    made = await client(house)
    authorization = {"authorization": basic(made["client_id"], made["client_secret"])}
    answer = await post(house, "token", "grant_type=client_credentials&scope=aa", headers=authorization)
    shown = read(answer)
    assert (answer.status, dict(answer.headers)["Cache-Control"]) == (200, "no-store")
    assert len(shown.pop("access_token")) == 64
    assert shown == {"token_type": "Bearer", "expires_in": 1800, "scope": "aa"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (400, "invalid_request")),
        ({"grant_type": ""}, (400, "invalid_request")),
        ({"grant_type": "magic"}, (400, "unsupported_grant_type")),
        ({"grant_type": "password", "username": "a", "password": "b"}, (400, "unsupported_grant_type")),
        ({"grant_type": "authorization_code"}, (400, "invalid_request")),
        ({"grant_type": "authorization_code", "code": "x"}, (400, "invalid_grant")),
        ({"grant_type": "refresh_token"}, (400, "invalid_request")),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, (400, "invalid_grant")),
        ({"grant_type": "client_credentials", "scope": "none"}, (400, "invalid_scope")),
        ({"grant_type": "magic", "client_secret": "wrong"}, (401, "invalid_client")),
        ({"grant_type": "magic", "client_secret": ""}, (401, "invalid_client")),
        ({"client_id": "ffff"}, (401, "invalid_client")),
        ({"client_id": ""}, (401, "invalid_client")),
    ],
)
async def test_a_request_for_a_token_is_refused_in_order(
    house: House, fields: dict[str, str], expected: tuple[int, str]
) -> None:
    made = await client(house)
    answer = await post(house, "token", {**made, **fields})
    assert said(answer) == expected
    assert ("WWW-Authenticate" in dict(answer.headers)) is (expected[0] == 401)


@pytest.mark.parametrize("path", ["token", "revoke", "introspect"])
async def test_malformed_forms_are_invalid_requests(house: House, path: str) -> None:
    made = await client(house)
    header = {"authorization": basic(made["client_id"], made["client_secret"])}
    twice = "invalid_request"
    assert said(await post(house, path, "token=a&token=a", headers=header)) == (400, twice)
    assert said(await post(house, path, {"client_secret": "x", "token": "t"}, headers=header)) == (400, twice)
    assert said(await post(house, path, {"client_id": "x", "token": "t"}, headers=header)) == (400, twice)
    assert said(await post(house, path, "", headers=header)) == (400, twice)
    assert said(await post(house, path, "x=" + "y" * 65_536)) == (413, twice)
    json = await house.ask("POST", f"/oauth20/{path}", {}, owner=False)
    assert said(json) == (400, twice)
    for odd in ("Basic", "Basic !", "Basic Zm9v", "basic " + "A" * 5):
        answer = await post(house, path, "grant_type=client_credentials&token=t", headers={"authorization": odd})
        assert said(answer) == (401, "invalid_client")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.path)
async def test_other_methods_are_not_allowed(house: House, row: Any) -> None:
    house.settings = Settings(oauth=OauthSettings(resource=Origin("https://api.example")))
    answer = await house.ask("DELETE", row.path, owner=False)
    allowed = ", ".join(row.methods)
    assert (answer.status, dict(answer.headers)["Allow"]) == (405, allowed)
    assert (await house.ask(row.methods[0], row.path + "/", owner=False)).status == 404
    assert (await house.ask(row.methods[0], row.path, owner=False, public=True)).status != 404


@pytest.mark.parametrize("public", [False, True])
async def test_the_endpoints_of_clients_are_unavailable_while_an_operator_has_them_stopped(
    house: House, public: bool
) -> None:
    house.control.services.stopped = frozenset({"oauth"})
    for method, path in [(row.methods[0], row.path) for row in ROWS] + [("POST", "/oauth20/tokens")]:
        answer = await house.ask(method, path, owner=False, public=public)
        assert (answer.status, answer.body) == (503, b'{"error":"temporarily_unavailable"}')
    assert (await house.ask("GET", "/oauth20/nothing", public=public)).status == 404
    assert (await house.ask("GET", "/oauth20/scopes")).status == 200


async def test_a_code_is_worth_one_token_and_its_reuse_ends_it(house: House) -> None:
    made = await client(house)
    text = await code(house, made)
    first = await token(house, made, grant_type="authorization_code", code=text)
    assert list(first) == ["access_token", "token_type", "expires_in", "refresh_token", "scope"]
    assert await alive(house, first["access_token"])
    again = await post(house, "token", {**made, "grant_type": "authorization_code", "code": text})
    assert said(again) == (400, "invalid_grant")
    assert not await alive(house, first["access_token"])
    assert len(house.workers.changes[-1].digests) == 1


async def test_refreshing_rotates_narrows_the_access_token_only_and_notices_reuse(house: House) -> None:
    made = await client(house)
    first = await token(house, made, grant_type="authorization_code", code=await code(house, made))
    second = await token(house, made, grant_type="refresh_token", refresh_token=first["refresh_token"], scope="aa")
    assert second["scope"] == "aa"
    assert second["refresh_token"] != first["refresh_token"]
    third = await token(house, made, grant_type="refresh_token", refresh_token=second["refresh_token"])
    assert third["scope"] == "basic aa"
    assert [await alive(house, each["access_token"]) for each in (first, second, third)] == [False, False, True]
    reused = {**made, "grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    assert said(await post(house, "token", reused)) == (400, "invalid_grant")
    assert not await alive(house, third["access_token"])


async def test_an_application_without_a_secret_uses_codes_with_pkce_only(house: House) -> None:
    made = await client(house, token_endpoint_auth_method="none")
    assert list(made) == ["client_id"]
    assert said(await post(house, "token", {**made, "grant_type": "client_credentials"})) == (
        400,
        "unauthorized_client",
    )
    challenge = {"code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "code_challenge_method": "S256"}
    text = await code(house, made, **challenge)
    fields = {"grant_type": "authorization_code", "code": text}
    assert said(await post(house, "token", {**made, **fields})) == (400, "invalid_grant")
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    found = await token(house, made, **fields, code_verifier=verifier)
    assert await alive(house, found["access_token"])


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
async def test_a_revocation_ends_the_family_before_it_answers(house: House, which: str) -> None:
    made, other = await client(house), await client(house)
    found = await token(house, made, grant_type="authorization_code", code=await code(house, made))
    foreign = await post(house, "revoke", {**other, "token": found[which]})
    assert said(foreign) == (400, "invalid_grant")
    assert await alive(house, found["access_token"])
    done = await post(house, "revoke", {**made, "token": found[which], "token_type_hint": "nonsense"})
    assert (done.status, done.body) == (200, b"")
    assert len(house.workers.changes[-1].digests) >= 1
    assert not await alive(house, found["access_token"])
    refresh = {**made, "grant_type": "refresh_token", "refresh_token": found["refresh_token"]}
    assert said(await post(house, "token", refresh)) == (400, "invalid_grant")
    assert (await post(house, "revoke", {**made, "token": "unknown"})).status == 200


async def test_introspection_tells_a_client_of_its_own_tokens_only(house: House) -> None:
    made, other = await client(house), await client(house)
    found = await token(house, made, grant_type="authorization_code", code=await code(house, made))
    shown = read(await post(house, "introspect", {**made, "token": found["access_token"]}))
    seconds = house.now // 10**6
    assert shown == {
        "active": True, "scope": "basic aa", "client_id": made["client_id"], "sub": "alice", "username": "alice",
        "token_type": "Bearer", "exp": seconds + 900, "iat": seconds, "iss": ISSUER,
    }  # fmt: skip
    refresh = read(await post(house, "introspect", {**made, "token": found["refresh_token"]}))
    assert (refresh["active"], "token_type" in refresh) == (True, False)
    for asker, text in ((other, found["access_token"]), (made, "unknown"), (made, "sha256:" + "0" * 64)):
        answer = await post(house, "introspect", {**asker, "token": text})
        assert (answer.status, answer.body) == (200, b'{"active":false}')


async def test_a_trusted_peer_may_look_at_every_token_and_nobody_else_without_credentials(house: House) -> None:
    made = await client(house)
    text = (await token(house, made, grant_type="client_credentials"))["access_token"]
    asking = {"token": text}
    assert (await post(house, "introspect", asking)).status == 401
    house.apifest(trusted_networks=["192.0.2.0/24"])
    assert read(await post(house, "introspect", asking))["active"] is True
    assert (await post(house, "introspect", asking, public=True)).status == 401


async def test_the_metadata_list_what_works(house: House) -> None:
    await client(house)
    answer = await house.ask("GET", METADATA, owner=False)
    shown = read(answer)
    assert dict(answer.headers)["Cache-Control"] == "public, max-age=300"
    assert (shown["issuer"], shown["token_endpoint"]) == (ISSUER, f"{ISSUER}/oauth20/token")
    assert shown["scopes_supported"] == ["aa", "basic"]
    assert shown["grant_types_supported"] == ["authorization_code", "client_credentials", "refresh_token"]
    assert shown["authorization_response_iss_parameter_supported"] is True
    endpoints = {value.removeprefix(ISSUER) for name, value in shown.items() if name.endswith(("_endpoint", "_uri"))}
    assert endpoints == {row.path for row in ROWS} - {METADATA, RESOURCE}


async def test_the_issuer_of_the_settings_is_the_name_everywhere(house: House) -> None:
    house.settings = Settings(oauth=OauthSettings(issuer=Issuer("https://id.example/here")))
    shown = read(await house.ask("GET", METADATA, owner=False))
    assert (shown["issuer"], shown["jwks_uri"]) == ("https://id.example/here", "https://id.example/here/oauth20/jwks")
    made = await client(house)
    issued = await token(house, made, grant_type="client_credentials")
    seen = read(await post(house, "introspect", {**made, "token": issued["access_token"]}))
    assert seen["iss"] == "https://id.example/here"


async def test_the_keys_are_for_everybody_without_their_private_halves(house: House) -> None:
    answer = await house.ask("GET", "/oauth20/jwks", owner=False)
    assert dict(answer.headers) == {"Content-Type": "application/jwk-set+json", "Cache-Control": "public, max-age=300"}
    (first,) = read(answer)["keys"]
    assert set(first) == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    assert (first["alg"], first["use"]) == ("ES256", "sig")
    house.now += 1
    rotated = read(await house.ask("POST", "/operations/keys.rotate", {}))
    after = read(await house.ask("GET", "/oauth20/jwks", owner=False))["keys"]
    assert [key["kid"] for key in after] == [rotated["kid"], first["kid"]]
    assert (await house.ask("POST", "/operations/keys.rotate", {}, owner=False)).status == 401


async def test_what_the_gateway_protects_is_told_where_it_has_a_name(house: House) -> None:
    assert (await house.ask("GET", RESOURCE, owner=False)).status == 404
    await client(house)
    house.settings = Settings(oauth=OauthSettings(resource=Origin("https://api.example")))
    answer = await house.ask("GET", RESOURCE, owner=False, public=True)
    assert read(answer) == {
        "resource": "https://api.example",
        "authorization_servers": [ISSUER],
        "scopes_supported": ["aa", "basic"],
        "bearer_methods_supported": ["header"],
    }
    assert dict(answer.headers)["Cache-Control"] == "public, max-age=300"
