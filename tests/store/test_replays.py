"""Answers that are kept for requests that come again."""

from tests.store.values import NOW

from ostiary.store.ports import Replay
from ostiary.store.purge import STALE, SqlPurge
from ostiary.store.replays import KEPT
from ostiary.store.store import Store


async def test_a_request_begins_once_and_its_answer_is_kept(store: Store) -> None:
    assert await store.replays.begin("service a", "k", b"one", NOW) is None
    assert await store.replays.begin("service a", "k", b"two", NOW) == Replay(b"one", None)
    await store.replays.finish("service a", "k", b"\0answer")
    assert await store.replays.begin("service a", "k", b"two", NOW + KEPT - 1) == Replay(b"one", b"\0answer")
    assert await store.replays.begin("service b", "k", b"two", NOW) is None


async def test_after_an_hour_a_key_is_free_again_and_its_answer_goes(store: Store) -> None:
    await store.replays.begin("service a", "k", b"one", NOW)
    await store.replays.finish("service a", "k", b"answer")
    assert await store.replays.begin("service a", "k", b"two", NOW + KEPT) is None
    assert await store.replays.begin("service a", "k", b"two", NOW + KEPT) == Replay(b"two", None)
    stale = next(each for each in STALE if each.table == "replays")
    assert await SqlPurge(store.writer).purge(stale, NOW + 2 * KEPT) == 0
    assert await SqlPurge(store.writer).purge(stale, NOW + 2 * KEPT + 1) == 1
