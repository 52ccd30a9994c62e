"""The tail of the change log: what others took away, this node's workers hear of."""

import msgspec
from tests.control.house import NOW, House

from ostiary.control.tail import MOST, Tail
from ostiary.core.director import Unsteer
from ostiary.core.refusal import Unavailable
from ostiary.link.messages import Change
from ostiary.link.receipt import Receipt
from ostiary.store.changes import append
from ostiary.store.ports import LoggedChange
from ostiary.store.sql import Sql


class Workers:
    """Workers that remember what they were told."""

    def __init__(self) -> None:
        self.applied: list[int] = []
        self.told: list[Change] = []

    async def apply(self, change: Change) -> Receipt:
        self.told.append(change)
        return Receipt(change.seq, 2, 2, 1)


class Log:
    """A change log."""

    def __init__(self, *changes: tuple[str, str]) -> None:
        self.entries = [LoggedChange(number, 0, *each) for number, each in enumerate(changes, 1)]
        self.away = False

    async def after(self, seq: int, limit: int) -> list[LoggedChange]:
        if self.away:
            raise Unavailable("store.unavailable", "The store cannot be reached")
        return [each for each in self.entries if each.seq > seq][:limit]

    async def newest(self) -> int:
        return len(self.entries)


async def never(seconds: float) -> None:
    raise AssertionError


async def test_users_from_whom_something_was_taken_are_told_and_others_are_not() -> None:
    kinds = ["cut_off", "cut_off", "changed", "deleted", "disabled", "revoked", "cut_off_lifted"]
    users = ["old", "ann", "bob", "cid", "ann", "dan", "eve"]
    log = Log(*[(f"user.{kind}", user) for kind, user in zip(kinds, users, strict=True)], ("token.revoked", "x"))
    workers, told = Workers(), list[int]()
    tail = Tail(log, workers, 1, told.append, never)
    await tail.step()
    assert workers.told == [Change(8, users=["ann", "cid", "dan"])]
    await tail.step()
    assert (len(workers.told), told) == (1, [8])


async def test_what_this_node_did_itself_is_not_told_again() -> None:
    workers, told = Workers(), list[int]()
    workers.applied = [1]
    await Tail(Log(("user.cut_off", "ann")), workers, 0, told.append, never).step()
    assert (workers.told, told) == ([], [1])


async def test_changes_of_directors_are_told_unless_they_were(house: House) -> None:
    """Killed between commit and telling, refused in the very commit: whoever wrote them, workers hear of them."""
    gone = [Unsteer("mail", [("", 7)]), Unsteer("mail", hosts=["127.0.0.1"]), Unsteer("web", [("eu", 8)])]
    texts = [msgspec.json.encode(each).decode() for each in gone]
    log = Log(*zip(["director.moved", "director.hosts", "director.lost"], texts, strict=True), ("user.changed", "ann"))
    workers, told = Workers(), list[int]()
    workers.applied = [2]
    await Tail(log, workers, 0, told.append, never, moved=[1]).step()
    assert (workers.told, told) == ([Change(4, steering=gone[2:])], [4])


async def test_where_nothing_is_new_it_says_how_far_it_is_once() -> None:
    told: list[int] = []
    tail = Tail(Log(), Workers(), 7, told.append, never)
    await tail.step()
    await tail.step()
    assert told == [7]


async def test_a_store_that_is_away_and_a_full_disk_are_tried_again() -> None:
    log, workers, told = Log(("user.cut_off", "ann")), Workers(), list[int]()
    log.away, full = True, True

    class Enough(Exception):
        """The test has seen what it wants."""

    def tell(seq: int) -> None:
        if full:
            raise OSError(28, "No space left on device")
        told.append(seq)

    async def pause(seconds: float) -> None:
        nonlocal full
        if told:
            raise Enough
        full = log.away
        log.away = False

    try:
        await Tail(log, workers, 0, tell, pause).run()
    except Enough:
        pass
    assert (told, [each.users for each in workers.told]) == ([1], [["ann"]])


async def test_a_long_log_is_followed_in_parts(house: House) -> None:
    def unit(sql: Sql) -> None:
        for number in range(MOST + 1):
            append(sql, NOW, "user.cut_off", f"u{number}")

    await house.store.writer.each(unit)
    workers, told = Workers(), list[int]()
    tail = Tail(house.store.changes, workers, 0, told.append, never)
    await tail.step()
    await tail.step()
    assert told == [MOST, MOST + 1]
    assert [len(each.users) for each in workers.told] == [MOST, 1]
