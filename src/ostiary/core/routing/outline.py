"""The outline of a route: its public path cut into parts, as the table and the search for conflicts see it.

A part is one segment, fixed or with variables. From the first variable that may cross segments on, the rest of the
path is one part. What decides between two routes that match the same path is, in this order:
1. segment by segment: fixed before variable; longer fixed text first (`ranks`);
2. a named method before `*`;
3. the route's `order`;
4. variable by variable: one with an expression before one without, one of a single segment before a crossing one
   (`nature`).
"""

from functools import lru_cache
from typing import NamedTuple

from ostiary.core.refusal import Invalid
from ostiary.core.routing.pattern import crosses, engine, tree
from ostiary.core.snapshot import Fixed, Piece, Variable

Rank = tuple[int, int]
"""(0, -length) for a fixed segment, (1, -length of its fixed text) for one with variables; the less goes first."""
END: Rank = (2, 0)
"""Stands after the last segment: where one route ends, one that goes on is more specific."""


EXPRESSION, PLAIN, CROSSING = 0, 1, 2


class Varying(NamedTuple):
    """A part with variables: the lengths of the fixed text at its ends, its ranks (several if it is the rest)."""

    prefix: int
    suffix: int
    ranks: tuple[Rank, ...]


LONE = Varying(0, 0, ((1, 0),))


Part = bytes | tuple[bytes | Variable, ...]


class Outline(NamedTuple):
    """`parts[i]` is the fixed text of a part, or what stands in it; `shape[i]` is None for a fixed part."""

    parts: tuple[Part, ...]
    shape: tuple[Varying | None, ...]
    nature: tuple[int, ...]
    crossing: bool
    """Whether the last part is the rest of the path."""


def outline(pieces: tuple[Piece, ...]) -> Outline:
    """Cut a route's path into parts. Raises Invalid for an expression that is refused."""
    variables = [piece for piece in pieces if isinstance(piece, Variable)]
    nature = tuple([_nature(variable.expression) for variable in variables])
    if CROSSING not in nature:
        text = "".join([piece.text if isinstance(piece, Fixed) else _HOLE for piece in pieces]).encode()
        parts = text.split(b"/")
        if parts.count(_LONE_HOLE) == len(variables):
            return _plain(parts, variables, nature)
    return _outline(pieces, nature)


_HOLE = "{}"
_LONE_HOLE = b"{}"
"""Stands for a variable; no canonical text has braces."""


def _plain(texts: list[bytes], variables: list[Variable], nature: tuple[int, ...]) -> Outline:
    """The usual case: each variable is a whole segment."""
    following = iter(variables)
    parts = tuple([(next(following),) if text == _LONE_HOLE else text for text in texts])
    return Outline(parts, tuple([LONE if text == _LONE_HOLE else None for text in texts]), nature, False)


def _outline(pieces: tuple[Piece, ...], nature: tuple[int, ...]) -> Outline:
    cut: list[list[bytes | Variable]] = [[]]
    natures = iter(nature)
    crossing = False
    for piece in pieces:
        if isinstance(piece, Variable):
            cut[-1].append(piece)
            crossing = next(natures) == CROSSING or crossing
        elif crossing:
            cut[-1].append(piece.text.encode())
        else:
            here, *others = piece.text.encode().split(b"/")
            cut[-1] += [here] if here else []
            cut += [[other] if other else [] for other in others]
    parts = tuple(map(_part, cut))
    return Outline(parts, tuple(map(_varying, parts)), nature, crossing)


def _nature(expression: str) -> int:
    return PLAIN if not expression else CROSSING if crosses(expression) else EXPRESSION


def _part(items: list[bytes | Variable]) -> Part:
    texts = [item for item in items if isinstance(item, bytes)]
    return b"".join(texts) if len(texts) == len(items) else tuple(items)


def _varying(part: Part) -> Varying | None:
    if isinstance(part, bytes):
        return None
    if len(part) == 1:
        return LONE
    head, tail = ends(part)
    return Varying(len(head), len(tail), _ranks(part))


@lru_cache(4096)
def _ranks(part: tuple[bytes | Variable, ...]) -> tuple[Rank, ...]:
    lengths, kinds = [0], [0]
    for item in part:
        here, *others = item.split(b"/") if isinstance(item, bytes) else [b""]
        lengths[-1] += len(here)
        kinds[-1] = kinds[-1] or int(isinstance(item, Variable))
        lengths += map(len, others)
        kinds += [0] * len(others)
    return tuple((kind, -length) for kind, length in zip(kinds, lengths, strict=True))


def inner(part: tuple[bytes | Variable, ...]) -> tuple[bytes | Variable, ...]:
    """What stands in a part between the fixed text at its ends."""
    head, tail = ends(part)
    return part[head != b"" : len(part) - (tail != b"")]


def ends(part: tuple[bytes | Variable, ...]) -> tuple[bytes, bytes]:
    """The fixed text at the ends of a part."""
    head, tail = part[0], part[-1]
    return head if isinstance(head, bytes) else b"", tail if isinstance(tail, bytes) else b""


def unrunnable(pieces: tuple[Piece, ...]) -> str:
    """Why a path's variables cannot be matched in linear time, or nothing.

    Several variables in one segment, or after one that crosses segments, are matched as one expression.
    """
    try:
        for part in outline(pieces).parts:
            if not isinstance(part, bytes):
                engine(tree(part))
    except Invalid as refusal:
        return refusal.message
    return ""
