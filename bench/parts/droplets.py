"""Droplets: from the order to the first request served, what hundreds of idle ones cost, and restarts under load.

They are local processes. The program that serves is the canned backend of the other parts; beside it the same program
started by hand and asked until it answers. Where there is an engine, a container of it beside `docker run`, too.
"""

import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench import containers
from bench.answered import PATIENCE, until_answered
from bench.containers import Turns
from bench.generator import Job, rows
from bench.load import HEADERS, PATH
from bench.machine import free_port
from bench.measure import cpu_seconds, own_memory, percentile, settled
from bench.ostiary import Ostiary, Settings
from bench.parts.director import operation
from bench.process import Failed, Process
from bench.report import Figure, Outcome
from bench.stage import Stage, say

ROOT = Path(__file__).resolve().parents[2]
FIRST = "/first"
SHOP = 4
"""Droplets of the app that is restarted."""
RATE, CONNECTIONS = 2_000, 64
LOOKS = 9
QUIET = 10.0
"""Seconds in which idle droplets are only looked after."""
MIB = 1 << 20


class Restarted(NamedTuple):
    """What customers saw of restarts one by one."""

    requests: int
    failures: dict[str, int]
    p99: float
    """Microseconds."""
    seconds: float


class Idle(NamedTuple):
    """What control spends on droplets that do nothing."""

    droplets: int
    cpu: float
    """Of one core, in thousandths."""
    memory: float
    """Bytes a droplet."""


def settings(most: int) -> Settings:
    """A template that serves, one that does nothing, and upstreams of a template and of an app."""
    backend = {
        "default": True, "command": [sys.executable, "-m", "bench.backend", "{port}", "canned"], "ports": [80],
        "env": {"PYTHONPATH": str(ROOT)}, "health": {"http": "/countries", "port": 80, "every": "500ms"},
        "stop": {"drain": "2s"},
    }  # fmt: skip
    idle = {"command": ["/bin/sleep", "100000"], "stop": {"drain": "0s"}}
    return {
        "droplets": {"max": most + 50, "templates": {"web": backend, "idle": idle}},
        "upstreams": {"first": {"droplets": {"template": "web"}}, "shop": {"droplets": {"app": "shop", "type": "web"}}},
        "routes": [
            {"match": f"GET {FIRST}", "to": "/countries", "upstream": "first"},
            {"match": f"GET {PATH}", "to": "/countries", "upstream": "shop"},
        ],
    }


def measure(stage: Stage) -> Outcome:
    """One thing after the other, on one node."""
    by_hand = median(started_by_hand(stage) for _ in range(LOOKS))
    with stage.ostiary("ostiary", settings(stage.scale.droplets)) as ostiary:
        added = median(first_request(ostiary) for _ in range(LOOKS))
        restarted = restart_under_load(stage, ostiary)
        idle = idle_ones(ostiary, stage.scale.droplets)
    docker = None if containers.without() else containers.turns(stage, LOOKS)
    return outcome(by_hand, added, restarted, idle, docker)


def started_by_hand(stage: Stage) -> float:
    """The same program as a process of ours, on the core where droplets run."""
    port, began = free_port(), time.monotonic()
    words = [sys.executable, "-m", "bench.backend", str(port), "canned"]
    with Process(words, stage.cores.proxy, stage.directory / "by-hand.log"):
        return until_answered(port, "/countries", began)


def first_request(ostiary: Ostiary) -> float:
    """From the order of a droplet to the first request that the gateway has answered by it."""
    began = time.monotonic()
    name = operation(ostiary, "droplets.create", {"template": "web", "wait": False})["job"]["droplet"]
    took = until_answered(ostiary.gateway, FIRST, began)
    operation(ostiary, "droplets.delete", {"droplet": name})
    return took


def restart_under_load(stage: Stage, ostiary: Ostiary) -> Restarted:
    """All droplets of an app, one by one, at a fixed rate of requests."""
    operation(ostiary, "apps.create", {"app": "shop"})
    operation(ostiary, "apps.scale", {"app": "shop", "structure": {"web": SHOP}})
    load = stage.load(Job(ostiary.gateway, CONNECTIONS, 0, RATE, HEADERS, [PATH]))
    time.sleep(stage.scale.quiet_seconds)
    began = time.monotonic()
    operation(ostiary, "apps.restart", {"app": "shop"})
    took = time.monotonic() - began
    time.sleep(stage.scale.quiet_seconds)
    result = load.stop()
    operation(ostiary, "apps.delete", {"app": "shop"})
    taken = [(row.answered - row.due) * 1e6 for row in rows(result)]
    say(f"  {SHOP} droplets restarted in {took:.1f} s, {result.done:,} requests, failed: {result.failures or 'none'}")
    return Restarted(result.done, result.failures, percentile(taken, 99), took)


def idle_ones(ostiary: Ostiary, count: int) -> Idle:
    """Start so many, then look at control while nothing happens."""
    control = ostiary.control()
    before = settled(lambda: own_memory(control))
    for _ in range(count):
        operation(ostiary, "droplets.create", {"template": "idle", "wait": False})
    began = time.monotonic()
    while len(running(ostiary)) < count:
        if time.monotonic() - began > PATIENCE:
            raise Failed(f"{len(running(ostiary))} of {count} droplets run after {PATIENCE:g} s")
        time.sleep(0.5)
    grown = settled(lambda: own_memory(control)) - before
    spent = cpu_seconds(control)
    time.sleep(QUIET)
    cpu = (cpu_seconds(control) - spent) / QUIET * 1000
    say(f"  {count} idle droplets: {cpu:.1f} thousandths of a core, {grown / MIB:.1f} MiB")
    return Idle(count, cpu, max(0, grown) / count)


def running(ostiary: Ostiary) -> list[Any]:
    """The idle ones that run."""
    found: list[Any] = operation(ostiary, "droplets.list", {"template": "idle", "state": "running"})
    return found


def outcome(by_hand: float, added: float, restarted: Restarted, idle: Idle, docker: Turns | None) -> Outcome:
    """Figures and table."""
    failed = sum(restarted.failures.values())
    figures = [
        Figure("droplets_first_request", added / by_hand, None, "add to first request, beside the program by hand"),
        Figure(
            "droplets_docker_add_vs_docker_run",
            docker and docker.ratio,
            None,
            "add of a container to the first request, beside `docker run`",
            containers.without(),
        ),
        Figure("droplets_restart_failed", failed, 0, f"requests failed in a restart one by one at {RATE:,} a second"),
        Figure("droplets_idle_cpu", idle.cpu, None, f"control with {idle.droplets} idle ones, thousandths of a core"),
        Figure("droplets_idle_kib", idle.memory / 1024, None, "memory of control for an idle one, KiB"),
    ]
    columns = [
        "add to first request, ms",
        "by hand, ms",
        "container, ms",
        "`docker run`, ms",
        "requests in the restart",
        "failed",
        "p99 µs",
        "restart, s",
    ]
    both = [f"{docker.added:.0f}", f"{docker.by_hand:.0f}"] if docker else ["-", "-"]
    row = [f"{added:.0f}", f"{by_hand:.0f}", *both, f"{restarted.requests:,}", str(failed), f"{restarted.p99:.0f}"]
    notes = f"{SHOP} droplets are restarted, each drained first. Failures by kind: {restarted.failures or 'none'}."
    if why := containers.without():
        notes += f" Containers were not measured: {why}."
    return Outcome("Droplets", figures, columns, [[*row, f"{restarted.seconds:.1f}"]], notes)
