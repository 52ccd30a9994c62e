"""Templates of public and backend paths."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.core.routing.path import canonical
from ostiary.core.routing.template import (
    Line,
    _usual,
    checked,
    read_backend_path,
    read_match,
    read_path,
    template,
    written,
)
from ostiary.core.snapshot import Fixed, Piece, Variable


@pytest.mark.parametrize(
    ("text", "methods", "pieces"),
    [
        ("GET /", ("GET",), (Fixed("/"),)),
        ("GET,POST /a/b", ("GET", "POST"), (Fixed("/a/b"),)),
        ("* /a", ("*",), (Fixed("/a"),)),
        ("GET /a/{b}", ("GET",), (Fixed("/a/"), Variable("b"))),
        ("GET /v1.0/c/{code:[A-Z]{3}}", ("GET",), (Fixed("/v1.0/c/"), Variable("code", "[A-Z]{3}"))),
        ("GET /f-{n}.{e}/x", ("GET",), (Fixed("/f-"), Variable("n"), Fixed("."), Variable("e"), Fixed("/x"))),
        ("GET /{a:[{}x]{2}}", ("GET",), (Fixed("/"), Variable("a", "[{}x]{2}"))),
        ("GET /{rest:.*}", ("GET",), (Fixed("/"), Variable("rest", ".*"))),
        ("GET /é b/%7e%c3%a9", ("GET",), (Fixed("/%C3%A9%20b/~%C3%A9"),)),
        ("M-SEARCH /a", ("M-SEARCH",), (Fixed("/a"),)),
        ("GET /a,b;c=1:2@3", ("GET",), (Fixed("/a,b;c=1:2@3"),)),
    ],
)
def test_a_match_is_methods_and_pieces(text: str, methods: tuple[str, ...], pieces: tuple[Piece, ...]) -> None:
    found = read_match(text)
    assert found[:2] == (methods, pieces)
    assert read_match(f"GET {found.path}").pieces == pieces


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected methods, one blank and a path"),
        ("/a", "expected methods, one blank and a path"),
        ("GET a", "expected methods, one blank and a path"),
        ("GET  /a", "expected methods, one blank and a path"),
        ("get /a", "'get' is no method"),
        ("GET,GET /a", "the method GET stands twice"),
        ("GET, /a", "'' is no method"),
        ("*,GET /a", "'*' is no method"),
        ("CONNECT /a", "CONNECT has no path"),
        ("GET /a?b=c", "a path ends before `?`"),
        ("GET /a#b", "a path ends before `?`"),
        ("GET /a/../b", "it is always read as /b"),
        ("GET /a//b", "it is always read as /a/b"),
        ("GET /a/.", "it is always read as /a/"),
        ("GET /a%2Fb", "a request with such a path is refused"),
        ("GET /a\\b", "a request with such a path is refused"),
        ("GET /a\x00b", "a request with such a path is refused"),
        ("GET /a%zz", "a request with such a path is refused"),
        ("GET /{", "a variable is {name} or {name:EXPRESSION}"),
        ("GET /{}", "a variable is {name} or {name:EXPRESSION}"),
        ("GET /{1}", "a variable is {name} or {name:EXPRESSION}"),
        ("GET /{a b}", "expected `}` or `:` after the name"),
        ("GET /{a:}", "has no expression"),
        ("GET /{a:b", "closing brace is missing"),
        ("GET /{a:[}", "closing brace is missing"),
        ("GET /{a:(}", "the expression of {a}: "),
        ("GET /{a}/{a}", "the variable {a} stands twice"),
        ("GET /{a:x}/{a}", "the variable {a} stands twice"),
    ],
)
def test_a_wrong_match_says_why(text: str, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_match(text)
    assert reason in str(caught.value)


@pytest.mark.parametrize("text", ["/", "/a/{b}?c={d}", "/a.b/{c}.json", "/%C3%A9", "/{rest}", "/a?b=/../{c}&d"])
def test_a_backend_path_stays_as_it_is(text: str) -> None:
    assert read_backend_path(text) == text


def test_odd_characters_of_a_backend_path_are_escaped() -> None:
    assert read_backend_path("/é b?c=ü d") == "/%C3%A9%20b?c=%C3%BC%20d"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "begins with a slash"), ("a", "begins with a slash"), ("http://h/a", "begins with a slash"),
        ("/a#b", "no fragment"), ("/a/../b", "plain form"), ("/a//b", "plain form"), ("/a%2", "plain form"),
        ("/{a", "a name to fill in is {name}"), ("/{}", "a name to fill in is {name}"), ("/}", "a name to fill in is"),
    ],
)  # fmt: skip
def test_a_wrong_backend_path_says_why(text: str, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_backend_path(text)
    assert reason in str(caught.value)


def test_the_backend_path_may_be_the_public_one() -> None:
    assert template(read_path("/a/{b:[a-z]{2}}/c-{d}")) == "/a/{b}/c-{d}"


SEGMENTS = st.lists(
    st.sampled_from(["a", "b.c", "{x}", "{y:[0-9]+}", "{z:.*}", "~d", "", ".", "..", "e-{w}", "%41"]), max_size=4
)


@settings(max_examples=300)
@given(SEGMENTS)
def test_the_short_way_and_the_long_way_read_alike(segments: list[str]) -> None:
    text = "/" + "/".join(segments)
    try:
        slow = read_path(text)
    except ValueError:
        with pytest.raises(ValueError, match=r".+"):
            read_match(f"GET {text}")
        return
    assert read_match(f"GET {text}") == Line(("GET",), slow, written(slow))


@settings(max_examples=500)
@given(st.text("/a.%{}:[]()*+\\x2eé?# ", max_size=24))
def test_whatever_comes_is_canonical_or_refused(text: str) -> None:
    try:
        pieces = read_path("/" + text)
    except ValueError as problem:
        assert str(problem)
        return
    shape = "".join(each.text if isinstance(each, Fixed) else "x" for each in pieces)
    assert canonical(shape.encode()) == shape.encode()
    assert checked(pieces) == pieces


def test_the_short_way_leaves_doubt_to_the_long_one() -> None:
    assert _usual("/{a}/{a}") is None
    assert _usual("/{a:.*}") is None
