"""Codes and refresh tokens are used up once, and families end as a whole."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from tests.store.values import NOW, RECORD, furnish, request

from ostiary.core.digest import digest
from ostiary.core.oauth import CodeRequest, Handed, TokenRequest
from ostiary.core.refusal import Forbidden, Invalid
from ostiary.core.snapshot import SECOND
from ostiary.store.ports import Ended, Issued, RecordFilter
from ostiary.store.store import Store

GRANTS = ("authorization_code", "client_credentials", "refresh_token", "password")
URI = "http://app.example/"


def handed(refresh: str) -> Handed:
    return Handed(digest(refresh), refresh.encode())


def asked(token: str, grant: str, presented: str = "", refresh: str = "", **fields: Any) -> TokenRequest:
    given = frozenset({"code", "redirect_uri", "refresh_token", "username", "password"})
    found = replace(
        request(token), default_grants=GRANTS, grant=grant, known=frozenset(GRANTS), given=given, redirect_uri=URI,
        presented=digest(presented), family=f"family of {token}".encode(), fresh=handed(refresh or f"r-{token}"),
        again=handed(presented),
    )  # fmt: skip
    return replace(found, **fields)


async def code(store: Store, text: str, user: str = "alice") -> None:
    wanted = CodeRequest("ab01", digest(text), f"family of {text}".encode(), NOW, GRANTS, 60, user=user)
    assert await store.tokens.issue_code(wanted, RECORD) == URI


async def live(store: Store, *tokens: str, now: int = NOW) -> list[str]:
    found = await store.tokens.live([digest(token) for token in tokens], now)
    return [token for token in tokens if digest(token) in found]


async def test_of_many_requests_with_one_code_one_wins_and_then_nobody_does(store: Store) -> None:
    await furnish(store)
    await code(store, "c")
    requests = [asked(f"t{each}", "authorization_code", "c") for each in range(20)]
    outcomes = await asyncio.gather(*(store.tokens.issue(each, RECORD) for each in requests), return_exceptions=True)
    assert [type(each) for each in outcomes].count(Issued) == 1
    ended = [each for each in outcomes if isinstance(each, Ended)]
    assert [bool(each.seq) for each in ended] == [True]
    assert ended[0].digests == (digest("t0"),)
    assert await live(store, *(f"t{each}" for each in range(20))) == []


async def test_of_many_requests_with_one_rotating_refresh_token_one_wins(store: Store) -> None:
    await furnish(store)
    await store.tokens.issue(asked("t", "password", user="alice"), RECORD)
    requests = [asked(f"t{each}", "refresh_token", "r-t", strict=True) for each in range(20)]
    outcomes = await asyncio.gather(*(store.tokens.issue(each, RECORD) for each in requests), return_exceptions=True)
    assert [type(each) for each in outcomes].count(Issued) == 1
    assert await live(store, "t", *(f"t{each}" for each in range(20))) == []
    with pytest.raises(Invalid):
        await store.tokens.issue(asked("u", "refresh_token", "r-t0", strict=True), RECORD)


async def test_a_refresh_replaces_the_access_token_and_says_which(store: Store) -> None:
    await furnish(store)
    first = await store.tokens.issue(asked("t", "password", user="alice", details={"k": "v"}), RECORD)
    assert (first.refresh, first.refresh_expires_in, first.replaced) == (digest("r-t"), 900, ())
    second = await store.tokens.issue(asked("u", "refresh_token", "r-t", now=NOW + SECOND), RECORD)
    assert (second.refresh, second.replaced) == (digest("r-t"), (digest("t"),))
    (change,) = await store.changes.after(second.seq - 1, 9)
    assert (change.kind, change.subject) == ("token.replaced", digest("t").hex())
    assert await live(store, "t", "u") == ["u"]
    kept = await store.tokens.get(digest("u"))
    assert kept is not None
    assert (kept.user, kept.details, kept.grant, kept.sealed) == ("alice", {"k": "v"}, "password", b"r-t")


async def test_each_use_restarts_a_refresh_token_up_to_its_absolute_end(store: Store) -> None:
    await furnish(store)
    await store.tokens.issue(asked("t", "password"), RECORD)
    for number, after in enumerate((800, 1600, 1900)):
        again = asked(f"t{number}", "refresh_token", "r-t", now=NOW + after * SECOND, refresh_absolute=2000)
        assert (await store.tokens.issue(again, RECORD)).refresh_expires_in == min(900, 2000 - after)
    with pytest.raises(Invalid):
        await store.tokens.issue(asked("t9", "refresh_token", "r-t", now=NOW + 2001 * SECOND), RECORD)


async def test_a_spent_refresh_token_ends_its_family_and_stands_in_the_audit(store: Store) -> None:
    await furnish(store)
    await store.tokens.issue(asked("t", "password"), RECORD)
    await store.tokens.issue(asked("u", "refresh_token", "r-t", strict=True), RECORD)
    assert await live(store, "u") == ["u"]
    with pytest.raises(Ended) as ended:
        await store.tokens.issue(asked("v", "refresh_token", "r-t"), RECORD)
    assert (ended.value.code, ended.value.digests) == ("refresh.invalid", (digest("u"),))
    assert await live(store, "u") == []
    (newest,) = await store.audit.page(RecordFilter(limit=1))
    assert newest.outcome == "refresh.invalid"


async def test_a_refresh_narrowed_for_good_stays_narrow(store: Store) -> None:
    await furnish(store)
    await store.tokens.issue(asked("t", "password"), RECORD)
    with pytest.raises(Invalid) as refused:
        await store.tokens.issue(asked("u", "refresh_token", "r-t", scope="other"), RECORD)
    assert refused.value.code == "scope.not_valid"
    assert await live(store, "t") == ["t"]


@pytest.mark.parametrize("shown", ["t", "r-t"])
async def test_a_revocation_ends_the_family_whichever_token_is_shown(store: Store, shown: str) -> None:
    await furnish(store)
    await store.tokens.issue(asked("t", "password"), RECORD)
    ending = await store.tokens.revoke(digest(shown), "ab01", NOW, RECORD, refresh=True)
    assert (ending.seq > 0, ending.tokens, ending.digests) == (True, 2, (digest("t"),))
    assert await live(store, "t") == []
    with pytest.raises(Invalid):
        await store.tokens.issue(asked("u", "refresh_token", "r-t"), RECORD)
    again = await store.tokens.revoke(digest(shown), "ab01", NOW, RECORD, refresh=True)
    assert (again.seq, again.tokens, again.digests) == (0, 0, (digest("t"),))


async def test_a_refresh_token_is_revoked_only_where_that_is_asked_for(store: Store) -> None:
    await furnish(store, "ab01", "ab02")
    await store.tokens.issue(asked("t", "password"), RECORD)
    assert (await store.tokens.revoke(digest("r-t"), "", NOW, RECORD)).tokens == 0
    foreign = await store.tokens.revoke(digest("r-t"), "ab02", NOW, RECORD, refresh=True)
    assert (foreign.tokens, foreign.foreign) == (0, True)
    assert await live(store, "t") == ["t"]


async def test_a_users_codes_and_refresh_tokens_end_with_the_users_tokens(store: Store) -> None:
    await furnish(store)
    await code(store, "c")
    await code(store, "d", user="bob")
    await store.tokens.issue(asked("t", "password", user="alice"), RECORD)
    assert (await store.tokens.revoke_user("alice", NOW, RECORD)).value == 3
    for refused in (asked("u", "authorization_code", "c"), asked("u", "refresh_token", "r-t")):
        with pytest.raises(Invalid):
            await store.tokens.issue(refused, RECORD)
    assert (await store.tokens.issue(asked("v", "authorization_code", "d"), RECORD)).client_id == "ab01"


async def test_weighing_refuses_what_an_issue_would_and_keeps_nothing(store: Store) -> None:
    await furnish(store)
    await store.tokens.weigh(asked("t", "password"))
    assert await store.tokens.get(digest("t")) is None
    with pytest.raises(Forbidden):
        await store.tokens.weigh(asked("t", "password", default_grants=()))


async def test_a_batch_of_every_grant_answers_each_by_itself(store: Store) -> None:
    await furnish(store)
    await code(store, "c")
    wanted = [asked("a", "client_credentials"), asked("b", "authorization_code", "c"), asked("d", "password")]
    await asyncio.gather(*(store.tokens.issue(each, RECORD) for each in [*wanted, asked("e", "client_credentials")]))
    assert await live(store, "a", "b", "d", "e") == ["a", "b", "d", "e"]
