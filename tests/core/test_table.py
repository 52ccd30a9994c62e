"""The table of routes against a naive one, and conflicts against the table."""

import re
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.core.routing.conflict import conflicts
from ostiary.core.routing.table import Table
from ostiary.core.snapshot import Fixed, Piece, Route, Variable

ATOMS: list[Piece] = [
    *map(Fixed, ["a", "b", "ab", "a."]),
    *(Variable("", expression) for expression in ["", "[ab]+", r"\w*", ".*"]),
]
SEGMENTS = st.lists(st.sampled_from(ATOMS), min_size=1, max_size=3)


def name(segments: list[list[Piece]]) -> tuple[Piece, ...]:
    """Pieces of some segments, with distinct names for the variables."""
    pieces: list[Piece] = []
    for segment in segments:
        pieces.append(Fixed("/"))
        pieces += [
            Variable(f"v{len(pieces)}{n}", p.expression) if isinstance(p, Variable) else p
            for n, p in enumerate(segment)
        ]
    joined: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Fixed) and joined and isinstance(joined[-1], Fixed):
            joined[-1] = Fixed(joined[-1].text + piece.text)
        else:
            joined.append(piece)
    return tuple(joined)


PATTERNS = st.lists(SEGMENTS, min_size=1, max_size=3).map(name).filter(lambda pieces: len(pieces) > 1)
METHODS = st.sampled_from(["GET", "POST", "*"])
ROUTES = st.lists(st.tuples(METHODS, PATTERNS, st.sampled_from([0, 0, 1, 2])), min_size=1, max_size=6)
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "aa", "a.b", "aab", ""]), min_size=1, max_size=4).map(
    lambda parts: ("/" + "/".join(parts)).encode()
)


def crossing(variable: Variable) -> bool:
    return "." in variable.expression


def regex(pieces: tuple[Piece, ...]) -> bytes:
    return "".join(
        re.escape(p.text) if isinstance(p, Fixed) else f"({p.expression or '[^/]+'})" for p in pieces
    ).encode()


def precedence(method: str, pieces: tuple[Piece, ...], order: int) -> tuple[object, ...]:
    """What decides, written down naively."""
    text = "".join(p.text if isinstance(p, Fixed) else "{}" for p in pieces)
    ranks = [(int("{}" in segment), -len(segment.replace("{}", ""))) for segment in text.split("/")]
    nature = [2 if crossing(v) else 0 if v.expression else 1 for v in pieces if isinstance(v, Variable)]
    return [*ranks, (2, 0)], method == "*", order, nature


@settings(max_examples=400)
@given(ROUTES, st.sampled_from(["GET", "POST", "PUT"]), PATHS)
def test_the_table_finds_what_a_naive_search_finds(
    routes: list[tuple[str, tuple[Piece, ...], int]], method: str, path: bytes
) -> None:
    table: Table[int] = Table()
    for index, route in enumerate(routes):
        table.add(*route, index)
    known = [i for i, (_, pieces, _) in enumerate(routes) if re.fullmatch(regex(pieces), path)]
    matching = [i for i in known if routes[i][0] in (method, "*")]
    found = table.find(method.encode(), path)
    assert table.methods(path) == sorted({routes[i][0] for i in known})
    if not matching:
        assert found is None
        return
    assert found is not None
    best = min(precedence(*routes[i]) for i in matching)
    assert precedence(*routes[found[0]]) == best
    pieces = routes[found[0]][1]
    captured = [found[1][piece.name] for piece in pieces if isinstance(piece, Variable)]
    text = b"".join(p.text.encode() if isinstance(p, Fixed) else captured.pop(0) for p in pieces)
    assert text == path


@settings(max_examples=300)
@given(ROUTES, PATHS)
def test_where_nothing_decides_there_is_a_conflict(
    routes: list[tuple[str, tuple[Piece, ...], int]], path: bytes
) -> None:
    found = {pair[:2] for pair in conflicts(route(*each) for each in routes)}
    for (i, a), (j, b) in combinations(enumerate(routes), 2):
        both = a[0] == b[0] and re.fullmatch(regex(a[1]), path) and re.fullmatch(regex(b[1]), path)
        if both and precedence(*a) == precedence(*b):
            assert (i, j) in found or same(a[1]) == same(b[1])


@settings(max_examples=300)
@given(ROUTES)
def test_a_conflict_comes_with_a_path_that_both_match(routes: list[tuple[str, tuple[Piece, ...], int]]) -> None:
    for i, j, example in conflicts(route(*each) for each in routes):
        a, b = routes[i], routes[j]
        assert i < j
        assert a[0] == b[0]
        assert same(a[1]) == same(b[1]) or precedence(*a) == precedence(*b)
        assert re.fullmatch(regex(a[1]), example.encode())
        assert re.fullmatch(regex(b[1]), example.encode())


def same(pieces: tuple[Piece, ...]) -> list[str]:
    return [piece.text if isinstance(piece, Fixed) else "{" + piece.expression for piece in pieces]


def route(method: str, pieces: tuple[Piece, ...], order: int = 0) -> Route:
    return Route("", method, pieces, "/", 0, 0, order)


def path(*pieces: str | Variable) -> tuple[Piece, ...]:
    return tuple(Fixed(piece) if isinstance(piece, str) else piece for piece in pieces)


ID, CODE, REST = Variable("id"), Variable("code", "[A-Z]{3}"), Variable("rest", ".*")


@pytest.mark.parametrize(
    ("better", "worse", "where"),
    [
        (path("/x/a/", ID), path("/x/", ID, "/b"), b"/x/a/b"),
        (path("/x/file-", ID), path("/x/", ID), b"/x/file-1"),
        (path("/x/", ID, ".json"), path("/x/", ID), b"/x/1.json"),
        (path("/x/", CODE), path("/x/", ID), b"/x/BGR"),
        (path("/x/", ID), path("/x/", REST), b"/x/1"),
        (path("/x/", REST, "/meta"), path("/x/", REST), b"/x/1/2/meta"),
        (path("/x/", ID), path(Variable("", "/x/.*")), b"/x/1"),
    ],
)
def test_the_more_specific_route_is_found_in_whatever_order_they_came(
    better: tuple[Piece, ...], worse: tuple[Piece, ...], where: bytes
) -> None:
    for routes in ((better, worse), (worse, better)):
        table: Table[tuple[Piece, ...]] = Table()
        for pieces in routes:
            table.add("GET", pieces, 0, pieces)
        found = table.find(b"GET", where)
        assert found is not None
        assert found[0] is better


def test_order_decides_between_routes_of_one_shape() -> None:
    table: Table[int] = Table()
    for order in (3, 1, 2):
        table.add("GET", path("/x/", REST), order, order)
    table.add("GET", path("/x/", CODE), 4, 4)
    assert table.find(b"GET", b"/x/BGR") == (1, {"rest": b"BGR"})


def test_order_decides_between_shapes_of_one_rank() -> None:
    for first, second in ((1, 2), (2, 1)):
        table: Table[int] = Table()
        table.add("GET", path("/x/", ID, "-b"), first, first)
        table.add("GET", path("/x/a-", ID), second, second)
        table.add("GET", path("/x/", ID), 0, 0)
        assert table.find(b"GET", b"/x/a-b") == (1, {"id": b"a" if first == 1 else b"b"})


def test_a_whole_path_as_expressions_captures_by_name_and_comes_last() -> None:
    table: Table[str] = Table()
    table.add(
        "GET", (Variable("", "/v1.0/countries/"), Variable("code", "[A-Z]{3}"), Variable("", "(/info)?")), 1, "legacy"
    )
    table.add("GET", path("/v1.0/countries/", Variable("id", "B.+")), 2, "specific")
    assert table.find(b"GET", b"/v1.0/countries/BGR/info") == ("specific", {"id": b"BGR/info"})
    assert table.find(b"GET", b"/v1x0/countries/FRA/info") == ("legacy", {"code": b"FRA"})
    assert table.find(b"GET", b"/v1x0/countries/FRA/infos") is None


def test_a_plain_variable_matches_one_segment_that_is_not_empty() -> None:
    table: Table[int] = Table()
    table.add("GET", path("/x/", ID), 0, 1)
    assert table.find(b"GET", b"/x/%2B;a=b") == (1, {"id": b"%2B;a=b"})
    assert table.find(b"GET", b"/x/") is None
    assert table.find(b"GET", b"/x/1/") is None
    assert table.find(b"GET", b"/x") is None


def test_methods_are_those_of_exact_routes_and_of_patterns() -> None:
    table: Table[int] = Table()
    table.take({b"PROPFIND /x/1": 1, b"GET /x/1": 2, b"PUT /x/2": 3})
    table.add("DELETE", path("/x/", ID), 0, 4)
    table.add("POST", path("/y/", ID), 0, 5)
    assert table.methods(b"/x/1") == ["DELETE", "GET", "PROPFIND"]
    assert table.methods(b"/z") == []


def test_many_routes_have_few_shapes() -> None:
    """What find costs is the number of shapes of the path's length: it does not grow with the routes."""
    table: Table[int] = Table()
    for number in range(2000):
        table.add("GET", path(f"/v1/r{number}/", ID), 0, number)
        table.add("GET", path(f"/v1/file{number % 10}-{number:04}-", ID, ".json"), 0, number)
    assert len(table._shapes) == 2
    assert table.find(b"GET", b"/v1/r1999/x") == (1999, {"id": b"x"})
    assert table.find(b"GET", b"/v1/file7-0017-x.json") == (17, {"id": b"x"})


@pytest.mark.parametrize(
    ("a", "b", "example"),
    [
        (path("/x/y"), path("/x/y"), "/x/y"),
        (path("/x/", ID), path("/x/", Variable("other")), "/x/a"),
        (path("/x/", ID, "-z"), path("/x/a-", ID), "/x/a-z"),
        (path("/x/", Variable("a", "[a-m]+")), path("/x/", Variable("b", "[m-z]{2,3}")), "/x/mm"),
        (path("/x/", REST, "/a"), path("/x/", Variable("r", "b.*"), "/a"), "/x/b/a"),
    ],
)
def test_what_cannot_be_ordered_is_a_conflict(a: tuple[Piece, ...], b: tuple[Piece, ...], example: str) -> None:
    assert conflicts([route("GET", a), route("GET", b)]) == [(0, 1, example)]
    assert conflicts([route("GET", a), route("POST", b)]) == []
    assert conflicts([route("GET", a), route("*", b)]) == []


def test_routes_with_an_order_conflict_only_where_their_paths_are_the_same() -> None:
    first, other = path("/x/", Variable("a", "[a-m]+")), path("/x/", Variable("b", "[m-z]+"))
    renamed = path("/x/", Variable("c", "[a-m]+"))
    assert conflicts([route("GET", first, 1), route("GET", other, 2), route("GET", renamed, 3)]) == [(0, 2, "/x/a")]


def test_many_routes_are_not_compared_pair_by_pair() -> None:
    routes = [route("GET", path(f"/item{number}-", ID)) for number in range(20_000)]
    assert conflicts([*routes, route("GET", path("/item7-", Variable("x")))]) == [(7, 20_000, "/item7-a")]


def test_a_table_is_let_go_of_in_steps_and_then_has_nothing() -> None:
    table: Table[int] = Table()
    table.take({b"GET /%d" % number: number for number in range(5)})
    for number in range(5):
        table.add("GET", (Fixed(f"/{number}/"), Variable("x")), 0, number)
    assert [table.shed(4), table.shed(4), table.shed(4)] == [True, True, False]
    assert (table.exact, table.find(b"GET", b"/1/a")) == ({}, None)


def test_several_variables_without_anything_between_them_may_share_a_segment() -> None:
    table: Table[str] = Table()
    table.add("GET", (Fixed("/"), Variable("x"), Fixed("/"), Variable("y"), Variable("z")), 0, "route")
    assert table.find(b"GET", b"/a/bc") == ("route", {"x": b"a", "y": b"b", "z": b"c"})
    assert table.find(b"GET", b"/a/b") is None
