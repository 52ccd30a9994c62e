"""Secrets that a command needs: from a prompt that does not show them, standard input or a file, never from its words.

Everybody on a machine can read the words of a command.
"""

import sys
from pathlib import Path

import typer

SECRETS = frozenset({
    "access_token", "client_secret", "code", "code_verifier", "current_password", "new_password", "password",
    "refresh_token", "token",
})  # fmt: skip
"""Parameters of operations that are."""
HOW = "- asks for it or reads a line of standard input, @FILE reads a file"


def ask(what: str, *, twice: bool = False) -> str:
    """A secret from a prompt, or where there is no terminal a line of standard input."""
    if sys.stdin.isatty():
        return str(typer.prompt(what.capitalize(), hide_input=True, err=True, confirmation_prompt=twice))
    line = sys.stdin.readline()
    if not line:
        raise typer.BadParameter(f"there is no terminal to ask for the {what}, and nothing on standard input")
    return line.rstrip("\r\n")


def secret(name: str, given: str, *, twice: bool = False) -> str:
    """The secret that `given` (`-` or `@FILE`) stands for. Anything else is refused, and not repeated."""
    if given == "-":
        return ask(name.replace("_", " "), twice=twice)
    if given.startswith("@") and given != "@":
        return read(Path(given[1:]), name)
    raise typer.BadParameter(f"{name} is a secret, and everybody can read the words of a command: {HOW}")


def read(path: Path, what: str) -> str:
    """A secret in a file, without the end of its line."""
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as problem:
        raise typer.BadParameter(f"cannot read {what} from {path}: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise typer.BadParameter(f"cannot read {what} from {path}: it is not UTF-8") from problem
