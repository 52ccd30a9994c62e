"""Names and passwords of people, and what failed log-ins cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.people import (
    FAILURES,
    FIRST_WAIT,
    FORGOTTEN,
    LONGEST_WAIT,
    Penalty,
    email_ok,
    fail,
    password_ok,
    user_name_ok,
    wait,
)

NOW = 10**15


@pytest.mark.parametrize("name", ["a", "_", "0", "alice", "a.b@c+d-e", "x" * 64])
def test_these_may_be_names_of_users(name: str) -> None:
    assert user_name_ok(name)


@pytest.mark.parametrize("name", ["", ".a", "-a", "@a", "a b", "a/b", "é", "a\n", "x" * 65])
def test_these_may_not(name: str) -> None:
    assert not user_name_ok(name)


@pytest.mark.parametrize(
    ("email", "expected"),
    [
        ("a@b", True),
        ("ä@example.org", True),
        ("a@" + "b" * 252, True),
        ("a@" + "b" * 253, False),
        ("@b", False),
        ("a@", False),
        ("a", False),
        ("a@b@c", False),
        ("a b@c", False),
        ("a@b\0", False),
        ("a@\udc80", False),
    ],
)
def test_addresses(email: str, expected: bool) -> None:
    assert email_ok(email) is expected


def test_a_password_is_long_enough_and_not_the_name() -> None:
    assert password_ok("12345678", "alice", 8)
    assert not password_ok("1234567", "alice", 8)
    assert not password_ok("alicealice", "alicealice", 8)
    assert password_ok("x" * 1024, "alice", 8)
    assert not password_ok("x" * 1025, "alice", 8)


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
