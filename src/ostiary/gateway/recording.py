"""The record of an exchange that is over: what is counted of it, and its line in the access log."""

from time import monotonic_ns
from typing import TYPE_CHECKING

from ostiary.gateway.accounting import LAST_BUCKET
from ostiary.gateway.generation import Match
from ostiary.gateway.sessions import SLOW

if TYPE_CHECKING:
    from ostiary.gateway.client import Client

BATCH = 256
"""Lines after which they are handed to the writer."""


def record(client: "Client", match: Match) -> None:
    """The client's exchange is over; `match` is what it was. One function: each call on this path is felt."""
    exchange, worker, stat = client.exchange, client.worker, match.stat
    status = exchange.status
    took = (monotonic_ns() - exchange.started) // 1000
    if not stat.statuses:
        stat.begin()
    statuses = stat.statuses
    statuses[status] = statuses.get(status, 0) + 1
    bits = took.bit_length()
    stat.latencies[bits if bits < LAST_BUCKET else LAST_BUCKET] += 1
    stat.microseconds += took
    tally = client.tally
    tally.last = exchange.started + took * 1000
    tally.exchanges += 1
    tally.micros += took
    tally.read_bytes += client.received
    tally.write_bytes += exchange.sent + exchange.heads
    client.received = 0
    if exchange.admitted is not None:
        tally.admitted += 1
    if took > SLOW or status >= 500:
        worker.sessions.slow(tally, match.target.name if match.target else "", took, exchange.sent)
    log = worker.log
    if log.on:
        admitted = exchange.admitted
        why = b',"why":"%s"' % exchange.why.encode() if exchange.why else b""
        log.lines.append(
            b'{"time":"%s",%s%s%s"status":%d,"bytes":%d,"microseconds":%d,"request_id":"%s"%s}\n' % (
                worker.stamp, match.log, client.log, admitted.log if admitted is not None else b"", status,
                exchange.sent, took, exchange.request_id, why,
            )
        )  # fmt: skip
        if len(log.lines) >= BATCH:
            log.flush()
