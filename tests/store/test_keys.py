"""Signing keys: one signs for a purpose, those before it stay for a while."""

import asyncio
from typing import Any

from msgspec.structs import replace
from tests.store.values import NOW, RECORD

from ostiary.store.ports import RecordFilter, SigningKey
from ostiary.store.store import Store

KEY = SigningKey("k1", "oauth", "ES256", "{}", b"sealed", NOW)


async def put(store: Store, rotate: bool = False, since: int = 0, **fields: Any) -> bool:
    return await store.keys.put(replace(KEY, **fields), since, RECORD, rotate=rotate)


async def kids(store: Store, purpose: str = "oauth", since: int = 0) -> list[tuple[str, int]]:
    return [(key.kid, key.retired) for key in await store.keys.kept(purpose, since)]


async def test_the_first_key_is_kept_and_a_second_is_not_needed(store: Store) -> None:
    assert await put(store) is True
    assert await put(store, kid="k2") is False
    assert await store.keys.kept("oauth", 0) == [KEY]
    assert await kids(store, "session") == []
    assert len(await store.audit.page(RecordFilter())) == 1


async def test_a_rotation_retires_the_key_before(store: Store) -> None:
    await put(store)
    assert await put(store, rotate=True, kid="k2", created=NOW + 1) is True
    assert await put(store, rotate=True, kid="k3", created=NOW + 2) is True
    assert await kids(store) == [("k3", 0), ("k2", NOW + 2), ("k1", NOW + 1)]
    assert await kids(store, since=NOW + 1) == [("k3", 0), ("k2", NOW + 2)]


async def test_another_algorithm_is_another_key(store: Store) -> None:
    await put(store)
    assert await put(store, kid="k2", alg="EdDSA", created=NOW + 1) is True
    assert await kids(store) == [("k2", 0), ("k1", NOW + 1)]


async def test_retired_keys_are_forgotten_in_the_end(store: Store) -> None:
    await put(store)
    await put(store, rotate=True, kid="k2", created=NOW + 1)
    await put(store, rotate=True, kid="k3", created=NOW + 9, since=NOW + 1)
    assert await kids(store) == [("k3", 0), ("k2", NOW + 9)]


async def test_purposes_have_their_own(store: Store) -> None:
    await put(store)
    assert await put(store, kid="s1", purpose="session") is True
    await put(store, rotate=True, kid="s2", purpose="session")
    assert await kids(store) == [("k1", 0)]


async def test_of_many_first_keys_one_signs(store: Store) -> None:
    outcomes = await asyncio.gather(*(put(store, kid=f"k{number}") for number in range(10)))
    assert outcomes.count(True) == 1
    assert len(await kids(store)) == 1
