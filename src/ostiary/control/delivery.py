"""Delivery: the routes of a snapshot as the link carries them, some at a time."""

from collections.abc import Iterator

import msgspec

from ostiary.core.snapshot import Fixed, Route
from ostiary.link.frames import frame
from ostiary.link.messages import Pattern, Routes

ROOM = 50
"""A message has so many exact routes, or a fifth of it with variables: a tenth of a millisecond to take in."""
VARIABLE = 5
_encode = msgspec.msgpack.Encoder().encode


def messages(routes: list[Route], revision: int) -> Iterator[Routes]:
    """All routes, in order, in messages of bounded work."""
    exact: dict[bytes, msgspec.Raw] = {}
    patterns: list[Pattern] = []
    for route in routes:
        only = route.pieces[0]
        if len(route.pieces) == 1 and isinstance(only, Fixed):
            exact[f"{route.method} {only.text}".encode()] = msgspec.Raw(_encode(route))
        else:
            patterns.append(Pattern(route.method, route.pieces, route.order, msgspec.Raw(_encode(route))))
        if len(exact) + VARIABLE * len(patterns) >= ROOM:
            yield Routes(revision, exact, patterns)
            exact, patterns = {}, []
    if exact or patterns:
        yield Routes(revision, exact, patterns)


def frames(routes: list[Route], revision: int) -> list[bytes]:
    """The same, ready to be sent."""
    return [frame(message) for message in messages(routes, revision)]
