"""Log-ins under attack: 500 wrong log-ins a second from 50 addresses, and what traffic and a right log-in feel of it.

The traffic is at a fixed rate on the gateway; the right log-ins come from an address that its user came from before.
"""

import http.client
import json
import threading
import time
from statistics import median

from bench.measure import percentile
from bench.ostiary import Ostiary
from bench.parts.latency import Latency, latency
from bench.parts.plain import settings
from bench.process import Failed
from bench.report import Figure, Outcome
from bench.stage import Stage, say

RATE = 500
ADDRESSES = [f"127.0.1.{number}" for number in range(1, 51)]
TRAFFIC = 2_000.0
"""Requests a second on the gateway."""
PATH = "/platform/authorization"
PASSWORD = "correct horse 7"
PAUSE = 0.1
"""Seconds between two right log-ins."""


def log_in(connection: http.client.HTTPConnection, name: str, password: str) -> int:
    """The status of a log-in."""
    body = json.dumps({"email": name, "password": password})
    connection.request("POST", PATH, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


class Attack:
    """Guesses from all addresses in turn, for names without end, until it is ended."""

    def __init__(self, admin: int) -> None:
        self._admin = admin
        self._over = threading.Event()
        self.statuses: dict[int, int] = {}
        self._threads = [threading.Thread(target=self._guess, args=(part,)) for part in range(2)]

    def __enter__(self) -> "Attack":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _guess(self, part: int) -> None:
        """Half of the addresses, at half of the rate; a guess that is answered late delays those behind it."""
        links = [
            http.client.HTTPConnection("127.0.0.1", self._admin, timeout=60, source_address=(address, 0))
            for address in ADDRESSES[part::2]
        ]
        due, number = time.monotonic(), 0
        while not self._over.wait(max(0.0, due - time.monotonic())):
            status = log_in(links[number % len(links)], f"name{part}-{number % 1000}", f"guess {number}")
            self.statuses[status] = self.statuses.get(status, 0) + 1
            number += 1
            due = max(due + 2 / RATE, time.monotonic() - 1)


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


def measure(stage: Stage) -> Outcome:
    """Quiet and under attack, in turns of the same node."""
    rounds, count = (1, 10) if stage.scale.quick else (3, 30)
    trusting_none = {"dialects": {"apifest": {"trusted_networks": ["127.0.0.1/32"]}}}
    with (
        stage.backend("canned") as backend,
        stage.ostiary("ostiary", {**settings(backend), **trusting_none}) as ostiary,
    ):
        right = Right(ostiary, 2 * rounds * count)
        ostiary.stop()
        ostiary.start()  # what was verified is remembered no more
        quiet, attacked, statuses = turns(stage, ostiary, right, rounds, count)
    return outcome(quiet, attacked, statuses)


Turn = tuple[Latency, list[float]]


def turns(
    stage: Stage, ostiary: Ostiary, right: Right, rounds: int, count: int
) -> tuple[list[Turn], list[Turn], dict[int, int]]:
    """Traffic and right log-ins, without and with guesses."""
    quiet: list[Turn] = []
    attacked: list[Turn] = []
    statuses: dict[int, int] = {}
    for number in range(rounds):
        quiet.append((latency(stage, ostiary.running(), TRAFFIC), right.take(ostiary, count)))
        with Attack(ostiary.admin) as attack:
            attacked.append((latency(stage, ostiary.running(), TRAFFIC), right.take(ostiary, count)))
        for status, many in attack.statuses.items():
            statuses[status] = statuses.get(status, 0) + many
        say(f"  round {number + 1}: p99 {quiet[-1][0].p99:.0f} us, under attack {attacked[-1][0].p99:.0f} us")
    return quiet, attacked, statuses


def outcome(quiet: list[Turn], attacked: list[Turn], statuses: dict[int, int]) -> Outcome:
    """Figures and table."""
    traffic = median(turn.p99 for turn, _ in attacked) / median(turn.p99 for turn, _ in quiet)
    calm = [each for _, taken in quiet for each in taken]
    hard = [each for _, taken in attacked for each in taken]
    log_ins = percentile(hard, 99) / percentile(calm, 99)
    figures = [
        Figure("attack_traffic_p99", traffic, 1.2, "p99 of traffic under 500 wrong log-ins/s, beside without"),
        Figure("attack_login_p99", log_ins, 2.0, "p99 of a right log-in from a known address, beside without"),
    ]
    columns = ["", "traffic p50 µs", "traffic p99 µs", "log-in p50 ms", "log-in p99 ms"]
    rows = [
        [
            name, f"{median(turn.p50 for turn, _ in each):.0f}", f"{median(turn.p99 for turn, _ in each):.0f}",
            f"{percentile(taken, 50):.1f}", f"{percentile(taken, 99):.1f}",
        ]
        for name, each, taken in (("quiet", quiet, calm), ("under attack", attacked, hard))
    ]  # fmt: skip
    said = ", ".join(f"{many:,} times {status}" for status, many in sorted(statuses.items()))
    notes = f"{TRAFFIC:,.0f} requests/s on the gateway. The guesses, from {len(ADDRESSES)} addresses, were told {said}."
    return Outcome("Log-ins under attack", figures, columns, rows, notes)
