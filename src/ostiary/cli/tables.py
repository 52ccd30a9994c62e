"""Results as tables for people. What other people wrote is data here: no markup, no control characters."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

MOMENTS = frozenset({"at", "issued", "registered", "created", "expires"})
"""Members that are Unix times in microseconds."""

MOST_IN_A_CELL = 3
"""Members of an object that is shown inside another's row."""


def show(result: Any, console: Console) -> None:
    """A list of objects as rows, an object as its members, anything else as it is."""
    if console.is_terminal:
        _show(result, console)
        return
    with console.capture() as captured:
        _show(result, console)
    for line in captured.get().splitlines():
        console.out(line.rstrip(), highlight=False)


def _show(result: Any, console: Console) -> None:
    if isinstance(result, list):
        _rows(result, console)
    elif isinstance(result, dict):
        _members(result, console)
    elif result is not None:
        console.print(cell("", result))


def _rows(items: list[Any], console: Console) -> None:
    if not items:
        console.print("nothing", style="dim")
        return
    if not all(isinstance(item, dict) for item in items):
        for item in items:
            console.print(cell("", item))
        return
    columns = list(dict.fromkeys(name for item in items for name in item))
    table = Table(*(escape(printable(name)) for name in columns), box=box.SIMPLE, show_edge=False)
    for item in items:
        table.add_row(*(cell(name, item.get(name)) for name in columns))
    console.print(table)


def _members(item: dict[str, Any], console: Console) -> None:
    """Members that are objects or lists of such become tables of their own, below the others."""
    long = {name: value for name, value in item.items() if _is_long(value)}
    table = Table("", "", box=None, show_header=False, pad_edge=False)
    for name, value in item.items():
        if name not in long:
            table.add_row(Text(printable(name), style="bold"), cell(name, value))
    if table.row_count:
        console.print(table)
    for name, value in long.items():
        console.print(Text(f"\n{printable(name)}", style="bold"))
        _below(value, console)


def _below(value: Any, console: Console) -> None:
    """One object, or several that may each have a name."""
    if isinstance(value, dict) and all(isinstance(each, dict) for each in value.values()):
        value = [{"name": name, **each} for name, each in value.items()]
    if isinstance(value, dict):
        _members(value, console)
    else:
        _rows(value, console)


def _is_long(value: Any) -> bool:
    if isinstance(value, dict):
        return len(value) > MOST_IN_A_CELL or any(isinstance(each, dict | list) for each in value.values())
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def cell(name: str, value: Any) -> Text:
    """One value, short."""
    if value is None:
        return Text("-", style="dim")
    if name in MOMENTS and isinstance(value, int) and value > 10**12:
        return Text(f"{datetime.fromtimestamp(value // 10**6, UTC):%Y-%m-%d %H:%M:%SZ}")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, str):
        return Text(printable(value), overflow="fold")
    if isinstance(value, list) and all(isinstance(item, str | int) for item in value):
        return Text(printable(" ".join(map(str, value))), overflow="fold")
    return Text(printable(msgspec.json.encode(value).decode()), overflow="fold")


def printable(text: str) -> str:
    """The text without what would steer a terminal."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
