"""Patterns of paths: what their expressions cost to match, and whether two of them can match the same text.

Clients choose the text that expressions run over, so each match must take time linear in it. An expression whose
Glushkov automaton is deterministic, with no second way through its operators, gives a backtracking engine nothing to
go back to: it runs on `re` (0.3 µs). Any other runs on RE2, which is linear by construction (2 to 7 µs). What neither
can take is refused. (Brüggemann-Klein, "Regular expressions into finite automata", 1993.)
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import re2

from ostiary.core.refusal import Invalid
from ostiary.core.routing import expression
from ostiary.core.routing.expression import PATH, SEGMENT, SLASH, Capture, Choice, Node, Repeat, Symbol
from ostiary.core.snapshot import Variable

MOST_POSITIONS = 2000
MOST_STEPS = 500_000
"""Of the walk that looks for a text that two expressions match."""


class Match(Protocol):
    def groups(self) -> tuple[bytes, ...]: ...


FullMatch = Callable[[bytes], Match | None]


class Automaton:
    """The Glushkov automaton of a tree: one state for each character of the expression, its counts written out.

    `follow[p]` are the states after p (`follow[-1]`: at the start), each as often as there are ways to reach it;
    `last` those that may end. `proven`: at each step at most one way to go on.
    """

    def __init__(self, node: Node) -> None:
        self.masks: list[int] = []
        self.follow: dict[int, list[int]] = {}
        self.proven = True
        self.nullable, first, last = self._add(node)
        self.follow[-1] = first
        self.last = frozenset(last)
        self.proven = self.proven and all(map(self._apart, self.follow.values()))

    def _apart(self, states: list[int]) -> bool:
        """Whether no character can lead to two of `states`."""
        seen = 0
        for state in states:
            if seen & self.masks[state]:
                return False
            seen |= self.masks[state]
        return True

    def _add(self, node: Node) -> tuple[bool, list[int], list[int]]:
        """Add the states of `node`: whether it matches nothing at all, where it begins and where it ends."""
        match node:
            case Symbol(mask):
                return self._symbol(mask)
            case expression.Sequence(items):
                return self._sequence(items)
            case Choice(items):
                return self._choice(items)
            case Capture(body):
                return self._add(body)
            case Repeat(body, low, high):
                return self._repeat(body, low, high)

    def _symbol(self, mask: int) -> tuple[bool, list[int], list[int]]:
        state = len(self.masks)
        if state >= MOST_POSITIONS:
            raise Invalid("route.expression", f"more than {MOST_POSITIONS} characters when its counts are written out")
        self.masks.append(mask)
        self.follow[state] = []
        return False, [state], [state]

    def _join(self, ends: list[int], starts: list[int]) -> None:
        for state in ends:
            self.follow[state].extend(starts)

    def _sequence(self, items: Sequence[Node]) -> tuple[bool, list[int], list[int]]:
        nullable, first, last = True, list[int](), list[int]()
        for item in items:
            none, starts, ends = self._add(item)
            self._join(last, starts)
            first = first + starts if nullable else first
            last = last + ends if none else ends
            nullable = nullable and none
        return nullable, first, last

    def _choice(self, items: Sequence[Node]) -> tuple[bool, list[int], list[int]]:
        nullable, first, last = False, list[int](), list[int]()
        for item in items:
            none, starts, ends = self._add(item)
            self.proven = self.proven and not (nullable and none)
            nullable, first, last = nullable or none, first + starts, last + ends
        return nullable, first, last

    def _repeat(self, body: Node, low: int, high: int) -> tuple[bool, list[int], list[int]]:
        """Write the count out: `low` copies, then optional ones inside each other, or a loop on the last copy."""
        if high == 0:
            return True, [], []
        none, first, ends = self._add(body)
        self.proven = self.proven and not none
        low = 0 if none else low
        starts, last = first, list(ends) if low <= 1 else []
        for copy in range(2, (max(low, 1) if high < 0 else high) + 1):
            _, starts, lasts = self._add(body)
            self._join(ends, starts)
            first = first + starts if none else first
            ends = ends + lasts if none else lasts
            last += lasts if copy >= low else []
        if high < 0:
            self._join(ends, first if none else starts)
        return low == 0, first, last


@lru_cache(4096)
def automaton(node: Node) -> Automaton:
    """The automaton of `node`; do not change it."""
    return Automaton(node)


@lru_cache(4096)
def parse(text: str) -> Node:
    """The tree of an expression, checked and kept. Raises Invalid (`route.expression`)."""
    node = expression.parse(text)
    engine(node)
    return node


@lru_cache(4096)
def engine(node: Node) -> FullMatch:
    """A function that matches a whole text in linear time; its match has a group for each Capture. Raises Invalid."""
    text = expression.render(node).encode()
    if automaton(node).proven:
        return re.compile(text, re.DOTALL).fullmatch
    return _re2(text)


def _re2(text: bytes) -> FullMatch:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.dot_nl = True
    options.log_errors = False
    try:
        match: FullMatch = re2.compile(text, options).fullmatch
    except re2.error:
        raise Invalid("route.expression", "not proven to match in linear time, and too large for RE2") from None
    return match


def check(text: str) -> str:
    """Why an expression is refused, or nothing."""
    try:
        parse(text)
    except Invalid as refusal:
        return refusal.message
    return ""


@lru_cache(4096)
def crosses(text: str) -> bool:
    """Whether an expression can match a slash, so that its variable may reach over several segments."""
    return any(mask & SLASH for mask in automaton(parse(text)).masks)


PLAIN: Node = Repeat(Symbol(SEGMENT), 1, -1)
"""A variable without an expression: one or more characters of one segment."""


def tree(parts: Sequence[bytes | Variable]) -> Node:
    """One tree for fixed text and variables in a row; named variables capture, in their order."""
    return expression.Sequence(tuple(map(_part, parts)))


def _part(part: bytes | Variable) -> Node:
    if isinstance(part, bytes):
        return expression.literal(part)
    body = parse(part.expression) if part.expression else PLAIN
    return Capture(body) if part.name else body


def overlap(a: str, b: str) -> str | None:
    """A text that both expressions match, None if there is none; "" also when that cannot be decided in bounds.

    An empty expression stands for a variable without one.
    """
    return common(tree((Variable("", a),)), tree((Variable("", b),)))


@lru_cache(4096)
def common(a: Node, b: Node) -> str | None:
    """Like overlap, of trees: a walk over the product of the two automata, shortest example first."""
    left, right = automaton(a), automaton(b)
    if left.nullable and right.nullable:
        return ""
    texts = {(-1, -1): ""}
    queue = [(-1, -1)]
    steps = 0
    for pair in queue:
        steps += len(left.follow[pair[0]]) * len(right.follow[pair[1]])
        if steps > MOST_STEPS:
            return ""
        for step, mask in _steps(left, right, *pair):
            if step not in texts:
                texts[step] = texts[pair] + _example(mask)
                queue.append(step)
                if step[0] in left.last and step[1] in right.last:
                    return texts[step]
    return None


def _steps(left: Automaton, right: Automaton, p: int, q: int) -> list[tuple[tuple[int, int], int]]:
    return [
        ((a, b), mask)
        for a in left.follow[p]
        for b in right.follow[q]
        if (mask := left.masks[a] & right.masks[b] & PATH)
    ]


def _example(mask: int) -> str:
    """One character of a set, a letter if there is one."""
    for preferred in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789":
        if mask >> ord(preferred) & 1:
            return preferred
    return chr(mask.bit_length() - 1)
