"""The rate limit's decision, as properties."""

from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.limit import Limit, take

LIMITS = st.builds(Limit, st.integers(1, 10_000), st.integers(1, 3_600_000_000))


@given(LIMITS, st.integers(0, 2**53))
def test_the_whole_quota_may_come_at_once_and_not_one_more(limit: Limit, now: int) -> None:
    tat = 0
    for _ in range(min(limit.quota, 50)):
        verdict = take(limit, tat, now)
        assert verdict.cells == 1
        tat = verdict.tat
    rest = take(limit, tat, now, limit.quota)
    assert rest.cells == limit.quota - min(limit.quota, 50)
    assert take(limit, rest.tat, now).cells == 0


@given(LIMITS, st.integers(0, 2**53))
def test_a_refused_request_costs_nothing_and_passes_when_its_wait_is_over(limit: Limit, now: int) -> None:
    full = take(limit, 0, now, limit.quota).tat
    refused = take(limit, full, now)
    assert refused.tat == full
    assert take(limit, full, now + refused.wait - 1).cells == 0
    assert take(limit, full, now + refused.wait).cells == 1


@given(LIMITS, st.integers(0, 2**53), st.integers(1, 20_000))
def test_what_is_left_is_granted_and_not_one_more(limit: Limit, now: int, cells: int) -> None:
    first = take(limit, 0, now, cells)
    assert first.left == limit.quota - first.cells
    assert take(limit, first.tat, now, limit.quota).cells == first.left
    assert take(limit, first.tat, now, limit.quota).left == 0


@given(LIMITS, st.lists(st.integers(0, 10_000_000), max_size=60))
def test_no_window_ever_passes_more_than_twice_the_quota(limit: Limit, gaps: list[int]) -> None:
    now, tat, passed = 10**12, 0, []
    for gap in gaps:
        now += gap
        verdict = take(limit, tat, now, 3)
        tat = verdict.tat
        passed += [now] * verdict.cells
    for start in passed:
        assert sum(start <= moment < start + limit.window for moment in passed) <= 2 * limit.quota
