"""Log-ins of browsers and consents: what ends them, and that no code outlives its log-in."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from tests.store.values import NOW, RECORD, furnish

from ostiary.core.digest import digest
from ostiary.core.oauth import CodeRequest
from ostiary.core.refusal import Refusal
from ostiary.store.people import NewUser
from ostiary.store.ports import BrowserLogin, RecordFilter
from ostiary.store.store import Store

GRANTS = ("authorization_code",)
URI = "http://app.example/"
LOGIN = BrowserLogin("ann", {"from": "here"}, NOW, NOW + 1000)


async def people(store: Store) -> None:
    await furnish(store, "ab01", "ab02")
    await store.users.create(NewUser("ann", "owner", NOW, password="x"), RECORD)


async def sign_in(store: Store, secret: str = "s", instead: str = "", **fields: Any) -> None:
    await store.consents.sign_in(digest(secret), replace(LOGIN, **fields), digest(instead), RECORD)


async def known(store: Store, secret: str = "s", now: int = NOW) -> BrowserLogin | None:
    return await store.consents.login(digest(secret), now)


def asked(text: str = "c", **fields: Any) -> CodeRequest:
    wanted = CodeRequest(
        "ab01", digest(text), text.encode(), NOW, GRANTS, 60, user="ann", challenge="c" * 43, challenge_method="S256",
        strict=True, details={"from": "here"},
    )  # fmt: skip
    return replace(wanted, **fields)


async def authorize(store: Store, secret: str = "s", allow: bool = True, **fields: Any) -> str:
    return await store.consents.authorize(asked(**fields), digest(secret), allow, RECORD)


async def refused(store: Store, **fields: Any) -> str:
    with pytest.raises(Refusal) as refusal:
        await authorize(store, **fields)
    return refusal.value.code


async def change(store: Store, statement: str) -> None:
    """What an operator does to a user."""
    assert await store.writer.each(lambda sql: sql.change(statement)) > 0


async def test_a_log_in_lasts_until_it_expires(store: Store) -> None:
    await people(store)
    await sign_in(store)
    assert await known(store, now=NOW + 999) == LOGIN
    assert await known(store, now=NOW + 1000) is None
    assert await known(store, "another") is None


async def test_a_new_log_in_ends_the_one_that_it_replaces(store: Store) -> None:
    await people(store)
    await sign_in(store, "one")
    await sign_in(store, "other browser")
    await sign_in(store, "two", instead="one")
    assert [await known(store, each) is not None for each in ("one", "two", "other browser")] == [False, True, True]


async def test_signing_out_is_recorded_once(store: Store) -> None:
    await people(store)
    await sign_in(store)
    before = len(await store.audit.page(RecordFilter()))
    await store.consents.sign_out(digest("s"), RECORD)
    await store.consents.sign_out(digest("s"), RECORD)
    assert await known(store) is None
    assert len(await store.audit.page(RecordFilter())) == before + 1


@pytest.mark.parametrize(
    "statement", ["UPDATE users SET active = 0 WHERE name = 'ann'", "DELETE FROM users WHERE name = 'ann'"]
)
async def test_a_user_who_is_disabled_or_gone_has_no_log_in(store: Store, statement: str) -> None:
    await people(store)
    await sign_in(store)
    await change(store, statement)
    assert await known(store) is None
    assert await refused(store) == "login.ended"
    with pytest.raises(Refusal) as refusal:
        await sign_in(store, "again")
    assert refusal.value.code == "login.inactive"


async def test_who_is_made_anew_under_the_same_name_inherits_no_log_in(store: Store) -> None:
    await people(store)
    await sign_in(store)
    await change(store, "DELETE FROM users WHERE name = 'ann'")
    await store.users.create(NewUser("ann", "owner", NOW, password="x"), RECORD)
    assert await known(store) is None


async def test_users_of_a_plug_in_need_no_account_but_a_disabled_one_of_that_name_bars_them(store: Store) -> None:
    await people(store)
    await sign_in(store, "other", user="somebody", ours=False)
    await sign_in(store, user="ann", ours=False)
    assert await known(store, "other") == replace(LOGIN, user="somebody", ours=False)
    await change(store, "UPDATE users SET active = 0 WHERE name = 'ann'")
    assert await known(store) is None
    assert await known(store, "other") is not None
    with pytest.raises(Refusal) as refusal:
        await sign_in(store, "again", ours=False)
    assert refusal.value.code == "login.inactive"


async def test_what_is_allowed_is_kept_for_user_and_application(store: Store) -> None:
    await people(store)
    await sign_in(store)
    assert await refused(store, allow=False) == "consent.required"
    assert await store.tokens.get(digest("c")) is None
    assert await authorize(store) == URI
    code = await store.tokens.get(digest("c"))
    assert code is not None
    assert (code.kind, code.user, code.details) == ("code", "ann", {"from": "here"})
    assert await store.consents.allowed("ann", "ab01") == {"basic"}
    assert await store.consents.allowed("ann", "ab02") == frozenset()
    assert await store.consents.allowed("bob", "ab01") == frozenset()
    assert await authorize(store, allow=False, text="d") == URI
    assert await authorize(store, allow=True, text="e") == URI


async def test_a_refused_request_allows_nothing(store: Store) -> None:
    await people(store)
    await sign_in(store)
    assert await refused(store, scope="none") == "scope.not_valid"
    assert await refused(store, secret="other") == "login.ended"
    assert await refused(store, user="bob") == "login.ended"
    assert await refused(store, now=NOW + 1000) == "login.ended"
    assert await store.consents.allowed("ann", "ab01") == frozenset()


async def test_consents_go_with_their_application(store: Store) -> None:
    await people(store)
    await sign_in(store)
    await authorize(store)
    await store.applications.delete("ab01", RECORD)
    assert await store.consents.allowed("ann", "ab01") == frozenset()


async def test_a_revocation_of_everything_forgets_log_ins_and_consents(store: Store) -> None:
    await people(store)
    await sign_in(store)
    await sign_in(store, "bob", user="bob", ours=False)
    await authorize(store)
    assert (await store.tokens.revoke_user("ann", NOW, RECORD)).value == 1
    assert await known(store) is None
    assert await store.consents.allowed("ann", "ab01") == frozenset()
    assert await known(store, "bob") is not None
    assert await refused(store, text="d") == "login.ended"


async def test_of_a_code_and_a_revocation_at_once_the_revocation_wins(store: Store) -> None:
    await people(store)
    for each in range(10):
        await sign_in(store, f"s{each}")
        outcomes = await asyncio.gather(
            *(authorize(store, f"s{each}", text=f"{each} {number}") for number in range(4)),
            store.tokens.revoke_user("ann", NOW, RECORD),
            *(authorize(store, f"s{each}", text=f"{each} {number}") for number in range(4, 8)),
            return_exceptions=True,
        )
        assert outcomes.count(URI) == 4
        codes = [await store.tokens.get(digest(f"{each} {number}")) for number in range(8)]
        assert [code is None or code.revoked for code in codes] == [True] * 8
