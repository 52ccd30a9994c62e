"""One reload after the other, every route changing each time, under 200 connections at half of saturation.

Every answer says which route and which generation of the configuration it came from. A request that was sent after a
reload was confirmed must not be served by the configuration before it; one that was answered before a reload began
cannot be served by what it brings.
"""

from bisect import bisect_right
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import NamedTuple

from bench.catalogue import exact_paths, routes, settings, variable_paths
from bench.generator import Row, rows
from bench.load import saturate
from bench.matching import asked
from bench.measure import percentile
from bench.ostiary import Ostiary
from bench.report import Figure, Outcome
from bench.stage import Stage, say

CONNECTIONS = 200


class Span(NamedTuple):
    """When generation N (its index, from 1) was asked for and when it was confirmed."""

    began: float
    ended: float


def stale_or_early(every: list[Row], spans: list[Span]) -> int:
    """How many answers came from a configuration that could not be in force."""
    began, ended = [span.began for span in spans], [span.ended for span in spans]
    return sum(
        not bisect_right(ended, row.sent) <= row.generation <= bisect_right(began, row.answered) for row in every
    )


def reload_often(gateway: Ostiary, drafts: list[Path]) -> list[Span]:
    """All reloads, a tenth of a second apart."""
    spans = []
    for draft in drafts:
        gateway.take(draft)
        began = monotonic()
        gateway.reload()
        spans.append(Span(began, monotonic()))
        if len(spans) % 10 == 0:
            say(f"  {len(spans)} reloads")
        sleep(0.1)
    return spans


def measure(stage: Stage) -> Outcome:
    """Reload under load and judge every answer."""
    count = stage.scale.changing
    with (
        stage.backend("echo") as backend,
        stage.ostiary("ostiary", settings(backend), routes(count)) as gateway,
    ):
        job = asked(gateway, [*exact_paths(count), *variable_paths(count)], 2)
        job.connections = CONNECTIONS
        saturate(job, stage.cores.load, stage.directory)
        job.rate = saturate(job, stage.cores.load, stage.directory).rate / 2
        job.seconds = 0
        drafts = [gateway.draft(routes(count, number + 1)) for number in range(stage.scale.reloads)]
        load = stage.load(job)
        sleep(stage.scale.quiet_seconds)
        spans = reload_often(gateway, drafts)
        sleep(0.5)
        result = load.stop()
    every = rows(result)
    wrong = result.wrong + stale_or_early(every, spans)
    seconds = [span.ended - span.began for span in spans]
    figures = [
        Figure("reloads_failed", sum(result.failures.values()), 0, f"requests failed in {len(spans)} reloads"),
        Figure("reloads_wrong", wrong, 0, "requests answered by a wrong route or a configuration not in force"),
        Figure("reloads_seconds", median(seconds), None, f"one reload of {count:,} routes, under load"),
    ]
    taken = [(row.answered - row.due) * 1e6 for row in every]
    columns = ["reloads", "requests", "failed", "wrong", "requests/s", "p50 µs", "p99 µs"]
    row = [str(len(spans)), f"{len(every):,}", str(sum(result.failures.values())), str(wrong), f"{job.rate:,.0f}"]
    row += [f"{percentile(taken, 50):.0f}", f"{percentile(taken, 99):.0f}"]
    notes = f"{CONNECTIONS} connections. Failures by kind: {result.failures or 'none'}."
    return Outcome("Reload after reload", figures, columns, [row], notes)
