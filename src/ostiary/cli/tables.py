"""Results as tables for people. What other people wrote is data here: no markup, no control characters."""

from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ostiary.cli.moments import rfc3339
from ostiary.cli.output import printable
from ostiary.core.configuration.measure import Duration

MOMENTS = frozenset({
    "at", "changed", "created", "created_at", "expires", "finished_at", "issued", "last", "last_login", "last_penalty",
    "last_update", "registered", "retired", "since", "started_at", "until", "updated", "used",
})  # fmt: skip
"""Members that are Unix times in microseconds, 0: never."""
SECONDS = frozenset({
    "cc_expires_in", "expires_in", "pass_expires_in", "per_seconds", "refresh_expires_in", "uptime", "uptime_seconds",
})  # fmt: skip
"""Members that are durations in seconds."""
SIZES = frozenset({"bytes", "memory_bytes", "size"})
"""Members that are sizes in bytes."""

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
MOST_IN_A_CELL = 3
"""Members of an object that is shown inside another's row."""


def console(stream: TextIO) -> Console:
    """Lines for a pipe are not cut to the width of a terminal that is not there."""
    return Console(file=stream, width=None if stream.isatty() else 4096, highlight=False)


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
    said = text_of(name, value)
    return Text("-", style="dim") if said == "-" else Text(printable(said), overflow="fold")


def text_of(name: str, value: Any) -> str:
    """A value as people read it: times, durations with their unit, limits as a sentence, what is nested on one line."""
    if value is None or value == [] or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return _number(name, value)
    if isinstance(value, dict):
        return _object(name, value)
    if isinstance(value, list):
        return ("; " if isinstance(value[0], dict | list) else " ").join(text_of("", each) for each in value)
    return str(value)


def _number(name: str, value: int) -> str:
    if name in MOMENTS and value == 0:
        return "-"
    if name in MOMENTS and value > 10**12:
        return rfc3339(value)
    if name in SIZES:
        return _size(value)
    return str(Duration(value * 10**6)) if name in SECONDS else str(value)


def _size(value: int) -> str:
    """`512 B`, `12.3 MiB`."""
    power = min(max(value.bit_length() - 1, 0) // 10, len(UNITS) - 1)
    return f"{value / 1024**power:.1f} {UNITS[power]}" if power else f"{value} B"


def _object(name: str, value: dict[str, Any]) -> str:
    if "requests" in value and ("per" in value or "per_seconds" in value):
        return _limit(value)
    return " ".join(f"{key}={text_of(key, each)}" for key, each in value.items())


def _limit(value: dict[str, Any]) -> str:
    """`50 per 1s by address (name)`."""
    window = Duration(value["per"] if "per" in value else value["per_seconds"] * 10**6)
    by = f" by {value['by']}" if value.get("by") else ""
    name = f" ({value['name']})" if value.get("name") else ""
    return f"{value['requests']} per {window}{by}{name}"
