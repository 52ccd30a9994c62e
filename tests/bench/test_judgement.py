"""What the comparisons conclude from what they saw."""

from bench.generator import Row, content_length
from bench.measure import median_ratio, percentile
from bench.parts.reloads import Span, stale_or_early
from bench.report import Figure

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
