"""Scopes, client applications and tokens, as operations."""

from typing import Any

import pytest
from tests.control.house import ADMIN, House

from ostiary.control.applications import (
    CreateApplication,
    Credentials,
    ListApplications,
    OneApplication,
    UpdateApplication,
)
from ostiary.control.call import Call
from ostiary.control.scopes import CreateScope, ListScopes, OneScope, UpdateScope
from ostiary.control.tokens import CheckToken, IssuedToken, IssueToken, ListTokens, Revoked, RevokeSubject, RevokeToken
from ostiary.core.digest import digest, handle
from ostiary.core.oauth import RateLimit, Rules, Scope
from ostiary.core.permission import NOBODY, Principal
from ostiary.core.refusal import Conflict, Forbidden, Invalid, NotFound, Refusal, Unauthenticated
from ostiary.link.messages import Change


async def refusal(house: House, name: str, params: Any, principal: Principal = ADMIN) -> tuple[type[Refusal], str]:
    """How an operation is refused."""
    with pytest.raises(Refusal) as refused:
        await house.run(name, params, principal)
    return type(refused.value), refused.value.code


async def registered(house: House, **fields: Any) -> Credentials:
    """An active client application with the scope `basic`, both new."""
    if not await house.store.scopes.named(["basic"]):
        await house.run("scopes.create", CreateScope("basic", 1800, 900))
    made: Credentials = await house.run(
        "applications.create", CreateApplication("app", "basic", "http://app.example/", **fields)
    )
    await house.run("applications.update", UpdateApplication(made.client_id, active=True))
    house.workers.told.clear()
    return made


async def issued(house: House, client: Credentials, scope: str | None = None) -> IssuedToken:
    """A token, as the client application itself asks for it."""
    params = IssueToken("client_credentials", client.client_id, client.client_secret, scope)
    token: IssuedToken = await house.run("tokens.issue", params, NOBODY)
    return token


async def test_a_scope_is_registered_changed_and_deleted(house: House) -> None:
    made = await house.run("scopes.create", CreateScope("basic", 1800, 900, description="d"))
    assert made == Scope("basic", "d", 1800, 900, 900)
    assert await house.run("scopes.update", UpdateScope("basic", refresh_expires_in=5)) == Scope(
        "basic", "d", 1800, 900, 5
    )
    assert await house.run("scopes.list", ListScopes()) == [Scope("basic", "d", 1800, 900, 5)]
    assert await house.run("scopes.get", OneScope("basic")) == Scope("basic", "d", 1800, 900, 5)
    assert (await house.run("scopes.delete", OneScope("basic"))).deleted == "basic"
    assert await house.run("scopes.list", ListScopes()) == []
    assert house.workers.told == []


async def test_scopes_of_an_application_are_listed_in_its_order(house: House) -> None:
    for name in ("aa", "bb", "cc"):
        await house.run("scopes.create", CreateScope(name, 1, 1))
    made = await house.run("applications.create", CreateApplication("app", "cc aa", "http://app.example/"))
    listed = await house.run("scopes.list", ListScopes(made.client_id))
    assert [scope.scope for scope in listed] == ["cc", "aa"]
    assert await refusal(house, "scopes.list", ListScopes("ffff")) == (NotFound, "application.unknown")


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("scopes.create", CreateScope("basic", 1, 1), (Conflict, "scope.exists")),
        ("scopes.create", CreateScope("a--b", 1, 1), (Invalid, "scope.name")),
        ("scopes.create", CreateScope("b", 1, 1), (Invalid, "scope.incomplete")),
        ("scopes.create", CreateScope("bb", 0, 1), (Invalid, "scope.incomplete")),
        ("scopes.get", OneScope("none"), (NotFound, "scope.unknown")),
        ("scopes.get", OneScope("\ud800"), (NotFound, "scope.unknown")),
        ("scopes.update", UpdateScope("basic"), (Invalid, "scope.nothing")),
        ("scopes.update", UpdateScope("basic", description=""), (Invalid, "scope.nothing")),
        ("scopes.update", UpdateScope("basic", cc_expires_in=0), (Invalid, "scope.nothing")),
        ("scopes.update", UpdateScope("none"), (Invalid, "scope.nothing")),
        ("scopes.update", UpdateScope("basic", "d", cc_expires_in=0), (Invalid, "scope.expiry")),
        ("scopes.update", UpdateScope("none", cc_expires_in=1), (NotFound, "scope.unknown")),
        ("scopes.update", UpdateScope("\0", cc_expires_in=1), (NotFound, "scope.unknown")),
        ("scopes.delete", OneScope("none"), (NotFound, "scope.unknown")),
        ("scopes.delete", OneScope("basic"), (Conflict, "scope.in_use")),
    ],
)
async def test_refusals_of_scopes(house: House, name: str, params: Any, expected: tuple[type[Refusal], str]) -> None:
    await registered(house)
    assert await refusal(house, name, params) == expected


async def test_an_expiry_that_cannot_be_is_named(house: House) -> None:
    with pytest.raises(Invalid) as refused:
        await house.run("scopes.update", UpdateScope("basic", pass_expires_in=3, refresh_expires_in=-1))
    assert [mistake.path for mistake in refused.value.mistakes] == ["refresh_expires_in"]
    assert refused.value.message == "refresh_expires_in must be greater than 0"


async def test_credentials_are_random_and_of_the_agreed_form(house: House) -> None:
    first, second = await registered(house), await registered(house)
    for made in (first, second):
        assert made.client_secret is not None
        assert (len(made.client_id), len(made.client_secret)) == (40, 64)
        assert set(made.client_id + made.client_secret) <= set("0123456789abcdef")
    assert {first.client_id, first.client_secret} & {second.client_id, second.client_secret} == set()


async def test_a_new_application_is_inactive_and_gets_no_token(house: House) -> None:
    await house.run("scopes.create", CreateScope("basic", 1, 1))
    made = await house.run("applications.create", CreateApplication("app", "basic", "http://app.example/"))
    assert (await house.run("applications.get", OneApplication(made.client_id))).active is False
    params = IssueToken("client_credentials", made.client_id, made.client_secret)
    assert await refusal(house, "tokens.issue", params, NOBODY) == (Unauthenticated, "client.invalid")


async def test_given_credentials_are_taken_over_only_together(house: House) -> None:
    made = await registered(house, client_id="abc", client_secret="def")
    assert made == Credentials("abc", "def")
    assert len((await issued(house, made)).access_token) == 64
    for alone in ({"client_id": "aaaa"}, {"client_secret": "aaaa"}):
        other = await registered(house, **alone)
        assert "aaaa" not in (other.client_id, other.client_secret)


async def test_a_wrong_secret_is_refused_however_it_is_kept(house: House) -> None:
    for made in (await registered(house), await registered(house, client_id="abc", client_secret="def")):
        for secret in ("wrong", "", "\ud800", "DEF"):
            params = IssueToken("client_credentials", made.client_id, secret)
            assert await refusal(house, "tokens.issue", params, NOBODY) == (Unauthenticated, "client.invalid")
            assert await refusal(house, "tokens.issue", params, ADMIN) == (Unauthenticated, "client.invalid")


async def test_an_application_that_cannot_keep_a_secret_has_none(house: House) -> None:
    made = await registered(house, token_endpoint_auth_method="none")
    assert made.client_secret is None
    params = IssueToken("client_credentials", made.client_id, "x")
    assert await refusal(house, "tokens.issue", params, NOBODY) == (Unauthenticated, "client.invalid")
    rotate = OneApplication(made.client_id)
    assert await refusal(house, "applications.rotate_secret", rotate) == (Conflict, "application.public")


async def test_a_rotated_secret_replaces_the_old_one_and_tokens_live_on(house: House) -> None:
    made = await registered(house)
    token = await issued(house, made)
    rotated = await house.run("applications.rotate_secret", OneApplication(made.client_id))
    assert rotated.client_secret != made.client_secret
    params = IssueToken("client_credentials", made.client_id, made.client_secret)
    assert await refusal(house, "tokens.issue", params, NOBODY) == (Unauthenticated, "client.invalid")
    assert (await issued(house, rotated)).expires_in == 1800
    assert (await house.run("tokens.check", CheckToken(token.access_token))).active is True


CREATE = CreateApplication("app", "basic", "http://app.example/")


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("applications.create", CreateApplication("", "basic", "http://a/"), (Invalid, "application.incomplete")),
        ("applications.create", CreateApplication("a", "", "http://a/"), (Invalid, "application.incomplete")),
        ("applications.create", CreateApplication("a", "basic", "htt://a/"), (Invalid, "application.incomplete")),
        (
            "applications.create",
            CreateApplication("a", "none", "http://a/", grant_types=["x"]),
            (Invalid, "application.field"),
        ),
        ("applications.create", CreateApplication("a", "basic ", "http://a/"), (Invalid, "scope.not_known")),
        (
            "applications.create",
            CreateApplication("a", "none", "http://a/", client_id="X", client_secret="X"),
            (Invalid, "scope.not_known"),
        ),
        (
            "applications.create",
            CreateApplication("a", "basic", "http://a/", client_id="X", client_secret="a"),
            (Invalid, "client.hex"),
        ),
        (
            "applications.create",
            CreateApplication("a", "basic", "http://a/", client_id="abc", client_secret="a"),
            (Conflict, "application.exists"),
        ),
        ("applications.get", OneApplication("ffff"), (NotFound, "application.unknown")),
        ("applications.get", OneApplication("\ud800"), (NotFound, "application.unknown")),
        ("applications.update", UpdateApplication("ffff"), (NotFound, "application.unknown")),
        ("applications.update", UpdateApplication("\ud800"), (NotFound, "application.unknown")),
        ("applications.update", UpdateApplication("abc"), (Invalid, "application.nothing")),
        ("applications.update", UpdateApplication("abc", scope="", description=""), (Invalid, "application.nothing")),
        ("applications.update", UpdateApplication("abc", scope="", active=True), (Invalid, "scope.not_known")),
        ("applications.update", UpdateApplication("abc", scope="none"), (Invalid, "scope.not_known")),
        (
            "applications.update",
            UpdateApplication("abc", scope="none", rate_limit=RateLimit(0, 1)),
            (Invalid, "application.field"),
        ),
        ("applications.delete", OneApplication("ffff"), (NotFound, "application.unknown")),
        ("applications.rotate_secret", OneApplication("ffff"), (NotFound, "application.unknown")),
        ("tokens.issue", IssueToken("magic", "abc", "def"), (Invalid, "grant.unsupported")),
        ("tokens.issue", IssueToken("magic", "abc", "x"), (Unauthenticated, "client.invalid")),
        ("tokens.issue", IssueToken("password", "abc", "def"), (Forbidden, "grant.unauthorized")),
        ("tokens.issue", IssueToken("password", "abc", "def", strict=True), (Invalid, "grant.unsupported")),
        ("tokens.issue", IssueToken("client_credentials", "\ud800", "x"), (Unauthenticated, "client.invalid")),
        ("tokens.issue", IssueToken("client_credentials", "abc", "def", "no"), (Invalid, "scope.not_valid")),
        ("tokens.list", ListTokens("ffff"), (NotFound, "application.unknown")),
        ("tokens.list", ListTokens("X"), (NotFound, "application.unknown")),
        ("tokens.revoke", RevokeToken("t", "ffff"), (NotFound, "application.unknown")),
        ("tokens.revoke", RevokeToken("t", "\0"), (NotFound, "application.unknown")),
        ("tokens.revoke_subject", RevokeSubject(""), (Invalid, "user.missing")),
    ],
)
async def test_refusals(house: House, name: str, params: Any, expected: tuple[type[Refusal], str]) -> None:
    await registered(house, client_id="abc", client_secret="def")
    assert await refusal(house, name, params) == expected
    assert house.workers.told == []


@pytest.mark.parametrize("user", ["x" * 256, "a\0b", "\ud800"])
async def test_what_no_token_can_carry_is_a_user_without_tokens(house: House, user: str) -> None:
    assert await house.run("tokens.revoke_subject", RevokeSubject(user)) == Revoked(False, 0)
    assert house.workers.told == []


async def test_only_who_may_issue_tokens_vouches_for_a_client_without_its_secret(house: House) -> None:
    made = await registered(house)
    params = IssueToken("client_credentials", made.client_id)
    assert (await house.run("tokens.issue", params)).scope == "basic"
    for principal in (NOBODY, Principal("user", "u", frozenset({"tokens:manage"}))):
        assert await refusal(house, "tokens.issue", params, principal) == (Unauthenticated, "client.invalid")


async def test_an_issued_token_is_what_the_client_gets_and_what_a_check_sees(house: House) -> None:
    made = await registered(house, application_details={"k": "v"})
    token = await issued(house, made)
    assert (token.token_type, token.expires_in, token.scope) == ("Bearer", 1800, "basic")
    seen = await house.run("tokens.check", CheckToken(token.access_token))
    assert (seen.active, seen.client_id, seen.scope, seen.grant) == (
        True,
        made.client_id,
        "basic",
        "client_credentials",
    )
    assert (seen.issued, seen.expires_in, seen.handle) == (house.now, 1800, handle(digest(token.access_token)))
    assert (seen.details, seen.application_details, seen.user) == ({"k": "v"}, {"k": "v"}, "")
    [record] = await house.records(operation="tokens.issue")
    assert (record.kind, record.name, record.target) == ("application", made.client_id, made.client_id)


async def test_neither_a_handle_nor_an_expired_nor_an_unknown_token_passes_a_check(house: House) -> None:
    token = await issued(house, await registered(house))
    for text in (handle(digest(token.access_token)), "zz", "", "\ud800"):
        assert (await house.run("tokens.check", CheckToken(text))).active is False
    house.now += 1_800_000_000
    assert (await house.run("tokens.check", CheckToken(token.access_token))).active is True
    house.now += 1
    assert (await house.run("tokens.check", CheckToken(token.access_token))).active is False


async def test_grant_types_of_the_settings_hold_for_applications_without_their_own(house: House) -> None:
    made, own = await registered(house), await registered(house, grant_types=["client_credentials"])
    house.control.rules = Rules(default_grants=("password",))
    params = IssueToken("client_credentials", made.client_id, made.client_secret)
    assert await refusal(house, "tokens.issue", params, NOBODY) == (Forbidden, "grant.unauthorized")
    assert (await issued(house, own)).scope == "basic"


async def test_a_revocation_is_told_to_the_workers_before_it_answers(house: House) -> None:
    token = await issued(house, await registered(house))
    call = Call(ADMIN, "test")
    answer = await house.run("tokens.revoke", RevokeToken(token.access_token), call=call)
    assert (answer.revoked, answer.tokens) == (True, 1)
    newest = await house.store.changes.newest()
    assert house.workers.told == [Change(newest, digests=[digest(token.access_token)])]
    assert call.trail.receipt is not None
    assert call.trail.receipt.epoch == newest
    assert (await house.run("tokens.check", CheckToken(token.access_token))).active is False
    assert (await house.run("tokens.revoke", RevokeToken(token.access_token))).revoked is False


async def test_a_handle_revokes_and_a_foreign_client_id_does_not(house: House) -> None:
    made, other = await registered(house), await registered(house)
    token = await issued(house, made)
    named = handle(digest(token.access_token))
    assert (await house.run("tokens.revoke", RevokeToken(named, other.client_id))).revoked is False
    assert (await house.run("tokens.revoke", RevokeToken(named, made.client_id))).revoked is True


async def test_a_subject_is_cut_off_in_the_workers_even_if_the_store_knows_no_token(house: House) -> None:
    answer = await house.run("tokens.revoke_subject", RevokeSubject("alice"))
    assert (answer.revoked, answer.tokens) == (False, 0)
    assert house.workers.told == [Change(await house.store.changes.newest(), users=["alice"])]


async def test_live_tokens_are_listed_by_handle(house: House) -> None:
    made = await registered(house)
    tokens = [await issued(house, made) for _ in range(3)]
    handles = [handle(digest(token.access_token)) for token in tokens]
    listed = await house.run("tokens.list", ListTokens(made.client_id, limit=2))
    assert [each.handle for each in listed] == handles[:2]
    listed = await house.run("tokens.list", ListTokens(made.client_id, after=listed[-1].number))
    assert [each.handle for each in listed] == handles[2:]
    assert await house.run("tokens.list", ListTokens(user="\ud800")) == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"active": False}, {"clients": ["abc"]}),
        ({"active": True}, {"everything": True, "streams": False}),
        ({"rate_limit": RateLimit(1, 1)}, {"clients": ["abc"], "streams": False}),
        ({"application_details": {"k": "v"}}, {"clients": ["abc"], "streams": False}),
        ({"active": False, "rate_limit": RateLimit(1, 1)}, {"clients": ["abc"]}),
        ({"description": "d"}, None),
        ({"scope": "basic"}, None),
        ({"grant_types": []}, None),
        ({"rotate_refresh_tokens": True}, None),
    ],
)
async def test_workers_are_told_of_what_admissions_depend_on(
    house: House, fields: dict[str, Any], told: dict[str, Any] | None
) -> None:
    await registered(house, client_id="abc", client_secret="def")
    call = Call(ADMIN, "test")
    await house.run("applications.update", UpdateApplication("abc", **fields), call=call)
    seq = await house.store.changes.newest()
    assert house.workers.told == ([] if told is None else [Change(seq, **told)])
    assert (call.trail.receipt is None) is (told is None)


async def test_a_deactivation_stops_tokens_and_a_reactivation_brings_them_back(house: House) -> None:
    made = await registered(house)
    token = CheckToken((await issued(house, made)).access_token)
    seen = []
    for active in (False, True):
        await house.run("applications.update", UpdateApplication(made.client_id, active=active))
        seen.append((await house.run("tokens.check", token)).active)
    assert seen == [False, True]


async def test_a_deleted_application_is_gone_from_the_workers_too(house: House) -> None:
    made = await registered(house)
    token = CheckToken((await issued(house, made)).access_token)
    await house.run("applications.delete", OneApplication(made.client_id))
    assert house.workers.told == [Change(await house.store.changes.newest(), clients=[made.client_id])]
    assert (await house.run("tokens.check", token)).active is False
    assert await house.run("applications.list", ListApplications()) == []


async def test_applications_are_listed_registered_last_first(house: House) -> None:
    made = [(await registered(house)).client_id for _ in range(3)]
    listed = await house.run("applications.list", ListApplications(limit=2))
    assert [each.client_id for each in listed] == made[:0:-1]
    listed = await house.run("applications.list", ListApplications(after=made[1]))
    assert [each.client_id for each in listed] == made[:1]
    assert await house.run("applications.list", ListApplications(active=False)) == []
    assert await house.run("applications.list", ListApplications(after="\ud800")) == []


async def test_no_secret_and_no_token_is_anywhere_in_the_database(house: House) -> None:
    made = await registered(house)
    predefined = await registered(house, client_id="abc", client_secret="deadbeefdeadbeef")
    tokens = [await issued(house, each) for each in (made, predefined)]
    await house.run("tokens.revoke", RevokeToken(tokens[0].access_token))
    params = IssueToken("client_credentials", made.client_id, "0123456789abcdef-wrong")
    await refusal(house, "tokens.issue", params, NOBODY)
    files = b"".join(each.read_bytes() for each in house.path.parent.iterdir())
    assert digest(tokens[1].access_token) in files
    secrets = [made.client_secret, predefined.client_secret, *(each.access_token for each in tokens), "cdef-wrong"]
    assert [secret for secret in secrets if secret is None or secret.encode() in files] == []
