"""`ostiary settings reset`: what operators have set at run time is again as the configuration says."""

from typing import Annotated

import typer

from ostiary.cli import here
from ostiary.cli import target as targets


def reset(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="settings: registration.mode")],
    url: targets.Url = None,
    login: targets.Login = None,
    password_file: targets.PasswordFile = None,
    profile: targets.ProfileName = None,
    as_json: targets.Json = False,
    config: here.Config = None,
) -> None:
    """Have settings be as the configuration says, whatever was set since."""
    whom = here.whom(config, targets.Asked(url, login, password_file, profile))
    here.carry_out(whom, "settings.set", {"values": dict.fromkeys(names)}, as_json=as_json)
