"""Running an operation for a person: page by page where asked, its result as a table or JSON, QR codes as pictures."""

import base64
import sys
from pathlib import Path
from typing import Any, NoReturn

import typer
from msgspec import Struct

from ostiary.cli.catalog import Entry
from ostiary.cli.client import REFUSED, Done, Problem, Target, fail, run
from ostiary.cli.files import replace
from ostiary.cli.output import printable, say, written
from ostiary.cli.watched import WATCHED, watched

PAGE = 1000
"""Rows that are asked for at once; every listing takes so many."""
VERDICTS = ("valid", "intact")
"""Members of results that are the answer to a question: a no ends the command with status 1."""
PNG = "data:image/png;base64,"


class Wanted(Struct, frozen=True):
    """What is to become of a result."""

    as_json: bool = False
    every_page: bool | None = None
    png: Path | None = None
    svg: Path | None = None


def execute(entry: Entry, params: dict[str, Any], whom: Target, wanted: Wanted) -> None:
    """Run an operation and show what it gave. Exits with the status of a refusal."""
    try:
        ask = watched if entry.name in WATCHED else run
        done = every(entry, params, whom) if wanted.every_page else ask(whom, entry.name, params)
    except Problem as problem:
        fail(problem)
    pictures = _enrolment(done.result)
    if pictures and not wanted.as_json:
        _enrol(done.result, pictures)
    else:
        written(done.result, sys.stdout, as_json=wanted.as_json)
    _draw(pictures, wanted)
    _tell_of_more(entry, params, done.result, wanted)
    if done.applied and not wanted.as_json:
        say(f"in force: {done.applied}", dim=True)
    if isinstance(done.result, dict) and any(done.result.get(name) is False for name in VERDICTS):
        raise typer.Exit(REFUSED)


def _tell_of_more(entry: Entry, params: dict[str, Any], result: Any, wanted: Wanted) -> None:
    """A listing that is as long as a page may be is seldom all there is."""
    limits = [params.get(each.name, each.default) for each in entry.parameters if each.name == "limit"]
    if entry.cursor and not wanted.every_page and len(rows_of(result)) in limits:
        say(f"there may be more than these {limits[0]}: --all fetches all of them", dim=True)


def every(entry: Entry, params: dict[str, Any], whom: Target) -> Done:
    """A whole listing, page by page. Raises Problem."""
    asked = {"limit": PAGE} | params
    done = run(whom, entry.name, asked)
    rows = page = rows_of(done.result)
    while page:
        asked[entry.cursor] = (
            len(rows) + params.get("offset", 0) if entry.cursor == "offset" else page[-1][entry.member]
        )
        page = rows_of(run(whom, entry.name, asked).result)
        rows.extend(page)
    return done


def rows_of(result: Any) -> list[Any]:
    """The rows of a listing: itself, or the list that it holds."""
    if isinstance(result, list):
        return result
    return next(each for each in result.values() if isinstance(each, list))


def _enrolment(result: Any) -> dict[str, str]:
    """The TOTP secret and its pictures in a result; empty: there are none."""
    held = result.get("enrolment", result) if isinstance(result, dict) else None
    return held if isinstance(held, dict) and {"secret", "uri", "png", "svg", "text"} <= held.keys() else {}


def _enrol(result: dict[str, Any], pictures: dict[str, str]) -> None:
    """The QR code where a terminal shows it, and what else an authenticator application takes."""
    if user := result.get("user"):
        written(user, sys.stdout)
    if sys.stdout.isatty():
        sys.stdout.write(printable(pictures["text"], keep="\n") + "\n")
    written({name: pictures[name] for name in ("secret", "uri")}, sys.stdout)


def _draw(pictures: dict[str, str], wanted: Wanted) -> None:
    """Write the pictures that are wanted, for their owner only."""
    if pictures and wanted.png:
        _write(wanted.png, base64.b64decode(pictures["png"].removeprefix(PNG)))
    if pictures and wanted.svg:
        _write(wanted.svg, pictures["svg"].encode())
    if not pictures and (wanted.png or wanted.svg):
        _fail("There is no TOTP secret in the result, so there is no picture")


def _write(path: Path, content: bytes) -> None:
    try:
        replace(path, content)
    except OSError as error:
        _fail(f"cannot write {path}: {error.strerror}")


def _fail(message: str) -> NoReturn:
    typer.echo(f"ostiary: {message}", err=True)
    raise typer.Exit(REFUSED)
