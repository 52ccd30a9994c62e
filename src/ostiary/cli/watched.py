"""Long work on an app: on a terminal one sees meanwhile how far its droplets are."""

import sys
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from ostiary.cli.client import Done, Problem, Target, run
from ostiary.cli.output import printable

WATCHED = ("apps.configure", "apps.delete", "apps.deploy", "apps.restart", "apps.scale")
"""Operations that take as long as droplets need to follow, one by one."""
PATIENCE = 3600.0
"""Seconds."""
POLL = 0.5
"""Seconds between two looks."""


def watched(target: Target, operation: str, params: dict[str, Any]) -> Done:
    """Run an operation and return what it gave. Raises Problem."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    terminal = sys.stderr.isatty()
    with (
        ThreadPoolExecutor(1) as pool,
        Progress(*columns, console=Console(stderr=True), transient=True, disable=not terminal) as progress,
    ):
        asking = pool.submit(run, target, operation, params, patience=PATIENCE)
        task = progress.add_task(printable(str(params.get("app", ""))), total=None)
        while terminal and not wait([asking], POLL).done:
            progress.update(task, description=printable(_droplets(target, params)))
        return asking.result()


def _droplets(target: Target, params: dict[str, Any]) -> str:
    """Those of the app, as they are now; what is wrong the operation itself says."""
    try:
        rows = run(target, "apps.containers", {"app": params.get("app", "")}).result
    except Problem as problem:
        return problem.message
    return ", ".join(f"{row['type']}.{row['number']} {row['state']} (v{row['release']})" for row in rows)
