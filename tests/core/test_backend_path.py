"""Backend paths: filled exactly, and never into what a backend would read differently."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.routing.backend_path import BackendPath
from ostiary.core.routing.path import canonical


@pytest.mark.parametrize(
    ("text", "captures", "path", "query"),
    [
        ("/countries", {}, b"/countries", b""),
        ("/countries/{code}", {"code": b"BGR"}, b"/countries/BGR", b""),
        ("/items/{item}?shop={shop}", {"item": b"7", "shop": b"x"}, b"/items/7", b"shop=x"),
        ("/a%20b/{x}-{x}/{y}", {"x": b"1%2B", "y": b"2"}, b"/a%20b/1%2B-1%2B/2", b""),
        ("/files/{rest}", {"rest": b"a/b/.c"}, b"/files/a/b/.c", b""),
        ("/files/{rest}", {"rest": b"/a/"}, b"/files/a/", b""),
        ("/a?x=%20&y={y}", {"y": b"a&b=c+d;e"}, b"/a", b"x=%20&y=a%26b%3Dc%2Bd%3Be"),
    ],
)
def test_captures_go_where_their_names_stand(text: str, captures: dict[str, bytes], path: bytes, query: bytes) -> None:
    template = BackendPath(text, captures)
    assert template.fill(captures) == (path, query)
    assert template.unfilled == ()


def test_names_that_nothing_captures_stay_for_actions() -> None:
    template = BackendPath("/users/{userId}/{id}/{userId}?c={customerId}", {"id"})
    assert template.unfilled == ("userId", "customerId")
    assert template.fill({"id": b"5"}) == (b"/users/{userId}/5/{userId}", b"c={customerId}")


@pytest.mark.parametrize(
    ("text", "captures"),
    [
        ("/data/{rest}", {"rest": b"../etc"}),
        ("/data/{n}", {"n": b".."}),
        ("/data/{n}/x", {"n": b"."}),
        ("/data/{n};v=1", {"n": b".."}),
        ("/data/.{n}", {"n": b"."}),
        ("/data/{rest}", {"rest": b"/../etc"}),
        ("/data/{a}", {"a": b"x%2"}),
        ("/data/{a}F", {"a": b"%2"}),
    ],
)
def test_no_capture_makes_a_dot_segment_or_an_escape(text: str, captures: dict[str, bytes]) -> None:
    assert BackendPath(text, captures).fill(captures) is None


CANONICAL = st.text("a.%2E3BF/;", min_size=1, max_size=12).map(lambda text: canonical(b"/" + text.encode()) or b"/")
CUTS = st.tuples(CANONICAL, st.integers(0, 12), st.integers(0, 12)).map(lambda cut: cut[0][cut[1] : cut[1] + cut[2]])


@given(st.sampled_from(["/{a}", "/x{a}", "/x/{a}/y", "/{a}{b}", "/.{a}/{b}.", "/{a}2/F{b}"]), CUTS, CUTS)
def test_what_is_filled_from_cuts_of_canonical_paths_is_canonical(text: str, a: bytes, b: bytes) -> None:
    filled = BackendPath(text, {"a", "b"}).fill({"a": a, "b": b})
    if filled is not None:
        assert canonical(filled[0]) == filled[0]
