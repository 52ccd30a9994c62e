"""Limits in a worker: small batches of requests ("cells") drawn from control, spent here without asking.

Control holds the one number of each key (GCRA, core.limit), so a limit holds across workers. A batch is a 64th of the
quota: a worker that dies or falls idle wastes at most that, and a batch not spent within the window is given up, so
that what passes in a window exceeds the quota by at most one batch a worker. While control is away for longer than a
lease, each worker holds the limit by itself (public routes only: the others are refused then).
"""

from collections.abc import Callable
from functools import lru_cache

from ostiary.core.limit import Limit, take
from ostiary.core.snapshot import SECOND
from ostiary.link.messages import Grant, Want

MOST = 50_000
"""Keys that a worker remembers; beyond, the oldest generation goes (and draws anew when used again)."""

Waiter = Callable[[int], None]
"""Called with 0 when the request may pass, else with the microseconds to wait."""


@lru_cache(4096)
def fields(name: str, limit: Limit) -> tuple[bytes, bytes]:
    """RateLimit-Policy and RateLimit in front of what is left, and what follows it.

    By draft-ietf-httpapi-ratelimit-headers-11: `t` is how long no more than that is left, here the time that one
    request takes to be earned; a window that is no whole number of seconds is not told.
    """
    printable = "".join(letter if " " <= letter <= "~" else "?" for letter in name)
    policy = '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'
    window = "" if limit.window % SECOND else f";w={limit.window // SECOND}"
    before = f"ratelimit-policy: {policy};q={limit.quota}{window}\r\nratelimit: {policy};r="
    return before.encode(), f";t={-(-limit.window // (limit.quota * SECOND))}\r\n".encode()


class Cell:
    """One key: `left` requests may pass until `until` (monotonic ns); none before `refused_until`.

    `name` is that of the limit in RateLimit-Policy.
    """

    __slots__ = (
        "_after", "_before", "_rest", "_tat", "_waiting", "asked", "key", "left", "limit", "low", "refused_until",
        "size", "until",
    )  # fmt: skip

    def __init__(self, key: bytes, limit: Limit, name: str) -> None:
        self.key = key
        self.limit = limit
        self._before, self._after = fields(name, limit)
        self._rest = 0
        """What was left for all workers at the last draw."""
        self.size = max(1, limit.quota // 64)
        self.low = self.size // 4
        self.left = 0
        self.until = 0
        self.refused_until = 0
        self.asked = False
        self._tat = 0
        self._waiting: list[Waiter] = []

    def told(self) -> bytes:
        """The fields that say what is left, as far as it is known here."""
        return b"%s%d%s" % (self._before, self.left + self._rest, self._after)

    def exhausted(self, seconds: int) -> bytes:
        """The fields that say that nothing is left for `seconds`."""
        return b"%s0;t=%d\r\n" % (self._before, seconds)

    def wait(self, waiter: Waiter) -> Want | None:
        """Have `waiter` called when control has answered; gives what to draw, or None when that is under way."""
        self._waiting.append(waiter)
        return None if self.asked else self.want()

    def leave(self, waiter: Waiter) -> None:
        """Call `waiter` no more."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)

    def want(self) -> Want:
        """The draw that this cell needs now: what fills it up to a batch, or as many as wait."""
        self.asked = True
        return Want(self.key, self.limit, max(self.size - self.left, len(self._waiting)))

    def alone(self, now: int) -> int:
        """One request without control: 0 or the microseconds to wait; `now` in microseconds."""
        self.asked = False
        verdict = take(self.limit, self._tat, now)
        self._tat = verdict.tat
        self.left, self._rest = 0, verdict.left
        return verdict.wait

    def grant(self, grant: Grant, now: int) -> Want | None:
        """Take in control's answer and let as many wait no longer as it covers; gives the next draw, if one is due."""
        self.asked = False
        self.left = (self.left if now < self.until else 0) + grant.cells
        self._rest = min(grant.left, self.limit.quota - self.left)
        self.until = now + self.limit.window * 1000
        if not grant.cells and not self.left:
            self.refused_until = now + grant.wait * 1000
        waiting, self._waiting = self._waiting, []
        for at, waiter in enumerate(waiting):
            if self.left:
                self.left -= 1
                waiter(0)
            elif grant.cells:
                self._waiting += waiting[at:]
                break
            else:
                waiter(max(1, grant.wait))
        return self.want() if self._waiting and not self.asked else None


class Cells:
    """All keys of a worker, bounded."""

    __slots__ = ("_asked", "_old", "_young")

    def __init__(self) -> None:
        self._young: dict[bytes, Cell] = {}
        self._old: dict[bytes, Cell] = {}
        self._asked: dict[bytes, list[Cell]] = {}
        """By key, in the order of asking, which is that of the answers. Two where a limit changed in between."""

    def of(self, key: bytes, limit: Limit, name: str) -> Cell:
        """The cell of `key` under the limit called `name`; a new one when the limit has changed."""
        cell = self._young.get(key) or self._old.get(key)
        if cell is None or cell.limit != limit:
            cell = Cell(key, limit, name)
        if len(self._young) * 2 >= MOST:
            self._old, self._young = self._young, {}
        self._young[key] = cell
        return cell

    def asked(self, cell: Cell) -> None:
        """Remember that control was asked for `cell`, so that its answer finds it."""
        self._asked.setdefault(cell.key, []).append(cell)

    def granted(self, grant: Grant, now: int) -> Want | None:
        """Hand control's answer to the cell that asked."""
        cells = self._asked.get(grant.key)
        if not cells:
            return None
        cell = cells.pop(0)
        if not cells:
            del self._asked[grant.key]
        want = cell.grant(grant, now)
        if want:
            self.asked(cell)
        return want

    def again(self) -> list[Want]:
        """What to draw again after the link was lost in the middle."""
        return [cell.want() for cells in self._asked.values() for cell in cells]

    def forget(self) -> int:
        """Give up everything drawn (a flush); gives how many keys that were."""
        cells = {**self._old, **self._young}
        for cell in cells.values():
            cell.left = cell.until = cell.refused_until = 0
        self._old, self._young = {}, {key: cell for key, cell in cells.items() if cell.asked}
        return len(cells)
