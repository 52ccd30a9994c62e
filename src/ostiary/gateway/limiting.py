"""Limits on an exchange: it takes a request from a cell, or waits for control to grant some, or is refused."""

from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING

from ostiary.core.snapshot import RouteLimit
from ostiary.gateway.cells import Cell

if TYPE_CHECKING:
    from ostiary.gateway.exchange import Exchange

PATIENCE = 1_000_000_000
"""Nanoseconds that an exchange waits for cells; then its worker holds the limit alone."""


def cell_of(exchange: "Exchange", limit: RouteLimit) -> Cell:
    """The cell of a route's limit that this exchange takes from."""
    key = f"route {limit.name} {_subject(exchange, limit.by)}".encode()
    return exchange.worker.cells.of(key, limit.limit, limit.name)


def _subject(exchange: "Exchange", by: str) -> str:
    """For whom it is counted; whoever is not known counts by the address."""
    admission = exchange.admitted.admission if exchange.admitted else None
    if by == "route":
        return ""
    if admission and by == "user" and admission.user:
        return f"user {admission.user}"
    if admission and by != "address":
        return f"client {admission.client}"
    return f"address {exchange.fields.address}"


def take(exchange: "Exchange", cell: Cell, now: int) -> bool:
    """Take one request from `cell`, if it has one at hand."""
    if not cell.left or now >= cell.until:
        return False
    cell.left -= 1
    if cell.left < cell.low and not cell.asked:
        exchange.worker.draw(cell)
    if exchange.worker.settings.ratelimit_headers:
        exchange.limits += cell.told()
    return True


def draw(exchange: "Exchange", cell: Cell, now: int, then: Callable[[int], None]) -> None:
    """Nothing is at hand: refuse if control refused lately, else ask it and wait; `then` goes on."""
    if now < cell.refused_until:
        _refuse(exchange, cell, (cell.refused_until - now) // 1000)
        return

    def drawn(wait: int) -> None:
        exchange.waiting = None
        if wait:
            _refuse(exchange, cell, wait)
            return
        if exchange.worker.settings.ratelimit_headers:
            exchange.limits += cell.told()
        then(monotonic_ns())

    want = cell.wait(drawn)
    if want is not None and not exchange.worker.draw_now(cell, want):
        cell.leave(drawn)
        drawn(cell.alone(now // 1000))
        return
    exchange.wait(lambda: cell.leave(drawn), now + PATIENCE, lambda: drawn(cell.alone(monotonic_ns() // 1000)))


def _refuse(exchange: "Exchange", cell: Cell, wait: int) -> None:
    seconds = max(1, -(-wait // 1_000_000))
    exchange.limits += cell.exhausted(seconds)
    exchange.refuse(429, None, b"retry-after: %d\r\n" % seconds, "rate limit")
