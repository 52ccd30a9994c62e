"""Guessed tokens: reported once each, and what a barred address gets."""

from collections.abc import Callable
from hashlib import sha256
from time import monotonic_ns

from tests.gateway.test_exchange import LIMITED, NOT_VALID, USER, get, route, stage
from tests.gateway.wire import until

from ostiary.gateway.guesses import MOST, Guesses

SECOND = 1_000_000_000


class Reports:
    """What is reported, when the test says so."""

    def __init__(self) -> None:
        self.reported: list[dict[bytes, str]] = []
        self.due: list[Callable[[], None]] = []
        self.guesses = Guesses(self.reported.append, lambda seconds, then: self.due.append(then))


def test_guesses_are_gathered_and_reported_together() -> None:
    reports = Reports()
    for digest, address in ((b"a", "192.0.2.1"), (b"b", "2001:db8::1"), (b"a", "192.0.2.1")):
        reports.guesses.note(digest, address)
    [send] = reports.due
    send()
    assert reports.reported == [{b"a": "192.0.2.1", b"b": "2001:db8::/64"}]
    reports.guesses.note(b"c", "")
    assert len(reports.due) == 2


def test_no_flood_of_guesses_grows_what_is_held() -> None:
    reports = Reports()
    for number in range(MOST + 5):
        reports.guesses.note(number.to_bytes(4, "big"), "192.0.2.1")
    reports.due[0]()
    assert len(reports.reported[0]) == MOST
    reports.guesses.bar({f"10.0.{number >> 8}.{number & 255}": 9 for number in range(MOST)})
    reports.guesses.bar({"192.0.2.1": 9 * SECOND})
    assert reports.guesses.wait("10.0.0.1", 0) == 0


def test_a_bar_ends_by_itself_and_holds_for_the_network() -> None:
    guesses = Reports().guesses
    assert guesses.wait("192.0.2.1", 0) == 0
    guesses.bar({"192.0.2.1": SECOND, "2001:db8::/64": SECOND})
    assert guesses.wait("192.0.2.1", 0) == 1_000_000
    assert guesses.wait("2001:db8::9", SECOND // 2) == 500_000
    assert guesses.wait("192.0.2.2", 0) == 0
    assert guesses.wait("192.0.2.1", SECOND) == 0
    guesses.bar({"192.0.2.1": SECOND})
    guesses.lift()
    assert guesses.wait("192.0.2.1", 0) == 0


async def test_a_barred_address_waits_unless_its_token_is_known_to_pass() -> None:
    async with stage(route(USER)) as on:
        await on.ask(get("/a", "guess"), 401, NOT_VALID)
        await until(lambda: on.control.guesses == {sha256(b"guess").digest(): "127.0.0.1"})
        await on.ask(get("/a", "user"), 200)
        on.worker.barred({"127.0.0.1": monotonic_ns() + 90 * SECOND})
        answer = await on.ask(get("/a", "another"), 429, LIMITED)
        assert answer.one(b"retry-after") == b"90"
        await on.ask(get("/a", "user"), 200)
        await on.ask(get("/a", "guess"), 401, NOT_VALID)
        on.worker.barred({"127.0.0.1": 0})
        await on.ask(get("/a", "another"), 401, NOT_VALID)
