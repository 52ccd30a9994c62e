"""Load on the load core: wrk for saturation where it is installed, else our own generator; and the generator itself."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.generator import BEGUN, UNBOUND, Job, Result
from bench.process import Failed, Process, on_core

TOKEN = "tok123"  # what the peers' configurations know
HEADERS = ["Accept: */*", "User-Agent: bench"]
PATH = "/v1.0/countries"
_numbers = itertools.count()


class Saturation(NamedTuple):
    """What a closed loop achieved."""

    requests: int
    rate: float
    """Requests a second."""


class Load:
    """A running generator: from the first line on it sends."""

    def __init__(self, job: Job, core: int, directory: Path) -> None:
        number = next(_numbers)
        asked, self._result = directory / f"job{number}", directory / f"result{number}"
        asked.write_bytes(msgspec.json.encode(job))
        words = [sys.executable, "-m", "bench.generator", str(asked), str(self._result)]
        self._process = Process(words, core, directory / f"load{number}.log")
        self._process.wait_until(lambda: BEGUN in self._process.last_words(), "the load generator")

    def yield_to_others(self) -> None:
        """Let it run only when the core has nothing else to do: it is not what is measured."""
        os.sched_setscheduler(self._process.pid, os.SCHED_IDLE, os.sched_param(0))

    def stop(self) -> Result:
        """Have it send no more; its result."""
        self._process.signal(signal.SIGTERM)
        return self.result()

    def result(self) -> Result:
        """Wait for its end. Failed when it broke down."""
        try:
            if self._process.wait(600) != 0:
                raise Failed(f"the load generator failed: {self._process.last_words()}")
        finally:
            self._process.stop()
        return msgspec.msgpack.decode(self._result.read_bytes(), type=Result)


@cache
def wrk() -> str | None:
    """Where wrk is, if it is."""
    return shutil.which("wrk")


def one_request(job: Job) -> bool:
    """Whether a job is the same request over and over, for a time: what wrk can do."""
    return len(job.paths) == 1 and job.most == UNBOUND and not job.tokens and not job.forms and not job.holds


def saturate(job: Job, core: int, directory: Path) -> Saturation:
    """As many requests as `job.connections` connections get answered. Failed when any answer is not 200."""
    program = wrk()
    if program is None or not one_request(job):
        result = Load(job, core, directory).result()
        if result.failures or result.wrong:
            raise Failed(f"failures under load: {result.failures}, {result.wrong} wrong")
        return Saturation(result.done, result.done / (result.ended - result.began))
    headers = [word for line in job.headers for word in ("-H", line)]
    url = f"http://127.0.0.1:{job.port}{job.paths[0]}"
    words = [program, "-t1", f"-c{job.connections}", f"-d{round(job.seconds)}s", *headers, url]
    with on_core(core):
        text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return _parsed(text)


def _parsed(text: str) -> Saturation:
    if trouble := re.search(r"Non-2xx.*|Socket errors.*", text):
        raise Failed(f"wrk: {trouble.group()}")
    requests, rate = re.search(r"(\d+) requests in", text), re.search(r"Requests/sec:\s+([\d.]+)", text)
    if requests is None or rate is None:
        raise Failed(f"wrk said something new: {text}")
    return Saturation(int(requests.group(1)), float(rate.group(1)))
