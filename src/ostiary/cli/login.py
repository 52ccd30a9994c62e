"""Signing in: a personal token of this machine, kept in a profile."""

import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

import typer

from ostiary.cli.client import Problem, Target, fail, run
from ostiary.cli.output import written
from ostiary.cli.profiles import PROFILE, Profile, changing, forget, load
from ostiary.cli.secret import ask, read
from ostiary.cli.target import URL, Asked, Json, Login, PasswordFile, ProfileName, Url, chosen, target

MOST_LABEL = 255
LOCAL = ("localhost", "127.0.0.1", "::1")


def login(
    url: Annotated[str | None, typer.Argument(help=f"the admin listener; else the profile's, else {URL}")] = None,
    user: Annotated[
        str | None,
        typer.Option("--user", "--login", envvar="OSTIARY_USER", help="as whom; else a prompt", metavar="NAME"),
    ] = None,
    code: Annotated[bool, typer.Option("--code", help="by a code of the authenticator application")] = False,
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="file with the password; else a prompt or standard input")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", envvar=PROFILE, help="what to call it; else the server's name")
    ] = None,
    label: Annotated[str, typer.Option("--label", help="what the token is called there; else this machine")] = "",
) -> None:
    """Sign in to a server: keeps a personal token, which commands then use."""
    url = _server(url, profile)
    user = user or _asked_user()
    label = (label or f"ostiary on {socket.gethostname()}")[:MOST_LABEL]
    try:
        if code:
            token = _by_code(url, user, ask("code"), label)
        else:
            password = read(password_file, "the password file") if password_file else ask("password")
            token = _by_password(url, user, password, label)
        name = run(Target(url, token=token), "login.check", {}).result["name"]
        kept = profile or urlsplit(url).netloc
        _keep(kept, Profile(url, name, token, int(datetime.now(UTC).timestamp() * 10**6)))
    except Problem as problem:
        _refuse(problem)
    typer.echo(f"Signed in to {url} as {name}; profile {kept}", err=True)


def logout(
    profile: ProfileName = None,
    local: Annotated[bool, typer.Option("--local", help="only forget the profile here; its token stays valid")] = False,
) -> None:
    """Sign out: end the profile's token there, and forget it here."""
    name, kept = chosen(profile)
    if kept is None:
        typer.echo("You are not signed in", err=True)
        return
    said = "its token stays valid there"
    if not local:
        said = _ended(Target(kept.url, token=kept.token, profile=name))
    with changing() as found:
        if found.profiles.get(name) == kept:
            forget(found, name)
    typer.echo(f"Signed out of {kept.url} ({name}); {said}", err=True)


def whoami(
    url: Url = None, login: Login = None, password_file: PasswordFile = None, profile: ProfileName = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Say as whom the server sees you, and what you may do there."""
    whom = target(Asked(url, login, password_file, profile))
    try:
        found = run(whom, "login.check", {}).result
    except Problem as problem:
        fail(problem)
    written({**found, "url": whom.url, "profile": whom.profile or None}, sys.stdout, as_json=as_json)


def _server(url: str | None, profile: str | None) -> str:
    """The URL that is meant. Says so where what is sent there can be read on the way."""
    known = load()
    same = known.profiles.get(profile or known.current)
    url = (url or (same.url if same else URL)).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise typer.BadParameter(f"{url} is no URL of a server, such as {URL}")
    if parts.scheme == "http" and parts.hostname not in LOCAL:
        typer.echo(f"ostiary: {url} is not encrypted: whoever is on the way can read what you send", err=True)
    return url


def _asked_user() -> str:
    if not sys.stdin.isatty():
        raise typer.BadParameter("there is no terminal to ask for the user: give --user NAME")
    return str(typer.prompt("User", err=True))


def _by_password(url: str, user: str, password: str, label: str) -> str:
    params = {"user": user, "password": password, "personal": True, "label": label}
    return str(run(Target(url), "login.password", params).result["access_token"])


def _by_code(url: str, user: str, code: str, label: str) -> str:
    """A code gives a pair of short tokens: they make the personal one, and are ended."""
    short = Target(url, token=run(Target(url), "login.totp", {"user": user, "code": code}).result["access_token"])
    token = run(short, "tokens.create_personal", {"label": label}).result["access_token"]
    run(short, "tokens.end", {})
    return str(token)


def _keep(name: str, profile: Profile) -> None:
    """Keep a profile as the current one. The token that it had there is ended, as far as that goes."""
    with changing() as found:
        before = found.profiles.get(name)
        found.profiles[name] = profile
        found.current = name
    if before is not None and before.url == profile.url:
        _end(Target(before.url, token=before.token))


def _ended(whom: Target) -> str:
    """End a token for good, and say so. Exits where that cannot be done: then nothing is forgotten."""
    try:
        return "its token was ended" if _end(whom) else "its token had ended already"
    except Problem as problem:
        typer.echo("Nothing was forgotten (`ostiary logout --local` would)", err=True)
        fail(problem)


def _refuse(problem: Problem) -> NoReturn:
    """A refused log-in, with what to do."""
    if problem.code == "login.second_factor":
        typer.echo("Sign in with --code", err=True)
    fail(problem)


def _end(whom: Target) -> bool:
    """End a token; False if it had ended already. Raises Problem."""
    try:
        run(whom, "tokens.end", {})
    except Problem as problem:
        if problem.status != 401:
            raise
        return False
    return True
