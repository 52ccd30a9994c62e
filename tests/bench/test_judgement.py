"""What the comparisons conclude from what they saw."""

import pytest
from bench.generator import Job, Row, content_length, requests
from bench.measure import median_ratio, percentile
from bench.parts.reloads import Span, stale_or_early
from bench.process import Failed
from bench.report import Figure
from bench.watch import Cut, Ending, Seen, ending

SPANS = [Span(10.0, 12.0), Span(20.0, 22.0)]


def test_an_answer_from_a_configuration_that_was_in_force_is_right() -> None:
    rows = [
        Row(0, 9.0, 9.5, 0),
        Row(0, 9.0, 10.5, 1),
        Row(0, 11.0, 12.5, 0),
        Row(0, 11.0, 11.5, 1),
        Row(0, 12.5, 13.0, 1),
        Row(0, 13.0, 25.0, 2),
    ]
    assert stale_or_early(rows, SPANS) == 0


def test_an_answer_from_the_old_configuration_after_the_reload_was_confirmed_is_wrong() -> None:
    assert stale_or_early([Row(0, 12.5, 13.0, 0), Row(0, 23.0, 24.0, 1)], SPANS) == 2


def test_an_answer_from_a_configuration_that_nobody_asked_for_yet_is_wrong() -> None:
    assert stale_or_early([Row(0, 9.0, 9.5, 1), Row(0, 13.0, 19.0, 2)], SPANS) == 2


def test_a_percentile_is_a_value_that_was_seen() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 99), percentile([7.0], 99)) == (50.0, 99.0, 7.0)


def test_a_disturbed_round_does_not_move_the_ratio() -> None:
    assert median_ratio([10, 50, 12], [20, 100, 12]) == 0.5


def test_the_announced_length_is_found_in_any_letter_case() -> None:
    assert content_length(b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-LENGTH: 17") == 17


def test_a_figure_that_could_not_be_measured_says_so() -> None:
    assert Figure("a", None, 1.0, "", "not installed").line() == "a absent 1"
    assert Figure("a", 0.91666, 1.0, "").line() == "a 0.9167 1"


def test_a_figure_of_which_more_is_better_has_a_least() -> None:
    verdicts = [Figure("a", value, 3.0, "", at_least=True).verdict() for value in (2.9, 3.0)]
    assert verdicts == ["**missed**", "met"]


CUT = Cut(0, asked=10.0, answered=10.5)


def test_what_was_sent_after_the_answer_and_passed_is_counted() -> None:
    seen = [Seen(0, 9.0, 200), Seen(0, 10.25, 200), Seen(0, 10.3, 401), Seen(0, 10.625, 200), Seen(0, 10.7, 401)]
    assert ending(seen, CUT) == Ending(last=0.625, passed=1, refused=1)


def test_a_revocation_counts_for_its_own_token_only() -> None:
    assert ending([Seen(0, 9.0, 200), Seen(1, 11.0, 200)], CUT) == Ending(last=-1.0, passed=0, refused=0)


def test_a_token_that_does_not_pass_before_its_revocation_proves_nothing() -> None:
    with pytest.raises(Failed):
        ending([Seen(0, 9.0, 401)], CUT)


def test_a_job_asks_for_all_that_it_lists_in_turn() -> None:
    job = Job(80, 1, 1, 0, ["A: b"], ["/x"], tokens=["t", "u"])
    head = b"GET /x HTTP/1.1\r\nHost: 127.0.0.1:80\r\nA: b\r\nAuthorization: Bearer %s\r\n\r\n"
    assert requests(job) == [head % b"t", head % b"u"]


def test_a_form_is_a_post_with_its_length() -> None:
    [request] = requests(Job(80, 1, 1, 0, [], ["/x"], forms=["a=b"]))
    assert request.startswith(b"POST /x HTTP/1.1\r\n")
    assert request.endswith(b"\r\nContent-Length: 3\r\n\r\na=b")
