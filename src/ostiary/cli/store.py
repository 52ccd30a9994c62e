"""The store on this machine: backup, restore, migrate, check. `remote` has the operations of a node that runs.

What they are made with is imported where one of them runs, so that `ostiary serve` does not.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NoReturn, Protocol
from urllib.parse import urlsplit

import msgspec
import typer
from typer.core import TyperGroup

from ostiary import supervisor
from ostiary.cli.output import written
from ostiary.cli.serve import DEFAULT, Config, Json
from ostiary.core.refusal import Refusal
from ostiary.store.keeping import rfc3339

Url = Annotated[
    str,
    typer.Option(
        "--url",
        metavar="STORE",
        help="sqlite:///PATH or postgresql://USER@HOST/DATABASE, instead of the configuration's store.url; "
        "a password comes from PGPASSWORD or ~/.pgpass",
    ),
]
KEYS = "revisions.key in the state directory is not in it: keep that beside it, in another place"


class Remote(TyperGroup):
    """A group that has the operations on a running node as `remote`."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from ostiary.cli.commands import subject

        return subject("store") if cmd_name == "remote" else super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), "remote"]


app = typer.Typer(
    name="store", cls=Remote, no_args_is_help=True,
    help="The store on this machine: backup, restore, migrate, check; remote: by a node that runs.",
)  # fmt: skip


class Told(Protocol):
    """Is told of rows as they pass."""

    def __call__(self, table: str, rows: int, /) -> None: ...


@app.command()
def backup(
    file: Annotated[str, typer.Argument(help="where to; - for standard output")],
    config: Config = DEFAULT,
    url: Url = "",
    force: Annotated[bool, typer.Option("--force", help="replace FILE if it exists")] = False,
) -> None:
    """Write all that the store holds to a file, as one moment saw it, while a node runs or not."""
    with refusing():
        from ostiary.store import backup as backups

        store, created = _store(config, url)[0], rfc3339(datetime.now(UTC))
        with _progress("written") as told:
            if file == "-":
                done = backups.backup(store, _output(), created, told)
                rows, where = sum(done.tail.rows.values()), "standard output"
            else:
                copied = backups.save(store, Path(file), created, told, force=force)
                rows, where = sum(copied.rows.values()), f"{file}, {copied.bytes:,} bytes"
    _say(f"{rows:,} rows written to {where}")
    _say(KEYS)


@app.command()
def restore(
    file: Annotated[str, typer.Argument(help="a backup; - for standard input")],
    config: Config = DEFAULT,
    url: Url = "",
    force: Annotated[bool, typer.Option("--force", help="replace everything in a store that is in use")] = False,
    revoke_tokens: Annotated[
        bool, typer.Option("--revoke-tokens", help="end all tokens: those revoked after the backup would live again")
    ] = False,
) -> None:
    """Make an empty or new store what a backup says, of whichever engine either is. The node must be stopped."""
    with refusing():
        from ostiary.store import backup as backups

        store, pid_file = _store(config, url)
        _stopped(pid_file)
        with _input(file) as stream, _progress("restored") as told:
            done = backups.restore(store, stream, time.time_ns() // 1000, told, force=force, revoke=revoke_tokens)
    _say(f"{done.rows:,} rows of {done.head.created} restored")
    if done.revoked:
        _say(f"{done.revoked:,} tokens revoked")
    _say(
        f"What was revoked, disabled or changed after {done.head.created} is again as it was then; "
        f"{done.live:,} tokens are live" + ("" if revoke_tokens else " (--revoke-tokens would have ended them)")
    )


@app.command()
def migrate(
    config: Config = DEFAULT,
    url: Url = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
) -> None:
    """Bring the store's schema up to date, as a start does too. The node must be stopped."""
    with refusing():
        from ostiary.store import direct

        store, pid_file = _store(config, url)
        if not dry_run:
            _stopped(pid_file)
        before, after = direct.migrate(store, dry_run=dry_run)
    if before == after:
        typer.echo(f"schema {after}: up to date")
    else:
        typer.echo(f"schema {before or 'none'} -> {after}" + (": nothing was done" if dry_run else ""))


@app.command()
def check(config: Config = DEFAULT, url: Url = "", as_json: Json = False) -> None:
    """Check that the store is whole: its file, its references, the change log, tokens, and the schema."""
    with refusing():
        from ostiary.store.check import check as checked

        found = checked(_store(config, url)[0])
    written(msgspec.to_builtins(found), sys.stdout, as_json=as_json)
    raise typer.Exit(0 if found.valid else 1)


@contextmanager
def refusing() -> Iterator[None]:
    """Say a refusal and exit with status 1."""
    try:
        yield
    except Refusal as refusal:
        _fail(refusal.message)


def _store(config: Path, url: str) -> tuple[str, Path | None]:
    """The store's URL, and the pid file of its node where the configuration tells of it."""
    if url:
        if urlsplit(url).password is not None:
            raise typer.BadParameter("everybody can read a password here: give it by PGPASSWORD or ~/.pgpass")
        return url, None
    from ostiary.control.configuration import load
    from ostiary.control.sources import Disk
    from ostiary.node.start import environment

    loaded = load(config, environment(None), Disk(config.parent.absolute()))
    for mistake in loaded.mistakes:
        _say(str(mistake))
    if loaded.mistakes:
        raise typer.Exit(1)
    return loaded.settings.store.url, Path(loaded.settings.pid_file)


def _stopped(pid_file: Path | None) -> None:
    if pid_file is not None and (pid := supervisor.living(pid_file)):
        _fail(f"a node runs on this store, pid {pid}: stop it first (ostiary stop)")


def _output() -> BinaryIO:
    if sys.stdout.isatty():
        _fail("a backup is no text for a terminal: give a file, or send it on with >")
    return sys.stdout.buffer


@contextmanager
def _input(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(file).open("rb") as stream:
            yield stream
    except OSError as error:
        _fail(f"cannot read {file}: {error.strerror}")


@contextmanager
def _progress(done: str) -> Iterator[Told]:
    """Counts rows on the terminal, if standard error is one."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), TextColumn(f"{{task.completed:,}} rows {done}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=None)

        def told(table: str, rows: int) -> None:
            progress.update(task, description=table, advance=rows)

        yield told


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _fail(message: str) -> NoReturn:
    _say(f"ostiary: {message}")
    raise typer.Exit(1)
