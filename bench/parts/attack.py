"""Log-ins under attack: 500 wrong log-ins a second from 50 addresses, and what traffic and a right log-in feel of it.

The traffic is at a fixed rate on the gateway; the right log-ins come from an address that its user came from before.
Guesses are sent at their moments, whatever the answers do. What they cost changes when their addresses are barred, so
that there are two attacks: one from addresses that have not failed yet, and one from addresses that are barred.
Cores are kept awake throughout: else an attack, which keeps them so, makes quiet traffic look slow.
"""

import contextlib
import http.client
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from statistics import median
from typing import NamedTuple, TypeVar

from bench.generator import Job
from bench.measure import percentile
from bench.ostiary import Ostiary
from bench.parts.latency import Latency, latency
from bench.parts.plain import settings
from bench.process import Failed
from bench.report import Figure, Outcome
from bench.stage import Stage, say

RATE = 500.0
ADDRESSES = 50
CONNECTIONS = 200
BARRED_AFTER = 100 * ADDRESSES / RATE
"""Seconds until each address has failed a hundred times."""
TRAFFIC = 2_000.0
"""Requests a second on the gateway."""
PATH = "/platform/authorization"
PASSWORD = "correct horse 7"
PAUSE = 0.1
"""Seconds between two right log-ins."""
QUIET, FRESH, BARRED = "quiet", "under attack, at first", "under attack, addresses barred"
Statuses = Counter[str]
T = TypeVar("T")


class Turn(NamedTuple):
    """What was felt: by traffic, and by right log-ins, in milliseconds."""

    traffic: Latency
    log_ins: list[float]


def log_in(connection: http.client.HTTPConnection, name: str, password: str) -> int:
    """The status of a log-in."""
    body = json.dumps({"email": name, "password": password})
    connection.request("POST", PATH, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


class Attackers:
    """Fifty addresses, which guess passwords of names without end."""

    _networks = itertools.count(1)

    def __init__(self, stage: Stage, admin: int) -> None:
        network = next(self._networks)
        guesses = [
            json.dumps({"email": f"name{network}-{each}", "password": f"guess {each}"}) for each in range(20_000)
        ]
        sources = [f"127.0.{network}.{each}" for each in range(1, ADDRESSES + 1)]
        kind = "application/json"
        self._job = Job(admin, CONNECTIONS, 0, RATE, [], [PATH], forms=guesses, kind=kind, sources=sources)
        self._stage = stage
        self.statuses: Statuses = Counter()

    @contextlib.contextmanager
    def attack(self) -> Iterator[None]:
        """Guess. The generator gives way to that of the traffic, which shares its core."""
        load = self._stage.load(self._job)
        load.yield_to_others()
        try:
            yield
        finally:
            result = load.stop()
        self.statuses.update(result.failures)
        rate = sum(result.failures.values()) / (result.ended - result.began)
        if result.done or not 0.9 < rate / RATE < 1.1:
            raise Failed(f"{rate:.0f} guesses/s were refused, {result.done} were right")


class Right:
    """Right log-ins of users at an address of theirs, each user once, so that each password is hashed."""

    def __init__(self, ostiary: Ostiary, users: int) -> None:
        link = self._link(ostiary)
        for number in range(users):
            body = json.dumps({"username": f"ann{number}", "password": PASSWORD})
            link.request("POST", "/v1/auth/register/", body, {"Content-Type": "application/json"})
            answer = link.getresponse()
            answer.read()
            if answer.status != 201 or log_in(link, f"ann{number}", PASSWORD) != 200:
                raise Failed(f"a registration was answered {answer.status}")
        self._names = iter(f"ann{number}" for number in range(users))

    def _link(self, ostiary: Ostiary) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", ostiary.admin, timeout=60)

    def take(self, ostiary: Ostiary, count: int) -> list[float]:
        """How long `count` of them took, in milliseconds."""
        link, taken = self._link(ostiary), []
        for _ in range(count):
            time.sleep(PAUSE)
            began = time.monotonic()
            status = log_in(link, next(self._names), PASSWORD)
            if status != 200:
                raise Failed(f"a right log-in was answered {status}")
            taken.append((time.monotonic() - began) * 1000)
        return taken


class Contest:
    """One node, quiet and under attack in turns."""

    def __init__(self, stage: Stage, ostiary: Ostiary, right: Right, count: int) -> None:
        self._stage, self._ostiary, self._right, self._count = stage, ostiary, right, count
        self.turns: dict[str, list[Turn]] = {QUIET: [], FRESH: [], BARRED: []}
        self.statuses: dict[str, Statuses] = {FRESH: Counter(), BARRED: Counter()}

    def round(self) -> None:
        """One turn of each. Fresh addresses are soon barred: traffic and log-ins get an attack of their own."""
        self.turns[QUIET].append(Turn(self._traffic(), self._log_ins()))
        self.turns[FRESH].append(Turn(self._fresh(self._traffic), self._fresh(self._log_ins)))
        self.turns[BARRED].append(self._barred())
        for name, turns in self.turns.items():
            say(f"  {name}: traffic p99 {turns[-1].traffic.p99:.0f} us, log-in {median(turns[-1].log_ins):.0f} ms")

    def _traffic(self) -> Latency:
        return latency(self._stage, self._ostiary.running(), TRAFFIC)

    def _log_ins(self) -> list[float]:
        return self._right.take(self._ostiary, self._count)

    def _fresh(self, measured: Callable[[], T]) -> T:
        attackers = Attackers(self._stage, self._ostiary.admin)
        with attackers.attack():
            taken = measured()
        self.statuses[FRESH] += attackers.statuses
        return taken

    def _barred(self) -> Turn:
        attackers = Attackers(self._stage, self._ostiary.admin)
        with attackers.attack():
            time.sleep(BARRED_AFTER + 1)
        attackers.statuses.clear()
        with attackers.attack():
            turn = Turn(self._traffic(), self._log_ins())
        self.statuses[BARRED] += attackers.statuses
        return turn


def measure(stage: Stage) -> Outcome:
    """Quiet and under attack, in turns of the same node."""
    rounds, count = (1, 10) if stage.scale.quick else (3, 30)
    trusting_none = {"dialects": {"apifest": {"trusted_networks": ["127.0.0.1/32"]}}}
    with (
        stage.backend("canned") as backend,
        stage.ostiary("ostiary", {**settings(backend), **trusting_none}) as ostiary,
    ):
        right = Right(ostiary, 3 * rounds * count)
        ostiary.stop()
        ostiary.start()  # what was verified is remembered no more
        contest = Contest(stage, ostiary, right, count)
        with stage.awake():
            for _ in range(rounds):
                contest.round()
    return outcome(contest)


def outcome(contest: Contest) -> Outcome:
    """Figures and table. Of the two attacks, the worse counts."""
    traffic = {name: median(turn.traffic.p99 for turn in turns) for name, turns in contest.turns.items()}
    taken = {name: [each for turn in turns for each in turn.log_ins] for name, turns in contest.turns.items()}
    log_ins = {name: percentile(each, 99) for name, each in taken.items()}
    worst_traffic = max(traffic[FRESH], traffic[BARRED]) / traffic[QUIET]
    worst_log_in = max(log_ins[FRESH], log_ins[BARRED]) / log_ins[QUIET]
    figures = [
        Figure("attack_traffic_p99", worst_traffic, 1.2, "p99 of traffic under 500 wrong log-ins/s, beside without"),
        Figure("attack_login_p99", worst_log_in, 2.0, "p99 of a right log-in from a known address, beside without"),
    ]
    columns = ["", "traffic p50 µs", "traffic p99 µs", "log-in p50 ms", "log-in p99 ms"]
    rows = [
        [
            name, f"{median(turn.traffic.p50 for turn in turns):.0f}", f"{traffic[name]:.0f}",
            f"{percentile(taken[name], 50):.1f}", f"{log_ins[name]:.1f}",
        ]
        for name, turns in contest.turns.items()
    ]  # fmt: skip
    said = "; ".join(f"{name}: {told(statuses)}" for name, statuses in contest.statuses.items())
    notes = f"{TRAFFIC:,.0f} requests/s on the gateway. What the guesses of {ADDRESSES} addresses were told, {said}."
    return Outcome("Log-ins under attack", figures, columns, rows, notes)


def told(statuses: Statuses) -> str:
    """How often which status."""
    return ", ".join(f"{many:,} times {status}" for status, many in sorted(statuses.items()))
