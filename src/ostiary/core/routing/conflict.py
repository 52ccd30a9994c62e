"""Conflicts: routes that match the same requests with nothing to decide between them.

Only routes that agree in all that decides (`outline`) are compared, and of those only the ones whose fixed texts fit;
both by dictionaries, so that the search takes time in the number of routes, not of pairs.
"""

from collections.abc import Iterable, Iterator
from itertools import combinations, product

from ostiary.core.routing.outline import Outline, ends, outline
from ostiary.core.routing.pattern import common, tree
from ostiary.core.snapshot import Fixed, Route, Variable

MOST_CONFLICTS = 1000
MOST_COMPARISONS = 100_000
"""Pairs of expressions in one place that are compared; beyond it the rest counts as in conflict, unseen."""

Numbered = tuple[int, int, Outline]
"""The index of a route, its `order` and its outline."""


def conflicts(routes: Iterable[Route]) -> list[tuple[int, int, str]]:
    """Pairs of indices (the lower first) of routes in conflict, each with a path that both match, in order.

    In conflict are routes of one method whose paths are the same but for the names of variables, and routes that can
    match the same path and agree in specificity, `order` and the nature of their variables. At most MOST_CONFLICTS.
    An example may be "" where it could not be found in bounds; such a pair counts as in conflict.
    """
    exact: dict[tuple[str, str], int] = {}
    groups: dict[object, list[Numbered]] = {}
    found: list[tuple[int, int, str]] = []
    for index, route in enumerate(routes):
        only = route.pieces[0]
        if len(route.pieces) == 1 and isinstance(only, Fixed):
            first = exact.setdefault((route.method, only.text), index)
            if first != index:
                found.append((first, index, only.text))
        else:
            plan = outline(route.pieces)
            agreed = [part if form is None else form.ranks for part, form in zip(plan.parts, plan.shape, strict=True)]
            groups.setdefault((route.method, plan.nature, *agreed), []).append((index, route.order, plan))
    return sorted([*found, *_overlaps(group for group in groups.values() if len(group) > 1)])[:MOST_CONFLICTS]


def _nameless(plan: Outline) -> tuple[object, ...]:
    """The path without the names of its variables: what makes two paths the same."""
    return tuple([part if isinstance(part, bytes) else tuple(map(_text, part)) for part in plan.parts])


def _text(item: bytes | Variable) -> bytes | str:
    return item.expression if isinstance(item, Variable) else item


def _overlaps(groups: Iterable[list[Numbered]]) -> Iterator[tuple[int, int, str]]:
    pairs = (pair for group in groups for pair in _pairs(group))
    found = 0
    for compared, (a, b) in enumerate(pairs):
        text = "" if compared > MOST_COMPARISONS else _meeting(a[2], b[2])
        if text is not None:
            found += 1
            yield min(a[0], b[0]), max(a[0], b[0]), text
        if found > MOST_CONFLICTS:
            return


def _pairs(group: list[Numbered]) -> Iterator[tuple[Numbered, Numbered]]:
    """Routes of the same path with the first that has it; then pairs of one `order` whose fixed texts fit."""
    seen: dict[object, Numbered] = {}
    orders: dict[int, dict[object, list[Numbered]]] = {}
    for route in group:
        first = seen.setdefault(_nameless(route[2]), route)
        if first is not route:
            yield first, route
        else:
            orders.setdefault(route[1], {}).setdefault(route[2].shape, []).append(route)
    for classes in orders.values():
        for same in classes.values():
            for bucket in _by_ends(same, same[0][2], same[0][2]).values():
                yield from combinations(bucket, 2)
        for these, those in combinations(classes.values(), 2):
            yield from _between(these, those)


def _between(these: list[Numbered], those: list[Numbered]) -> Iterator[tuple[Numbered, Numbered]]:
    a, b = these[0][2], those[0][2]
    buckets = _by_ends(those, a, b)
    for key, bucket in _by_ends(these, a, b).items():
        yield from product(bucket, buckets.get(key, ()))


def _by_ends(routes: list[Numbered], a: Outline, b: Outline) -> dict[object, list[Numbered]]:
    """Routes by the fixed text at the ends of their parts, as much of it as both shapes have."""
    cuts = [
        (place, min(one.prefix, other.prefix), min(one.suffix, other.suffix))
        for place, (one, other) in enumerate(zip(a.shape, b.shape, strict=True))
        if one is not None and other is not None
    ]
    buckets: dict[object, list[Numbered]] = {}
    for route in routes:
        buckets.setdefault(tuple(_cut(route[2], *cut) for cut in cuts), []).append(route)
    return buckets


def _cut(plan: Outline, place: int, prefix: int, suffix: int) -> tuple[bytes, bytes]:
    part = plan.parts[place]
    head, tail = (b"", b"") if isinstance(part, bytes) else ends(part)
    return head[:prefix], tail[len(tail) - suffix :]


def _meeting(a: Outline, b: Outline) -> str | None:
    """A path that both match, if there is one; "" if that is not known."""
    texts: list[str] = []
    for one, other in zip(a.parts, b.parts, strict=True):
        if isinstance(one, bytes) or isinstance(other, bytes):
            texts.append(one.decode() if isinstance(one, bytes) else "")
            continue
        text = common(tree(one), tree(other))
        if text is None:
            return None
        texts.append(text)
    return "/".join(texts)
