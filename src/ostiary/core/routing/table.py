"""The table of routes: which route a method and a canonical path reach, and what its variables capture.

Exact routes are one dictionary. Routes with variables are grouped by shape: where fixed and varying segments stand,
and how much fixed text is at the ends of a varying one. The fixed texts of a path in the places of a shape are the key
of one dictionary, so the cost depends on the number of shapes (few), not of routes. Shapes are tried in the order of
specificity; what decides between routes is said in `outline`.
"""

from bisect import insort
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter
from typing import Any, Generic, TypeVar

from msgspec import Struct

from ostiary.core.routing.outline import END, Outline, Part, Rank, Varying, ends, inner, outline
from ostiary.core.routing.pattern import engine, parse, tree
from ostiary.core.snapshot import Piece, Variable

V = TypeVar("V")
Captures = dict[str, bytes]
Capture = Callable[[list[bytes]], Captures | None]
"""From the parts of a path to what the variables capture, or None where they do not match."""
Read = Callable[[bytes], Captures | None]
Hole = tuple[int, int, int]
"""Where variables are: the part, and the lengths of the fixed text at its ends."""
Between = tuple[bytes | Variable, ...]
"""What stands between those ends."""
Standing = tuple[bool, int, tuple[int, ...]]

STANDARD = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


class Entry(Struct, Generic[V], gc=False):
    """A route in its shape."""

    method: bytes
    order: int
    nature: tuple[int, ...]
    capture: Capture
    value: V


def standing(entry: Entry[V]) -> Standing:
    """What decides between entries of one rank; the less goes first."""
    return entry.method == b"*", entry.order, entry.nature


Found = tuple[Entry[V], Captures]


def _first(here: Entry[V] | list[Entry[V]], method: bytes, parts: list[bytes]) -> Found[V] | None:
    """The first of some entries (in the order of their standing) that matches."""
    for entry in (here,) if isinstance(here, Entry) else here:
        if entry.method == method or entry.method == b"*":
            captures = entry.capture(parts)
            if captures is not None:
                return entry, captures
    return None


class Shape(Generic[V]):
    """All routes whose parts have one form."""

    __slots__ = ("crossing", "cut", "entries", "form", "holes", "key", "last", "rank", "size")

    def __init__(self, form: tuple[Varying | None, ...], crossing: bool) -> None:
        self.form = form
        self.crossing = crossing
        self.size = len(form)
        self.rank = tuple((0, 0) if part is None else part.ranks[0] for part in form)
        self.holes = tuple((place, part.prefix, part.suffix) for place, part in enumerate(form) if part is not None)
        self.cut = any(prefix + suffix for _, prefix, suffix in self.holes)
        self.key = _key(form)
        self.entries: dict[Any, Entry[V] | list[Entry[V]]] = {}
        self.last = True
        """Whether no further shape has the same rank."""

    def add(self, route: tuple[Part, ...], entry: Entry[V]) -> None:
        """Add a route whose parts are these."""
        texts: list[Any] = [*route]
        for place, _, _ in self.holes if self.cut else ():
            texts[place] = b"".join(ends(texts[place]))
        key = self.key(texts)
        here = self.entries.setdefault(key, entry)
        if isinstance(here, list):
            insort(here, entry, key=standing)
        elif here is not entry:
            self.entries[key] = sorted([here, entry], key=standing)

    def betweens(self, route: tuple[Part, ...]) -> tuple[Between, ...]:
        """What stands in the holes of a route."""
        found = [part for part in route if not isinstance(part, bytes)]
        return tuple(map(inner, found) if self.cut else found)

    def ranks(self, parts: list[bytes]) -> tuple[Rank, ...]:
        """The whole rank of a match of this shape."""
        found: list[Rank] = []
        for part, form in zip(parts, self.form, strict=True):
            found += [(0, -len(part))] if form is None else form.ranks
        return (*found, END)


def _key(form: tuple[Varying | None, ...]) -> Callable[[list[bytes]], Any]:
    """A function from the parts of a path to their fixed texts, as the key of a shape."""
    fixed = [place for place, part in enumerate(form) if part is None and place]
    cuts = [(place, part.prefix, part.suffix) for place, part in enumerate(form) if part and part.prefix + part.suffix]
    if not cuts:
        return itemgetter(*fixed) if fixed else len

    def key(parts: list[bytes]) -> tuple[bytes, ...]:
        texts = [parts[place] for place in fixed]
        for place, prefix, suffix in cuts:
            part = parts[place]
            texts += part[:prefix], part[len(part) - suffix :]
        return tuple(texts)

    return key


@lru_cache(4096)
def _capture(holes: tuple[Hole, ...], betweens: tuple[Between, ...]) -> Capture:
    """A function that reads the variables of a path; shared by all routes that have the same ones."""
    plain = [item for between in betweens for item in between if isinstance(item, Variable) and not item.expression]
    whole = not any(prefix + suffix for _, prefix, suffix in holes)
    if whole and len(holes) > 1 and len(plain) == len(betweens) == sum(map(len, betweens)):
        return _plain(itemgetter(*[hole[0] for hole in holes]), tuple(variable.name for variable in plain))
    reads = tuple((*hole, _read(between)) for hole, between in zip(holes, betweens, strict=True))
    return _lone(holes[0][0], reads[0][3]) if whole and len(holes) == 1 else _general(reads)


def _plain(texts: Callable[[list[bytes]], tuple[bytes, ...]], names: tuple[str, ...]) -> Capture:
    """For variables that are whole segments without an expression."""

    def capture(parts: list[bytes]) -> Captures | None:
        captures = dict(zip(names, texts(parts), strict=True))
        return captures if all(captures.values()) else None

    return capture


def _lone(place: int, read: Read) -> Capture:
    """For one variable that is a whole segment."""
    return lambda parts: read(parts[place])


def _general(reads: tuple[tuple[int, int, int, Read], ...]) -> Capture:
    def capture(parts: list[bytes]) -> Captures | None:
        captures: Captures = {}
        for place, prefix, suffix, read in reads:
            end = len(parts[place]) - suffix
            found = read(parts[place][prefix:end]) if end >= prefix else None
            if found is None:
                return None
            captures.update(found)
        return captures

    return capture


def _read(between: tuple[bytes | Variable, ...]) -> Read:
    """A function that reads what stands between the ends of one part."""
    only = between[0]
    if len(between) > 1 or not isinstance(only, Variable):
        return _several(between)
    name = only.name
    if not only.expression:
        return lambda text: {name: text} if text else None
    matches = engine(parse(only.expression))
    if not name:
        return lambda text: {} if matches(text) else None
    return lambda text: {name: text} if matches(text) else None


def _several(between: tuple[bytes | Variable, ...]) -> Read:
    names = [item.name for item in between if isinstance(item, Variable) and item.name]
    matches = engine(tree(between))

    def read(text: bytes) -> Captures | None:
        match = matches(text)
        return None if match is None else dict(zip(names, match.groups(), strict=True))

    return read


class Table(Generic[V]):
    """Routes by method and canonical path. Filled once, then only read. Values are never None."""

    def __init__(self) -> None:
        self.exact: dict[bytes, V] = {}
        """`METHOD /path` -> value, for routes without variables, `*` for any method. Look here before find."""
        self._methods = set(map(str.encode, STANDARD))
        self._shapes: dict[object, Shape[V]] = {}
        self._flat: dict[int, list[Shape[V]]] = {}
        self._crossing: list[Shape[V]] = []

    def take(self, exact: Mapping[bytes, V]) -> None:
        """Add routes without variables."""
        self.exact.update(exact)
        self._methods.update({key.partition(b" ")[0] for key in exact})

    def shed(self, most: int) -> bool:
        """Let go of about `most` routes of a table that is used no more; whether some are left.

        To let go of 100,000 at once takes tens of milliseconds.
        """
        shapes = [shape.entries for shape in self._shapes.values() if shape.entries]
        for _ in range(most):
            if self.exact:
                self.exact.popitem()
            elif shapes:
                shapes[-1].popitem()
                if not shapes[-1]:
                    shapes.pop()
            else:
                return False
        return True

    def add(self, method: str, pieces: tuple[Piece, ...], order: int, value: V) -> None:
        """Add a route with variables, its pieces settled. Raises Invalid for an expression that cannot be run."""
        plan = outline(pieces)
        name = method.encode()
        self._methods.add(name)
        shape = self._shape(plan)
        entry = Entry(name, order, plan.nature, _capture(shape.holes, shape.betweens(plan.parts)), value)
        shape.add(plan.parts, entry)

    def _shape(self, plan: Outline) -> Shape[V]:
        shape = self._shapes.get((plan.shape, plan.crossing))
        if shape is None:
            shape = self._shapes[plan.shape, plan.crossing] = Shape(plan.shape, plan.crossing)
            if plan.crossing:
                self._crossing.append(shape)
            else:
                self._rank(self._flat.setdefault(shape.size, []), shape)
        return shape

    def _rank(self, shapes: list[Shape[V]], shape: Shape[V]) -> None:
        insort(shapes, shape, key=lambda each: each.rank)
        for this, following in pairwise(shapes):
            this.last = this.rank != following.rank

    def find(self, method: bytes, path: bytes) -> tuple[V, Captures] | None:
        """The route with variables that `path` (canonical) reaches under `method`, and its captures by name."""
        parts = path.split(b"/")
        best: Found[V] | None = None
        for shape in self._flat.get(len(parts), ()):
            here = shape.entries.get(shape.key(parts))
            if here is not None:
                found = _first(here, method, parts)
                if found is not None and (best is None or standing(found[0]) < standing(best[0])):
                    best, nearest = found, shape
            if best is not None and shape.last:
                break
        if self._crossing:
            best = self._across(method, path, best, best and nearest.ranks(parts))
        return None if best is None else (best[0].value, best[1])

    def _across(
        self, method: bytes, path: bytes, best: "Found[V] | None", ranks: tuple[Rank, ...] | None
    ) -> "Found[V] | None":
        """Better than `best` (whose ranks are given), if there is one among the routes that cross segments."""
        slashes = path.count(b"/")
        for shape in self._crossing:
            if shape.size > slashes + 1:
                continue
            parts = path.split(b"/", shape.size - 1)
            here = shape.entries.get(shape.key(parts))
            found = None if here is None else _first(here, method, parts)
            if found is not None:
                further = shape.ranks(parts)
                if best is None or ranks is None or (further, standing(found[0])) < (ranks, standing(best[0])):
                    best, ranks = found, further
        return best

    def _known(self, path: bytes) -> Iterator[bytes]:
        """The methods of all routes with variables that match `path`."""
        count = path.count(b"/") + 1
        crossing = [shape for shape in self._crossing if shape.size <= count]
        for shape in [*self._flat.get(count, ()), *crossing]:
            parts = path.split(b"/", shape.size - 1)
            here = shape.entries.get(shape.key(parts))
            for entry in () if here is None else (here,) if isinstance(here, Entry) else here:
                if entry.capture(parts) is not None:
                    yield entry.method

    def methods(self, path: bytes) -> list[str]:
        """The methods under which `path` (canonical) is known, sorted; `*` among them if any is."""
        exact = {method for method in self._methods if method + b" " + path in self.exact}
        return sorted(method.decode() for method in exact.union(self._known(path)))
