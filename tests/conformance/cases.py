"""The contracts' cases: which of them this stage covers, what they are given, and their runner."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
CASES = HERE / "cases"
COVERED = HERE / "covered.txt"
OWNER, EMAIL, PASSWORD = "admin", "admin@example.com", "change-me-please-1"
SECRET = "JBSWY3DPEHPK3PXP"
"""The owner of examples/conformance/ostiary.yaml."""
VARIABLES: dict[str, dict[str, str]] = {
    "apifest": {"username": OWNER, "password": PASSWORD},
    "doorman": {"admin_email": EMAIL, "admin_password": PASSWORD},
    "cikit": {"owner_name": OWNER, "owner_secret": SECRET},
    "deis": {"owner_name": OWNER, "owner_password": PASSWORD},
}
"""By the beginning of the file's name: what the contracts ask to be told."""


class Outcome(NamedTuple):
    """How a file's cases went: the runner's last line, and all of its lines."""

    passed: bool
    summary: str
    text: str


def covered() -> dict[str, list[str]]:
    """File (without its suffix) -> ids of the cases that pass at this stage."""
    found: dict[str, list[str]] = {}
    for line in COVERED.read_text().splitlines():
        if line and not line.startswith("#"):
            file, case = line.split()
            found.setdefault(file, []).append(case)
    return found


def select(document: dict[str, Any], ids: list[str]) -> dict[str, Any]:
    """The document with only these cases, and with its set-up only if they lean on it."""
    cases = [case for case in document["cases"] if case["id"] in ids]
    missing = set(ids) - {case["id"] for case in cases}
    if missing:
        raise KeyError(f"covered.txt names cases that do not exist: {sorted(missing)}")
    setup = document.get("setup", [])
    captured = {name for step in setup for name in step.get("capture", {})}
    text = json.dumps(cases)
    leaning = any("jar" in step for case in cases for step in case["steps"]) or any(
        name in captured for name in re.findall(r"\$\{(\w+)\}", text)
    )
    return document | {"cases": cases, "setup": setup if leaning or not any("jar" in step for step in setup) else []}


def run(file: Path, url: str) -> Outcome:
    """Run a file of cases against the server at `url`."""
    named = next((given for name, given in VARIABLES.items() if file.name.startswith(name)), {})
    variables = [word for name, text in named.items() for word in ("--var", f"{name}={text}")]
    command = [sys.executable, str(HERE / "run_cases.py"), str(file), url, *variables]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    return Outcome(done.returncode == 0, (text.splitlines() or ["no output"])[-1], text)
