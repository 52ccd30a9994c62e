"""Expressions: read one way only, matched in linear time, compared exactly."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ostiary.core.refusal import Invalid
from ostiary.core.routing import expression
from ostiary.core.routing.expression import Capture, Choice, Node, Repeat, Symbol
from ostiary.core.routing.pattern import automaton, check, crosses, engine, overlap, parse

ATOMS = st.sampled_from(["a", "b", "c", "[ab]", "[^a]", "[b-d]", ".", r"\d", r"\w", "/"])
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda branches: f"({'|'.join(branches)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,}", "{0,2}", "*?"])).map(
            lambda two: f"({two[0]})" + two[1]
        ),
    ),
    max_leaves=6,
)
TEXTS = st.text("abcd1/", max_size=8).map(str.encode)


def matches(text: str, subject: bytes) -> bool:
    return engine(parse(text))(subject) is not None


@given(EXPRESSIONS, TEXTS)
def test_an_expression_matches_what_the_standard_library_says(text: str, subject: bytes) -> None:
    assert matches(text, subject) == (re.fullmatch(text.encode(), subject) is not None)


@given(EXPRESSIONS, TEXTS)
def test_the_automaton_is_the_expression(text: str, subject: bytes) -> None:
    states = automaton(parse(text))
    here = {-1}
    for byte in subject:
        here = {after for state in here for after in states.follow[state] if states.masks[after] >> byte & 1}
    accepted = bool(here & states.last) or (-1 in here and states.nullable)
    assert accepted == (re.fullmatch(text.encode(), subject) is not None)


class Steps:
    """A backtracking matcher as `re` is one, that counts what it tries."""

    def __init__(self, subject: bytes) -> None:
        self.subject = subject
        self.count = 0

    def run(self, nodes: tuple[Node, ...], at: int) -> bool:
        self.count += 1
        if not nodes:
            return at == len(self.subject)
        node, rest = nodes[0], nodes[1:]
        match node:
            case Symbol(mask):
                return at < len(self.subject) and bool(mask >> self.subject[at] & 1) and self.run(rest, at + 1)
            case expression.Sequence(items):
                return self.run((*items, *rest), at)
            case Choice(items):
                return any(self.run((item, *rest), at) for item in items)
            case Capture(body):
                return self.run((body, *rest), at)
            case Repeat(body, low, high):
                if low > 0:
                    return self.run((body, Repeat(body, low - 1, max(high - 1, -1)), *rest), at)
                return (high != 0 and self.run((body, Repeat(body, 0, max(high - 1, -1)), *rest), at)) or self.run(
                    rest, at
                )


@given(EXPRESSIONS, st.text("ab1/", max_size=3), st.integers(0, 20), st.sampled_from(["", "!", "b", "c", "/"]))
def test_what_is_proven_takes_steps_in_proportion_to_the_text(text: str, unit: str, times: int, end: str) -> None:
    node = parse(text)
    assume(automaton(node).proven)
    subject = (unit * times + end).encode()
    steps = Steps(subject)
    steps.run((node,), 0)
    assert steps.count <= 40 * (len(text) + 1) * (len(subject) + 1)


@pytest.mark.parametrize(
    "text",
    [
        r"\d+",
        r"\d{6,15}$",
        "[A-Z]{3}",
        "[a-z]+",
        ".*",
        ".+",
        "[^/]+",
        "(a|b)*c",
        "v[0-9]+(-rc)?",
        "(?i)[a-z]+",
        "a{2,}b",
    ],
)
def test_the_usual_expressions_run_on_the_standard_library(text: str) -> None:
    assert automaton(parse(text)).proven


@pytest.mark.parametrize(
    "text",
    [
        "(a+)+",
        "(a*)*",
        "(a|a)*",
        "(a|ab)(c|bcd)",
        r"\w+\d+",
        "(a?){3}",
        ".*x.*",
        "(x(a?|b?))*",
        "((a|b)*)*c",
        "(a{1,2}){1,2}",
    ],
)
def test_what_could_go_back_and_forth_is_not_proven(text: str) -> None:
    assert not automaton(parse(text)).proven


def test_a_catastrophic_expression_is_answered_at_once() -> None:
    assert not matches("(([a-z])+.)+[A-Z]([a-z])+$", b"a" * 10_000)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (r"(a)\1", r"\1, which is not known here, at character 4"),
        ("(?=a)b", "a (? group of a kind that is not known at character 3"),
        ("(?<!a)b", "a (? group of a kind that is not known at character 3"),
        (r"\bx", r"\b, which is not known here, at character 1"),
        (r"\p{L}", r"\p, which is not known here, at character 1"),
        ("a++", "a repeat of a repeat (possessive repeats are not known) at character 3"),
        ("a**", "a repeat of a repeat (possessive repeats are not known) at character 3"),
        ("*a", "a * that has nothing to repeat at character 1"),
        ("a{2", "a { that begins no count such as {3}, {1,} or {1,3} at character 2"),
        ("a{x}", "a { that begins no count such as {3}, {1,} or {1,3} at character 2"),
        ("a{3,2}", "a count that is above 1000 or runs backwards at character 2"),
        ("a{99999999999}", "a { that begins no count such as {3}, {1,} or {1,3} at character 2"),
        ("a{1001}", "a count that is above 1000 or runs backwards at character 2"),
        ("(a", "an end where a ) was expected at character 3"),
        ("a)", "an unmatched ) at character 2"),
        ("[a", "an end in a class at character 3"),
        ("[z-a]", "a range that runs backwards or whose ends are classes at character 4"),
        ("[[:alpha:]]", r"a [ in a class, which engines read differently (write \[), at character 2"),
        ("[a&&b]", "a set operation in a class, which engines read differently, at character 3"),
        ("a^b", "an anchor inside the expression at character 2"),
        ("é", "a character that is not ASCII (write it percent-encoded) at character 1"),
        ("a b", "a character that no canonical path holds (write it percent-encoded) at character 2"),
        ("(a{100}){100}", "more than 2000 characters when its counts are written out"),
        ("(" * 51 + "a" + ")" * 51, "groups nested more than 50 deep at character 51"),
        ("\\", "an end after \\ at character 2"),
    ],
)
def test_what_cannot_be_read_one_way_or_run_in_linear_time_is_refused(text: str, reason: str) -> None:
    assert check(text) == reason


@given(st.text("ab(|)[]{}*+?.^$\\d-,1&:<>P=! é", max_size=12))
def test_every_text_is_read_or_refused(text: str) -> None:
    try:
        node = expression.parse(text)
    except Invalid as refusal:
        assert refusal.code == "route.expression"
    else:
        re.compile(expression.render(node).encode())


@pytest.mark.parametrize(
    ("text", "result"), [(r"\d+", False), ("[^/]+", False), (".*", True), (r"\D", True), ("a/b", True), ("[^a]", True)]
)
def test_an_expression_crosses_segments_if_it_can_match_a_slash(text: str, result: bool) -> None:
    assert crosses(text) is result


@pytest.mark.parametrize(
    ("a", "b", "example"),
    [
        (r"\d+", "[a-z]+", None),
        (r"\d+", "", "0"),
        ("", "", "a"),
        ("[a-m]{2}", "[m-z]+", "mm"),
        ("a*b", "a{3}.", "aaab"),
        ("a*", "b*", ""),
        (".*", "/x", "/x"),
        ("(ab)+", "(aba)+", None),
        ("(ab)+", "a.*b", "ab"),
    ],
)
def test_two_expressions_overlap_with_the_shortest_example(a: str, b: str, example: str | None) -> None:
    assert overlap(a, b) == example


def test_what_cannot_be_compared_in_bounds_counts_as_overlapping() -> None:
    assert overlap("b(a?){900}c", "b(a?){900}d") == ""


@given(EXPRESSIONS, EXPRESSIONS, TEXTS)
def test_no_common_text_is_missed_and_every_example_is_one(a: str, b: str, subject: bytes) -> None:
    example = overlap(a, b)
    if example is None:
        assert not (matches(a, subject) and matches(b, subject))
    else:
        assert matches(a, example.encode())
        assert matches(b, example.encode())
