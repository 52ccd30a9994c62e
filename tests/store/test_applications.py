"""Client applications are kept."""

import asyncio

import pytest
from msgspec.structs import replace
from tests.store.values import BASIC, NOW, RECORD, SECRET, application, furnish, request

from ostiary.core.oauth import Proof, RateLimit, Secret
from ostiary.core.refusal import Conflict, Invalid, NotFound, Unauthenticated
from ostiary.store.ports import ApplicationChange
from ostiary.store.store import Store


async def test_an_application_comes_back_as_it_was_given(store: Store) -> None:
    for name in ("basic", "more", "most"):
        await store.scopes.create(replace(BASIC, scope=name), RECORD)
    full = application(
        scopes=("most", "basic", "more"),
        description="d",
        active=True,
        details={"ключ": '"value"'},
        grant_types=("password", "client_credentials"),
        rotate_refresh_tokens=False,
        rate_limit=RateLimit(5, 60),
        token_endpoint_auth_method="client_secret_post",
    )
    await store.applications.create(full, SECRET, RECORD)
    await store.applications.create(application("ab02"), SECRET, RECORD)
    assert await store.applications.get("ab01") == full
    assert await store.applications.get("ab02") == application("ab02")
    assert await store.applications.get("ab03") is None


async def test_an_id_is_registered_once_whoever_races(store: Store) -> None:
    await store.scopes.create(BASIC, RECORD)
    outcomes = await asyncio.gather(
        *(store.applications.create(application(name=str(each)), SECRET, RECORD) for each in range(8)),
        return_exceptions=True,
    )
    assert [each.code for each in outcomes if isinstance(each, Conflict)] == ["application.exists"] * 7
    kept = await store.applications.get("ab01")
    assert kept is not None
    assert kept.name == "0"


async def test_every_scope_must_exist_and_a_refused_registration_leaves_nothing(store: Store) -> None:
    await store.scopes.create(BASIC, RECORD)
    with pytest.raises(Invalid) as refused:
        await store.applications.create(application(scopes=("basic", "other")), SECRET, RECORD)
    assert refused.value.code == "scope.not_known"
    assert await store.applications.page(None, 10) == []
    await store.applications.create(application(), SECRET, RECORD)


async def test_a_refused_update_changes_nothing(store: Store) -> None:
    await furnish(store)
    before = await store.applications.get("ab01")
    with pytest.raises(Invalid):
        await store.applications.update("ab01", ApplicationChange(scopes=("no",), description="new"), RECORD)
    assert await store.applications.get("ab01") == before


async def test_an_update_changes_what_it_names_and_no_more(store: Store) -> None:
    await furnish(store)
    await store.scopes.create(replace(BASIC, scope="more"), RECORD)
    change = ApplicationChange(
        scopes=("more",), active=False, details={"k": "v"}, rate_limit=RateLimit(1, 2), grant_types=()
    )
    changed = await store.applications.update("ab01", change, RECORD)
    assert changed.value == application(
        scopes=("more",), details={"k": "v"}, rate_limit=RateLimit(1, 2), grant_types=()
    )
    assert changed.seq == await store.changes.newest()
    await store.scopes.delete("basic", RECORD)


async def test_unknown_applications_are_refused(store: Store) -> None:
    for attempt in (
        store.applications.update("ab01", ApplicationChange(active=True), RECORD),
        store.applications.delete("ab01", RECORD),
        store.applications.set_secret("ab01", SECRET, RECORD),
    ):
        with pytest.raises(NotFound) as refused:
            await attempt
        assert refused.value.code == "application.unknown"


async def test_pages_are_registered_last_first(store: Store) -> None:
    await furnish(store, "ab01", "ab02", "ab03")
    await store.applications.update("ab02", ApplicationChange(active=False), RECORD)

    async def ids(active: bool | None, limit: int, after: str = "") -> list[str]:
        return [each.client_id for each in await store.applications.page(active, limit, after)]

    assert await ids(None, 10) == ["ab03", "ab02", "ab01"]
    assert await ids(None, 2) == ["ab03", "ab02"]
    assert await ids(None, 10, "ab02") == ["ab01"]
    assert await ids(True, 10) == ["ab03", "ab01"]
    assert await ids(False, 10) == ["ab02"]
    assert await ids(None, 10, "unknown") == []


async def test_an_application_registered_again_inherits_no_token(store: Store) -> None:
    await furnish(store)
    await store.tokens.issue(request("t"), RECORD)
    await store.applications.delete("ab01", RECORD)
    assert await store.tokens.live([request("t").digest], NOW) == {}
    await store.applications.create(application(active=True), SECRET, RECORD)
    assert await store.tokens.live([request("t").digest], NOW) == {}


async def test_a_new_secret_replaces_the_old_one_at_once(store: Store) -> None:
    await furnish(store)
    await store.applications.set_secret("ab01", Secret("sha256", "0" * 64), RECORD)
    with pytest.raises(Unauthenticated):
        await store.tokens.issue(request("t"), RECORD)
    assert (await store.tokens.issue(request("t", proof=Proof("0" * 64)), RECORD)).expires_in == 1800
