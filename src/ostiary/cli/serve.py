"""Running a node: in the foreground, in the background, and what is wrong with its configuration."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from ostiary import supervisor
from ostiary.control.configuration import Built, load
from ostiary.control.sources import Disk
from ostiary.core.configuration.settings import Settings
from ostiary.core.snapshot import SECOND
from ostiary.node.start import configured, environment, prepare, run_directory

STARTING = 120.0
"""Seconds that `start` waits for the node to be up."""
STOPPING = 15.0
"""Seconds that `stop` waits beyond the drain time-out."""
NOT_RUNNING = 3
"""Exit status of `status`, as init scripts have it."""

Config = Annotated[Path, typer.Option("--config", "-c", envvar="OSTIARY_CONFIG", help="configuration file")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=0, max=256, help="worker processes; 0: inside control; else as configured"),
]
Json = Annotated[bool, typer.Option("--json", help="as JSON")]
DEFAULT = Path("ostiary.yaml")


def serve(config: Config = DEFAULT, workers: Workers = None) -> None:
    """Run the gateway in the foreground."""
    environ = environment(workers)
    os.execve(sys.executable, _supervisor(_plan(config, environ)), environ)


def start(config: Config = DEFAULT, workers: Workers = None) -> None:
    """Run the gateway in the background; returns once it is up."""
    environ = environment(workers)
    plan = _plan(config, environ)
    log = plan.parent.parent / "ostiary.log"
    ours, theirs = os.pipe()
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as output:
        process = subprocess.Popen(
            [*_supervisor(plan), str(theirs)],
            env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=[theirs],
            start_new_session=True,
        )  # fmt: skip
    os.close(theirs)
    for what, text in _told(ours):
        typer.echo(text if what != "refused" else f"ostiary: {text}", err=what != "ready")
        if what == "ready":
            typer.echo(f"pid {process.pid}\nlog {log}")
            return
    _fail(f"ostiary has not started; see {log}")


def stop(config: Config = DEFAULT) -> None:
    """Drain the gateway that runs in the background, and end it."""
    settings = _settings(config)
    pid = supervisor.living(Path(settings.pid_file))
    if not pid:
        _fail("ostiary is not running")
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + settings.gateway.drain_timeout / SECOND + STOPPING
    while supervisor.is_ostiary(pid):
        if time.monotonic() > deadline:
            _fail(f"ostiary has not ended; pid {pid}")
        time.sleep(0.02)
    typer.echo("ostiary has ended")


def status(config: Config = DEFAULT, as_json: Json = False) -> None:
    """Say what runs, and where it listens."""
    settings = _settings(config)
    pid = supervisor.living(Path(settings.pid_file))
    said: dict[str, Any] = {"running": bool(pid), "pid": pid, "ready": False, "processes": []}
    if pid:
        said |= _addresses(settings, pid) | {"processes": list(_processes(pid))}
    if as_json:
        typer.echo(json.dumps(said))
    else:
        typer.echo("\n".join(_lines(said)))
    raise typer.Exit(0 if pid else NOT_RUNNING)


def validate(config: Config = DEFAULT) -> None:
    """Check the configuration as a reload would, and say everything that is wrong with it."""
    built = _built(config, environment(None))
    typer.echo(f"{config}: {len(built.compiled.configured)} routes, {len(built.settings.upstreams)} upstreams: valid")


def _built(config: Path, environ: dict[str, str]) -> Built:
    if not config.exists():
        _fail(f"there is no {config}: give the configuration file with --config FILE")
    outcome = configured(config, environ)
    problems = outcome.warnings if isinstance(outcome, Built) else outcome
    for problem in problems:
        typer.echo(str(problem), err=True)
    if isinstance(outcome, Built):
        return outcome
    raise typer.Exit(1)


def _plan(config: Path, environ: dict[str, str]) -> Path:
    """The supervisor's plan. Exits with status 1 for mistakes and where Ostiary runs already."""
    settings = _built(config, environ).settings
    if pid := supervisor.living(Path(settings.pid_file)):
        _fail(f"already running, pid {pid} ({settings.pid_file})")
    try:
        return prepare(config, settings)
    except OSError as error:
        _fail(f"cannot write to the state directory {settings.state_dir}: {error.strerror}")


def _settings(config: Path) -> Settings:
    """Settings as far as they can be read: a node that runs can be stopped although its file has mistakes by now."""
    settings = load(config, environment(None), Disk(config.parent.absolute())).settings
    if not config.is_file():
        typer.echo(f"ostiary: there is no {config} (--config names another): looking in {settings.state_dir}", err=True)
    return settings


def _supervisor(plan: Path) -> list[str]:
    """Started by its path: it needs nothing that is installed."""
    return [sys.executable, "-I", "-S", supervisor.__file__, str(plan)]


def _told(pipe: int) -> Iterator[tuple[str, str]]:
    """What the supervisor says to whoever started it, until it has no more to say."""
    deadline = time.monotonic() + STARTING
    text = b""
    while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(pipe, 65536)
        text += piece
        while b"\n" in text:
            line, _, text = text.partition(b"\n")
            yield from json.loads(line).items()
        if not piece:
            return


def _addresses(settings: Settings, pid: int) -> dict[str, Any]:
    """Where the node listens, once it is ready."""
    try:
        said = json.loads((run_directory(settings.state_dir) / supervisor.ADDRESSES_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return {**said, "ready": True} if said.get("pid") == pid else {}


def _processes(pid: int) -> Iterator[dict[str, Any]]:
    """Control and workers: their names and pids."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "ostiary.node" in words:
            kind, number = words[words.index("ostiary.node") + 1 :][:2]
            yield {"process": f"worker {number}" if kind == "worker" else kind, "pid": int(child)}


def _lines(said: dict[str, Any]) -> Iterator[str]:
    if not said["running"]:
        yield "ostiary is not running"
        return
    yield f"ostiary is running, pid {said['pid']}" + ("" if said["ready"] else ", not ready yet")
    yield from (f"{name} {said[name]}" for name in ("gateway", "admin") if name in said)
    yield from (f"{each['process']} pid {each['pid']}" for each in said["processes"])


def _fail(message: str) -> NoReturn:
    typer.echo(f"ostiary: {message}", err=True)
    raise typer.Exit(1)
