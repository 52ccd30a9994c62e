import subprocess
import sys

import pytest

from ostiary import supervisor

HEAVY = (
    "sqlalchemy",
    "alembic",
    "typer",
    "rich",
    "yaml",
    "argon2",
    "prometheus_client",
    "ostiary.store",
    "ostiary.control",
)


def imported(*words: str) -> set[str]:
    """The modules that a process has after running `words`."""
    code = words[-1] + "; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, *words[:-1], "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", HEAVY)
def test_a_worker_does_not_import(name: str) -> None:
    assert name not in imported("import ostiary.node.worker, ostiary.node.__main__")


def test_the_supervisor_needs_nothing_that_is_installed() -> None:
    path = supervisor.__file__
    found = imported("-I", "-S", f"import runpy; runpy.run_path({path!r}, run_name='supervisor')")
    assert {
        name for name in found if name.split(".")[0] in ("ostiary", "msgspec", "asyncio", "logging", "ssl")
    } == set()
