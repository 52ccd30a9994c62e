"""One command for each operation, `ostiary SUBJECT VERB`, made from the registry and run over the native API.

The registry is read only where a generated command, help or completion needs it, so that `ostiary serve` does not.
"""

import inspect
import os
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
import typer
from msgspec import Meta, UnsetType
from msgspec.structs import FieldInfo
from rich.console import Console
from typer.core import TyperGroup

from ostiary.cli.tables import show
from ostiary.control.registry import Operation

URL = "http://127.0.0.1:8081"
NAME = "admin"
SECRETS = frozenset({"token", "client_secret"})
"""Parameters that may be given as `-`: then they come from a prompt or standard input and are in no process list."""
REFUSED, USAGE, UNREACHABLE = 1, 2, 3
"""Exit statuses."""


class Operations(TyperGroup):
    """A group that also has the subjects of the registry."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name) or groups().get(cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return [*own, *(subject for subject in groups() if subject not in own)]


@cache
def groups() -> dict[str, Any]:
    """Subject -> the group of its commands."""
    from ostiary.control.subjects import registry

    subjects: dict[str, list[Operation]] = defaultdict(list)
    for operation in registry().operations.values():
        subjects[operation.name.partition(".")[0]].append(operation)
    return {subject: typer.main.get_command(_group(subject, found)) for subject, found in subjects.items()}


def _group(subject: str, operations: list[Operation]) -> typer.Typer:
    verbs = ", ".join(_verb(operation) for operation in operations)
    group = typer.Typer(
        name=subject, help=f"{subject.capitalize()}: {verbs}.", no_args_is_help=True, add_completion=False
    )

    @group.callback()
    def keep() -> None:
        """A group with one command stays a group."""

    for operation in operations:
        group.command(_verb(operation), help=operation.summary)(Command(operation))
    return group


def _verb(operation: Operation) -> str:
    return operation.name.partition(".")[2].replace("_", "-")


class Command:
    """The function behind a command: its signature is made from the operation's parameters."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.fields = msgspec.structs.fields(operation.params)
        leading = _leading(operation, self.fields)
        parameters = [_parameter(field, argument=field.name == leading) for field in self.fields]
        parameters += _common(taken={field.name for field in self.fields})
        self.__name__ = operation.name.replace(".", "_")
        self.__doc__ = operation.summary
        self.__signature__ = inspect.Signature(parameters)
        self.__annotations__ = {each.name: each.annotation for each in parameters}

    def __call__(self, **given: Any) -> None:
        common = {name: given.pop(name) for name in ("url", "login", "password_file", "as_json")}
        params = {
            field.name: _value(field, given[field.name])
            for field in self.fields
            if given[field.name] is not None and given[field.name] != []
        }
        _run(self.operation, params, **common)


def _leading(operation: Operation, fields: tuple[FieldInfo, ...]) -> str:
    """The parameter that needs no flag: what is acted upon, else the only required one."""
    required = [field.name for field in fields if field.required]
    if operation.target in required:
        return operation.target
    return required[0] if len(required) == 1 else ""


def _parameter(field: FieldInfo, *, argument: bool) -> inspect.Parameter:
    kind, description = _plain(field.type), _description(field.type)
    flag = "--" + field.name.replace("_", "-")
    if field.name in SECRETS:
        description += "; - asks for it"
    metavar = _metavar(kind)
    hint: Any = list[str] if get_origin(kind) is dict else kind if _is_simple(kind) else str
    if argument:
        said: Any = typer.Argument(help=description, metavar=field.name.upper())
    elif kind is bool:
        said = typer.Option(f"{flag}/--no{flag[1:]}", help=description)
    else:
        said = typer.Option(flag, help=description, metavar=metavar)
    default = inspect.Parameter.empty if field.required else None
    hint = hint if field.required else hint | None
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, said]
    )


def _common(taken: set[str]) -> list[inspect.Parameter]:
    """What every command takes. `--login` is also `--user` where that is no parameter of the operation."""
    names = ["--login"] if "user" in taken else ["--user", "--login"]
    said = {
        "url": (str, URL, typer.Option("--url", envvar="OSTIARY_URL", help="the admin listener")),
        "login": (str, NAME, typer.Option(*names, envvar="OSTIARY_USER", help="as whom to ask", metavar="NAME")),
        "password_file": (
            Path | None,
            None,
            typer.Option("--password-file", help="file with the password; else OSTIARY_PASSWORD, else a prompt"),
        ),
        "as_json": (bool, False, typer.Option("--json", help="the result as JSON")),
    }
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, option])
        for name, (hint, default, option) in said.items()
    ]


def _plain(hint: Any) -> Any:
    """A type without Annotated, None and UNSET around it; the empty text is no choice."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, UnionType):
        (hint, *_) = [each for each in get_args(hint) if each not in (type(None), UnsetType)]
        return _plain(hint)
    if get_origin(hint) is Literal:
        return Literal[tuple(each for each in get_args(hint) if each)]
    return hint


def _is_simple(kind: Any) -> bool:
    return kind in (str, int, bool, float, list[str]) or get_origin(kind) is Literal


def _metavar(kind: Any) -> str | None:
    if get_origin(kind) is dict:
        return "NAME=VALUE"
    return None if _is_simple(kind) else "JSON"


def _description(hint: Any) -> str:
    while get_origin(hint) is Annotated:
        hint, *said = get_args(hint)
        for meta in said:
            if isinstance(meta, Meta) and meta.description:
                return meta.description
    return ""


def _value(field: FieldInfo, given: Any) -> Any:
    """A parameter as the API takes it."""
    kind = _plain(field.type)
    if field.name in SECRETS and given == "-":
        return ask(field.name.replace("_", " "))
    if get_origin(kind) is dict:
        pairs = [each.partition("=") for each in given]
        if not all(sign for _, sign, _ in pairs):
            raise typer.BadParameter(f"--{field.name.replace('_', '-')} takes NAME=VALUE")
        return {name: value for name, _, value in pairs}
    if _is_simple(kind):
        return given
    try:
        return msgspec.json.decode(given)
    except ValueError as problem:
        raise typer.BadParameter(f"--{field.name.replace('_', '-')} takes JSON") from problem


def ask(what: str) -> str:
    """A secret from a prompt that does not show it, or from standard input where there is no terminal."""
    if sys.stdin.isatty():
        return str(typer.prompt(what.capitalize(), hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")


def _password(path: Path | None) -> str | None:
    if path is not None:
        try:
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as problem:
            raise typer.BadParameter(f"cannot read the password file: {problem}") from problem
    given = os.environ.get("OSTIARY_PASSWORD")
    if given is not None:
        return given
    return ask("password") if sys.stdin.isatty() else None


def _run(
    operation: Operation, params: dict[str, Any], url: str, login: str, password_file: Path | None, as_json: bool
) -> None:
    from ostiary.cli.client import Problem, Target, run

    out, err = console(sys.stdout), console(sys.stderr, stderr=True)
    password = _password(password_file)
    try:
        done = run(Target(url.rstrip("/"), login, password), operation.name, params)
    except Problem as problem:
        err.print(f"{problem.message} ({problem.code})", style="red", markup=False, highlight=False)
        for line in problem.mistakes:
            err.print(f"  {line}", markup=False, highlight=False)
        raise typer.Exit(REFUSED if problem.status else UNREACHABLE) from problem
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(done.result), indent=2).decode() + "\n")
    else:
        show(done.result, out)
    if done.applied and not as_json:
        err.print(f"in force: {done.applied}", style="dim", markup=False, highlight=False)
    if isinstance(done.result, dict) and done.result.get("valid") is False:
        raise typer.Exit(REFUSED)


def console(stream: Any, *, stderr: bool = False) -> Console:
    """Lines for a pipe are not cut to the width of a terminal that is not there."""
    return Console(stderr=stderr, width=None if stream.isatty() else 4096, highlight=False)
