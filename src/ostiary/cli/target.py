"""Whom a command asks, and as whom: its options first, then the environment, then the profile, then a prompt."""

import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from ostiary.cli.client import Target
from ostiary.cli.profiles import PROFILE, Profile, load, names
from ostiary.cli.secret import ask, read

URL = "http://127.0.0.1:8081"
_TOKEN = re.compile(r"[!-~]*")
NAME = "admin"
Url = Annotated[
    str | None, typer.Option("--url", envvar="OSTIARY_URL", help=f"the admin listener; else the profile's, else {URL}")
]
Login = Annotated[
    str | None, typer.Option("--user", "--login", envvar="OSTIARY_USER", help="as whom to ask", metavar="NAME")
]
LoginOnly = Annotated[str | None, typer.Option("--login", envvar="OSTIARY_USER", help="as whom to ask", metavar="NAME")]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="file with the password; else OSTIARY_PASSWORD, else a prompt")
]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile", help="a server that you are signed in to; else OSTIARY_PROFILE, else the current one",
        autocompletion=names,
    ),
]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="the result as JSON")]


class Asked(Struct, frozen=True):
    """What the options say."""

    url: str | None = None
    login: str | None = None
    password_file: Path | None = None
    profile: str | None = None


def target(asked: Asked) -> Target:
    """Whom to ask. A profile's token is sent to the profile's server only. Refuses usage."""
    name, profile = chosen(asked.profile)
    url = (asked.url or (profile.url if profile else URL)).rstrip("/")
    if asked.profile and profile and url != profile.url:
        raise typer.BadParameter(f"profile {name} is of {profile.url}, not of {url}: leave out --profile or --url")
    if asked.password_file is not None:
        return Target(url, asked.login or NAME, read(asked.password_file, "the password file"))
    if token := _token(asked):
        return Target(url, token=token)
    password = os.environ.get("OSTIARY_PASSWORD")
    if password is not None and not asked.profile:
        return Target(url, asked.login or NAME, password)
    if profile and profile.url == url and asked.login in (None, profile.user):
        return Target(url, profile.user, token=profile.token, profile=name)
    user = asked.login or NAME
    return Target(url, user, ask(f"password of {user}") if sys.stdin.isatty() else None)


def _token(asked: Asked) -> str:
    """The environment's token, where no user or profile was asked for. Refuses usage, and repeats nothing of it."""
    token = "" if asked.login or asked.profile else os.environ.get("OSTIARY_TOKEN", "")
    if not _TOKEN.fullmatch(token):
        raise typer.BadParameter("OSTIARY_TOKEN holds no token: there are blanks, line ends or the like in it")
    return token


def chosen(name: str | None) -> tuple[str, Profile | None]:
    """The profile that is named, by its option or the environment, or else the current one if there is one."""
    profiles = load()
    if name := name or os.environ.get(PROFILE, ""):
        return name, profiles.named(name)
    return profiles.current, profiles.profiles.get(profiles.current)
