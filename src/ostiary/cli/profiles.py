"""Profiles: servers that a person is signed in to, each with its personal token, in a file that only they can read."""

import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from msgspec import Struct

from ostiary.cli.files import directory, replace
from ostiary.cli.output import written

PROFILE = "OSTIARY_PROFILE"


class Profile(Struct, frozen=True, omit_defaults=True):
    """A server, and as whom."""

    url: str
    user: str
    token: str
    created: int = 0
    """Unix time in microseconds."""

    def __repr__(self) -> str:
        return f"Profile({self.url!r}, {self.user!r})"


class Profiles(Struct, omit_defaults=True):
    """What the file holds."""

    current: str = ""
    """The name of the one that is used where none is named."""
    profiles: dict[str, Profile] = {}

    def named(self, name: str) -> Profile:
        """The profile of that name. Refuses usage."""
        if name not in self.profiles:
            raise typer.BadParameter(
                f"there is no profile {name!r} (ostiary profiles list); ostiary login --profile {name} URL makes it"
            )
        return self.profiles[name]


def path() -> Path:
    """Where the profiles are kept."""
    return directory("XDG_CONFIG_HOME", ".config") / "credentials.json"


def load() -> Profiles:
    """All profiles. Exits with status 1 for a file that others can read, or that cannot be read."""
    file = path()
    try:
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if stat.S_IMODE(mode) & 0o077:
                _fail(f"others can read {file}, which holds tokens: chmod 600 {file}")
            return msgspec.json.decode(stream.read(), type=Profiles)
    except (FileNotFoundError, NotADirectoryError):
        return Profiles()
    except OSError as error:
        _fail(f"cannot read {file}: {error.strerror}")
    except msgspec.MsgspecError:
        _fail(f"{file} is not a file of profiles: remove it, and sign in again with `ostiary login`")


@contextmanager
def changing() -> Iterator[Profiles]:
    """All profiles, to be changed; written when the block ends without an exception. One process at a time."""
    file = path()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            profiles = load()
            yield profiles
            replace(file, msgspec.json.format(msgspec.json.encode(profiles), indent=2) + b"\n")
    except OSError as error:
        _fail(f"cannot write {file}: {error.strerror}")


app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def profiles() -> None:
    """Servers that you are signed in to: list, use, remove."""


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="the result as JSON")] = False) -> None:
    """List the profiles."""
    found = load()
    rows = [
        {"profile": name, "current": name == found.current, "url": each.url, "user": each.user, "created": each.created}
        for name, each in found.profiles.items()
    ]
    written(rows, sys.stdout, as_json=as_json)


def names(incomplete: str) -> list[str]:
    """Of the profiles, for completion."""
    return [name for name in load().profiles if name.startswith(incomplete)]


Name = Annotated[str, typer.Argument(help="name of the profile", autocompletion=names)]


@app.command()
def use(name: Name) -> None:
    """Use a profile where none is named (by --profile or OSTIARY_PROFILE)."""
    with changing() as found:
        found.named(name)
        found.current = name


@app.command()
def remove(name: Name) -> None:
    """Forget a profile. Its token stays valid: `ostiary logout` ends it too."""
    with changing() as found:
        found.named(name)
        forget(found, name)


def forget(found: Profiles, name: str) -> None:
    """Take a profile out; then none is current if it was."""
    found.profiles.pop(name, None)
    if found.current == name:
        found.current = ""


def _fail(message: str) -> NoReturn:
    typer.echo(f"ostiary: {message}", err=True)
    raise typer.Exit(1)
