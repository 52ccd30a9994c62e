"""Containers: from the order to the first request served, as a droplet and by `docker run`, on one engine, in turns.

The engine is that of the tests, with everything of its own in one directory; only where it can be started.
"""

import shutil
import subprocess
import time
from contextlib import ExitStack
from statistics import median
from typing import NamedTuple

from tests.drivers.engine import IMAGE, Engine, absent, running

from bench.answered import until_answered
from bench.machine import free_port
from bench.ostiary import Ostiary, Settings
from bench.parts.director import operation
from bench.process import on_core
from bench.stage import Stage, say

SERVE = "mkdir /tmp/w; echo hello > /tmp/w/index.html; exec httpd -f -p 80 -h /tmp/w"
COMMAND = ["/bin/sh", "-c", SERVE]


class Turns(NamedTuple):
    """Medians of looks in turns, in milliseconds; `ratio` is the median of those of the turns."""

    by_hand: float
    added: float
    ratio: float


def without() -> str:
    """Why nothing can be measured here; empty: it can."""
    return absent("docker") or ("" if shutil.which("docker") else "there is no docker command")


def settings(engine: Engine) -> Settings:
    """A template of the container that is run by hand, too."""
    template = {
        "default": True, "image": IMAGE, "command": COMMAND, "ports": [80], "health": {"http": "/", "port": 80},
        "stop": {"drain": "0s", "signal": "KILL"},
    }  # fmt: skip
    return {
        "droplets": {
            "driver": "docker",
            "docker": {"socket": str(engine.socket), "pull": "never"},
            "templates": {"web": template},
        },
        "upstreams": {"web": {"droplets": {"template": "web"}}},
        "routes": [{"match": "GET /first", "to": "/", "upstream": "web"}],
    }


def turns(stage: Stage, looks: int) -> Turns:
    """By hand and as a droplet, in turns, each the first as often as the other."""
    with ExitStack() as stack:
        with on_core(stage.cores.proxy):
            engine = stack.enter_context(running())
        ostiary = stack.enter_context(stage.ostiary("containers", settings(engine)))
        added(ostiary)  # what is imported and made once
        pairs = []
        for look in range(looks):
            first = added(ostiary) if look % 2 else 0.0
            hand = by_hand(engine)
            pairs.append((hand, first or added(ostiary)))
            say(f"  docker run {hand:.0f} ms, droplet {pairs[-1][1]:.0f} ms")
    return Turns(median(hand for hand, _ in pairs), median(ours for _, ours in pairs), median(b / a for a, b in pairs))


def docker(engine: Engine, *words: str) -> str:
    """What the command says."""
    command = ["docker", "-H", f"unix://{engine.socket}", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def by_hand(engine: Engine) -> float:
    """Milliseconds from `docker run` to the first answer on its port."""
    port, began = free_port(), time.monotonic()
    container = docker(engine, "run", "-d", "-p", f"127.0.0.1:{port}:80", IMAGE, *COMMAND)
    took = until_answered(port, "/", began)
    docker(engine, "rm", "-f", container)
    return took


def added(ostiary: Ostiary) -> float:
    """Milliseconds from the order of a droplet to the first answer through the gateway."""
    began = time.monotonic()
    name = operation(ostiary, "droplets.create", {"wait": False})["job"]["droplet"]
    took = until_answered(ostiary.gateway, "/first", began)
    operation(ostiary, "droplets.delete", {"droplet": name})
    return took
