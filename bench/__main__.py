"""`python -m bench [PART...]`: measure, and print `name ratio target` lines at the end.

QUICK=1 in the environment: under a minute. Without it and without parts: everything, written to bench/RESULTS.md.
"""

import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module, metadata
from pathlib import Path
from typing import cast

from bench import issuers
from bench.machine import cores, shape
from bench.peers import versions
from bench.process import Failed, on_core
from bench.report import Outcome, document, failed, lines, today
from bench.scale import FULL, QUICK
from bench.stage import Stage, say

RESULTS = Path(__file__).with_name("RESULTS.md")


def main(names: list[str], quick: bool) -> int:
    """Measure the named parts, or all of the scale's. Exit status 1 when one of them could not be measured, 2 for
    a name that is none."""
    scale = QUICK if quick else FULL
    if unknown := sorted(set(names) - set(FULL.parts)):
        say(f"no such part: {', '.join(unknown)}; there are {', '.join(FULL.parts)}")
        return 2
    ours = cores()
    with tempfile.TemporaryDirectory(prefix="ostiary-bench-") as directory, on_core(ours.load):
        outcomes = [measured(name, Stage(scale, ours, Path(directory, name))) for name in names or scale.parts]
    if not names and not quick:
        RESULTS.write_text(document(outcomes, about()))
        say("written: bench/RESULTS.md")
    print("\n".join(lines(outcomes)))
    return int(any(not outcome.columns for outcome in outcomes))


def measured(name: str, stage: Stage) -> Outcome:
    """One part, in a directory of its own; a part that breaks down does not take the others with it."""
    stage.directory.mkdir()
    began = time.monotonic()
    say(f"{name}...")
    try:
        outcome = cast(Outcome, import_module(f"bench.parts.{name}").measure(stage))
    except (Failed, OSError, subprocess.SubprocessError) as problem:
        say(f"  failed: {problem}")
        return failed(name, str(problem))
    say(f"  {time.monotonic() - began:.0f} s")
    return outcome


def about() -> dict[str, str]:
    """When, what and where."""
    peers = ", ".join(f"{name} {text}" for name, text in {**versions(), **issuers.versions()}.items())
    return {"date": today(), "Ostiary": metadata.version("ostiary"), "beside it": peers, "machine": shape()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ.get("QUICK", "") not in ("", "0")))
