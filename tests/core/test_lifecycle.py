"""The life of a droplet: the table, what follows an end, and the words for it."""

from collections.abc import Callable
from typing import Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ostiary.core.droplets import Restarts
from ostiary.core.lifecycle import (
    TABLE,
    Event,
    Life,
    State,
    beat,
    ended,
    failed,
    found,
    launch,
    prose,
    ready,
    step,
    stop,
    stopped,
    want,
)
from ostiary.core.snapshot import SECOND

STATES = get_args(State)
RUNNING = Life("running", started=0)
Move = Callable[[Life], Life]

codes = st.sampled_from([None, 0, 3, 137])
policies = st.builds(
    Restarts, st.sampled_from(["never", "on_failure", "always"]), st.integers(0, 4), st.just(SECOND),
    st.sampled_from([SECOND, 60 * SECOND]),
)  # fmt: skip
times = st.integers(0, 600 * SECOND)
reality: st.SearchStrategy[Move] = st.one_of(
    st.builds(lambda at, checked: lambda life: launch(life, at, checked=checked), times, st.booleans()),
    st.builds(lambda at, checked: lambda life: found(life, at, checked=checked), times, st.booleans()),
    st.just(ready),
    st.builds(lambda healthy: lambda life: beat(life, healthy=healthy), st.booleans()),
    st.just(stop),
    st.builds(
        lambda at, code, killed: lambda life: stopped(life, at, code, killed=killed), times, codes, st.booleans()
    ),
    st.builds(lambda at, code: lambda life: failed(life, at, code), times, codes),
    st.builds(lambda at, code, policy: lambda life: ended(life, at, code, policy), times, codes, policies),
)
wishes: st.SearchStrategy[Move] = st.builds(
    lambda wanted: lambda life: want(life, wanted), st.sampled_from(["running", "stopped"])
)


@given(st.lists(reality | wishes, max_size=40))
def test_no_sequence_of_events_leaves_the_table(moves: list[Move]) -> None:
    allowed = {(before, after) for (before, _), after in TABLE.items()}
    life = Life()
    for move in moves:
        after = move(life)
        assert after.state in STATES
        assert after.state == life.state or (life.state, after.state) in allowed
        assert after.health == "none" or after.alive
        assert (after.due > 0) == (after.state == "crashed")
        life = after


@given(st.lists(reality | wishes, max_size=15), st.lists(reality, max_size=25))
def test_an_operators_stop_is_final(before: list[Move], after: list[Move]) -> None:
    life = Life()
    for move in before:
        life = move(life)
    life = stop(want(life, "stopped"))
    for move in after:
        rose = move(life)
        assert rose.state not in ("crashed", "running") or rose.state == life.state
        assert not (rose.state == "starting" and life.state != "starting")
        life = rose


@given(st.lists(reality, max_size=30))
def test_what_is_to_be_gone_is_wanted_by_nobody_again(moves: list[Move]) -> None:
    life = want(Life(), "gone")
    for move in moves:
        life = want(move(life), "running")
        assert (life.wanted, life.state == "starting") == ("gone", False)


def test_every_state_and_event_of_the_table_exists() -> None:
    assert {state for state, _ in TABLE} | set(TABLE.values()) == set(STATES)
    assert {event for _, event in TABLE} == set(Event)
    assert step(Life("running"), Event.LAUNCH) == Life("running")


def test_restarts_wait_twice_as_long_each_time_up_to_the_longest() -> None:
    life, policy, waits = Life(), Restarts(max=9), []
    for _ in range(9):
        life = ended(launch(life, 0, checked=False), 0, 1, policy)
        waits.append(life.due // SECOND)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert ended(launch(life, 0, checked=False), 0, 1, policy).state == "failed"
    assert life.restarts == 8


def test_quiet_running_begins_the_count_anew() -> None:
    tired = replace(RUNNING, streak=5)
    assert ended(tired, 59 * SECOND, 1, Restarts()).state == "failed"
    again = ended(tired, 60 * SECOND, 1, Restarts())
    assert (again.state, again.streak, again.due) == ("crashed", 1, 61 * SECOND)


@pytest.mark.parametrize(
    ("policy", "code", "state"),
    [("never", 3, "exited"), ("never", 0, "exited"), ("on_failure", 0, "exited"), ("on_failure", 3, "crashed"),
     ("on_failure", 143, "crashed"), ("on_failure", None, "crashed"), ("always", 0, "crashed")],
)  # fmt: skip
def test_what_follows_an_end_is_the_policys(
    policy: Literal["never", "on_failure", "always"], code: int | None, state: str
) -> None:
    after = ended(RUNNING, SECOND, code, Restarts(policy))
    assert (after.state, after.exit_code, after.finished) == (state, code, SECOND)


def test_a_restart_that_is_due_is_called_off_by_a_stop() -> None:
    crashed = ended(RUNNING, SECOND, 3, Restarts())
    off = stop(want(crashed, "stopped"))
    assert (off.state, off.due, off.exit_code) == ("exited", 0, 3)


def test_an_operators_start_forgives_the_past() -> None:
    given_up = failed(replace(RUNNING, streak=5), SECOND, 1)
    assert launch(want(given_up, "running"), SECOND, checked=True).streak == 0


def test_it_serves_when_it_runs_and_is_healthy_or_has_no_check() -> None:
    life = launch(Life(), 0, checked=True)
    assert (life.state, life.health, life.serves) == ("starting", "starting", False)
    assert ready(life).serves
    assert not beat(ready(life), healthy=False).serves
    assert ready(launch(Life(), 0, checked=False)).serves


def test_one_that_was_found_running_goes_on_as_it_was() -> None:
    served = Life("running", health="healthy", started=5)
    assert found(served, 5, checked=True) == served
    lost = found(Life("exited"), 5, checked=True)
    assert (lost.state, lost.health) == ("starting", "starting")


@pytest.mark.parametrize(
    ("life", "words"),
    [
        (Life(), "Created"),
        (Life("starting", launched=0), "Up 2 minutes"),
        (replace(RUNNING, started=90 * SECOND), "Up 30 seconds"),
        (stopped(Life("stopping"), 119 * SECOND, 143, killed=False), "Exited (0) 1 second ago"),
        (stopped(Life("stopping"), 119 * SECOND, 137, killed=True), "Exited (137) 1 second ago"),
        (ended(RUNNING, 60 * SECOND, 3, Restarts("never")), "Exited (3) 1 minute ago"),
        (ended(RUNNING, 60 * SECOND, 3, Restarts()), "Restarting (3) 1 minute ago"),
        (ended(RUNNING, 60 * SECOND, None, Restarts("never")), "Exited (255) 1 minute ago"),
        (failed(Life("exited", finished=0, exit_code=7), 5, None), "Exited (7) 2 minutes ago"),
    ],
)
def test_the_state_in_words(life: Life, words: str) -> None:
    assert prose(life, 120 * SECOND) == words
