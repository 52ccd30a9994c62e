"""How a credential is carried to the Doorman surface, and which session tokens hold."""

import base64
import hmac
import json
from typing import Any

import pytest
from msgspec.structs import replace
from tests.dialects.doorman import SECRET, Visitor, entered, header, person, read, role, said, told
from tests.dialects.house import House

from ostiary.control.call import Call
from ostiary.control.credentials import CreatePersonal
from ostiary.control.keys import RotateKeys
from ostiary.core.configuration.settings import SessionSettings, Settings
from ostiary.core.permission import OWNER, Principal
from ostiary.core.snapshot import SECOND
from ostiary.dialects.message import Answer

STATUS = "/platform/authorization/status"
UNAUTHORIZED = (401, "AUTH005", "Unauthorized")
FORGED = (403, "AUTH006", "Invalid CSRF token")
EVIL = {"origin": "http://evil.example"}


def people(house: House, **rules: Any) -> None:
    """Turn rules on people."""
    known = house.control.rules
    house.control.rules = replace(known, people=replace(known.people, **rules))


async def carried(house: House, **headers: str) -> Answer:
    return await house.ask("GET", STATUS, owner=False, headers=headers)


def halves(token: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Header, claims, signature."""
    head, claims, signature = token.split(".")
    return json.loads(_decoded(head)), json.loads(_decoded(claims)), signature


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def encoded(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def joined(head: object, claims: object, signature: str) -> str:
    return f"{encoded(head)}.{encoded(claims)}.{signature}"


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER  {}", "{}"])
async def test_a_token_goes_in_the_header_with_the_scheme_bearer_or_none(
    house: House, admin: Visitor, form: str
) -> None:
    token = admin.jar["access_token_cookie"]
    assert told(await carried(house, authorization=form.format(token))) == (200, "Token is valid")


@pytest.mark.parametrize("form", ["token {}", "Basic {}", "Bearer {} x", "x{}", "Bearer x{}"])
async def test_other_schemes_and_other_tokens_do_not(house: House, admin: Visitor, form: str) -> None:
    token = admin.jar["access_token_cookie"]
    assert said(await carried(house, authorization=form.format(token))) == UNAUTHORIZED


async def test_the_cookie_alone_decides_where_there_is_one(house: House, admin: Visitor) -> None:
    token = admin.jar["access_token_cookie"]
    good, bad = f"access_token_cookie={token}", "access_token_cookie=bad"
    assert (await carried(house, cookie=good, authorization="Bearer bad")).status == 200
    assert said(await carried(house, cookie=bad, authorization=f"Bearer {token}")) == UNAUTHORIZED
    assert said(await carried(house, cookie=f"{good}; {good}")) == UNAUTHORIZED
    assert (await carried(house, cookie=f"other=1; {good}; csrf_token=x")).status == 200


async def test_a_personal_token_stands_for_its_user_in_header_and_cookie(house: House, admin: Visitor) -> None:
    user = await house.control.users.get("admin")
    assert user is not None
    owner = Principal("user", "admin", OWNER, number=user.number, role="owner")
    made = await house.desk.run("tokens.create_personal", CreatePersonal("mine"), Call(owner, "test"))
    visitor = Visitor(house, made.access_token)
    assert told(await visitor.ask("DELETE", "/api/caches")) == (200, "All caches cleared")
    cookie = {"cookie": f"access_token_cookie={made.access_token}"}
    flushed = await house.ask("DELETE", "/api/caches", owner=False, headers=cookie)
    assert flushed.status == 200
    # no CSRF token belongs to it
    token = house.control.csrf.token("session", made.access_token)
    pair = {"cookie": f"{cookie['cookie']}; csrf_token={token}", "x-csrf-token": token}
    assert said(await house.ask("DELETE", "/api/caches", owner=False, headers=pair | EVIL)) == FORGED


async def test_a_session_token_says_no_role(admin: Visitor) -> None:
    head, claims, _ = halves(admin.jar["access_token_cookie"])
    assert list(head) == ["alg", "kid", "typ"]
    assert (head["alg"], head["typ"]) == ("EdDSA", "session+jwt")
    assert sorted(claims) == ["auth_time", "exp", "iat", "iss", "jti", "sub"]
    assert (claims["sub"], claims["exp"] - claims["iat"]) == ("admin", 1800)
    assert len(bytes.fromhex(claims["jti"])) == 16


async def test_a_session_token_is_refused_at_its_end_and_not_before(house: House, admin: Visitor) -> None:
    ends = halves(admin.jar["access_token_cookie"])[1]["exp"] * SECOND
    house.now = ends - 1
    assert told(await admin.ask("GET", STATUS)) == (200, "Token is valid")
    house.now = ends
    assert said(await admin.ask("GET", STATUS)) == UNAUTHORIZED


async def test_no_character_of_a_session_token_can_be_another(house: House, admin: Visitor) -> None:
    people(house, address_failures=10**6)
    token = admin.jar["access_token_cookie"]
    for at, char in enumerate(token):
        other = "A" if char != "A" else "B"
        assert said(await Visitor(house, token[:at] + other + token[at + 1 :]).ask("GET", STATUS)) == UNAUTHORIZED


HEADS: list[dict[str, Any]] = [
    {"alg": "none"}, {"alg": "None"}, {"alg": "nOnE"}, {"alg": ""}, {"alg": "HS256"}, {"alg": "ES256"},
    {"alg": "RS256"}, {"kid": "other"}, {"kid": ""}, {"kid": "../../dev/null"}, {"kid": "' OR 1=1 --"}, {"kid": None},
    {"typ": "JWT"}, {"typ": "at+jwt"}, {"typ": None}, {"crit": ["exp"]}, {"jku": "http://evil.example/"},
    {"jwk": {"kty": "OKP"}}, {"x5u": "http://evil.example/"}, {"x5c": ["MII"]}, {"b64": False},
]  # fmt: skip
CLAIMS: list[dict[str, Any]] = [
    {"iss": "other"}, {"sub": "other"}, {"iat": 0}, {"exp": 10**10}, {"exp": None}, {"jti": "0" * 32}, {"auth_time": 0},
    {"role": "owner"}, {"permissions": ["node:stop"]},
]  # fmt: skip


@pytest.mark.parametrize("change", HEADS)
async def test_no_member_of_the_header_can_be_another(house: House, admin: Visitor, change: dict[str, Any]) -> None:
    head, claims, signature = halves(admin.jar["access_token_cookie"])
    for ending in (signature, ""):
        forged = joined(head | change, claims, ending)
        assert said(await Visitor(house, forged).ask("GET", STATUS)) == UNAUTHORIZED


@pytest.mark.parametrize("change", CLAIMS)
async def test_no_claim_can_be_another(house: House, admin: Visitor, change: dict[str, Any]) -> None:
    head, claims, signature = halves(admin.jar["access_token_cookie"])
    forged = joined(head, claims | change, signature)
    assert said(await Visitor(house, forged).ask("GET", STATUS)) == UNAUTHORIZED


async def test_the_public_key_is_no_secret_of_an_hmac(house: House, admin: Visitor) -> None:
    head, claims, _ = halves(admin.jar["access_token_cookie"])
    (key,) = await house.control.keys.published("session")
    public = json.loads(key.public)
    signed = f"{encoded(head | {'alg': 'HS256'})}.{encoded(claims)}"
    for secret in (key.public.encode(), public["x"].encode(), _decoded(public["x"]), b""):
        forged = f"{signed}.{encoded(hmac.digest(secret, signed.encode(), 'sha256'))}"
        assert said(await Visitor(house, forged).ask("GET", STATUS)) == UNAUTHORIZED


@pytest.mark.parametrize("form", ["{}A", "{}AAAA", "{}=", "{}.", ".{}", "{}.x", " {}", "{} ", "{}\t"])
async def test_a_token_is_its_very_text(house: House, admin: Visitor, form: str) -> None:
    text = form.format(admin.jar["access_token_cookie"])
    cookie = {"cookie": f'access_token_cookie="{text}"'}
    assert said(await house.ask("GET", STATUS, owner=False, headers=cookie)) == UNAUTHORIZED


async def test_a_token_of_more_than_4096_bytes_is_not_looked_at(house: House) -> None:
    assert said(await Visitor(house, "a" * 100_000).ask("GET", STATUS)) == UNAUTHORIZED


async def test_a_rotation_ends_no_session(house: House, admin: Visitor) -> None:
    await house.desk.run("keys.rotate", RotateKeys("session"), Call(Principal("user", "admin", OWNER), "test"))
    assert (await admin.ask("GET", STATUS)).status == 200
    later = await entered(house, "admin", "change-me-please-1")
    kids = {halves(each.jar["access_token_cookie"])[0]["kid"] for each in (admin, later)}
    assert len(kids) == 2


async def test_who_is_made_again_under_the_same_name_inherits_nothing(admin: Visitor) -> None:
    old = await person(admin, "alice")
    assert (await admin.ask("DELETE", "/platform/user/alice")).status == 200
    new = await person(admin, "alice")
    assert said(await old.ask("GET", STATUS)) == UNAUTHORIZED
    assert (await new.ask("GET", STATUS)).status == 200


async def test_the_cookies_say_exactly_this(house: House, admin: Visitor) -> None:
    answer = await admin.log_in("admin", "change-me-please-1")
    token, csrf = admin.jar["access_token_cookie"], admin.jar["csrf_token"]
    rest = "Max-Age=1800; Path=/; SameSite=Strict"
    both = [f"access_token_cookie={token}; HttpOnly; {rest}", f"csrf_token={csrf}; {rest}"]
    assert [value for name, value in answer.headers if name == "Set-Cookie"] == both
    assert (len(csrf), read(answer)) == (43, {"access_token": token})


async def test_cookies_are_secure_over_https_and_where_that_is_asked_for(house: House) -> None:
    body = {"email": "admin", "password": "change-me-please-1"}
    over = await house.ask("POST", "/platform/authorization", body, owner=False, secure=True)
    assert [value.endswith("; SameSite=Strict; Secure") for name, value in over.headers if name == "Set-Cookie"] == [
        True, True,
    ]  # fmt: skip
    house.settings = Settings(session=SessionSettings(cookie_secure="always"))
    always = await house.ask("POST", "/platform/authorization", body, owner=False)
    assert [value.endswith("; Secure") for name, value in always.headers if name == "Set-Cookie"] == [True, True]


FOREIGN = [
    {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "https://127.0.0.1:8081"},
    {"origin": "http://127.0.0.1:8082"}, {"origin": "http://sub.127.0.0.1:8081"}, {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "x", "origin": "http://127.0.0.1:8081"},
]  # fmt: skip
OURS = [
    {}, {"origin": "http://127.0.0.1:8081"}, {"origin": "HTTP://127.0.0.1:8081"}, {"sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "none"},
]  # fmt: skip


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_foreign_page_needs_the_csrf_token_of_that_very_session(
    house: House, admin: Visitor, headers: dict[str, str]
) -> None:
    other = await entered(house, "admin", "change-me-please-1")
    mine, theirs = admin.jar["csrf_token"], other.jar["csrf_token"]
    assert said(await admin.ask("DELETE", "/api/caches", headers=headers)) == FORGED
    for shown in ("", "x", theirs, mine + "A"):
        sent = headers | {"x-csrf-token": shown}
        assert said(await admin.ask("DELETE", "/api/caches", headers=sent)) == FORGED
    admin.jar["csrf_token"] = theirs
    assert said(await admin.ask("DELETE", "/api/caches", headers=headers | {"x-csrf-token": theirs})) == FORGED
    assert said(await admin.ask("DELETE", "/api/caches", headers=headers | {"x-csrf-token": mine})) == FORGED
    admin.jar["csrf_token"] = mine
    assert (await admin.ask("DELETE", "/api/caches", headers=headers | {"x-csrf-token": mine})).status == 200
    assert (await admin.ask("GET", STATUS, headers=headers)).status == 200


@pytest.mark.parametrize("headers", OURS)
async def test_a_page_of_ours_and_no_page_need_none(admin: Visitor, headers: dict[str, str]) -> None:
    assert (await admin.ask("DELETE", "/api/caches", headers=headers)).status == 200


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_foreign_page_may_carry_a_header_and_never_log_in(
    house: House, admin: Visitor, headers: dict[str, str]
) -> None:
    visitor = Visitor(house, admin.jar["access_token_cookie"])
    assert (await visitor.ask("DELETE", "/api/caches", headers=headers)).status == 200
    for path in ("/platform/authorization", "/platform/authorization/register"):
        answer = await house.ask("POST", path, {"email": "a@b", "password": SECRET}, owner=False, headers=headers)
        assert said(answer) == FORGED
        assert header(answer, "Set-Cookie") == ""


async def test_a_bad_cookie_is_401_before_its_csrf_token_is_asked_for(house: House) -> None:
    headers = EVIL | {"cookie": "access_token_cookie=x"}
    assert said(await house.ask("DELETE", "/api/caches", owner=False, headers=headers)) == UNAUTHORIZED


async def test_what_a_role_loses_is_lost_on_the_next_request(admin: Visitor) -> None:
    keeper = await person(admin, "keeper", await role(admin, "keepers", "manage_gateway"))
    assert (await keeper.ask("DELETE", "/api/caches")).status == 200
    assert (await admin.ask("PUT", "/platform/role/keepers", {"manage_gateway": False})).status == 200
    refused = await keeper.ask("DELETE", "/api/caches")
    assert said(refused) == (403, "GTW008", "You do not have permission to clear caches")
