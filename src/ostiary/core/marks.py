"""Marks: that all users of a host went elsewhere at one moment, however many they are.

A mark stands for what their assignments would say had each been written anew. It counts for the assignments of its
host that were written before it; whoever reads one applies the marks to it in their order, until all have been
rewritten and the mark is dropped.
"""

from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from ostiary.core.director import Assignment, Ring


class Mark(Struct, frozen=True):
    """The users of a host go where a ring says; where that has no points they are forgotten."""

    number: int
    """Of the change that made it; later ones have greater ones."""
    host: str
    ring: tuple[tuple[str, int], ...]
    """Hosts and how many points each has."""
    held: int
    """Names the move, as in an assignment."""
    spared: frozenset[int] = frozenset()
    """Hashes that stay."""

    @property
    def forgets(self) -> bool:
        """Whether there is no host to go to."""
        return not _ring(self.ring).host(0)

    def takes(self, number: int) -> bool:
        """Whether a user of the host leaves it, by its hash."""
        return number not in self.spared and _ring(self.ring).host(number) != self.host

    def apply(self, found: Assignment) -> Assignment:
        """Where it goes, of an assignment that was written before."""
        if found.host != self.host or found.hash in self.spared:
            return found
        host = _ring(self.ring).host(found.hash)
        if host == found.host:
            return found
        return replace(found, host=host, held=self.held, expires=found.expires if host else 0)


@lru_cache(64)
def _ring(weights: tuple[tuple[str, int], ...]) -> Ring:
    return Ring(weights)


def marked(marks: Sequence[Mark], found: Assignment, seen: int) -> Assignment:
    """An assignment now. `seen`: the last mark when it was written; `marks` in order. Without a host: forgotten."""
    for mark in marks:
        if mark.number > seen:
            found = mark.apply(found)
    return found
