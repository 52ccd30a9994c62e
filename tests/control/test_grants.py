"""Log-ins and plug-ins behind a token, and what is told to the workers."""

import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.control.house import House

from ostiary.control import envelope, plugged
from ostiary.control.applications import CreateApplication, Credentials, UpdateApplication
from ostiary.control.call import Call
from ostiary.control.codes import Authorize, IssuedCode
from ostiary.control.configuration import plugged_faults
from ostiary.control.consents import SignIn, sign_in
from ostiary.control.owner import Owner, ensure_owner
from ostiary.control.scopes import CreateScope
from ostiary.control.tokens import CheckToken, IssuedToken, IssueToken, TokenState
from ostiary.core.configuration.settings import OauthSettings, Settings
from ostiary.core.digest import digest, handle
from ostiary.core.permission import NOBODY
from ostiary.core.refusal import Forbidden, Limited, Refusal, Unauthenticated

URI = "http://app.example/"
VERIFIER = "v" * 43
CHALLENGE = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
PLUGIN = """
import asyncio
from ostiary import Asking, AuthenticationFailed, User


def people(name, password, request):
    assert isinstance(request, Asking)
    return User(f"{name}@{request.client_id[:2]}", {"from": "directory"}) if password == "right" else None


async def sms(request):
    if "code" not in request.form:
        raise AuthenticationFailed("send a code")
    if request.form["code"] == "own":
        raise AuthenticationFailed(status=403, headers={"X-Why": "no"}, body="{}")
    if request.form["code"] == "split":
        raise AuthenticationFailed(status=403, headers={"X-Why": "a\\r\\nb"}, body="{}")
    return {"1": User(""), "2": None, "3": User("bad\\0"), "4": "nobody"}[request.form["code"]]


async def stuck(request):
    await asyncio.Event().wait()


def broken(request):
    raise ValueError("oh")


nothing = 5
"""
ENTRY_POINTS = """
[ostiary.authenticators]
people = house_plugin:people
[ostiary.grants]
sms = house_plugin:sms
broken = house_plugin:broken
nothing = house_plugin:nothing
stuck = house_plugin:stuck
gone = house_plugin:gone
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution with plug-ins."""
    tmp_path.joinpath("house_plugin.py").write_text(PLUGIN)
    metadata = tmp_path / "house_plugin-1.dist-info"
    metadata.mkdir()
    metadata.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: house-plugin\nVersion: 1\n")
    metadata.joinpath("entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    plugged.load.cache_clear()
    yield
    plugged.load.cache_clear()
    sys.modules.pop("house_plugin", None)


async def client(house: House, *grants: str) -> Credentials:
    await house.run("scopes.create", CreateScope("basic", 1800, 900))
    grants_of = list(grants or ("password", "refresh_token"))
    asked = CreateApplication("app", "basic", URI, grant_types=grants_of)
    made: Credentials = await house.run("applications.create", asked)
    await house.run("applications.update", UpdateApplication(made.client_id, active=True))
    house.workers.told.clear()
    return made


async def issue(house: House, made: Credentials, grant: str = "password", **fields: Any) -> IssuedToken:
    issued: IssuedToken = await house.run(
        "tokens.issue", IssueToken(grant, made.client_id, made.client_secret, **fields), NOBODY
    )
    return issued


async def refused(asking: Callable[[], Any]) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        await asking()
    return refusal.value


async def test_a_user_of_ostiary_logs_in_behind_the_throttle(house: House) -> None:
    await ensure_owner(house.control, Owner("admin", "change-me-please-1", "admin@example.com"))
    made = await client(house)
    issued = await issue(house, made, username="ADMIN@example.com", password="change-me-please-1")
    state: TokenState = await house.run("tokens.check", CheckToken(issued.access_token))
    assert (state.user, state.details, state.refresh_token) == ("admin", {}, issued.refresh_token)
    for number in range(6):
        refusal = await refused(lambda: issue(house, made, username="admin", password="wrong"))
        assert refusal.code == ("login.refused" if number < 5 else "login.throttled")
    assert isinstance(refusal, Limited)


async def test_a_client_that_may_not_log_people_in_learns_nothing_of_passwords(house: House) -> None:
    made = await client(house, "client_credentials")
    for name in ("admin", "nobody"):
        with pytest.raises(Forbidden) as refusal:
            await issue(house, made, username=name, password="x")
        assert refusal.value.code == "grant.unauthorized"


async def test_an_authenticator_says_who_somebody_is(house: House, installed: None) -> None:
    house.control.rules = replace(house.control.rules, authenticator="people")
    made = await client(house)
    issued = await issue(house, made, username="ann", password="right")
    state: TokenState = await house.run("tokens.check", CheckToken(issued.access_token))
    assert (state.user, state.details) == (f"ann@{made.client_id[:2]}", {"from": "directory"})
    assert (await refused(lambda: issue(house, made, username="ann", password="wrong"))).code == "user.refused"


async def test_an_authenticator_says_who_is_at_the_browser(house: House, installed: None) -> None:
    house.control.rules = replace(house.control.rules, authenticator="people")
    made = await client(house, "authorization_code", "refresh_token")
    call = Call(NOBODY, "oauth", "192.0.2.1")
    with pytest.raises(Unauthenticated) as refusal:
        await sign_in(house.control, call, SignIn("ann", "wrong", made.client_id), "")
    assert refusal.value.code == "user.refused"
    secret = await sign_in(house.control, call, SignIn("ann", "right", made.client_id), "")
    params = Authorize(made.client_id, "code", code_challenge=CHALLENGE, code_challenge_method="S256", browser=secret)
    given: IssuedCode = await house.run("codes.authorize", replace(params, allow=True), NOBODY)
    text = given.redirect_uri.partition("code=")[2]
    issued = await issue(house, made, "authorization_code", code=text, code_verifier=VERIFIER, redirect_uri=URI)
    state: TokenState = await house.run("tokens.check", CheckToken(issued.access_token))
    assert (state.user, state.details) == (f"ann@{made.client_id[:2]}", {"from": "directory"})


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({}, "user.failed"), ({"code": "own"}, "user.failed"), ({"code": "split"}, "user.undecided"),
        ({"code": "2"}, "user.refused"), ({"code": "3"}, "user.undecided"), ({"code": "4"}, "user.undecided"),
        ({"code": "5"}, "user.undecided"),
    ],
)  # fmt: skip
async def test_a_grant_of_ones_own_refuses_as_it_says(
    house: House, installed: None, form: dict[str, str], code: str
) -> None:
    house.control.rules = replace(house.control.rules, custom_grants={"text": "sms"})
    made = await client(house, "text", "refresh_token")
    assert (await refused(lambda: issue(house, made, "text", form=form))).code == code
    issued = await issue(house, made, "text", form={"code": "1"})
    assert (issued.expires_in, issued.refresh_token is None) == (900, False)


async def test_a_plug_in_that_takes_too_long_is_not_waited_for(installed: None) -> None:
    with pytest.raises(Refusal) as refusal:
        await plugged.ask("grants", "stuck", patience=0.01)
    assert refusal.value.code == "user.undecided"


def test_plug_ins_that_do_not_load_are_mistakes_of_the_configuration(installed: None) -> None:
    oauth = OauthSettings(authenticator="who", grants={"text": "sms", "odd": "gone", "password": "sms"})
    found = plugged_faults(Settings(oauth=oauth))
    assert [fault.where for fault in found] == [
        ("oauth", "authenticator"), ("oauth", "grants", "odd"), ("oauth", "grants", "password"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "said"), [("sms", ""), ("nothing", "no function"), ("gone", "AttributeError"), ("none", "LookupError")]
)
def test_a_plug_in_that_cannot_be_had_is_a_mistake(installed: None, name: str, said: str) -> None:
    why = plugged.problem("grants", name)
    assert (why == "") is (said == "")
    assert said in why


async def test_the_replaced_token_is_told_to_the_workers_after_the_answer(house: House) -> None:
    await ensure_owner(house.control, Owner("admin", "change-me-please-1", "admin@example.com"))
    made = await client(house)
    first = await issue(house, made, username="admin", password="change-me-please-1")
    second = await issue(house, made, "refresh_token", refresh_token=first.refresh_token)
    assert second.refresh_token == first.refresh_token
    await house.registry.settled()
    (told,) = house.workers.told
    assert (told.digests, told.streams, told.seq > 0) == ([digest(first.access_token)], False, True)
    state: TokenState = await house.run("tokens.check", CheckToken(second.access_token))
    assert state.refresh_handle == handle(digest(first.refresh_token or ""))
    assert state.refresh_token == first.refresh_token


def test_an_envelope_opens_for_its_own_token_only() -> None:
    sealed = envelope.close("access", "refresh")
    assert envelope.unfold("access", sealed) == "refresh"
    assert envelope.unfold("other", sealed) == ""
    assert envelope.unfold("access", b"") == ""
    assert b"refresh" not in sealed
