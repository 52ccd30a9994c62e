"""A store with a million live tokens: its size, look-ups among them, and what a worker weighs that remembers as many
as it may. Look-ups are one at a time, of tokens in an order without a pattern.
"""

import http.client
import os
import random
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import NamedTuple
from urllib.parse import urlencode

from bench.fill import fill, token
from bench.load import PATH, saturate
from bench.measure import own_memory, percentile, settled
from bench.ostiary import Ostiary
from bench.parts.admission import job
from bench.parts.policy import settings
from bench.process import Failed
from bench.report import Figure, Outcome
from bench.stage import Stage

LOOKS = 2_000
MOST = 100_000
"""Tokens that a worker remembers, unless its settings say otherwise."""
MIB = 1 << 20
_WEIGHT = """
SELECT SUM(pgsize) FROM dbstat
WHERE aggregate = 1 AND name IN (SELECT name FROM sqlite_master WHERE tbl_name = 'tokens')
"""


class Sizes(NamedTuple):
    """Bytes of the whole file, and of the table of tokens with its indexes."""

    file: int
    table: int


class Spans(NamedTuple):
    """Milliseconds of one look each."""

    p50: float
    p99: float

    def shown(self) -> list[str]:
        return [f"{self.p50:.2f}", f"{self.p99:.2f}"]


def sizes(store: Path) -> Sizes:
    """What the tokens take."""
    with closing(sqlite3.connect(store)) as connection:
        [(table,)] = connection.execute(_WEIGHT).fetchall()
    return Sizes(store.stat().st_size, table)


def forget(store: Path) -> None:
    """Have the kernel drop what it remembers of the file."""
    file = os.open(store, os.O_RDONLY)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


Ask = Callable[[http.client.HTTPConnection, str], None]


def looks(port: int, ask: Ask, tokens: Iterable[str]) -> Spans:
    """Ask for each token, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.connect()
    seconds = []
    for each in tokens:
        began = perf_counter()
        ask(connection, each)
        seconds.append(perf_counter() - began)
    connection.close()
    return Spans(percentile(seconds, 50) * 1000, percentile(seconds, 99) * 1000)


def introspection(client: dict[str, str]) -> Ask:
    """What a token is, asked by its client."""

    def ask(connection: http.client.HTTPConnection, text: str) -> None:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/oauth20/introspect", urlencode({"token": text, **client}), kind)
        if b'"active":true' not in connection.getresponse().read():
            raise Failed("a live token was not found")

    return ask


def passage(connection: http.client.HTTPConnection, text: str) -> None:
    """A request on the gateway."""
    connection.request("GET", PATH, headers={"Authorization": f"Bearer {text}"})
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise Failed(f"a live token was answered {answer.status}")


def fullness(stage: Stage, gateway: Ostiary) -> int:
    """Bytes that a worker grows by when it remembers as many tokens as it may."""
    before = settled(lambda: own_memory(gateway.worker()))
    tokens = [token(number) for number in range(min(stage.scale.tokens, MOST))]
    saturate(job(gateway, PATH, len(tokens), tokens), stage.cores.load, stage.directory)
    return settled(lambda: own_memory(gateway.worker())) - before


def measure(stage: Stage) -> Outcome:
    """Fill, start, look, and remember."""
    count = stage.scale.tokens
    order = random.Random(1).sample(range(count), min(2 * LOOKS, count // 20))
    some, others = ([token(number) for number in order[start::2]] for start in (0, 1))
    with stage.backend("canned") as backend, stage.ostiary("ostiary", settings(backend, "")) as gateway:
        client_id, secret = gateway.application()
        gateway.stop()
        empty = gateway.start()
        gateway.stop()
        fill(gateway.store, client_id, count)
        weighed = sizes(gateway.store)
        forget(gateway.store)
        full = gateway.start()
        ask = introspection({"client_id": client_id, "client_secret": secret})
        spans = {
            "introspect, cold": looks(gateway.admin, ask, some),
            "introspect, again": looks(gateway.admin, ask, some),
            "admit, first time": looks(gateway.gateway, passage, others),
            "admit, again": looks(gateway.gateway, passage, others),
        }
        grown = fullness(stage, gateway)
        control = own_memory(gateway.control())
    return outcome(count, weighed, (empty, full), spans, (grown, control))


def outcome(
    count: int, weighed: Sizes, starts: tuple[float, float], spans: dict[str, Spans], memory: tuple[int, int]
) -> Outcome:
    """Figures and table."""
    cold, again, miss, _ = spans.values()
    remembered = min(count, MOST)
    figures = [
        Figure("million_token_bytes", weighed.table / count, None, f"bytes a token, {count:,} of them, with indexes"),
        Figure("million_store_bytes", weighed.file / count, None, "bytes of the whole store a token, with its audit"),
        Figure("million_start_ratio", starts[1] / starts[0], None, "start with them : start without them"),
        Figure("million_introspect_cold_p99_ms", cold.p99, None, "introspection, nothing in memory, p99, ms"),
        Figure("million_introspect_p99_ms", again.p99, None, "the same tokens again, p99, ms"),
        Figure("million_admit_p99_ms", miss.p99, None, "first request with a token on the gateway, p99, ms"),
        Figure("million_worker_mib", memory[0] / MIB, None, f"a worker that remembers {remembered:,} grows by, MiB"),
    ]
    notes = (
        f"Started in {starts[1]:.2f} s with {count:,} tokens, in {starts[0]:.2f} s with none. The store is "
        f"{weighed.file / MIB:,.0f} MiB. A remembered token takes {memory[0] / remembered:,.0f} bytes in a worker. "
        f"Control has {memory[1] / MIB:,.0f} MiB in the end."
    )
    rows = [[name, *each.shown()] for name, each in spans.items()]
    return Outcome("A million tokens", figures, ["one at a time", "p50 ms", "p99 ms"], rows, notes)
