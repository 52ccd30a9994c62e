"""`ostiary droplets`: droplets made and changed as jobs, so that several go on at once and a person sees how far."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Protocol

import typer

from ostiary.cli.client import REFUSED, Problem, Target, fail, follow, run
from ostiary.cli.output import printable, say, written
from ostiary.cli.target import Asked, Json, Login, PasswordFile, ProfileName, Url, target

POLL = 0.25
"""Seconds between two looks at jobs."""
INTERRUPTED = 130
"""Exit status of who follows a log until told to end, as shells have it."""
Names = Annotated[list[str], typer.Argument(help="names of droplets", metavar="NAME...")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="say which jobs were begun, and wait for none")]
Only = Annotated[str, typer.Option(help="only droplets of this")]
Job = dict[str, Any]


def ls(
    template: Only = "", app: Only = "", state: Only = "", as_json: Json = False, url: Url = None, login: Login = None,
    password_file: PasswordFile = None, profile: ProfileName = None,
) -> None:  # fmt: skip
    """List droplets, newest first."""
    whom = target(Asked(url, login, password_file, profile))
    _show(_ask(whom, "droplets.list", {"template": template, "app": app, "state": state}), as_json)


def add(
    name: Annotated[str, typer.Argument(help="its name; else one is given")] = "",
    template: Annotated[str, typer.Option("--template", "-t", help="what it is made from; else the default")] = "",
    env: Annotated[list[str] | None, typer.Option("--env", "-e", metavar="NAME=VALUE", help="a variable")] = None,
    env_file: Annotated[
        typer.FileText | None, typer.Option(help="file of variables, NAME=VALUE a line: nobody else sees them")
    ] = None,
    no_wait: NoWait = False, as_json: Json = False, url: Url = None, login: Login = None,
    password_file: PasswordFile = None, profile: ProfileName = None,
) -> None:  # fmt: skip
    """Make a droplet and start it."""
    given = [*(_lines(env_file) if env_file else []), *(env or [])]
    whom = target(Asked(url, login, password_file, profile))
    wanted = {"template": template, "name": name, "env": _pairs(given)}
    _change(whom, "droplets.create", [wanted], no_wait, as_json)


def start(
    names: Names, no_wait: NoWait = False, as_json: Json = False, url: Url = None, login: Login = None,
    password_file: PasswordFile = None, profile: ProfileName = None,
) -> None:  # fmt: skip
    """Start droplets; those that run go on."""
    _each(target(Asked(url, login, password_file, profile)), "droplets.start", names, no_wait, as_json)


def stop(
    names: Names, no_wait: NoWait = False, as_json: Json = False, url: Url = None, login: Login = None,
    password_file: PasswordFile = None, profile: ProfileName = None,
) -> None:  # fmt: skip
    """Drain and stop droplets; nothing but an operator starts them again."""
    _each(target(Asked(url, login, password_file, profile)), "droplets.stop", names, no_wait, as_json)


def restart(
    names: Names, no_wait: NoWait = False, as_json: Json = False, url: Url = None, login: Login = None,
    password_file: PasswordFile = None, profile: ProfileName = None,
) -> None:  # fmt: skip
    """Drain, stop and start droplets."""
    _each(target(Asked(url, login, password_file, profile)), "droplets.restart", names, no_wait, as_json)


def rm(
    names: Names, no_wait: NoWait = False, as_json: Json = False, url: Url = None, login: Login = None,
    password_file: PasswordFile = None, profile: ProfileName = None,
) -> None:  # fmt: skip
    """Drain, stop and remove droplets with all that they left."""
    _each(target(Asked(url, login, password_file, profile)), "droplets.delete", names, no_wait, as_json)


def logs(
    name: Annotated[str, typer.Argument(help="name of the droplet")],
    on: Annotated[bool, typer.Option("--follow", "-f", help="and what it prints from now on")] = False,
    tail: Annotated[int, typer.Option(help="the last so many lines", min=0, max=10_000)] = 100,
    as_json: Json = False, url: Url = None, login: Login = None, password_file: PasswordFile = None,
    profile: ProfileName = None,
) -> None:  # fmt: skip
    """Show the end of what a droplet has printed."""
    whom, asked = target(Asked(url, login, password_file, profile)), {"droplet": name, "tail": tail}
    try:
        if on:
            _print(follow(whom, "droplets.logs", asked))
            return
        found = run(whom, "droplets.logs", asked).result
    except Problem as problem:
        fail(problem)
    except KeyboardInterrupt as enough:
        raise typer.Exit(INTERRUPTED) from enough
    if as_json:
        written(found, sys.stdout, as_json=True)
    else:
        _print(line.encode() for line in found["lines"])


def _print(lines: Iterable[bytes]) -> None:
    """Lines as they come: to a terminal without what would steer it, elsewhere byte for byte."""
    terminal = sys.stdout.isatty()
    for line in lines:
        sys.stdout.buffer.write((printable(line.decode(errors="replace"), "\t").encode() if terminal else line) + b"\n")
        sys.stdout.buffer.flush()


def _lines(file: Iterable[str]) -> list[str]:
    """Variables of a file, without empty lines and comments."""
    try:
        lines = [line.rstrip("\r\n") for line in file]
    except UnicodeDecodeError as problem:
        raise typer.BadParameter("the file of --env-file is no UTF-8 text") from problem
    return [line for line in lines if line.strip() and not line.startswith("#")]


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = [each.partition("=") for each in given]
    if not all(sign for _, sign, _ in pairs):
        raise typer.BadParameter("a variable is given as NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _ask(whom: Target, operation: str, params: dict[str, Any]) -> Any:
    try:
        return run(whom, operation, params).result
    except Problem as problem:
        fail(problem)


# Changes


def _each(whom: Target, operation: str, names: list[str], no_wait: bool, as_json: bool) -> None:
    _change(whom, operation, [{"droplet": name} for name in dict.fromkeys(names)], no_wait, as_json)


def _change(whom: Target, operation: str, wanted: list[dict[str, Any]], no_wait: bool, as_json: bool) -> None:
    """Have all of it done at once; show what came of it. Exits with the status of the first refusal."""
    refusals: list[int] = []
    jobs = [job for job in (_begun(whom, operation, each, refusals) for each in wanted) if job]
    if no_wait:
        written([{"job": each["id"], "droplet": each["droplet"]} for each in jobs], sys.stdout, as_json=as_json)
    else:
        ended = _awaited(whom, jobs)
        refusals += [REFUSED for each in ended if _failed(each)]
        names = {each["droplet"] for each in ended if each["operation"] != "droplets.delete"}
        if names or as_json:
            _show([each for each in _ask(whom, "droplets.list", {}) if each["name"] in names], as_json)
    if refusals:
        raise typer.Exit(refusals[0])


def _begun(whom: Target, operation: str, params: dict[str, Any], refusals: list[int]) -> Job | None:
    """The job; where there is none, why is said and noted."""
    try:
        job: Job = run(whom, operation, params | {"wait": False}).result["job"]
    except Problem as problem:
        say(f"{problem.message} ({problem.code})", fg="red")
        refusals.append(problem.exit_status)
        return None
    return job


def _failed(job: Job) -> bool:
    """Whether it failed; then why is said."""
    if job["state"] == "failed":
        say(f"{job['error']} ({job['code']}); see: ostiary droplets logs {job['droplet']}", fg="red")
    return bool(job["state"] == "failed")


class Told(Protocol):
    """Hears how far a droplet is."""

    def __call__(self, name: str, how: str) -> None: ...


def _awaited(whom: Target, jobs: list[Job]) -> list[Job]:
    """The jobs when the last of them has ended, shown meanwhile on a terminal."""
    ended: dict[str, Job] = {}
    with _progress([each["droplet"] for each in jobs]) as told:
        while len(ended) < len(jobs):
            states = {each["name"]: each["status"] for each in _ask(whom, "droplets.list", {})}
            for job in (_ask(whom, "jobs.get", {"id": each["id"]}) for each in jobs if each["id"] not in ended):
                told(job["droplet"], f"{job['state']}  {states.get(job['droplet'], '')}")
                if job["state"] in ("done", "failed"):
                    ended[job["id"]] = job
            if len(ended) < len(jobs):
                time.sleep(POLL)
    return [ended[each["id"]] for each in jobs]


@contextmanager
def _progress(names: list[str]) -> Iterator[Told]:
    """A line a droplet on a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        tasks = {name: progress.add_task(printable(name), total=None) for name in names}

        def told(name: str, how: str) -> None:
            progress.update(tasks[name], description=printable(f"{name}  {how}"))

        yield told


def _show(droplets: list[dict[str, Any]], as_json: bool) -> None:
    written(droplets if as_json else [_row(each) for each in droplets], sys.stdout, as_json=as_json)


def _row(droplet: dict[str, Any]) -> dict[str, Any]:
    """What a person wants to see of one; its ports are all of 127.0.0.1."""
    unwell = droplet["health"] == "unhealthy"
    return {
        "name": droplet["name"],
        "state": "unhealthy" if unwell else droplet["state"],
        "status": f"{droplet['status']} (out of memory)" if droplet["out_of_memory"] else droplet["status"],
        "ports": [f"{inside}={port['port']}" for inside, port in droplet["ports"].items()],
        "template": droplet["template"],
        "app": droplet["app"],
    }
