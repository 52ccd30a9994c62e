"""`ostiary users set-password`: on the server's machine also for whoever cannot sign in, having no password yet."""

import sys
from typing import Annotated, Any

import typer

from ostiary.cli import here
from ostiary.cli import target as targets
from ostiary.cli.secret import HOW, secret


def set_password(
    user: Annotated[str, typer.Argument(metavar="[NAME]", help="whose; else one's own", show_default=False)] = "",
    new_password: Annotated[str, typer.Option("--new-password", help=f"the new one, else a prompt; {HOW}")] = "",
    current_password: Annotated[
        str, typer.Option("--current-password", help=f"the present one: needed for oneself; {HOW}")
    ] = "",
    url: targets.Url = None,
    login: targets.LoginOnly = None,
    password_file: targets.PasswordFile = None,
    profile: targets.ProfileName = None,
    as_json: targets.Json = False,
    config: here.Config = None,
) -> None:
    """Set a password; it ends all that the user holds, but for the credential that asks."""
    if not new_password and not sys.stdin.isatty():
        raise typer.BadParameter(f"new_password is needed: {HOW}")
    whom = here.whom(config, targets.Asked(url, login, password_file, profile))
    params: dict[str, Any] = {"user": user}
    if current_password:
        params["current_password"] = secret("current_password", current_password)
    params["new_password"] = secret("new_password", new_password or "-", twice=True)
    here.carry_out(whom, "users.set_password", params, as_json=as_json)
