"""Commands that are made when they are asked for."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer


def loaded(name: str, place: str) -> Any:
    """The command of a function, or the group of a Typer, at `module:attribute`."""
    module, _, attribute = place.partition(":")
    found = getattr(import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        return made(name, found)
    group = typer.main.get_command(found)
    group.name = name  # help lists it by that
    return group


def made(name: str, function: Callable[..., None], summary: str | None = None) -> Any:
    """A function as a command."""
    single = typer.Typer(add_completion=False)
    single.command(name, help=summary)(function)
    return typer.main.get_command(single)
