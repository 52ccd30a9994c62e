"""The command line: running a node, upkeep of its store, signing in, and one command for each operation.

What a command is made with is imported when it is asked for, by name: most commands need little of it.
"""

import os
import sys
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ostiary.cli.loading import loaded

COMMANDS = {
    "serve": "ostiary.cli.serve:serve",
    "start": "ostiary.cli.serve:start",
    "stop": "ostiary.cli.serve:stop",
    "status": "ostiary.cli.serve:status",
    "validate": "ostiary.cli.serve:validate",
    "store": "ostiary.cli.store:app",
    "create-user": "ostiary.cli.create_user:app",
    "login": "ostiary.cli.login:login",
    "logout": "ostiary.cli.login:logout",
    "whoami": "ostiary.cli.login:whoami",
    "profiles": "ostiary.cli.profiles:app",
    "operations": "ostiary.cli.commands:app",
    "deis": "ostiary.cli.deis_apps:app",
    "deisctl": "ostiary.cli.deisctl:app",
    "doveadm": "ostiary.cli.doveadm.commands:app",
}
"""Name -> module and function, or group, of the commands that are no operation's."""


class Commands(TyperGroup):
    """A group that has COMMANDS, and the subjects of all operations."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        if found is not None:
            return found
        if cmd_name in COMMANDS:
            return loaded(cmd_name, COMMANDS[cmd_name])
        from ostiary.cli.commands import subject

        return subject(cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        from ostiary.cli.catalog import catalog

        own = [*COMMANDS, *super().list_commands(ctx)]
        return [*own, *(name for name in catalog() if name not in own)]

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Names only: to say what each is for, everything would have to be imported."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        names = TyperGroup(commands={name: TyperCommand(name) for name in self.list_commands(ctx)})
        return names.shell_complete(typer.Context(names), incomplete)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ostiary {metadata.version('ostiary')}")
        raise typer.Exit


app = typer.Typer(name="ostiary", cls=Commands, no_args_is_help=True, pretty_exceptions_show_locals=False)


@app.callback(
    epilog="Exit status: 0 done, 1 refused or failed, 2 the words make no sense, 3 nobody answers or nothing runs, "
    "4 not signed in or not permitted, 5 there is no such thing."
)
def ostiary(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which this is.")
    ] = False,
) -> None:
    """An API gateway whose operations are part of the product."""


def main() -> None:
    """The entry point `ostiary`. What the machine refuses (a full disk, a right) is said in a line, with status 1."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except OSError as problem:
        if not isinstance(problem, BrokenPipeError):  # whoever has read enough knows it
            typer.echo(f"ostiary: {problem.filename or 'the result cannot be written'}: {problem.strerror}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left of it, at the end of the process
        sys.exit(1)
