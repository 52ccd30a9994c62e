"""Tokens are kept as digests, decided and revoked in the store's own order."""

import asyncio
from collections.abc import Coroutine
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.store.values import BASIC, NOW, RECORD, SECRET, application, furnish, request

from ostiary.core.digest import digest
from ostiary.core.oauth import Proof, RateLimit
from ostiary.core.refusal import Invalid, NotFound, Refusal, Unauthenticated
from ostiary.core.snapshot import SECOND
from ostiary.store.ports import ApplicationChange, RecordFilter, ScopeChange, Token, TokenFilter
from ostiary.store.store import Store
from ostiary.store.tokens import KEPT


async def live(store: Store, *tokens: str, now: int = NOW) -> dict[bytes, Token]:
    return await store.tokens.live([digest(token) for token in tokens], now)


async def test_an_issued_token_is_live_for_exactly_its_life(store: Store) -> None:
    await furnish(store)
    issued = await store.tokens.issue(request("t"), RECORD)
    assert (issued.client_id, issued.scopes, issued.issued, issued.expires_in) == ("ab01", ("basic",), NOW, 1800)
    end = NOW + 1800 * SECOND
    assert list(await live(store, "t", now=end)) == [digest("t")]
    assert await live(store, "t", now=end + 1) == {}


async def test_a_live_token_says_everything_that_an_admission_needs(store: Store) -> None:
    await furnish(store)
    change = ApplicationChange(details={"a": "1"}, rate_limit=RateLimit(5, 60))
    await store.applications.update("ab01", change, RECORD)
    await store.tokens.issue(request("t"), RECORD)
    await store.applications.update("ab01", ApplicationChange(details={"a": "2"}), RECORD)
    expected = Token(
        1, digest("t"), "access", "ab01", "", ("basic",), "client_credentials", NOW, 1800, NOW + 1800 * SECOND,
        {"a": "1"}, False, True, {"a": "2"}, RateLimit(5, 60),
    )  # fmt: skip
    assert await live(store, "t", "other") == {digest("t"): expected}
    assert await store.tokens.get(digest("t")) == expected
    assert await store.tokens.get(digest("other")) is None


async def test_a_batch_answers_each_of_its_requests_by_itself(store: Store) -> None:
    await furnish(store, "ab01", "ab02")
    asked = [
        request("t0"),
        request("t1", "ab02"),
        request("t2", "ffff"),
        request("t3", proof=Proof(digest("wrong").hex())),
        request("t4", scope="other"),
        *(request(f"u{each}") for each in range(200)),
    ]
    outcomes = await asyncio.gather(*(store.tokens.issue(each, RECORD) for each in asked), return_exceptions=True)
    refused = [(type(each), each.code) for each in outcomes if isinstance(each, Refusal)]
    assert refused == [
        (Unauthenticated, "client.invalid"),
        (Unauthenticated, "client.invalid"),
        (Invalid, "scope.not_valid"),
    ]
    found = await store.tokens.live([each.digest for each in asked], NOW)
    assert set(found) == {each.digest for each in asked} - {digest("t2"), digest("t3"), digest("t4")}
    assert found[digest("t1")].client_id == "ab02"


async def test_an_issue_after_a_deactivation_is_refused_in_the_same_batch_too(store: Store) -> None:
    await furnish(store)
    outcomes = await asyncio.gather(
        store.tokens.issue(request("before"), RECORD),
        store.applications.update("ab01", ApplicationChange(active=False), RECORD),
        store.tokens.issue(request("after"), RECORD),
        return_exceptions=True,
    )
    assert isinstance(outcomes[2], Unauthenticated)
    assert await live(store, "before", "after") == {}
    await store.applications.update("ab01", ApplicationChange(active=True), RECORD)
    assert list(await live(store, "before", "after")) == [digest("before")]


async def test_an_expiry_is_fixed_at_issue(store: Store) -> None:
    await furnish(store)
    await store.tokens.issue(request("t"), RECORD)
    await store.scopes.update("basic", ScopeChange(cc_expires_in=1), RECORD)
    await store.tokens.issue(request("u"), RECORD)
    found = await live(store, "t", "u")
    assert [found[digest(each)].expires_in for each in ("t", "u")] == [1800, 1]


async def test_a_revoked_token_is_dead_and_a_second_revocation_finds_nothing(store: Store) -> None:
    await furnish(store)
    await store.tokens.issue(request("t"), RECORD)
    seq = (await store.tokens.revoke(digest("t"), "", NOW, RECORD)).seq
    assert await live(store, "t") == {}
    assert [(each.seq, each.kind, each.subject) for each in await store.changes.after(seq - 1, 9)] == [
        (seq, "token.revoked", digest("t").hex())
    ]
    assert (await store.tokens.revoke(digest("t"), "", NOW, RECORD)).seq == 0
    assert (await store.tokens.revoke(digest("other"), "", NOW, RECORD)).seq == 0
    assert await store.changes.newest() == seq


async def test_an_expired_token_and_that_of_an_inactive_application_can_be_revoked(store: Store) -> None:
    await furnish(store)
    await store.tokens.issue(request("t"), RECORD)
    await store.applications.update("ab01", ApplicationChange(active=False), RECORD)
    assert (await store.tokens.revoke(digest("t"), "ab01", NOW + KEPT, RECORD)).seq > 0
    await store.applications.update("ab01", ApplicationChange(active=True), RECORD)
    assert await live(store, "t") == {}


async def test_a_token_is_revoked_only_for_its_own_application(store: Store) -> None:
    await furnish(store, "ab01", "ab02")
    await store.tokens.issue(request("t"), RECORD)
    assert (await store.tokens.revoke(digest("t"), "ab02", NOW, RECORD)).seq == 0
    with pytest.raises(NotFound) as refused:
        await store.tokens.revoke(digest("t"), "ffff", NOW, RECORD)
    assert refused.value.code == "application.unknown"
    assert list(await live(store, "t")) == [digest("t")]
    assert (await store.tokens.revoke(digest("t"), "ab01", NOW, RECORD)).seq > 0


async def test_a_user_that_no_token_names_has_none_to_revoke(store: Store) -> None:
    await furnish(store)
    await store.tokens.issue(request("t"), RECORD)
    assert (await store.tokens.revoke_user("alice", NOW, RECORD)).value == 0
    assert list(await live(store, "t")) == [digest("t")]


async def test_pages_show_live_tokens_oldest_first(store: Store) -> None:
    await furnish(store, "ab01", "ab02")
    for token, client in (("a", "ab01"), ("b", "ab02"), ("c", "ab01"), ("d", "ab01")):
        await store.tokens.issue(request(token, client), RECORD)
    await store.tokens.revoke(digest("c"), "", NOW, RECORD)
    await store.applications.update("ab01", ApplicationChange(active=False), RECORD)

    async def page(**fields: object) -> list[tuple[bytes, bool]]:
        return [(each.digest, each.active) for each in await store.tokens.page(replace(TokenFilter(NOW), **fields))]

    a, b, d = (digest("a"), False), (digest("b"), True), (digest("d"), False)
    assert await page() == [a, b, d]
    assert await page(client_id="ab01") == [a, d]
    assert await page(client_id="ab01", after=1) == [d]
    assert await page(limit=1) == [a]
    assert await page(user="alice") == []
    assert await page(now=NOW + 1801 * SECOND) == []
    with pytest.raises(NotFound):
        await page(client_id="ffff")


async def test_many_questions_are_answered_by_one_statement_each_with_its_own(store: Store) -> None:
    await furnish(store)
    tokens = [f"t{each}" for each in range(3000)]
    await asyncio.gather(*(store.tokens.issue(request(token), RECORD) for token in tokens))
    assert len(await live(store, *tokens, "other")) == 3000
    answers = await asyncio.gather(live(store, "t1", "x"), live(store), live(store, "t2", "t1"))
    assert [set(answer) for answer in answers] == [{digest("t1")}, set(), {digest("t1"), digest("t2")}]


async def test_each_issue_leaves_one_audit_record_and_a_refused_one_none(store: Store) -> None:
    await furnish(store)
    before = len(await store.audit.page(RecordFilter()))
    await asyncio.gather(
        *(store.tokens.issue(request(f"t{each}"), replace(RECORD, request_id=str(each))) for each in range(5)),
        store.tokens.issue(request("x", "ffff"), RECORD),
        return_exceptions=True,
    )
    records = (await store.audit.page(RecordFilter()))[: -before or None]
    assert sorted(each.request_id for each in records) == ["0", "1", "2", "3", "4"]


STEP = st.sampled_from(["issue", "revoke", "off", "on"])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.tuples(STEP, st.integers(0, 2)), max_size=12))
async def test_whatever_happens_at_once_is_as_if_it_happened_in_order(
    store: Store, steps: list[tuple[str, int]]
) -> None:
    """Against a model: steps asked for at the same moment are batched, and still have one order."""
    name = uuid4().hex
    if not await store.scopes.named(["basic"]):
        await store.scopes.create(BASIC, RECORD)
    await store.applications.create(application(name, active=True), SECRET, RECORD)
    doing: list[Coroutine[Any, Any, object]] = []
    active, alive = True, set[str]()
    for number, (step, which) in enumerate(steps):
        token = f"{name}/{which}"
        if step == "issue":
            fresh = f"{token}/{number}"
            doing.append(store.tokens.issue(request(fresh, name), RECORD))
            alive |= {fresh} if active else set()
        elif step == "revoke":
            for each in sorted(alive):
                doing.append(store.tokens.revoke(digest(each), name, NOW, RECORD))
            alive = set()
        else:
            active = step == "on"
            doing.append(store.applications.update(name, ApplicationChange(active=active), RECORD))
    await asyncio.gather(*doing, return_exceptions=True)
    await store.applications.update(name, ApplicationChange(active=True), RECORD)
    asked = [f"{name}/{which}/{number}" for number in range(len(steps)) for which in range(3)]
    assert set(await live(store, *asked)) == {digest(each) for each in alive}
