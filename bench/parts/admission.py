"""What it costs to know who a token stands for: CPU of a request without a token, with the same token again, with
another one that the worker remembers, and with one that the worker has to ask control for.
"""

from statistics import median
from typing import NamedTuple

from bench.fill import fill, token
from bench.generator import Job
from bench.load import HEADERS, PATH, saturate
from bench.measure import cpu_seconds, median_ratio
from bench.ostiary import Ostiary, Settings
from bench.parts.policy import settings
from bench.report import Figure, Outcome
from bench.stage import Stage, say

CONNECTIONS = 32
CHEAP = 4
"""Times as many requests where each costs little: the kernel counts CPU time in hundredths of a second."""
OPEN = "/v1.0/open"
PUBLIC, AGAIN, KNOWN, MISS = "no token", "the same token again", "another token, remembered", "another token, asked for"


class Cost(NamedTuple):
    """CPU microseconds a request."""

    worker: float
    control: float

    def both(self) -> float:
        return self.worker + self.control


Costs = dict[str, list[Cost]]


def routes(backend: int) -> Settings:
    """The protected route, and the same without a token."""
    found = settings(backend, "")
    return {**found, "routes": [*found["routes"], {"match": f"GET {OPEN}", "to": "/countries", "upstream": "backend"}]}


def job(gateway: Ostiary, path: str, count: int, tokens: list[str]) -> Job:
    """So many requests, over these tokens in turn."""
    return Job(gateway.gateway, CONNECTIONS, 120, 0, HEADERS, [path], most=count, tokens=tokens)


def cost(stage: Stage, gateway: Ostiary, asked: Job) -> Cost:
    """One turn."""
    pids = gateway.worker(), gateway.control()
    before = [cpu_seconds(pid) for pid in pids]
    done = saturate(asked, stage.cores.load, stage.directory)
    worker, control = ((cpu_seconds(pid) - was) / done.requests * 1e6 for pid, was in zip(pids, before, strict=True))
    return Cost(worker, control)


def turns(stage: Stage, gateway: Ostiary) -> Costs:
    """All four, taking turns; each round has tokens of its own."""
    count = stage.scale.admissions
    found: Costs = {PUBLIC: [], AGAIN: [], MISS: [], KNOWN: []}
    for number in range(stage.scale.long_rounds):
        own = [token(each) for each in range(number * count, (number + 1) * count)]
        works = {
            PUBLIC: job(gateway, OPEN, CHEAP * count, []),
            AGAIN: job(gateway, PATH, CHEAP * count, own[:1]),
            MISS: job(gateway, PATH, count, own),
            KNOWN: job(gateway, PATH, count, own),
        }
        for name, asked in works.items():
            found[name].append(cost(stage, gateway, asked))
            say(f"  {name}: {found[name][-1].both():.1f} us a request")
    return found


def measure(stage: Stage) -> Outcome:
    """Fill the store, so that there are tokens enough, and take turns."""
    with stage.backend("canned") as backend, stage.ostiary("ostiary", routes(backend)) as gateway:
        client, _ = gateway.application()
        gateway.stop()
        fill(gateway.store, client, stage.scale.admissions * stage.scale.long_rounds)
        gateway.start()
        return outcome(turns(stage, gateway))


def outcome(found: Costs) -> Outcome:
    """Figures and table."""
    both = {name: [each.both() for each in costs] for name, costs in found.items()}
    more = {name: median(a - b for a, b in zip(both[name], both[than], strict=True)) for name, than in STEPS.items()}
    figures = [
        Figure("admission_hit_ratio", median_ratio(both[AGAIN], both[PUBLIC]), None, "token again : no token, CPU"),
        Figure("admission_hit_us", more[AGAIN], None, "µs of CPU that a remembered token adds on its connection"),
        Figure("admission_known_us", more[KNOWN], None, "the same where each request of a connection has another"),
        Figure(
            "admission_miss_us", more[MISS], None, "µs of CPU, worker and control, that asking control adds to that"
        ),
    ]
    rows = [
        [name, f"{median(each.worker for each in costs):.1f}", f"{median(each.control for each in costs):.1f}"]
        for name, costs in ((name, found[name]) for name in (PUBLIC, AGAIN, KNOWN, MISS))
    ]
    return Outcome("Admission", figures, ["a request with", "worker: CPU µs", "control: CPU µs"], rows)


STEPS = {AGAIN: PUBLIC, KNOWN: PUBLIC, MISS: KNOWN}
"""What is compared with what."""
