"""What failed log-ins cost, counted together for all surfaces."""

import pytest
from tests.control.house import NOW, House

from ostiary.control.applications import CreateApplication
from ostiary.control.call import Call
from ostiary.control.clients import authenticated
from ostiary.control.penalties import ClearPenalties, Listed, ListPenalties, Penalties, Throttled
from ostiary.control.scopes import CreateScope
from ostiary.core.penalty import ADDRESS_WINDOW
from ostiary.core.people import PeopleRules
from ostiary.core.refusal import Unauthenticated

SECOND = 1_000_000
HERE, THERE = "192.0.2.1", "192.0.2.2"


class Bench:
    """Penalties with a clock and rules in hand."""

    def __init__(self) -> None:
        self.now = NOW
        self.rules = PeopleRules()
        self.penalties = Penalties(lambda: self.rules, lambda: self.now)

    def fail(self, times: int, account: str = "ann", address: str = HERE, *, known: bool = False) -> None:
        for _ in range(times):
            self.penalties.begin(account, address, known=known)

    def waits(self, account: str = "ann", address: str = HERE, *, known: bool = False) -> int:
        """Seconds that an attempt has to wait."""
        try:
            self.penalties.begin(account, address, known=known).succeed()
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
    bench.penalties.begin("ann", HERE, known=True).succeed()
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
        bench.penalties.begin(f"name{each}", HERE, known=False).succeed()
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
        house.control.penalties.begin("ann", HERE, known=False)
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
