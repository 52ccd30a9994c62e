"""What failed log-ins cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.penalty import (
    ADDRESS_WINDOW,
    FAILURES,
    FIRST_WAIT,
    FORGOTTEN,
    LONGEST_WAIT,
    Penalty,
    barred,
    fail,
    neighbourhood,
    wait,
)

NOW = 10**15


def failures(count: int, now: int = NOW) -> Penalty:
    penalty = Penalty()
    for _ in range(count):
        penalty = fail(penalty, now)
    return penalty


@pytest.mark.parametrize(("count", "seconds"), [(1, 0), (4, 0), (5, 30), (6, 60), (7, 120), (11, 1920), (12, 3600)])
def test_the_fifth_failure_starts_a_wait_that_doubles_up_to_an_hour(count: int, seconds: int) -> None:
    assert wait(failures(count), NOW) == seconds * 1_000_000


@given(st.integers(FAILURES, 10_000))
def test_no_wait_is_longer_than_an_hour(count: int) -> None:
    penalty = fail(Penalty(count, 0, NOW), NOW)
    assert FIRST_WAIT <= wait(penalty, NOW) <= LONGEST_WAIT
    assert wait(penalty, penalty.until) == 0


def test_a_day_without_failure_clears_the_count() -> None:
    assert fail(failures(4), NOW + FORGOTTEN).failures == 1
    assert fail(failures(4), NOW + FORGOTTEN - 1).failures == 5


def test_an_address_is_barred_by_its_hundredth_failure_in_ten_minutes_until_one_is_older() -> None:
    failures = [NOW + each for each in range(100)]
    assert barred(failures[:99], NOW + 100) == 0
    assert barred(failures, NOW + 100) == ADDRESS_WINDOW - 100
    assert barred(failures, NOW + ADDRESS_WINDOW - 1) == 1
    assert barred(failures, NOW + ADDRESS_WINDOW) == 0


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(1, 5))
def test_a_bar_ends_when_fewer_are_recent_and_no_sooner(gaps: list[int], allowed: int) -> None:
    failures = [NOW + sum(gaps[: each + 1]) for each in range(len(gaps))]
    now = failures[-1] if failures else NOW
    left = barred(failures, now, allowed)
    assert barred(failures, now + left, allowed) == 0
    assert left == 0 or barred(failures, now + left - 1, allowed) == 1


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
    ],
)
def test_an_ipv6_address_counts_by_its_network(address: str, counted: str) -> None:
    assert neighbourhood(address) == counted
