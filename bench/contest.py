"""Programs take turns under the same load, in several short rounds: what disturbs a round disturbs all of them."""

from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from bench.generator import Job
from bench.load import saturate
from bench.measure import cpu_seconds, median_ratio
from bench.peers import Running
from bench.stage import Stage, job, say

CONNECTIONS = 32
WARM_UP = 0.5
"""Seconds."""


class Sample(NamedTuple):
    """One program in one round."""

    microseconds: float
    """CPU time of all its processes, a request."""
    rate: float
    """Requests answered a second."""


class Scores(NamedTuple):
    """The samples of all programs, by name, round by round."""

    samples: dict[str, list[Sample]]

    def cpu(self, name: str) -> float:
        """Median CPU microseconds a request."""
        return median(each.microseconds for each in self.samples[name])

    def rate(self, name: str) -> float:
        """Median requests a second."""
        return median(each.rate for each in self.samples[name])

    def cpu_ratio(self, ours: str, theirs: str) -> float | None:
        """The median over the rounds of ours / theirs; None where theirs was not there."""
        if theirs not in self.samples:
            return None
        first, second = ([each.microseconds for each in self.samples[name]] for name in (ours, theirs))
        return median_ratio(first, second)

    def rate_ratio(self, ours: str, theirs: str) -> float | None:
        """The same of the rates."""
        if theirs not in self.samples:
            return None
        first, second = ([each.rate for each in self.samples[name]] for name in (ours, theirs))
        return median_ratio(first, second)


Work = Callable[[Running, float], Job]
"""What a program is asked for so many seconds."""


def everywhere(program: Running, seconds: float) -> Job:
    """The one path that all programs know."""
    return job(program, seconds, CONNECTIONS)


def sample(stage: Stage, program: Running, asked: Job) -> Sample:
    """One turn."""
    before = cpu_seconds(program.process.pid)
    done = saturate(asked, stage.cores.load, stage.directory)
    return Sample((cpu_seconds(program.process.pid) - before) / done.requests * 1e6, done.rate)


def contest(stage: Stage, programs: list[Running], rounds: int, work: Work = everywhere) -> Scores:
    """All rounds, every other one in reverse order; all programs are warmed up first, at once."""
    for load in [stage.load(work(program, WARM_UP)) for program in programs]:
        load.result()
    samples: dict[str, list[Sample]] = {program.name: [] for program in programs}
    for number in range(rounds):
        for program in programs if number % 2 == 0 else reversed(programs):
            turn = sample(stage, program, work(program, stage.scale.seconds))
            samples[program.name].append(turn)
            say(f"  {program.name}: {turn.microseconds:.1f} us a request, {turn.rate:,.0f} requests/s")
    return Scores(samples)


def table(scores: Scores, absent: dict[str, str]) -> list[list[str]]:
    """A row a program; those that are not there say so."""
    rows = [[name, f"{scores.cpu(name):.1f}", f"{scores.rate(name):,.0f}"] for name in scores.samples]
    return rows + [[name, reason, ""] for name, reason in absent.items()]


COLUMNS = ["program", "CPU µs a request", "requests/s"]
