"""One command for each operation, `ostiary SUBJECT VERB`, made from the catalog and run over the native API."""

import inspect
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
from typer.core import TyperGroup

from ostiary.cli import target as targets
from ostiary.cli.catalog import MOMENT, Entry, Parameter, catalog
from ostiary.cli.loading import loaded, made
from ostiary.cli.moments import WRITTEN, moment
from ostiary.cli.secret import HOW, SECRETS, secret

HINTS: dict[str, Any] = {
    "text": str, "integer": int, "number": float, "truth": bool, "texts": list[str], "pairs": list[str],
    "counts": list[str], "json": str, "moment": str,
}  # fmt: skip
METAVARS = {"pairs": "NAME=VALUE", "counts": "NAME=NUMBER", "json": "JSON", "moment": "TIME"}
_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
ALL = Annotated[bool, typer.Option("--all", help="all of them, page by page; --limit is then that of a page")]
PNG = Annotated[Path | None, typer.Option("--png", help="write the QR code as a picture, for its owner only")]
SVG = Annotated[Path | None, typer.Option("--svg", help="the same as SVG")]
NEW = ("users.create", "users.register", "users.set_password")
"""Operations whose new password is asked for twice."""

EXTRA: dict[str, dict[str, str]] = {
    "audit": {"export": "ostiary.cli.audit:export"}, "tokens": {"reissue": "ostiary.cli.reissue:reissue"},
    "settings": {"reset": "ostiary.cli.reset:reset"},
    "users": {"set-password": "ostiary.cli.set_password:set_password"},
    "droplets": {
        name: f"ostiary.cli.droplets:{name}" for name in ("add", "ls", "start", "stop", "restart", "rm", "logs")
    },
}  # fmt: skip
"""Commands of a subject beside or instead of those of its operations: module and function."""


class Subject(TyperGroup):
    """The commands of one subject, each made when it is asked for."""

    def __init__(self, name: str, entries: tuple[Entry, ...]) -> None:
        self.entries = {entry.verb: entry for entry in entries}
        self.extra = EXTRA.get(name, {})
        super().__init__(
            name=name, help=f"{name.capitalize()}: {', '.join(self.entries | self.extra)}.", no_args_is_help=True
        )

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands and cmd_name in self.list_commands(ctx):
            self.add_command(self._made(cmd_name), cmd_name)
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.entries | self.extra)

    def _made(self, verb: str) -> Any:
        if verb in self.extra:
            return loaded(verb, self.extra[verb])
        entry = self.entries[verb]
        return made(verb, Command(entry), entry.summary)


def subject(name: str) -> Subject | None:
    """The group of a subject's commands."""
    return Subject(name, catalog()[name]) if name in catalog() else None


class Everything(TyperGroup):
    """All subjects."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return subject(cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(catalog())


app = typer.Typer(cls=Everything, no_args_is_help=True, add_completion=False)


@app.callback()
def operations() -> None:
    """All operations of a node that runs, also those whose subject is a command of another kind here."""


class Command:
    """The function behind a command: its signature is made from the operation's parameters."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        parameters = [_parameter(each, argument=each.name == entry.leading) for each in entry.parameters]
        parameters += _common(entry)
        self.__name__ = entry.name.replace(".", "_")
        self.__doc__ = entry.summary
        self.__signature__ = inspect.Signature(parameters)
        self.__annotations__ = {each.name: each.annotation for each in parameters}

    def __call__(self, **given: Any) -> None:
        from ostiary.cli.run import Wanted, execute

        entry = self.entry
        asked = targets.Asked(*(given.pop(name) for name in ("url", "login", "password_file", "profile")))
        wanted = Wanted(given.pop("as_json"), *(given.pop(name, None) for name in ("every_page", "png", "svg")))
        params = {
            each.name: _value(entry, each, given[each.name]) for each in entry.parameters if _is_given(each, given)
        }
        execute(entry, params, targets.target(asked), wanted)


def _is_given(parameter: Parameter, given: dict[str, Any]) -> bool:
    """A secret that is needed is asked for although nothing was said of it."""
    needed = parameter.required and parameter.name in SECRETS
    return needed or given[parameter.name] not in (None, [])


def _parameter(parameter: Parameter, *, argument: bool) -> inspect.Parameter:
    name, kind, description = parameter.name, parameter.kind, parameter.description
    flag = "--" + name.replace("_", "-")
    if name in SECRETS:
        description += f"; {HOW}"
    if kind == "moment":
        description = f"{description.replace(MOMENT, 'moment')}; {WRITTEN}"
    if parameter.default:
        description += f"; else {parameter.default}"
    hint = Literal[parameter.choices] if kind == "choice" else HINTS[kind]
    if argument:
        said: Any = typer.Argument(help=description, metavar=name.upper())
    elif kind == "truth":
        said = typer.Option(f"{flag}/--no{flag[1:]}", help=description)
    else:
        said = typer.Option(flag, help=description, metavar=METAVARS.get(kind))
    needed = parameter.required and name not in SECRETS
    default = inspect.Parameter.empty if needed else None
    return _keyword(name, Annotated[hint if needed else hint | None, said], default)


def _common(entry: Entry) -> list[inspect.Parameter]:
    """What every command takes. `--login` is also `--user` where that is no parameter of the operation."""
    taken = {each.name for each in entry.parameters}
    options: dict[str, Any] = {
        "url": targets.Url, "login": targets.LoginOnly if "user" in taken else targets.Login,
        "password_file": targets.PasswordFile, "profile": targets.ProfileName,
    }  # fmt: skip
    if entry.enrols:
        options |= {"png": PNG, "svg": SVG}
    flags: dict[str, Any] = {"as_json": targets.Json} | ({"every_page": ALL} if entry.cursor else {})
    return [_keyword(name, hint, None) for name, hint in options.items()] + [
        _keyword(name, hint, False) for name, hint in flags.items()
    ]


def _keyword(name: str, hint: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _value(entry: Entry, parameter: Parameter, given: Any) -> Any:
    """A parameter as the API takes it."""
    name, flag = parameter.name, parameter.name.replace("_", "-")
    if name in SECRETS:
        twice = entry.name in NEW and name != "current_password"
        return secret(name, _needed(name) if given is None else given, twice=twice)
    if parameter.kind in ("pairs", "counts"):
        return _pairs(flag, parameter.kind, [each.partition("=") for each in given])
    if parameter.kind == "moment":
        return moment(given, f"--{flag}")
    if parameter.kind != "json":
        return given
    try:
        return msgspec.json.decode(given)
    except ValueError as problem:
        raise typer.BadParameter(f"--{flag} takes JSON") from problem


def _pairs(flag: str, kind: str, pairs: list[tuple[str, str, str]]) -> dict[str, str] | dict[str, int]:
    if kind == "pairs" and all(sign for _, sign, _ in pairs):
        return {name: value for name, _, value in pairs}
    if kind == "counts" and all(_INTEGER.fullmatch(value) for _, _, value in pairs):
        return {name: int(value) for name, _, value in pairs}
    raise typer.BadParameter(f"--{flag} takes {METAVARS[kind]}")


def _needed(name: str) -> str:
    """A secret of which nothing was said is asked for on a terminal only: a script must not wait for it unawares."""
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{name} is needed: {HOW}")
    return "-"
