"""How a group of commands asks, shows and fails."""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from ostiary.cli.doveadm import asking
from ostiary.cli.doveadm.asking import USAGE, Asked, Failed, Parameters
from ostiary.cli.doveadm.layout import Columns, Format, Row, laid_out
from ostiary.cli.output import printable

Context = typer.Context


class Group(TyperGroup):
    """Commands; without words, their help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit(USAGE)
        return super().parse_args(ctx, args)


class Everything(Group):
    """All of them. Their failures are one line on standard error, and an exit code of doveadm."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return self._told(lambda: super(Everything, self).make_context(info_name, args, parent, **extra))

    def invoke(self, ctx: Any) -> Any:
        return self._told(lambda: super(Everything, self).invoke(ctx))

    def _told(self, run: Callable[[], Any]) -> Any:
        try:
            return run()
        except typer.TyperException as problem:
            code, said = USAGE, problem.format_message()
            if any(getattr(problem, "option_name", "") in option.opts for option in self.params):
                said += " here: it stands before the command, right after doveadm"
        except Failed as problem:
            code, said = problem.code, str(problem)
        typer.echo(f"Error: {printable(said)}", err=True)
        raise typer.Exit(code)


def group(kind: type[Group] = Group) -> typer.Typer:
    """A group without commands yet."""
    return typer.Typer(cls=kind, add_completion=False)


def same(*names: str) -> dict[str, str]:
    """Columns whose headings are the keys."""
    return {name: name for name in names}


FORESEEN = same("dry_run", "operation", "target", "change")


def shown(ctx: Context, rows: list[Row], columns: Columns, otherwise: Format = Format.TABLE) -> None:
    """Print rows in the format that is asked for."""
    asked: Asked = ctx.obj
    typer.echo(laid_out(rows, columns, asked.format or otherwise), nl=False)


def listed(ctx: Context, command: str, parameters: Parameters, columns: Columns) -> None:
    """Print the rows of a command's answer."""
    shown(ctx, asking.ask(ctx.obj, command, parameters), columns)


def plain(ctx: Context, *forms: Format) -> bool:
    """Whether rows are to be sentences or bare values instead of a table."""
    return (ctx.obj.format or Format.TABLE) in forms


def change(ctx: Context, command: str, **parameters: object) -> None:
    """Do it without a word, or say what it would change."""
    rows = asking.ask(ctx.obj, command, given(**parameters))
    if ctx.obj.dry_run:
        shown(ctx, rows, FORESEEN)


def given(**parameters: object) -> Parameters:
    """Those that were given."""
    return {name: value for name, value in parameters.items() if value is not None}
