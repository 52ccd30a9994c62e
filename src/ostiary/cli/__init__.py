"""The command line: running a node, upkeep of its store, and one command for each operation."""

import typer

from ostiary.cli import serve, store
from ostiary.cli.commands import Operations

app = typer.Typer(
    name="ostiary", cls=Operations, help="An API gateway whose operations are part of the product.",
    no_args_is_help=True, pretty_exceptions_show_locals=False,
)  # fmt: skip
for command in (serve.serve, serve.start, serve.stop, serve.status, serve.validate):
    app.command()(command)
app.add_typer(store.app)


def main() -> None:
    """The entry point `ostiary`."""
    app()
