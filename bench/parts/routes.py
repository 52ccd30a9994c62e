"""A large configuration: what a match costs, what a route weighs in a worker, and a reload under steady load.

The match is measured with the same number of different request lines on both sides, more than a worker remembers, so
that the number of routes is all that differs. Beside it the plain experience: every route asked for in turn, where a
worker remembers the few lines of the small configuration and cannot remember those of the large one.
"""

from statistics import median
from time import monotonic, sleep
from typing import NamedTuple

from bench.catalogue import Paths, distinct, exact_paths, routes, settings, variable_paths
from bench.generator import Result, rows
from bench.load import Load, saturate
from bench.matching import Costs, Traffic, asked, costs
from bench.measure import own_memory, percentile, settled
from bench.ostiary import Ostiary
from bench.process import Failed
from bench.report import Figure, Outcome
from bench.stage import Stage, say

FEW = 10
KINDS = {"exact": exact_paths, "variable": variable_paths}


class Memory(NamedTuple):
    """Bytes that are the worker's alone, with few routes, with many, and after each of the many was used once."""

    few: int
    many: int
    used: int


class Reloads(NamedTuple):
    """Seconds of each reload, and what the load saw; p99 in microseconds."""

    seconds: list[float]
    rate: float
    quiet: float
    """Before."""
    during: float
    """Of the requests that were due while a reload ran."""
    failures: int
    """Failed or wrongly routed."""


def use_each(stage: Stage, gateway: Ostiary, paths: Paths) -> None:
    """Ask once for every path."""
    job = asked(gateway, paths, 120)
    job.most = len(paths)
    if saturate(job, stage.cores.load, stage.directory).requests < len(paths):
        raise Failed("not every route could be used in two minutes")


def matches(stage: Stage, small: Ostiary, large: Ostiary) -> dict[str, Costs]:
    """The costs by kind of route; `... again`: every route in turn, whatever is remembered (in a full run)."""
    many, found = stage.scale.routes, {}
    for kind, paths in KINDS.items():
        fresh = [distinct(paths(count), many // 2) for count in (FEW, many)]
        found[kind] = costs(stage, Traffic(small, fresh[0]), Traffic(large, fresh[1]))
        if not stage.scale.quick:
            found[f"{kind} again"] = costs(stage, Traffic(small, paths(FEW)), Traffic(large, paths(many)))
    return found


def reloads(stage: Stage, gateway: Ostiary, paths: Paths) -> Reloads:
    """Reload under load, every route changed each time."""
    drafts = [gateway.draft(routes(stage.scale.routes, number + 1)) for number in range(stage.scale.large_reloads)]
    rate = saturate(asked(gateway, paths, 1), stage.cores.load, stage.directory).rate / 2
    load = stage.load(asked(gateway, paths, 0, rate))
    sleep(stage.scale.quiet_seconds)
    spans = []
    for draft in drafts:
        gateway.take(draft)
        began = monotonic()
        gateway.reload()
        spans.append((began, monotonic()))
        say(f"  reload of {stage.scale.routes:,} routes: {spans[-1][1] - began:.2f} s")
        sleep(0.5)
    return judged(load, rate, spans)


def judged(load: Load, rate: float, spans: list[tuple[float, float]]) -> Reloads:
    """What the load saw before and during."""
    result: Result = load.stop()
    every = rows(result)
    first = spans[0][0]
    quiet = [row.answered - row.due for row in every if result.began + 0.5 < row.due < first - 0.1]
    during = [row.answered - row.due for row in every if any(start <= row.due <= end for start, end in spans)]
    p99s = percentile(quiet, 99) * 1e6, percentile(during, 99) * 1e6
    return Reloads([end - start for start, end in spans], rate, *p99s, sum(result.failures.values()) + result.wrong)


def yaml_seconds(stage: Stage, gateway: Ostiary) -> float:
    """The same routes as YAML: one reload, no load."""
    gateway.write_routes_as_yaml(routes(stage.scale.routes, 99))
    return gateway.reload()


def measure(stage: Stage) -> Outcome:
    """Everything about many routes."""
    many = stage.scale.routes
    every = [*exact_paths(many), *variable_paths(many)]
    with (
        stage.backend("echo") as backend,
        stage.ostiary("few", settings(backend), routes(FEW)) as small,
        stage.ostiary("many", settings(backend), routes(many)) as large,
    ):
        before = settled(lambda: own_memory(small.worker())), settled(lambda: own_memory(large.worker()))
        use_each(stage, large, every)
        memory = Memory(*before, own_memory(large.worker()))
        match = matches(stage, small, large)
        seen = reloads(stage, large, every)
        yaml = None if stage.scale.quick else yaml_seconds(stage, large)
    return outcome(f"{many:,} routes", weights(many, memory), match, seen, yaml)


def weights(many: int, memory: Memory) -> tuple[float, float]:
    """KiB a route: as loaded, and once used."""
    each = 1024 * (many - FEW)
    return (memory.many - memory.few) / each, (memory.used - memory.few) / each


def outcome(
    count: str, weight: tuple[float, float], match: dict[str, Costs], seen: Reloads, yaml: float | None
) -> Outcome:
    """Figures and table."""
    figures = [_match_figure(count, kind, each) for kind, each in match.items()]
    figures += [
        Figure("routes_memory_kib", weight[0], 1.5, f"KiB a route in a worker, {count}"),
        Figure("routes_memory_used_kib", weight[1], None, "the same after every route was used once"),
        Figure("routes_reload_seconds", median(seen.seconds), 5, f"reload of {count} from JSON under load"),
        Figure("routes_reload_failed", seen.failures, 0, "requests failed or wrongly routed in it"),
        Figure("routes_reload_p99", seen.during / seen.quiet, 3, "p99 during the reload : quiet p99"),
    ]
    if yaml is not None:
        figures.append(Figure("routes_reload_yaml_seconds", yaml, None, "the same from YAML, without load"))
    columns = ["kind of route", f"{FEW} routes: CPU µs a request", f"{count}: CPU µs a request"]
    table = [[kind, *each.shown()] for kind, each in match.items()]
    notes = f"Reloads at {seen.rate:,.0f} requests/s: p99 {seen.quiet:.0f} µs before, {seen.during:.0f} µs during."
    return Outcome("Many routes", figures, columns, table, notes)


def _match_figure(count: str, kind: str, each: Costs) -> Figure:
    name = f"routes_match_{kind.replace(' ', '_')}"
    if kind in KINDS:
        return Figure(name, each.ratio(), 1.5, f"{count} beside {FEW}, {kind}: CPU a request, nothing remembered")
    return Figure(name, each.ratio(), None, f"the same, the {FEW} remembered and the {count} not")
