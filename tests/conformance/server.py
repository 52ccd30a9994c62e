"""A fresh `ostiary serve` on the conformance configuration: fresh state, free ports, ended afterwards."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = ROOT / "examples" / "conformance" / "ostiary.yaml"
PATIENCE = 90.0
"""Seconds until it must be ready."""


class NotReady(Exception):
    """It ended, or never got ready; with what it wrote."""


@contextlib.contextmanager
def serving(state: Path) -> Iterator[dict[str, str]]:
    """The URLs of its listeners, `gateway` and `admin`, while it runs. `state` is an empty directory."""
    environment = os.environ | {
        "OSTIARY_STATE_DIR": str(state),
        "OSTIARY_GATEWAY_LISTEN": "127.0.0.1:0",
        "OSTIARY_ADMIN_LISTEN": "127.0.0.1:0",
    }
    command = [str(Path(sys.executable).with_name("ostiary")), "serve", "--config", str(CONFIGURATION)]
    written = state.with_name(f"{state.name}.log")
    with written.open("wb") as log:
        child = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
        try:
            yield _ready(child, state / "run" / "addresses.json", written)
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(60)


def _ready(child: "subprocess.Popen[bytes]", addresses: Path, written: Path) -> dict[str, str]:
    end = time.monotonic() + PATIENCE
    while child.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, str] = json.loads(addresses.read_text())
            with urllib.request.urlopen(f"{found['admin']}/platform/monitor/readiness", timeout=5):
                return found
        time.sleep(0.05)
    raise NotReady(written.read_text(errors="replace"))
