"""Scopes are kept."""

import asyncio

import pytest
from msgspec.structs import replace
from tests.store.values import BASIC, RECORD, SECRET, application, furnish

from ostiary.core.refusal import Conflict, NotFound
from ostiary.store.ports import RecordFilter, ScopeChange
from ostiary.store.sql import rehearsing
from ostiary.store.store import Store


async def test_a_scope_comes_back_as_it_was_given(store: Store) -> None:
    scope = replace(BASIC, description="dépôt", refresh_expires_in=2**31 - 1)
    await store.scopes.create(scope, RECORD)
    assert await store.scopes.page(10) == [scope]
    assert await store.scopes.named(["basic", "other"]) == {"basic": scope}
    assert await store.scopes.named([]) == {}


async def test_a_name_is_registered_once_whoever_races(store: Store) -> None:
    outcomes = await asyncio.gather(
        *(store.scopes.create(replace(BASIC, cc_expires_in=each), RECORD) for each in range(1, 9)),
        return_exceptions=True,
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, Conflict)]
    assert [outcome.code for outcome in refused] == ["scope.exists"] * 7
    assert (await store.scopes.page(10))[0].cc_expires_in == 1
    assert len(await store.changes.after(0, 10)) == 1


async def test_an_update_changes_what_it_names_and_no_more(store: Store) -> None:
    await store.scopes.create(BASIC, RECORD)
    changed = await store.scopes.update("basic", ScopeChange(description="d", cc_expires_in=5), RECORD)
    assert changed.value == replace(BASIC, description="d", cc_expires_in=5)
    assert await store.scopes.page(10) == [changed.value]
    assert changed.seq == await store.changes.newest()


async def test_an_update_may_empty_a_description(store: Store) -> None:
    await store.scopes.create(replace(BASIC, description="d"), RECORD)
    assert (await store.scopes.update("basic", ScopeChange(description=""), RECORD)).value.description == ""


async def test_unknown_scopes_cannot_be_changed_or_deleted(store: Store) -> None:
    for attempt in (store.scopes.update("no", ScopeChange(), RECORD), store.scopes.delete("no", RECORD)):
        with pytest.raises(NotFound) as refused:
            await attempt
        assert refused.value.code == "scope.unknown"
    assert await store.audit.page(RecordFilter()) == []


async def test_a_scope_in_use_stays_and_exact_names_count(store: Store) -> None:
    await furnish(store)
    await store.scopes.create(replace(BASIC, scope="bas"), RECORD)
    await store.scopes.delete("bas", RECORD)
    with pytest.raises(Conflict) as refused:
        await store.scopes.delete("basic", RECORD)
    assert refused.value.code == "scope.in_use"
    assert await store.scopes.page(10) == [BASIC]


async def test_registration_and_deletion_racing_leave_no_application_without_its_scope(store: Store) -> None:
    await store.scopes.create(BASIC, RECORD)
    outcomes = await asyncio.gather(
        store.applications.create(application(), SECRET, RECORD),
        store.scopes.delete("basic", RECORD),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], Conflict)
    assert [each.scope for each in await store.scopes.page(10)] == ["basic"]


async def test_pages_are_by_name(store: Store) -> None:
    for name in ("cc", "aa", "bb", "dd"):
        await store.scopes.create(replace(BASIC, scope=name), RECORD)
    assert [each.scope for each in await store.scopes.page(2)] == ["aa", "bb"]
    assert [each.scope for each in await store.scopes.page(2, "bb")] == ["cc", "dd"]
    assert await store.scopes.page(2, "dd") == []


async def test_what_is_rehearsed_is_not_kept_but_refused_alike(store: Store) -> None:
    token = rehearsing.set(True)
    await store.scopes.create(BASIC, RECORD)
    await store.scopes.create(BASIC, RECORD)
    rehearsing.reset(token)
    assert await store.scopes.page(10) == []
    await store.scopes.create(BASIC, RECORD)
    token = rehearsing.set(True)
    with pytest.raises(Conflict):
        await store.scopes.create(BASIC, RECORD)
    rehearsing.reset(token)
