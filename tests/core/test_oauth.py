"""What OAuth requests are worth: rules and decisions."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ostiary.core.digest import digest, handle, named
from ostiary.core.oauth import (
    Application,
    Client,
    Proof,
    RateLimit,
    Rules,
    Scope,
    Secret,
    TokenRequest,
    Unproven,
    check_application,
    check_scope,
    decide,
    granted_scopes,
    hex_ok,
    lifetime,
    redirect_uri_ok,
    scope_name_ok,
    split_scopes,
    text_ok,
)
from ostiary.core.refusal import Forbidden, Invalid, Refusal, Unauthenticated

SCOPES = {"basic": Scope("basic", "", 1800, 900, 900), "brief": Scope("brief", "", 60, 30, 30)}
APPLICATION = Application("ab12", "app", ("basic", "brief"), "https://app.example/", 1, active=True)
SECRET = Secret("sha256", digest("s3cret").hex())
CLIENT = Client(7, APPLICATION, SECRET)
REQUEST = TokenRequest("ab12", digest("t"), 1_000, ("client_credentials",), proof=Proof(digest("s3cret").hex()))


@pytest.mark.parametrize("name", ["a", "a-b", "a_b", "a-_b", "ab-", "ab_", "ab-_", "a1-_b2_c-d", "A" * 128])
def test_these_may_be_names_of_scopes(name: str) -> None:
    assert scope_name_ok(name)


@pytest.mark.parametrize(
    "name", ["", "-ab", "_ab", "a--b", "a__b", "a_-b", "a-_-b", "a b", "ab\n", "ä", "٣", "a.b", "A" * 129, "a" * 10**6]
)
def test_these_may_not(name: str) -> None:
    assert not scope_name_ok(name)


@given(st.text("ab-_", max_size=12))
def test_a_scope_name_is_runs_of_letters_joined_by_single_signs(name: str) -> None:
    """The same rule, said otherwise: it begins with a letter, and what stands between letters is -, _ or -_."""
    signs = re.split("[ab]+", name)
    expected = bool(name) and signs[0] == "" and all(each in ("-", "_", "-_") for each in signs[1:] if each)
    assert scope_name_ok(name) == expected


def test_a_hostile_scope_name_is_decided_in_linear_time() -> None:
    """With nested repeats this takes longer than anybody lives."""
    assert not scope_name_ok("a" * 60 + "-_" + "a" * 60 + "!")


@pytest.mark.parametrize(
    ("uri", "method", "expected"),
    [
        ("http://127.0.0.1:8080", "", True),
        ("https://app.example/cb?x=1", "", True),
        ("HTTPS://app.example", "", True),
        ("http://[::1]:9/cb", "", True),
        ("htt://127.0.0.1", "", False),
        ("htp:/127.0.0.1", "", False),
        ("http://", "", False),
        ("http:///path", "", False),
        ("http://:80/", "", False),
        ("http://host:99999/", "", False),
        ("http://host:x/", "", False),
        ("http://[::1/", "", False),
        ("http://host/#part", "", False),
        ("http://host/#", "", False),
        ("http://host/a b", "", False),
        ("http://host\\@other/", "", False),
        ("http://höst/", "", False),
        ("/relative", "", False),
        ("", "", False),
        ("http://host/" + "a" * 3000, "", False),
        ("com.example.app:/cb", "", False),
        ("com.example.app:/cb", "none", True),
        ("javascript:alert(1)", "none", False),
        ("http://127.0.0.1/cb", "none", True),
    ],
)
def test_redirect_uris(uri: str, method: str, expected: bool) -> None:
    assert redirect_uri_ok(uri, "none" if method else "") is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", True), ("af09", True), ("a" * 128, True), ("", False), ("A", False), ("g", False), ("a" * 129, False)],
)
def test_predefined_ids_and_secrets_are_hex(text: str, expected: bool) -> None:
    assert hex_ok(text) is expected
    assert not hex_ok(text + "\n")


@pytest.mark.parametrize(("text", "expected"), [("", True), ("ü😀", True), ("a\0", False), ("\udc80", False)])
def test_texts_that_can_be_kept(text: str, expected: bool) -> None:
    assert text_ok(text, 10) is expected
    assert not text_ok("a" * 11, 10)


def test_scopes_are_split_on_single_spaces() -> None:
    assert split_scopes("a b a") == ("a", "b")
    assert split_scopes("a  b") == ("a", "", "b")
    assert split_scopes(" a") == ("", "a")
    assert split_scopes("") == ("",)


@pytest.mark.parametrize("asked", [None, ""])
def test_no_scope_asked_for_is_all_of_them(asked: str | None) -> None:
    assert granted_scopes(APPLICATION, asked) == ("basic", "brief")


@given(st.lists(st.sampled_from(["basic", "brief", "other", ""]), min_size=1))
def test_granted_are_those_asked_for_or_none_at_all(names: list[str]) -> None:
    asked = " ".join(names)
    if not asked:
        return
    if set(asked.split(" ")) <= {"basic", "brief"}:
        assert granted_scopes(APPLICATION, asked) == tuple(dict.fromkeys(asked.split(" ")))
    else:
        with pytest.raises(Invalid) as refused:
            granted_scopes(APPLICATION, asked)
        assert refused.value.code == "scope.not_valid"


@given(st.dictionaries(st.sampled_from("abc"), st.integers(1, 2**31 - 1), min_size=1))
def test_a_token_lives_as_long_as_the_briefest_of_its_scopes(lives: dict[str, int]) -> None:
    scopes = {name: Scope(name, "", seconds, 1, 1) for name, seconds in lives.items()}
    assert lifetime(tuple(scopes), scopes) == min(lives.values())
    assert lifetime((*scopes, "gone"), scopes) == min(1800, *lives.values())


def test_a_granted_request() -> None:
    grant = decide(replace(CLIENT, application=replace(APPLICATION, details={"k": "v"})), SCOPES, REQUEST)
    assert (grant.scopes, grant.issued, grant.expires_in, grant.details) == (("basic", "brief"), 1_000, 60, {"k": "v"})


def refusal(client: Client | None, request: TokenRequest) -> Refusal:
    with pytest.raises(Refusal) as refused:
        decide(client, SCOPES, request)
    return refused.value


def changed(**fields: object) -> Client:
    return replace(CLIENT, application=replace(APPLICATION, **fields))


WRONG = replace(REQUEST, proof=Proof(digest("wrong").hex()))


@pytest.mark.parametrize(
    ("client", "request_", "meaning", "code"),
    [
        (None, REQUEST, Unauthenticated, "client.invalid"),
        (changed(active=False), REQUEST, Unauthenticated, "client.invalid"),
        (CLIENT, WRONG, Unauthenticated, "client.invalid"),
        (changed(grant_types=()), WRONG, Unauthenticated, "client.invalid"),
        (changed(grant_types=("password",)), REQUEST, Forbidden, "grant.unauthorized"),
        (CLIENT, replace(REQUEST, default_grants=()), Forbidden, "grant.unauthorized"),
        (changed(grant_types=()), replace(REQUEST, scope="other"), Forbidden, "grant.unauthorized"),
        (replace(CLIENT, secret=Secret("none")), REQUEST, Unauthenticated, "client.invalid"),
        (CLIENT, replace(REQUEST, scope="other"), Invalid, "scope.not_valid"),
        (CLIENT, replace(REQUEST, scope="basic  brief"), Invalid, "scope.not_valid"),
    ],
)
def test_requests_are_refused_in_order(
    client: Client | None, request_: TokenRequest, meaning: type[Refusal], code: str
) -> None:
    refused = refusal(client, request_)
    assert (type(refused), refused.code) == (meaning, code)


def test_own_grant_types_win_over_the_default_ones() -> None:
    assert decide(changed(grant_types=("client_credentials",)), SCOPES, replace(REQUEST, default_grants=())).scopes


def verified(kept: str) -> TokenRequest:
    return replace(REQUEST, proof=Proof(digest("s3cret").hex(), kept))


def test_a_secret_kept_as_argon2id_has_to_be_verified_first() -> None:
    client = replace(CLIENT, secret=Secret("argon2", "$argon2id$1"))
    unproven = refusal(client, REQUEST)
    assert isinstance(unproven, Unproven)
    assert unproven.kept == "$argon2id$1"
    assert isinstance(refusal(client, verified("$argon2id$0")), Unproven)
    assert decide(client, SCOPES, verified("$argon2id$1")).scopes == ("basic", "brief")


def test_an_operator_may_vouch_for_an_active_client() -> None:
    assert decide(CLIENT, SCOPES, replace(REQUEST, proof=None)).expires_in == 60
    assert refusal(changed(active=False), replace(REQUEST, proof=None)).code == "client.invalid"


@pytest.mark.parametrize(
    ("scope", "code"),
    [
        (Scope("a", "", 1, 1, 1), "scope.incomplete"),
        (Scope("ab", "", 0, 1, 1), "scope.incomplete"),
        (Scope("ab", "", 1, -1, 1), "scope.incomplete"),
        (Scope("ab", "", 1, 1, 2**31), "scope.incomplete"),
        (Scope("a b", "", 0, 1, 1), "scope.incomplete"),
        (Scope("a b", "", 1, 1, 1), "scope.name"),
        (Scope("ab", "\0", 1, 1, 1), "scope.field"),
    ],
)
def test_scopes_that_cannot_be(scope: Scope, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_scope(scope)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("fields", "code", "named_fields"),
    [
        ({"name": ""}, "application.incomplete", []),
        ({"scopes": ()}, "application.incomplete", []),
        ({"redirect_uri": "x"}, "application.incomplete", []),
        ({"name": "\ud800"}, "application.field", ["name"]),
        ({"details": {"k": "\0"}}, "application.field", ["application_details"]),
        ({"grant_types": ("magic",)}, "application.field", ["grant_types"]),
        (
            {"grant_types": ("magic",), "rate_limit": RateLimit(1, 0)},
            "application.field",
            ["grant_types", "rate_limit"],
        ),
        ({"rate_limit": RateLimit(2**31, 1)}, "application.field", ["rate_limit"]),
    ],
)
def test_applications_that_cannot_be(fields: dict[str, object], code: str, named_fields: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        check_application(replace(APPLICATION, **fields), Rules())
    assert refused.value.code == code
    assert [mistake.path for mistake in refused.value.mistakes] == named_fields


def test_applications_that_can_be() -> None:
    check_application(APPLICATION, Rules())
    check_application(replace(APPLICATION, grant_types=("password",), rate_limit=RateLimit(1, 1)), Rules())
    check_application(replace(APPLICATION, grant_types=("sms",)), Rules(custom_grants={"sms": "acme_sms"}))


@given(st.text())
def test_a_handle_names_the_token_that_it_was_made_of(token: str) -> None:
    kept = digest(token)
    assert named(handle(kept)) == kept
    assert len(kept) == 32


def test_what_only_looks_like_a_handle_is_a_token() -> None:
    assert named("sha256:" + "A" * 64) == digest("sha256:" + "A" * 64)
    assert named("sha256:00") == digest("sha256:00")
