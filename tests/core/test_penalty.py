"""What failed log-ins cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.penalty import (
    ADDRESS_WINDOW,
    FAILURES,
    FIRST_WAIT,
    FORGOTTEN,
    HIGHEST,
    LEVEL_DECAY,
    LEVEL_GONE,
    LONGEST_WAIT,
    MOST_SHOWN,
    Level,
    Penalty,
    barred,
    fail,
    gone,
    height,
    hold_up,
    neighbourhood,
    rise,
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


def risen(*shown: bytes) -> Level:
    """An address that failed with these, one after the other, at NOW."""
    level = Level()
    for each in shown:
        level = rise(level, each, NOW)
    return level


def test_a_level_rises_to_four_and_no_higher() -> None:
    assert [height(risen(*(b"%d" % each for each in range(times))), NOW) for times in range(7)] == [0, 1, 2, 3, 4, 4, 4]
    assert HIGHEST == 4


def test_what_was_shown_lately_raises_nothing_and_moves_the_update_only() -> None:
    level = rise(risen(b"a", b"b"), b"a", NOW + 5)
    assert (height(level, NOW + 5), level.raised, level.updated) == (2, NOW, NOW + 5)


def test_the_last_ten_are_remembered() -> None:
    many = risen(*(b"%d" % each for each in range(11)))
    assert len(many.shown) == MOST_SHOWN
    assert rise(many, b"1", NOW + 1).raised == NOW
    assert rise(many, b"0", NOW + 1).raised == NOW + 1


def test_a_level_counts_for_fifteen_seconds_and_is_gone_after_twenty_nine() -> None:
    level = risen(b"a", b"b")
    assert (height(level, NOW + LEVEL_DECAY - 1), height(level, NOW + LEVEL_DECAY)) == (2, 0)
    assert (gone(level, NOW + LEVEL_GONE - 1), gone(level, NOW + LEVEL_GONE)) == (False, True)
    again = rise(level, b"c", NOW + LEVEL_DECAY)
    assert (height(again, NOW + LEVEL_DECAY), again.shown) == (1, (b"a", b"b", b"c"))
    assert rise(level, b"a", NOW + LEVEL_GONE) == Level(1, NOW + LEVEL_GONE, NOW + LEVEL_GONE, (b"a",))


def test_waits_go_by_the_level_and_begin_at_its_last_rise() -> None:
    waits = [0, 4, 8, 15, 15]
    level = risen(b"a", b"b")
    assert [hold_up(level, waits, NOW + each) for each in (0, 7, 8, 9)] == [8, 1, 0, 0]
    assert hold_up(Level(), waits, NOW) == 0
    assert hold_up(level, (), NOW) == 0
