"""The Deis client 1.4.1, as its package has it. It is a program for Python 2.7; what Python 3 spells otherwise is
spelled so, and nothing else of it is touched."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "pip"
INSTALLING = 55.0
"""Seconds that pip may take each time."""
LIMIT = 60.0
"""Seconds that a command may take; some wait until several droplets are healthy, one after the other."""
PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"]
SPELLINGS = {
    "0700": "0o700",
    "import urlparse": "import urllib.parse as urlparse",
    "raw_input(": "input(",
    "basestring": "str",
    "obj.encode('utf-8')": "obj",  # it makes printable what was decoded
    "response.content": "response.text",
    "sys.maxint": "sys.maxsize",
    "self.frames.next()": "next(self.frames)",
}


def installed(place: Path) -> None:
    """The client and what it needs, in the directory `place`."""
    wheels = [*PIP, "--target", str(place), "--only-binary=:all:", "--requirement", str(HERE / "needs.txt")]
    client = [*PIP, "--target", str(place), "--no-build-isolation", "--requirement", str(HERE / "client.txt")]
    for words in (wheels, client):
        environment = {**os.environ, "PYTHONPATH": str(place)}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=INSTALLING)
        if done.returncode and not os.environ.get("CI"):
            pytest.skip(f"pip could not install the client: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr


def spelled_anew(place: Path) -> None:
    """The client as Python 3 reads it."""
    text = (place / "deis.py").read_text()
    for old, new in SPELLINGS.items():
        assert old in text, old
        text = text.replace(old, new)
    (place / "deis.py").write_text(text)


class Commands:
    """Runs the client's commands."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def run(self, home: Path, *words: str, typed: str = "") -> tuple[int, str]:
        """Its exit status and standard output. It is run in `home`, where it keeps its files."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(home), words, typed]).encode() + b"\n")
        status, said = json.loads(await asyncio.wait_for(self.process.stdout.readline(), LIMIT))
        return status, said

    async def end(self) -> None:
        """Run no more."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert await asyncio.wait_for(self.process.wait(), LIMIT) == 0


async def started(place: Path) -> Commands:
    """Those of the client in `place`."""
    environment = {**os.environ, "PYTHONPATH": str(place), "DEIS_HIDE_PROGRESS": "1", "LC_ALL": "C.UTF-8"}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", str(HERE / "commands.py"),
        env=environment, stdin=pipe, stdout=pipe, start_new_session=True,  # no terminal to ask for passwords
    )  # fmt: skip
    return Commands(process)
