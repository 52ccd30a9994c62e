"""Rows: results of operations as the original's clients read them, all values strings (doveadm.md 5 to 8)."""

from collections.abc import Iterable
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from ostiary.control.penalties import Listed
from ostiary.control.services import Service
from ostiary.control.sessions import Kicked, Session
from ostiary.control.stats import StatRow
from ostiary.core.mask import address_order
from ostiary.core.snapshot import SECOND

Row = dict[str, str]


def when(microseconds: int) -> str:
    """A moment in the node's local zone."""
    return f"{datetime.fromtimestamp(microseconds // SECOND):%Y-%m-%d %H:%M:%S}"


def sessions(found: Iterable[Session]) -> list[Row]:
    """A row a user and service; `found` is sorted by both."""
    return [_together(list(each)) for _, each in groupby(found, key=attrgetter("user", "service"))]


def _together(found: list[Session]) -> Row:
    """Of one user and service; mostly one session."""
    first, pids, ips = found[0], str(found[0].pid), found[0].address
    if len(found) > 1:
        pids = " ".join(map(str, sorted({each.pid for each in found})))
        ips = " ".join(sorted({each.address for each in found}, key=address_order))
    return {
        "username": first.user,
        "connections": str(len(found)),
        "service": first.service,
        "pids": f"({pids})",
        "ips": f"({ips})",
    }


def separate_sessions(found: Iterable[Session]) -> list[Row]:
    """A row a session."""
    return [
        {"username": each.user, "service": each.service, "pid": str(each.pid), "ip": each.address} for each in found
    ]


def kicked(done: Kicked) -> list[Row]:
    return [{"result": user} for user in done.users]


def services(found: Iterable[Service]) -> list[Row]:
    return [{name: _plain(value) for name, value in asdict(each).items()} for each in found]


def penalties(found: Iterable[Listed]) -> list[Row]:
    """Oldest update first; an address whose failures are older than a level lasts has none."""
    return [
        {
            "IP": each.name.removesuffix("/64"),
            "penalty": str(each.penalty),
            "last_penalty": when(each.last_penalty),
            "last_update": when(each.last_update)[-8:],
        }
        for each in sorted(found, key=lambda each: each.last_update)
        if each.last_update
    ]


def stats(found: Iterable[StatRow]) -> list[Row]:
    return [each.keys | {name: _counted(name, getattr(each, name)) for name in STATS} for each in found]


STATS = tuple(name for name in StatRow.__struct_fields__ if name != "keys")


def _counted(name: str, value: float) -> str:
    if name == "last_update":
        return f"{value:.6f}"
    if isinstance(value, int):
        return str(value)
    text = f"{value:.6f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "y" if value else "n"
    return str(value)


def own(result: Any) -> list[Any]:
    """What an operation of ours gives: a list as it is, an object as one row, nothing as none."""
    if isinstance(result, list):
        return result
    empty = result is None or (isinstance(result, Struct) and not result.__struct_fields__)
    return [] if empty else [result]


def nothing(result: object) -> list[Row]:
    """It was done, and there is nothing to say."""
    return []
