"""Rate limits: GCRA with exact integers, one number a key.

Time is counted in units of microseconds x quota, so that one request costs exactly `window` units whatever the
quota. Float seconds refuse the last request of a burst in four settings of ten; here the whole quota may come at once
and the next request is refused until exactly window/quota has passed. (ITU-T I.371 annex A, virtual scheduling.)
"""

from typing import NamedTuple

from msgspec import Struct


class Limit(Struct, frozen=True, array_like=True):
    """`quota` requests per `window` microseconds, all of which may come at once. Both are 1 or more."""

    quota: int
    window: int


class Verdict(NamedTuple):
    """What was granted: `cells` requests, the new number to keep, the microseconds until one more would be, and how
    many more would be granted at once."""

    cells: int
    tat: int
    wait: int
    left: int


def take(limit: Limit, tat: int, now: int, cells: int = 1) -> Verdict:
    """Grant up to `cells` requests at `now` (microseconds) to a key whose number is `tat` (0 for a new key).

    Grants as many as fit; `wait` is 0 when all were granted, else the microseconds until one more fits.
    """
    quota, window = limit.quota, limit.window
    scaled = now * quota
    start = max(tat, scaled)
    room = max(0, (scaled + quota * window - start) // window)
    granted = min(cells, room)
    tat = start + granted * window if granted else tat
    if granted == cells:
        return Verdict(granted, tat, 0, room - granted)
    excess = max(tat, scaled) + window - scaled - quota * window
    return Verdict(granted, tat, -(-excess // quota), 0)
