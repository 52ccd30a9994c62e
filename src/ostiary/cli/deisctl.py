"""`ostiary deisctl config controller`: the registration switch under the names that Deis has for it."""

from enum import Enum
from typing import Annotated, NoReturn

import typer

from ostiary.cli import here
from ostiary.cli import target as targets
from ostiary.cli.client import REFUSED, Problem

SETTING = "registration.mode"
MODES = ("enabled", "disabled", "admin_only")
ON, OFF = ("1", "true", "yes", "on", "enabled"), ("0", "false", "no", "off", "disabled")
KEYS = {"registrationEnabled": f"one of {', '.join(ON + OFF)}", "registrationMode": f"one of {', '.join(MODES)}"}
"""Both are views of one setting; what each takes."""
app = typer.Typer(no_args_is_help=True, add_completion=False)


class Action(Enum):
    """What is done with the settings."""

    GET = "get"
    SET = "set"


def fail(message: str) -> NoReturn:
    """Say what is accepted; nothing was changed."""
    typer.echo(f"ostiary: {message}", err=True)
    raise typer.Exit(REFUSED)


@app.callback()
def deisctl() -> None:
    """Settings of the controller, as deisctl has them."""


@app.command()
def config(
    component: Annotated[str, typer.Argument(metavar="TARGET", help="controller")],
    action: Action,
    keys: Annotated[list[str], typer.Argument(metavar="KEY[=VALUE]", help=", ".join(KEYS))],
    url: targets.Url = None,
    login: targets.Login = None,
    password_file: targets.PasswordFile = None,
    profile: targets.ProfileName = None,
    configuration: here.Config = None,
) -> None:
    """Show or set who may register; it is in force everywhere before the command ends."""
    if component != "controller":
        fail("there is the target controller")
    wanted = pairs(keys) if action is Action.SET else dict.fromkeys(keys, "")
    for name in wanted:
        known(name)
    changes = [mode(name, value) for name, value in wanted.items()] if action is Action.SET else []
    whom = here.whom(configuration, targets.Asked(url, login, password_file, profile))
    try:
        if changes:
            here.run(whom, "settings.set", {"values": {SETTING: changes[-1]}})
        (found,) = here.run(whom, "settings.get", {"names": [SETTING]})
    except Problem as problem:
        fail(f"{problem} ({problem.code})")
    for name in wanted:
        typer.echo(shown(name, found["value"]))


def pairs(words: list[str]) -> dict[str, str]:
    """KEY=VALUE by key, the last of each last."""
    if not all("=" in word for word in words):
        fail(f"set takes KEY=VALUE, with a KEY of {', '.join(KEYS)}")
    found: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        found.pop(name, None)
        found[name] = value
    return found


def known(name: str) -> None:
    """Fail for what is no key."""
    if name not in KEYS:
        fail(f"there are the keys {', '.join(KEYS)}")


def mode(name: str, value: str) -> str:
    """The mode that a value of a key stands for."""
    text = value.lower()
    if name == "registrationMode" and text in MODES:
        return text
    if name == "registrationEnabled" and text in ON + OFF:
        return "enabled" if text in ON else "disabled"
    fail(f"{name} is {KEYS[name]}")


def shown(name: str, value: str) -> str:
    """The mode as a key shows it."""
    return value if name == "registrationMode" else str(int(value == "enabled"))
