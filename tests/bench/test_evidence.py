"""What the load of a director's users proves."""

import math
from pathlib import Path

import pytest
from bench.evidence import CLOSING, FAILED, IN_FLIGHT, IN_WORKER, TOO_SOON, Evidence, Gone, Kill
from bench.visitors import QUICK, Ask
from bench.visits import ANSWERED, LOST, RECORD, UNDER_WAY, Book, Overlap, Visit, overlaps, read

from bench import visitors


def visit(host: int, began: float, ended: float, *, user: int = 1, request: int = 0, ending: int = ANSWERED) -> Visit:
    return Visit(host, user, request, ending, began, ended)


def ask(request: int, status: int, sent: float = 10.0, answered: float = 10.1, **more: object) -> Ask:
    return Ask(request, 1, QUICK, sent, sent, answered, status, **more)  # type: ignore[arg-type]


FIRST = visit(11, 1.0, 3.0)


@pytest.mark.parametrize(
    ("second", "found"),
    [
        (visit(12, 2.0, 2.5), 1),
        (visit(12, 2.999, 9.0), 1),
        (visit(12, 1.0, 1.5), 1),
        (visit(12, 3.0, 4.0), 0),
        (visit(11, 2.0, 2.5), 0),
        (visit(12, 2.0, 2.5, user=2), 0),
    ],
)
def test_a_user_is_at_two_hosts_when_two_visits_share_a_moment(second: Visit, found: int) -> None:
    assert len(overlaps([second, FIRST])) == found


def test_an_early_visit_that_lasts_is_compared_with_all_that_come_meanwhile() -> None:
    later = [visit(11, 1.5, 1.6), visit(12, 2.0, 2.25), visit(13, 2.5, 2.75)]
    assert overlaps([FIRST, *later]) == [Overlap(FIRST, later[1]), Overlap(FIRST, later[2])]
    assert Overlap(FIRST, later[1]).seconds == 0.25


def test_a_visit_whose_connection_was_lost_may_have_been_over_before() -> None:
    lost = FIRST._replace(ending=LOST)
    second = visit(12, 2.0, 4.0)
    assert Evidence([lost, second], [], []).split() == ([], [Overlap(lost, second)])
    assert Evidence([FIRST, second], [], []).split() == ([Overlap(FIRST, second)], [])


def test_nothing_is_at_a_removed_host_until_it_is_added_again() -> None:
    there = [visit(11, 0.0, 5.0), visit(11, 4.0, 5.5), visit(11, 6.0, 6.5), visit(11, 9.0, 9.5), visit(12, 6.0, 6.5)]
    assert Evidence(there, [], []).at_removed(Gone(11, since=5.0, until=9.0)) == there[1:3]


def test_what_was_sent_before_a_host_was_emptied_may_arrive_there() -> None:
    there = [visit(11, 5.1, 5.2, request=1), visit(11, 5.3, 5.4, request=2)]
    asked = [ask(1, 200, sent=4.9), ask(2, 200, sent=5.2)]
    assert Evidence(there, asked, []).sent_to(Gone(11, since=5.0)) == there[1:]


def test_users_who_were_at_two_hosts_while_nobody_was_moved_strayed() -> None:
    every = [visit(11, 1.0, 1.1), visit(12, 2.0, 2.1), visit(11, 1.0, 1.1, user=2), visit(12, 5.0, 5.1, user=2)]
    assert Evidence(every, [], []).strayed(0.0, 4.0) == 1


WORKER, HOST = Kill("worker", 10.0), Kill("host", 10.0, 14, known=12.0, users=frozenset({1}))


@pytest.mark.parametrize(
    ("asked", "visits", "kill", "reason"),
    [
        (ask(1, 200), [], WORKER, ""),
        (ask(1, 503), [], WORKER, FAILED),
        (ask(1, visitors.LATE), [], WORKER, FAILED),
        (ask(1, visitors.LOST, again=True), [], HOST, CLOSING),
        (ask(1, visitors.LOST, again=True), [visit(13, 10.0, 10.1, request=1)], HOST, FAILED),
        (ask(1, visitors.LOST), [], HOST, FAILED),
        (ask(1, visitors.CUT, worker="a"), [], WORKER, IN_WORKER),
        (ask(1, visitors.CUT, answered=11.0, worker="a"), [], WORKER, IN_WORKER),
        (ask(1, visitors.CUT, answered=10.25), [], WORKER, IN_WORKER),
        (ask(1, visitors.CUT, answered=11.0), [], WORKER, FAILED),
        (ask(1, visitors.CUT, answered=9.9, worker="a"), [], WORKER, FAILED),
        (ask(1, 502), [visit(14, 9.0, 10.0, request=1)], HOST, IN_FLIGHT),
        (ask(1, 502), [visit(13, 9.0, 10.0, request=1)], HOST, FAILED),
        (ask(1, 502), [], HOST, TOO_SOON),
        (ask(1, 502, sent=12.1, answered=12.2), [], HOST, FAILED),
        (ask(1, 502), [], HOST._replace(users=frozenset({2})), FAILED),
    ],
)
def test_only_what_a_kill_explains_is_no_failure(asked: Ask, visits: list[Visit], kill: Kill, reason: str) -> None:
    evidence = Evidence(visits, [asked], [kill])
    assert evidence.reason(asked) == reason
    assert evidence.failed() == ([asked] if reason == FAILED else [])
    assert evidence.apart() == ({reason: 1} if reason not in ("", FAILED) else {})


def test_a_worker_that_goes_on_answering_was_not_the_one_that_was_killed() -> None:
    cut, later = ask(1, visitors.CUT, worker="a"), ask(2, 200, sent=10.01, answered=10.02, worker="a")
    assert Evidence([], [later, cut], [WORKER]).failed() == [cut]


def test_a_book_can_be_read_after_its_process_was_killed(tmp_path: Path) -> None:
    book = Book(tmp_path / "book", 4)
    book.end(book.begin(11, 7, 100, 1.0), ANSWERED, 1.5)
    book.begin(12, 8, 101, 2.0)
    assert (tmp_path / "book").stat().st_size == 4 * RECORD.size
    whole, cut = Visit(11, 7, 100, ANSWERED, 1.0, 1.5), Visit(12, 8, 101, UNDER_WAY, 2.0, math.inf)
    assert read(tmp_path / "book") == [whole, cut]
    assert read(tmp_path / "book", killed=3.0) == [whole, cut._replace(ended=3.0)]
