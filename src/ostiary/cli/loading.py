"""Commands that are made when they are asked for."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer


def loaded(name: str, place: str) -> Any:
    """The command of a function, or the group of a Typer, at `module:attribute`."""
    module, _, attribute = place.partition(":")
    found = getattr(import_module(module), attribute)
    return typer.main.get_command(found) if isinstance(found, typer.Typer) else made(name, found)


def made(name: str, function: Callable[..., None], summary: str | None = None) -> Any:
    """A function as a command."""
    single = typer.Typer(add_completion=False)
    single.command(name, help=summary)(function)
    return typer.main.get_command(single)
