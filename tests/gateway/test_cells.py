"""Limits in a worker: what is drawn, spent, waited for and given up."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.limit import Limit, take
from ostiary.gateway.cells import MOST, Cell, Cells
from ostiary.link.messages import Grant, Want

SECOND = 1_000_000_000
"""Nanoseconds, in which a worker counts."""
TEN = Limit(10, 1_000_000)
MANY = Limit(6400, 1_000_000)


def test_a_cell_asks_for_a_64th_of_the_quota_or_as_much_as_wait() -> None:
    assert Cell(b"k", TEN, "l").want() == Want(b"k", TEN, 1)
    assert Cell(b"k", MANY, "l").want() == Want(b"k", MANY, 100)
    cell = Cell(b"k", TEN, "l")
    waits: list[int] = []
    assert cell.wait(waits.append) == Want(b"k", TEN, 1)
    assert cell.wait(waits.append) is None
    assert cell.wait(waits.append) is None
    cell.asked = False
    assert cell.want() == Want(b"k", TEN, 3)


def test_a_grant_lets_as_many_pass_as_it_covers_and_draws_for_the_rest() -> None:
    cell = Cell(b"k", TEN, "l")
    waits: list[int] = []
    for _ in range(4):
        cell.wait(waits.append)
    assert cell.grant(Grant(b"k", 3, 0), 0) == Want(b"k", TEN, 1)
    assert waits == [0, 0, 0]
    assert cell.grant(Grant(b"k", 0, 700), 0) is None
    assert waits == [0, 0, 0, 700]


def test_a_refusal_is_told_to_all_who_wait_and_remembered() -> None:
    cell = Cell(b"k", TEN, "l")
    waits: list[int] = []
    for _ in range(3):
        cell.wait(waits.append)
    assert cell.grant(Grant(b"k", 0, 900), 5) is None
    assert waits == [900, 900, 900]
    assert cell.refused_until == 900_005


def test_who_left_is_not_called_and_takes_nothing() -> None:
    cell = Cell(b"k", TEN, "l")
    first: list[int] = []
    second: list[int] = []
    one, two = first.append, second.append
    cell.wait(one)
    cell.wait(two)
    cell.leave(one)
    cell.leave(one)
    cell.grant(Grant(b"k", 1, 0), 0)
    assert (first, second, cell.left) == ([], [0], 0)


def test_what_is_not_spent_within_the_window_is_given_up() -> None:
    cell = Cell(b"k", MANY, "l")
    cell.grant(Grant(b"k", 100, 0), 0)
    assert (cell.left, cell.until) == (100, SECOND)
    cell.grant(Grant(b"k", 100, 0), SECOND // 2)
    assert cell.left == 200
    cell.grant(Grant(b"k", 100, 0), cell.until)
    assert cell.left == 100


def told(name: str, limit: Limit, *grants: Grant) -> list[bytes]:
    """The lines that tell of a cell after these grants."""
    cell = Cell(b"k", limit, name)
    for grant in grants:
        cell.grant(grant, 0)
    return cell.told().split(b"\r\n")


def test_what_is_left_is_what_is_here_and_what_control_still_had() -> None:
    lines = told("client", MANY, Grant(b"k", 100, 0, 6200))
    assert lines == [b'ratelimit-policy: "client";q=6400;w=1', b'ratelimit: "client";r=6300;t=1', b""]
    assert told("client", MANY, Grant(b"k", 100, 0, 6200), Grant(b"k", 100, 0, 6250))[1].endswith(b";r=6400;t=1")
    assert told("client", MANY, Grant(b"k", 0, 5, 0))[1].endswith(b";r=0;t=1")


def test_the_effective_window_is_the_time_of_one_request_in_whole_seconds() -> None:
    assert told("l", Limit(5, 60_000_000))[:2] == [b'ratelimit-policy: "l";q=5;w=60', b'ratelimit: "l";r=0;t=12']
    assert told("l", Limit(7, 60_000_000))[1].endswith(b";t=9")


def test_a_window_that_is_no_whole_number_of_seconds_is_not_told() -> None:
    assert told("l", Limit(5, 1_500_000))[0] == b'ratelimit-policy: "l";q=5'


def test_a_name_becomes_a_string_of_structured_fields() -> None:
    assert told('GET /{a:"\\d"}\u00e9\r', TEN)[0] == b'ratelimit-policy: "GET /{a:\\"\\\\d\\"}??";q=10;w=1'


def test_nothing_is_left_for_as_long_as_a_refusal_says() -> None:
    assert Cell(b"k", TEN, "l").exhausted(3) == b'ratelimit-policy: "l";q=10;w=1\r\nratelimit: "l";r=0;t=3\r\n'


def test_alone_a_cell_holds_its_limit_by_itself() -> None:
    cell = Cell(b"k", TEN, "l")
    assert [cell.alone(0) for _ in range(12)] == [0] * 10 + [100_000] * 2
    assert cell.alone(100_000) == 0
    assert cell.alone(100_000) == 100_000


def test_one_key_is_one_cell_until_its_limit_changes() -> None:
    cells = Cells()
    first = cells.of(b"k", TEN, "l")
    assert cells.of(b"k", TEN, "l") is first
    assert cells.of(b"other", TEN, "l") is not first
    changed = cells.of(b"k", MANY, "l")
    assert changed is not first
    assert cells.of(b"k", MANY, "l") is changed


def test_controls_answer_finds_the_cell_that_asked() -> None:
    cells = Cells()
    cell = cells.of(b"k", TEN, "l")
    waits: list[int] = []
    cell.wait(waits.append)
    cells.asked(cell)
    assert cells.again() == [Want(b"k", TEN, 1)]
    assert cells.granted(Grant(b"k", 5, 0), 0) is None
    assert (waits, cell.left) == ([0], 4)
    assert cells.again() == []
    assert cells.granted(Grant(b"k", 5, 0), 0) is None
    assert cells.granted(Grant(b"unknown", 5, 0), 0) is None
    assert cell.left == 4


def test_a_cell_whose_limit_changed_in_the_middle_still_hears_its_answer() -> None:
    cells = Cells()
    old = cells.of(b"k", TEN, "l")
    waits: list[int] = []
    old.wait(waits.append)
    cells.asked(old)
    new = cells.of(b"k", MANY, "l")
    new.wait(waits.append)
    cells.asked(new)
    cells.granted(Grant(b"k", 1, 0), 0)
    cells.granted(Grant(b"k", 1, 0), 0)
    assert waits == [0, 0]


def test_keys_are_bounded_and_those_in_use_stay() -> None:
    cells = Cells()
    kept = cells.of(b"kept", TEN, "l")
    kept.grant(Grant(b"kept", 5, 0), 0)
    for number in range(MOST * 2):
        cells.of(b"%d" % number, TEN, "l")
        if number % 10_000 == 0:
            assert cells.of(b"kept", TEN, "l") is kept
    assert cells.forget() <= MOST


def test_a_flush_gives_up_what_was_drawn_but_not_who_waits() -> None:
    cells = Cells()
    spent, waiting = cells.of(b"a", MANY, "l"), cells.of(b"b", TEN, "l")
    spent.grant(Grant(b"a", 100, 0), 0)
    waits: list[int] = []
    waiting.wait(waits.append)
    cells.asked(waiting)
    assert cells.forget() == 2
    assert (spent.left, spent.until) == (0, 0)
    assert cells.of(b"a", MANY, "l") is not spent
    cells.granted(Grant(b"b", 1, 0), 0)
    assert waits == [0]


@dataclass
class Part:
    """A worker as a limit sees it: its cells, and what control has been asked and not yet answered."""

    cells: Cells = field(default_factory=Cells)
    wants: list[Want] = field(default_factory=list)
    passed: list[int] = field(default_factory=list)

    def request(self, limit: Limit, now: int) -> None:
        """One request, as an exchange makes it; `now` in nanoseconds."""
        cell = self.cells.of(b"k", limit, "l")
        if cell.left and now < cell.until:
            cell.left -= 1
            self.passed.append(now)
            if cell.left < cell.low and not cell.asked:
                self.cells.asked(cell)
                self.wants.append(cell.want())
        elif now >= cell.refused_until:

            def drawn(wait: int) -> None:
                if not wait:
                    self.passed.append(now)

            want = cell.wait(drawn)
            if want is not None:
                self.cells.asked(cell)
                self.wants.append(want)

    def answer(self, tat: int, now: int) -> int:
        """Control answers everything that was asked; the key's number afterwards."""
        wants, self.wants = self.wants, []
        for want in wants:
            verdict = take(want.limit, tat, now // 1000, want.cells)
            tat = verdict.tat
            again = self.cells.granted(Grant(want.key, verdict.cells, verdict.wait, verdict.left), now)
            if again is not None:
                self.wants.append(again)
        return tat


STEPS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 30), st.integers(0, 400_000_000)), min_size=1, max_size=60)
LIMITS = st.builds(Limit, st.integers(1, 1000), st.sampled_from([100_000, 1_000_000]))


@given(LIMITS, STEPS)
def test_workers_together_pass_at_most_the_quota_and_a_batch_each_beyond_what_the_rate_allows(
    limit: Limit, steps: list[tuple[int, int, int]]
) -> None:
    """Over any stretch of time: quota + rate x stretch (GCRA), and what each worker had drawn before it began."""
    parts = [Part() for _ in range(3)]
    now = tat = 0
    for which, count, pause in steps:
        for _ in range(count):
            parts[which].request(limit, now)
        for _ in range(count + 1):
            tat = parts[which].answer(tat, now)
        assert parts[which].wants == []
        assert all(part.cells.of(b"k", limit, "l").left <= max(1, limit.quota // 64) for part in parts)
        now += pause
    passed = sorted(moment for part in parts for moment in part.passed)
    slack = len(parts) * max(1, limit.quota // 64)
    for at, begin in enumerate(passed):
        for behind, end in enumerate(passed[at:], 1):
            earned = (end - begin) * limit.quota // (limit.window * 1000)
            assert behind <= limit.quota + earned + 1 + slack


@given(LIMITS, st.integers(1, 400))
def test_one_worker_alone_passes_exactly_the_quota_of_a_burst(limit: Limit, count: int) -> None:
    part = Part()
    tat = 0
    for _ in range(count):
        part.request(limit, 0)
        tat = part.answer(tat, 0)
    assert len(part.passed) == min(count, limit.quota)
