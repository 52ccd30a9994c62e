"""`ostiary tokens reissue`: the personal tokens of a user, or of all, end; each user's next log-in gives a new one."""

from typing import Annotated

import typer

from ostiary.cli import client, here
from ostiary.cli import target as targets
from ostiary.cli.client import REFUSED, Problem, Target, fail


def reissue(
    user: Annotated[str, typer.Argument(help="whose tokens")] = "",
    everybody: Annotated[bool, typer.Option("--all", help="those of all users")] = False,
    url: targets.Url = None,
    login: targets.LoginOnly = None,
    password_file: targets.PasswordFile = None,
    profile: targets.ProfileName = None,
    config: here.Config = None,
) -> None:
    """End all personal tokens of a user, or with --all of all users."""
    if bool(user) == everybody:
        raise typer.BadParameter("give either USER or --all")
    whom = here.whom(config, targets.Asked(url, login, password_file, profile))
    try:
        said = _everybody(whom) if everybody else _one(whom, user)
    except Problem as problem:
        if problem.code == "user.unknown":
            typer.echo(f"User not found: {user}", err=True)
            raise typer.Exit(REFUSED) from problem
        fail(problem)
    typer.echo(said)


def _everybody(whom: here.Whom) -> str:
    found = here.run(whom, "tokens.reissue_all", {})
    return f"Tokens of {found['users']} users revoked."


def _one(whom: here.Whom, user: str) -> str:
    """Of oneself there is a new token already, which nobody is to have who did not log in: it is ended."""
    found = here.run(whom, "tokens.reissue", {"user": user})
    if found["access_token"] and isinstance(whom, Target):
        client.run(Target(whom.url, token=found["access_token"]), "tokens.end", {})
    return f"Tokens of {user} revoked: {found['ended']}. {user} gets a new one at the next login."
