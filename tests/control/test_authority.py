"""What workers are told: admissions, and cells of limits."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from tests.control.house import NOW, House
from tests.control.test_oauth import issued, registered

from ostiary.control.authority import Authority
from ostiary.core.admission import Admission
from ostiary.core.digest import digest
from ostiary.core.limit import Limit
from ostiary.core.oauth import RateLimit, Rules
from ostiary.link.messages import Grant, Want
from ostiary.store.ports import Token


async def test_a_live_token_is_admitted_and_every_other_is_not(house: House) -> None:
    made = await registered(house, application_details={"k": "v"})
    live = digest((await issued(house, made)).access_token)
    other = digest("other")
    assert await house.authority.admit([live, other]) == {
        live: Admission(made.client_id, "", ("basic",), NOW + 1_800_000_000, None, {"k": "v"}),
        other: None,
    }
    assert await house.authority.admit([]) == {}
    house.now += 1_800_000_000
    assert (await house.authority.admit([live]))[live] is not None
    house.now += 1
    assert await house.authority.admit([live]) == {live: None}


async def test_an_own_limit_wins_over_the_default_one(house: House) -> None:
    house.control.rules = Rules(default_limit=Limit(100, 1_000_000))
    plain = digest((await issued(house, await registered(house))).access_token)
    own = digest((await issued(house, await registered(house, rate_limit=RateLimit(5, 60)))).access_token)
    admitted = await house.authority.admit([plain, own])
    limits = [each.limit for each in admitted.values() if each is not None]
    assert limits == [Limit(100, 1_000_000), Limit(5, 60_000_000)]


class Ticks:
    """A clock turned by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


class Unasked:
    """Tokens for an authority that is only asked for cells."""

    async def live(self, digests: Sequence[bytes], now: int) -> dict[bytes, Token]:
        raise AssertionError

    async def known(self, digests: Sequence[bytes]) -> set[bytes]:
        raise AssertionError


class Kept(Unasked):
    """Tokens of which some are kept."""

    async def known(self, digests: Sequence[bytes]) -> set[bytes]:
        return {digest for digest in digests if digest.startswith(b"old")}


async def test_only_tokens_that_never_were_count_as_guesses() -> None:
    counted: list[tuple[str, bytes]] = []

    def guess(address: str, token: bytes) -> int:
        counted.append((address, token))
        return 7 if len(counted) > 2 else 0

    ticks = Ticks()
    one = Authority(Kept(), Rules, ticks, ticks, guess)
    assert await one.guessed({b"old1": "a", b"x": "b", b"y": "b", b"old2": "b"}) == {}
    assert await one.guessed({b"z": "b", b"old3": "c"}) == {"b": 7}
    assert counted == [("b", b"x"), ("b", b"y"), ("b", b"z")]


def authority(ticks: Ticks) -> Authority:
    """One that counts by `ticks`."""
    return Authority(Unasked(), Rules, ticks, ticks)


TEN = Limit(10, 1_000_000)


def test_no_more_is_granted_than_the_limit_has() -> None:
    ticks = Ticks()
    one = authority(ticks)
    assert one.draw([Want(b"a", TEN, 8), Want(b"a", TEN, 8), Want(b"b", TEN, 3)]) == [
        Grant(b"a", 8, 0, 2),
        Grant(b"a", 2, 100_000),
        Grant(b"b", 3, 0, 7),
    ]
    assert one.draw([Want(b"a", TEN, 1)]) == [Grant(b"a", 0, 100_000)]
    ticks.now += 100_000
    assert one.draw([Want(b"a", TEN, 1)]) == [Grant(b"a", 1, 0)]


def test_a_changed_limit_counts_from_the_start() -> None:
    one = authority(Ticks())
    one.draw([Want(b"a", TEN, 10)])
    assert one.draw([Want(b"a", Limit(3, 1_000_000), 5)])[0].cells == 3


def test_forgetting_starts_all_counters_anew() -> None:
    one = authority(Ticks())
    one.draw([Want(b"a", TEN, 10), Want(b"b", TEN, 1)])
    assert one.forget() == 2
    assert one.draw([Want(b"a", TEN, 10)]) == [Grant(b"a", 10, 0)]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 12), st.integers(0, 300_000)), max_size=60))
def test_keeping_only_counters_that_matter_changes_no_answer(draws: list[tuple[int, int, int]]) -> None:
    """Against a limit for each key that is never forgotten."""
    ticks = Ticks()
    one = authority(ticks)
    plain: dict[bytes, Authority] = {}
    for key, cells, pause in draws:
        ticks.now += pause
        name = bytes([key])
        alone = plain.setdefault(name, authority(ticks))
        assert one.draw([Want(name, TEN, cells)]) == alone.draw([Want(name, TEN, cells)])


def test_idle_counters_go_as_new_ones_come() -> None:
    ticks = Ticks()
    one = authority(ticks)
    one.draw([Want(b"old%d" % each, TEN, 1) for each in range(1000)])
    ticks.now += 1_000_000
    one.draw([Want(b"new%d" % each, TEN, 1) for each in range(1000)])
    assert one.forget() == 1000
