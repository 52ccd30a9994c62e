"""Added latency at a fixed open-loop rate, half of what Ostiary can do.

Added: over the same rate straight to the backend, in the same round.
"""

from statistics import median
from typing import NamedTuple

from bench.generator import rows
from bench.measure import percentile
from bench.parts.plain import settings
from bench.peers import ENVOY, HAPROXY, NGINX, Running
from bench.process import Failed
from bench.report import Figure, Outcome
from bench.stage import Stage, job, say

CONNECTIONS = 32
FLOOR = 10.0
"""Microseconds: a smaller addition cannot be told from chance, and is taken for this."""


class Latency(NamedTuple):
    """Microseconds from the moment a request was due to its answer."""

    p50: float
    p99: float


def latency(stage: Stage, program: Running, rate: float) -> Latency:
    """One turn; its first fifth is warm-up."""
    result = stage.load(job(program, stage.scale.latency_seconds, CONNECTIONS, rate)).result()
    if result.failures:
        raise Failed(f"{program.name}: {result.failures}")
    after = result.began + (result.ended - result.began) / 5
    taken = [(row.answered - row.due) * 1e6 for row in rows(result) if row.due > after]
    return Latency(percentile(taken, 50), percentile(taken, 99))


def added(turns: list[Latency], direct: list[Latency]) -> Latency:
    """The medians of what the program adds, round by round."""
    pairs = list(zip(turns, direct, strict=True))
    return Latency(
        max(FLOOR, median(turn.p50 - base.p50 for turn, base in pairs)),
        max(FLOOR, median(turn.p99 - base.p99 for turn, base in pairs)),
    )


def measure(stage: Stage) -> Outcome:
    """All programs at one rate, taking turns."""
    with (
        stage.backend("canned") as backend,
        stage.ostiary("ostiary", settings(backend)) as ostiary,
        stage.peers([NGINX] if stage.scale.quick else [NGINX, HAPROXY, ENVOY], backend) as (peers, absent),
    ):
        ours = ostiary.running()
        direct = Running("backend alone", ours.process, backend)
        programs = [direct, ours, *peers]
        rate = stage.saturate(ours, stage.scale.seconds).rate / 2
        say(f"  {rate:,.0f} requests/s")
        turns: dict[str, list[Latency]] = {program.name: [] for program in programs}
        for number in range(stage.scale.rounds):
            for program in programs if number % 2 == 0 else reversed(programs):
                turns[program.name].append(turn := latency(stage, program, rate))
                say(f"  {program.name}: p50 {turn.p50:.0f} us, p99 {turn.p99:.0f} us")
    return outcome(turns, absent, rate)


def outcome(turns: dict[str, list[Latency]], absent: dict[str, str], rate: float) -> Outcome:
    """Figures and table."""
    direct = turns.pop("backend alone")
    extra = {name: added(each, direct) for name, each in turns.items()}
    theirs = extra.get(NGINX.name)
    ratio = extra["Ostiary"].p99 / theirs.p99 if theirs else None
    meaning = "added p99 latency at half of saturation, open loop, beside nginx"
    figure = Figure("latency_p99_added_vs_nginx", ratio, 2.0, meaning, absent.get(NGINX.name, ""))
    columns = ["program", "p50 µs", "p99 µs", "added p50 µs", "added p99 µs"]
    table = [["backend alone", *_medians(direct), "", ""]]
    table += [[name, *_medians(turns[name]), *(f"{each:.0f}" for each in extra[name])] for name in turns]
    table += [[name, reason, "", "", ""] for name, reason in absent.items()]
    return Outcome("Latency", [figure], columns, table, f"At {rate:,.0f} requests/s over {CONNECTIONS} connections.")


def _medians(turns: list[Latency]) -> list[str]:
    return [f"{median(turn.p50 for turn in turns):.0f}", f"{median(turn.p99 for turn in turns):.0f}"]
