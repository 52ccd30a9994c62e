"""What a code, a refresh token and a log-in are worth."""

from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ostiary.core.digest import digest
from ostiary.core.oauth import (
    Application,
    Client,
    CodeRequest,
    Grant,
    Handed,
    Held,
    Reused,
    Scope,
    Secret,
    TokenRequest,
    consented,
    decide,
    decide_code,
    location,
    subject_ok,
)
from ostiary.core.oauth.grants import proves
from ostiary.core.refusal import Refusal

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND
GRANTS = ("authorization_code", "client_credentials", "refresh_token", "password")
SCOPES = {"basic": Scope("basic", "", 1800, 900, 700), "brief": Scope("brief", "", 60, 30, 20)}
APPLICATION = Application("ab12", "app", ("basic", "brief"), "https://app.example/", 1, active=True)
CLIENT = Client(7, APPLICATION, Secret("sha256", "0" * 64))
FRESH, AGAIN = Handed(digest("fresh"), b"f"), Handed(digest("again"), b"a")
VERIFIER = "v" * 43
CHALLENGE = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
CODE = Held(
    1, digest("code"), "code", 7, "alice", ("basic", "brief"), "authorization_code", {}, b"family", NOW,
    NOW + 60 * SECOND, False, False, "https://app.example/", True,
)  # fmt: skip
REFRESH = replace(CODE, digest=AGAIN.digest, kind="refresh", expires=NOW + 700 * SECOND)


def request(grant: str, **fields: Any) -> TokenRequest:
    given = frozenset({"code", "redirect_uri", "refresh_token", "username", "password"})
    asked = TokenRequest(
        "ab12", digest("t"), NOW, GRANTS, grant=grant, known=frozenset({*GRANTS, "sms"}), given=given,
        redirect_uri="https://app.example/", family=b"new", fresh=FRESH, again=AGAIN,
    )  # fmt: skip
    return replace(asked, **fields)


def grant(name: str, held: Held | None = None, client: Client = CLIENT, **fields: Any) -> Grant:
    return decide(client, SCOPES, request(name, **fields), held)


def refused(name: str, held: Held | None = None, client: Client = CLIENT, **fields: Any) -> str:
    with pytest.raises(Refusal) as refusal:
        grant(name, held, client, **fields)
    return refusal.value.code


def changed(**fields: Any) -> Client:
    return replace(CLIENT, application=replace(APPLICATION, **fields))


def test_a_log_in_begins_a_family_with_a_refresh_token() -> None:
    found = grant("password", user="alice", details={"k": "v"})
    assert (found.user, found.details, found.family, found.expires_in) == ("alice", {"k": "v"}, b"new", 30)
    assert found.refresh is not None
    assert (found.refresh.handed, found.refresh.expires_in, found.refresh.began) == (FRESH, 20, NOW)


def test_without_the_refresh_grant_there_is_no_refresh_token() -> None:
    assert grant("password", client=changed(grant_types=("password",))).refresh is None


def test_a_code_hands_on_its_user_scope_and_family() -> None:
    found = grant("authorization_code", CODE, scope="nonsense")
    assert (found.user, found.scopes, found.family, found.used) == ("alice", ("basic", "brief"), b"family", CODE)


@pytest.mark.parametrize(
    ("held", "fields", "code"),
    [
        (None, {}, "code.invalid"),
        (REFRESH, {}, "code.invalid"),
        (replace(CODE, revoked=True), {}, "code.invalid"),
        (replace(CODE, expires=NOW - 1), {}, "code.invalid"),
        (CODE, {"redirect_uri": "https://app.example"}, "code.invalid"),
        (CODE, {"redirect_uri": "", "given": frozenset({"code"})}, "code.invalid"),
        (CODE, {"verifier": VERIFIER}, "code.invalid"),
        (replace(CODE, challenge=CHALLENGE), {}, "code.invalid"),
        (replace(CODE, challenge=CHALLENGE), {"verifier": "w" * 43}, "code.invalid"),
        (replace(CODE, application=8), {}, "code.foreign"),
        (replace(CODE, scopes=("lost",)), {}, "scope.not_valid"),
        (CODE, {"given": frozenset()}, "parameter.missing"),
    ],
)
def test_codes_that_are_worth_nothing(held: Held | None, fields: dict[str, Any], code: str) -> None:
    assert refused("authorization_code", held, **fields) == code


def test_a_redirect_uri_that_the_code_did_not_name_need_not_come() -> None:
    held = replace(CODE, redirect_given=False)
    assert grant("authorization_code", held, redirect_uri="", given=frozenset({"code"})).used == held
    assert refused("authorization_code", held, redirect_uri="https://other.example/") == "code.invalid"


@given(st.text("abcXYZ019._~-", min_size=43, max_size=128), st.text(max_size=60))
def test_only_the_verifier_itself_proves_a_challenge(verifier: str, other: str) -> None:
    challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    assert proves(challenge, verifier)
    assert proves(challenge, other) == (other == verifier)
    assert proves("", other) == (other == "")


@pytest.mark.parametrize(("grant_type", "held"), [("authorization_code", CODE), ("refresh_token", REFRESH)])
def test_what_is_spent_is_recognised_whoever_shows_it(grant_type: str, held: Held) -> None:
    for shown in (held, replace(held, application=8), replace(held, expires=NOW - 1)):
        with pytest.raises(Reused) as reused:
            grant(grant_type, replace(shown, spent=True))
        assert reused.value.held.family == b"family"


def test_a_refresh_keeps_its_refresh_token_unless_it_rotates() -> None:
    plain = grant("refresh_token", REFRESH)
    rotated = grant("refresh_token", REFRESH, changed(rotate_refresh_tokens=True))
    strict = grant("refresh_token", REFRESH, strict=True)
    handed = [found.refresh.handed for found in (plain, rotated, strict) if found.refresh]
    assert handed == [AGAIN, FRESH, FRESH]


def test_a_narrowed_refresh_narrows_for_good_unless_it_is_strict() -> None:
    for strict, kept in ((False, ("basic",)), (True, ("basic", "brief"))):
        found = grant("refresh_token", REFRESH, scope="basic", strict=strict)
        assert found.scopes == ("basic",)
        assert found.refresh is not None
        assert found.refresh.scopes == kept


@given(st.integers(0, 40 * 86_400))
def test_a_refresh_token_never_outlives_its_familys_absolute_end(age: int) -> None:
    began = NOW - age * SECOND
    found = grant("refresh_token", replace(REFRESH, began=began), scope="basic")
    assert found.refresh is not None
    assert found.refresh.expires_in == max(0, min(700, 30 * 86_400 - age))
    assert found.refresh.began == began


@pytest.mark.parametrize(
    ("held", "fields", "code"),
    [
        (None, {}, "refresh.invalid"),
        (CODE, {}, "refresh.invalid"),
        (replace(REFRESH, revoked=True), {}, "refresh.invalid"),
        (replace(REFRESH, expires=NOW - 1), {}, "refresh.invalid"),
        (replace(REFRESH, application=8), {}, "refresh.invalid"),
        (REFRESH, {"scope": ""}, "scope.not_valid"),
        (REFRESH, {"scope": "basic other"}, "scope.not_valid"),
    ],
)
def test_refresh_tokens_that_are_worth_nothing(held: Held | None, fields: dict[str, Any], code: str) -> None:
    assert refused("refresh_token", held, **fields) == code


def test_scopes_that_the_application_has_lost_drop_out_of_a_refresh() -> None:
    assert grant("refresh_token", REFRESH, changed(scopes=("brief",))).scopes == ("brief",)
    assert refused("refresh_token", REFRESH, changed(scopes=("other",))) == "scope.not_valid"


def test_grants_are_looked_at_in_order() -> None:
    assert refused("", scope="none") == "grant.missing"
    assert refused("magic", scope="none") == "grant.unsupported"
    assert refused("sms", scope="none") == "grant.unauthorized"
    assert refused("sms", client=changed(grant_types=("sms",)), scope="none") == "scope.not_valid"
    assert refused("password", given=frozenset({"username"}), scope="none") == "parameter.missing"


def test_an_application_that_keeps_no_secret_gets_no_token_for_itself() -> None:
    for grants in (None, GRANTS):
        client = changed(token_endpoint_auth_method="none", grant_types=grants)
        assert refused("client_credentials", client=client) == "grant.unauthorized"


CODE_REQUEST = CodeRequest("ab12", digest("c"), b"f", NOW, GRANTS, 60, user="alice")


@pytest.mark.parametrize(
    ("client", "fields", "code"),
    [
        (changed(active=False), {"response_type": "token"}, "client.invalid"),
        (CLIENT, {"response_type": "token", "redirect_uri": "x"}, "response_type.unsupported"),
        (CLIENT, {"redirect_uri": "https://app.example", "scope": "no"}, "redirect_uri.invalid"),
        (CLIENT, {"redirect_uri": "", "scope": "no"}, "redirect_uri.invalid"),
        (CLIENT, {"redirect_uri": "htp:/x", "any_redirect": True}, "redirect_uri.invalid"),
        (changed(grant_types=()), {"scope": "no"}, "grant.unauthorized"),
        (CLIENT, {"scope": "no", "challenge": "x"}, "scope.not_valid"),
        (CLIENT, {"challenge": CHALLENGE, "user": "\0"}, "challenge.invalid"),
        (CLIENT, {"challenge": CHALLENGE, "challenge_method": "plain"}, "challenge.invalid"),
        (CLIENT, {"challenge": CHALLENGE + "=", "challenge_method": "S256"}, "challenge.invalid"),
        (CLIENT, {"challenge_method": "S256"}, "challenge.invalid"),
        (changed(token_endpoint_auth_method="none"), {}, "challenge.invalid"),
        (CLIENT, {"user": "a\nb"}, "user.invalid"),
        (CLIENT, {"user": "a" * 256}, "user.invalid"),
    ],
)
def test_requests_for_a_code_are_refused_in_order(client: Client, fields: dict[str, Any], code: str) -> None:
    with pytest.raises(Refusal) as refusal:
        decide_code(client, replace(CODE_REQUEST, **fields), disabled=True)
    assert refusal.value.code == code


STRICT = replace(CODE_REQUEST, strict=True, challenge=CHALLENGE, challenge_method="S256")


@pytest.mark.parametrize(
    ("client", "fields", "code"),
    [
        (changed(active=False), {"redirect_uri": "x"}, "client.invalid"),
        (CLIENT, {"redirect_uri": "x", "response_type": "token"}, "redirect_uri.invalid"),
        (CLIENT, {"redirect_uri": "https://other.example/", "any_redirect": True}, "redirect_uri.invalid"),
        (CLIENT, {"response_type": "token", "challenge": None}, "response_type.unsupported"),
        (CLIENT, {"challenge": None, "challenge_method": None, "scope": "no"}, "challenge.invalid"),
        (changed(grant_types=()), {"scope": "no"}, "scope.not_valid"),
        (changed(grant_types=()), {"user": "\0"}, "grant.unauthorized"),
        (CLIENT, {"user": "\0"}, "user.invalid"),
        (CLIENT, {}, "user.disabled"),
    ],
)
def test_by_the_standards_requests_are_refused_in_another_order(
    client: Client, fields: dict[str, Any], code: str
) -> None:
    with pytest.raises(Refusal) as refusal:
        decide_code(client, replace(STRICT, **fields), disabled=True)
    assert refusal.value.code == code


def test_consent_covers_what_was_allowed_before() -> None:
    application = CLIENT.application
    assert consented(application, ("basic",), {"basic", "aa"}) is True
    assert consented(application, ("basic", "more"), {"basic"}) is False
    assert consented(application, (), ()) is True
    for uri, known in (("https://a.example/", True), ("http://127.0.0.1/", False), ("com.example.a:/", False)):
        anybody = changed(token_endpoint_auth_method="none", redirect_uri=uri).application
        assert consented(anybody, ("basic",), {"basic"}) is known


def test_a_disabled_user_gets_no_code() -> None:
    with pytest.raises(Refusal) as refusal:
        decide_code(CLIENT, CODE_REQUEST, disabled=True)
    assert refusal.value.code == "user.disabled"


def test_a_code_goes_to_the_registered_uri_unless_any_will_do() -> None:
    assert decide_code(CLIENT, CODE_REQUEST, disabled=False).redirect_uri == "https://app.example/"
    other = replace(CODE_REQUEST, redirect_uri="https://other.example/x", any_redirect=True)
    assert decide_code(CLIENT, other, disabled=False).redirect_uri == "https://other.example/x"


def test_a_location_is_the_uri_as_it_stands_with_its_parameters() -> None:
    assert location("http://127.0.0.1:8080", code="c", state=None) == "http://127.0.0.1:8080?code=c"
    assert location("http://a/?x=1", code="c", state="a&b é") == "http://a/?x=1&code=c&state=a%26b%20%C3%A9"
    assert location("http://a/", state="") == "http://a/?state="


@pytest.mark.parametrize(
    ("user", "expected"), [("", True), ("a" * 255, True), ("é b", True), ("\x85", False), ("\ud800", False)]
)
def test_user_ids(user: str, expected: bool) -> None:
    assert subject_ok(user) is expected
