"""What failed log-ins cost, counted together for all surfaces."""

from collections.abc import Awaitable, Callable

import pytest
from tests.control.house import ADMIN, NOW, House

from ostiary.control.applications import CreateApplication
from ostiary.control.call import Call
from ostiary.control.clients import authenticated
from ostiary.control.penalties import ClearPenalties, Listed, ListPenalties, Penalties, Throttled
from ostiary.control.scopes import CreateScope
from ostiary.core.penalty import ADDRESS_WINDOW
from ostiary.core.people import PeopleRules
from ostiary.core.refusal import Invalid, Refusal, Unauthenticated

SECOND = 1_000_000
HERE, THERE = "192.0.2.1", "192.0.2.2"


class Bench:
    """Penalties with a clock and rules in hand."""

    def __init__(self) -> None:
        self.now = NOW
        self.rules = PeopleRules()
        self.penalties = Penalties(lambda: self.rules, lambda: self.now, bytes(16))

    def fail(self, times: int, account: str = "ann", address: str = HERE, *, known: bool = False) -> None:
        for _ in range(times):
            self.penalties.begin(account, address, "wrong", known=known)

    def miss(self, *secrets: str, name: str = "ann", address: str = HERE) -> None:
        """Fail with each of these secrets."""
        for secret in secrets:
            self.penalties.begin(name, address, secret, known=False).fail()

    def level(self, address: str = HERE) -> tuple[int, int, int] | None:
        """The penalty of an address, seconds since its last rise and since its last update."""
        for each in self.penalties.listed():
            if each.name == address and each.last_update:
                return each.penalty, (self.now - each.last_penalty) // SECOND, (self.now - each.last_update) // SECOND
        return None

    def waits(self, account: str = "ann", address: str = HERE, *, known: bool = False) -> int:
        """Seconds that an attempt has to wait."""
        try:
            self.penalties.begin(account, address, "wrong", known=known).succeed()
        except Throttled as refusal:
            return refusal.retry_after
        return 0


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_stranger_cannot_shut_an_owner_out(bench: Bench) -> None:
    bench.fail(5)
    assert bench.waits() == 30
    assert bench.waits(known=True, address=THERE) == 0
    assert bench.waits(address=THERE) == 30


def test_a_success_clears_its_own_count_only(bench: Bench) -> None:
    bench.fail(4)
    bench.fail(4, known=True)
    bench.penalties.begin("ann", HERE, "right", known=True).succeed()
    bench.fail(4, known=True)
    assert bench.waits(known=True) == 0
    bench.fail(1)
    assert bench.waits() == 30


def test_an_address_is_barred_for_all_names_at_its_hundredth_failure(bench: Bench) -> None:
    for each in range(100):
        bench.fail(1, f"name{each}")
        bench.now += SECOND
    assert bench.waits("somebody") == 500
    assert bench.waits("somebody", THERE) == 0
    bench.now += 500 * SECOND
    assert bench.waits("somebody") == 0


def test_successes_give_their_place_back(bench: Bench) -> None:
    for each in range(300):
        bench.penalties.begin(f"name{each}", HERE, "right", known=False).succeed()
    assert bench.penalties.listed() == []


def test_ipv6_counts_by_its_network(bench: Bench) -> None:
    for each in range(100):
        bench.fail(1, f"name{each}", f"2001:db8::{each:x}")
    assert bench.waits("x", "2001:db8::ffff:1") > 0
    assert bench.waits("x", "2001:db8:0:1::1") == 0


def test_addresses_of_trusted_networks_are_not_barred_but_accounts_wait_all_the_same(bench: Bench) -> None:
    bench.rules = PeopleRules(trusted_networks=("192.0.2.0/24", "::1/128"))
    for each in range(100):
        bench.fail(1, f"name{each}")
    assert bench.waits("x") == 0
    bench.fail(5)
    assert bench.waits() == 30


def test_requests_to_log_in_are_limited_by_address(bench: Bench) -> None:
    bench.rules = PeopleRules(login_limit=2)
    room = bench.penalties.admit(HERE)
    assert (room.allowed, room.remaining, room.reset) == (2, 1, NOW // SECOND + 300)
    assert bench.penalties.admit(HERE).remaining == 0
    bench.now += 100 * SECOND
    with pytest.raises(Throttled) as refused:
        bench.penalties.admit(HERE)
    assert (refused.value.allowed, refused.value.retry_after) == (2, 200)
    assert bench.penalties.admit(THERE).remaining == 1
    bench.now += 200 * SECOND
    assert bench.penalties.admit(HERE).remaining == 1


def test_what_stands_is_listed_and_lifted(bench: Bench) -> None:
    bench.fail(5)
    bench.now += 1
    bench.fail(1, "bob", THERE)
    assert [(each.kind, each.name, each.failures, bool(each.until)) for each in bench.penalties.listed()] == [
        ("account", "bob", 1, False),
        ("address", THERE, 1, False),
        ("account", "ann", 5, True),
        ("address", HERE, 5, False),
    ]
    assert bench.penalties.forget(lambda each: each.name == "ann") == 1
    assert bench.waits() == 0
    assert bench.penalties.forget() == 3


async def test_operators_list_and_clear_penalties(house: House) -> None:
    for _ in range(5):
        house.control.penalties.begin("ann", HERE, "wrong", known=False)
    listed: list[Listed] = await house.run("penalties.list", ListPenalties(barred=True))
    assert [each.name for each in listed] == ["ann"]
    assert (await house.run("penalties.clear", ClearPenalties(account="ANN"))).cleared == 1
    assert (await house.run("penalties.clear", ClearPenalties(address=HERE))).cleared == 1
    assert await house.run("penalties.list", ListPenalties()) == []


async def test_wrong_client_secrets_count_against_their_address(house: House) -> None:
    await house.run("scopes.create", CreateScope("basic", 60, 60))
    made = await house.run("applications.create", CreateApplication("a", "basic", "https://a.example/"))
    call = Call(address=HERE)
    for _ in range(100):
        with pytest.raises(Unauthenticated):
            await authenticated(house.control, call, made.client_id, "wrong")
    with pytest.raises(Throttled):
        await authenticated(house.control, call, made.client_id, made.client_secret)
    house.now += ADDRESS_WINDOW
    with pytest.raises(Unauthenticated):  # it is not active yet
        await authenticated(house.control, call, made.client_id, made.client_secret)


def test_failures_raise_the_level_of_an_address_up_to_four(bench: Bench) -> None:
    seen = []
    for each in range(6):
        bench.miss(f"wrong{each}", name=f"name{each}")
        seen.append(bench.level())
    assert seen == [(1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0), (4, 0, 0), (4, 0, 0)]
    assert bench.level(THERE) is None


def test_an_attempt_under_way_raises_nothing_yet(bench: Bench) -> None:
    bench.fail(1)
    assert bench.level() is None


def test_the_same_name_and_secret_raise_once_and_either_of_them_anew_does(bench: Bench) -> None:
    bench.miss("a", "a")
    bench.now += 3 * SECOND
    bench.miss("a")
    assert bench.level() == (1, 3, 0)
    bench.miss("a", name="bob")
    bench.miss("b")
    assert bench.level() == (3, 0, 0)
    bench.miss("nn", name="a")
    bench.miss("n", name="an")
    assert bench.level() == (4, 0, 0)


def test_what_else_looks_the_same_is_not(bench: Bench) -> None:
    bench.miss("nb", name="a")
    bench.miss("b", name="an")
    assert bench.level() == (2, 0, 0)


def test_a_level_decays_after_fifteen_seconds_and_goes_after_twenty_nine(bench: Bench) -> None:
    bench.miss("a", "b")
    bench.now += 15 * SECOND - 1
    assert bench.level() == (2, 14, 14)
    bench.now += 1
    assert bench.level() == (0, 15, 15)
    bench.miss("a")
    bench.now += 29 * SECOND - 1
    assert bench.level() == (0, 43, 28)
    bench.now += 1
    assert bench.level() is None
    assert [each.failures for each in bench.penalties.listed() if each.kind == "address"] == [3]


def test_a_success_sets_the_level_to_nothing_and_leaves_no_row_where_there_was_none(bench: Bench) -> None:
    bench.penalties.begin("ann", HERE, "right", known=False).succeed()
    assert bench.level() is None
    bench.miss("a", "b")
    bench.now += 2 * SECOND
    bench.penalties.begin("ann", HERE, "right", known=False).succeed()
    assert bench.level() == (0, 2, 0)
    bench.miss("c")
    assert bench.level() == (1, 0, 0)


def test_a_barred_address_has_the_highest_level_for_as_long_as_that_lasts(bench: Bench) -> None:
    for each in range(100):
        bench.penalties.failed(HERE, f"name{each}", "wrong")
    bench.now += 60 * SECOND
    assert bench.level() == (4, 60, 60)
    bench.now += ADDRESS_WINDOW - 60 * SECOND
    assert bench.level() is None


def test_ipv6_levels_are_those_of_a_network(bench: Bench) -> None:
    bench.miss("a", address="2001:db8:1:2::1")
    bench.miss("b", address="2001:db8:1:2:ffff::")
    assert bench.level("2001:db8:1:2::/64") == (2, 0, 0)


def test_configured_waits_refuse_attempts_unchecked(bench: Bench) -> None:
    bench.rules = PeopleRules(penalty_waits=(0, 4 * SECOND, 8 * SECOND, 15 * SECOND, 15 * SECOND))
    bench.miss("a")
    with pytest.raises(Throttled) as refused:
        bench.miss("b")
    assert refused.value.retry_after == 4
    with pytest.raises(Throttled):
        bench.penalties.check(HERE)
    with pytest.raises(Throttled):
        bench.penalties.failed(HERE, "", "key")
    assert bench.level() == (1, 0, 0)
    bench.penalties.check(THERE)
    bench.now += 4 * SECOND
    bench.miss("b")
    assert bench.level() == (2, 0, 0)
    bench.now += 7 * SECOND
    assert bench.waits("bob") == 1


def test_addresses_of_trusted_networks_do_not_wait_for_their_level(bench: Bench) -> None:
    bench.rules = PeopleRules(penalty_waits=(0, 4, 8, 15, 15), trusted_networks=("192.0.2.0/24",))
    bench.miss("a", "b", "c")
    assert bench.level() == (3, 0, 0)
    assert bench.waits("bob") == 0


def test_guessed_tokens_raise_the_level_once_each(bench: Bench) -> None:
    bench.penalties.guess(HERE, b"one")
    bench.penalties.guess(HERE, b"one")
    bench.penalties.guess(HERE, b"two")
    assert bench.level() == (2, 0, 0)


async def test_penalties_are_listed_and_cleared_by_network(house: House) -> None:
    penalties = house.control.penalties
    for address in ("10.0.0.7", "0.0.0.10", "::1"):
        penalties.begin("ann", address, "wrong", known=False).fail()

    async def names(network: str, kind: str = "") -> list[str]:
        listed: list[Listed] = await house.run("penalties.list", ListPenalties(kind, network))
        return sorted(each.name for each in listed)

    assert await names("10.0.0.0/24") == ["10.0.0.7"]
    assert await names("10") == ["0.0.0.10"]
    assert await names("::1/128") == ["::/64"]
    assert await names("0.0.0.0/0") == ["0.0.0.10", "10.0.0.7"]
    assert await names("", "account") == ["ann"]
    dry = Call(ADMIN, "test", dry=True)
    assert await house.run("penalties.clear", ClearPenalties(network="::1"), call=dry) == [
        "would lift that of address ::/64"
    ]
    assert (await house.run("penalties.clear", ClearPenalties(network="::1"))).cleared == 1
    assert (await house.run("penalties.clear", ClearPenalties("ann", "0.0.0.10", "11"))).cleared == 2
    assert await names("") == ["10.0.0.7"]
    for name, params in (("list", ListPenalties(network="x")), ("clear", ClearPenalties(network="/0"))):
        with pytest.raises(Invalid):
            await house.run(f"penalties.{name}", params)


async def test_every_surface_tells_what_was_shown(house: House) -> None:
    """The same secret again raises nothing, whatever it was shown for."""
    penalties = house.control.penalties

    async def shown(attempt: Callable[[], Awaitable[object]]) -> int:
        penalties.forget()
        for _ in range(3):
            with pytest.raises(Refusal):
                await attempt()
        (listed,) = [each for each in penalties.listed() if each.kind == "address"]
        return listed.penalty

    call = Call(address=HERE)
    assert await shown(lambda: house.login.by_password("ann", "wrong", HERE)) == 1
    assert await shown(lambda: house.login.by_code(None, "ann", "123456", HERE)) == 1
    assert await shown(lambda: authenticated(house.control, call, "ab" * 16, "wrong")) == 1
    secrets = iter("abc")
    assert await shown(lambda: house.login.by_password("ann", next(secrets), HERE)) == 3
