"""What a match costs: requests over the routes of a small and of a large configuration, taking turns."""

import random
from statistics import median
from typing import NamedTuple

from bench.catalogue import Paths
from bench.generator import Job
from bench.load import HEADERS, saturate
from bench.measure import cpu_seconds, median_ratio
from bench.ostiary import Ostiary
from bench.stage import Stage, say

CONNECTIONS = 32


class Traffic(NamedTuple):
    """A gateway and what is asked of it."""

    gateway: Ostiary
    paths: Paths


class Costs(NamedTuple):
    """CPU microseconds a request, a turn each."""

    few: list[float]
    many: list[float]

    def ratio(self) -> float:
        """Many routes beside few."""
        return median_ratio(self.many, self.few)

    def shown(self) -> tuple[str, str]:
        """The medians."""
        return f"{median(self.few):.1f}", f"{median(self.many):.1f}"


def asked(gateway: Ostiary, paths: Paths, seconds: float, rate: float = 0) -> Job:
    """Requests for these paths in an order without a pattern, each answer checked."""
    mixed = random.Random(1).sample(paths, len(paths))
    public, expected = [path for path, _ in mixed], [text for _, text in mixed]
    return Job(gateway.gateway, CONNECTIONS, seconds, rate, HEADERS, public, expected)


def turn(stage: Stage, traffic: Traffic) -> float:
    """CPU microseconds a request."""
    before = cpu_seconds(traffic.gateway.process.pid)
    done = saturate(asked(*traffic, stage.scale.turn_seconds), stage.cores.load, stage.directory)
    return (cpu_seconds(traffic.gateway.process.pid) - before) / done.requests * 1e6


def costs(stage: Stage, few: Traffic, many: Traffic) -> Costs:
    """Both, taking turns."""
    found = Costs([], [])
    for number in range(stage.scale.rounds):
        pairs = [(few, found.few), (many, found.many)]
        for traffic, times in pairs if number % 2 == 0 else reversed(pairs):
            times.append(turn(stage, traffic))
        say(f"  {found.few[-1]:.1f} us a request with few routes, {found.many[-1]:.1f} us with many")
    return found
