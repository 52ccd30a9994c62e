"""A large configuration: what a match costs, what a route weighs in a worker, and a reload under steady load."""

import random
from collections.abc import Sequence
from statistics import median
from time import monotonic, sleep
from typing import NamedTuple

from bench.catalogue import exact_paths, routes, settings, variable_paths
from bench.generator import Job, Result, rows
from bench.load import HEADERS, Load, saturate
from bench.measure import cpu_seconds, median_ratio, own_memory, percentile, settled
from bench.ostiary import Ostiary
from bench.report import Figure, Outcome
from bench.stage import Stage, say

FEW = 10
CONNECTIONS = 32
QUIET = 3.0
"""Seconds of load before the first reload, whose latency is the quiet one."""
Paths = Sequence[tuple[str, str]]


class Costs(NamedTuple):
    """CPU microseconds a request, a turn each."""

    few: list[float]
    many: list[float]


class Memory(NamedTuple):
    """Bytes that are the worker's alone, with few routes, with many, and after each of the many was used once."""

    few: int
    many: int
    used: int


class Reloads(NamedTuple):
    """Seconds of each reload, and what the load saw."""

    seconds: list[float]
    quiet: float
    """p99 in microseconds before."""
    during: float
    """p99 in microseconds of the requests that were due while a reload ran."""
    failures: int
    wrong: int


def asked(gateway: Ostiary, paths: Paths, seconds: float, rate: float = 0) -> Job:
    """Requests for these paths in an order without a pattern, each answer checked."""
    mixed = random.Random(1).sample(paths, len(paths))
    public, expected = [path for path, _ in mixed], [text for _, text in mixed]
    return Job(gateway.gateway, CONNECTIONS, seconds, rate, HEADERS, public, expected)


def turn(stage: Stage, gateway: Ostiary, paths: Paths) -> float:
    """CPU microseconds a request for these paths."""
    before = cpu_seconds(gateway.process.pid)
    done = saturate(asked(gateway, paths, stage.scale.seconds), stage.cores.load, stage.directory)
    return (cpu_seconds(gateway.process.pid) - before) / done.requests * 1e6


def costs(stage: Stage, few: tuple[Ostiary, Paths], many: tuple[Ostiary, Paths]) -> Costs:
    """Both configurations, taking turns."""
    found = Costs([], [])
    for number in range(stage.scale.rounds):
        pairs = [(few, found.few), (many, found.many)]
        for (gateway, paths), times in pairs if number % 2 == 0 else reversed(pairs):
            times.append(turn(stage, gateway, paths))
        say(f"  {found.few[-1]:.1f} us a request with few routes, {found.many[-1]:.1f} us with many")
    return found


def use_each(stage: Stage, gateway: Ostiary, paths: Paths) -> None:
    """Ask for every path at least once."""
    began = monotonic()
    done = 0
    while done < len(paths) and monotonic() < began + 60:
        part = paths[done:]
        done += saturate(asked(gateway, part, 2), stage.cores.load, stage.directory).requests


def reloads(stage: Stage, gateway: Ostiary, paths: Paths, rate: float) -> Reloads:
    """Reload under load, every route changed each time."""
    load = stage.load(asked(gateway, paths, 0, rate))
    sleep(1 + (QUIET if not stage.scale.quick else QUIET / 2))
    spans = []
    for generation in range(1, stage.scale.large_reloads + 1):
        gateway.write_routes(routes(stage.scale.routes, generation))
        sleep(1)
        began = monotonic()
        gateway.reload()
        spans.append((began, monotonic()))
        say(f"  reload of {stage.scale.routes:,} routes: {spans[-1][1] - began:.2f} s")
    return judged(load, spans)


def judged(load: Load, spans: list[tuple[float, float]]) -> Reloads:
    """What the load saw before and during."""
    result: Result = load.stop()
    every = rows(result)
    first = spans[0][0]
    quiet = [row.answered - row.due for row in every if result.began + 0.5 < row.due < first - 0.1]
    during = [row.answered - row.due for row in every if any(start <= row.due <= end for start, end in spans)]
    seconds = [end - start for start, end in spans]
    p99s = percentile(quiet, 99) * 1e6, percentile(during, 99) * 1e6
    return Reloads(seconds, *p99s, sum(result.failures.values()), result.wrong)


def yaml_seconds(stage: Stage, gateway: Ostiary) -> float:
    """The same routes as YAML: one reload, no load."""
    gateway.write_routes_as_yaml(routes(stage.scale.routes, 99))
    return gateway.reload()


def measure(stage: Stage) -> Outcome:
    """Everything about many routes."""
    many = stage.scale.routes
    with (
        stage.backend("echo") as backend,
        stage.ostiary("few", settings(backend), routes(FEW)) as small,
        stage.ostiary("many", settings(backend), routes(many)) as large,
    ):
        before = settled(lambda: own_memory(small.worker())), settled(lambda: own_memory(large.worker()))
        for paths in (exact_paths(many), variable_paths(many)):
            use_each(stage, large, paths)
        memory = Memory(*before, own_memory(large.worker()))
        exact = costs(stage, (small, exact_paths(FEW)), (large, exact_paths(many)))
        variable = costs(stage, (small, variable_paths(FEW)), (large, variable_paths(many)))
        every = [*exact_paths(many), *variable_paths(many)]
        rate = saturate(asked(large, every, 1), stage.cores.load, stage.directory).rate / 2
        seen = reloads(stage, large, every, rate)
        yaml = None if stage.scale.quick else yaml_seconds(stage, large)
    return outcome(many, memory, exact, variable, seen, rate, yaml)


def outcome(
    many: int, memory: Memory, exact: Costs, variable: Costs, seen: Reloads, rate: float, yaml: float | None
) -> Outcome:
    """Figures and table."""
    count = f"{many:,} routes"
    weights = [(bytes_ - memory.few) / (many - FEW) / 1024 for bytes_ in (memory.many, memory.used)]
    figures = [
        Figure("routes_match_exact", median_ratio(exact.many, exact.few), 1.5, f"{count} : {FEW}, CPU a request"),
        Figure("routes_match_variable", median_ratio(variable.many, variable.few), 1.5, "the same, with variables"),
        Figure("routes_memory_kib", weights[0], 1.5, f"KiB a route in a worker, {count}"),
        Figure("routes_memory_used_kib", weights[1], None, "the same after every route was used once"),
        Figure("routes_reload_seconds", median(seen.seconds), 5, f"reload of {count} from JSON under load"),
        Figure("routes_reload_failed", seen.failures + seen.wrong, 0, "requests failed or wrongly routed in it"),
        Figure("routes_reload_p99", seen.during / seen.quiet, 3, "p99 during the reload : quiet p99"),
    ]
    if yaml is not None:
        figures.append(Figure("routes_reload_yaml_seconds", yaml, None, "the same from YAML, without load"))
    columns = ["configuration", "exact: CPU µs a request", "variable: CPU µs a request", "worker MiB (own)"]
    table = [
        [f"{FEW} routes", f"{median(exact.few):.1f}", f"{median(variable.few):.1f}", _mib(memory.few)],
        [count, f"{median(exact.many):.1f}", f"{median(variable.many):.1f}", _mib(memory.many)],
    ]
    notes = f"Reloads at {rate:,.0f} requests/s: p99 {seen.quiet:.0f} µs before, {seen.during:.0f} µs during."
    return Outcome("Many routes", figures, columns, table, notes)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f}"
