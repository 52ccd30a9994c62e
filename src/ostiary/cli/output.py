"""What a command writes. Tables are imported only where one is written."""

from typing import Any, TextIO

import msgspec
import typer


def written(result: Any, stream: TextIO, *, as_json: bool = False) -> None:
    """Write a result as a table or JSON."""
    if as_json:
        stream.write(msgspec.json.format(msgspec.json.encode(result), indent=2).decode() + "\n")
        return
    from ostiary.cli.tables import console, show

    show(result, console(stream))


def say(text: str, **style: Any) -> None:
    """A line for the person, beside the result."""
    typer.secho(printable(text), err=True, **style)


def printable(text: str, keep: str = "") -> str:
    """The text without what would steer a terminal."""
    return "".join(each if each in keep or each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
