"""Statistics: what the workers counted since the last reset, in the fields of the original (doveadm.md 6.4).

    every worker's Counted -> summed by name -> items of one kind -> those that the filter chooses -> rows

Summing and writing take a thread, as there may be ten thousand items a kind and worker.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.counted import ITEMS, Filter, Item, add, read_filter
from ostiary.control.registry import operation
from ostiary.core.snapshot import SECOND
from ostiary.link.messages import Counted, Dump, ResetStats, Sums
from ostiary.link.orders import Result

MOST = 10_000
"""Items of a kind; the least recent are left out."""
MOST_SLOW = 1_000

Kind = Annotated[
    Literal["global", "user", "domain", "ip", "session", "command"],
    Meta(description="global (one row), or one row a user, domain, ip, session or slow command"),
]


class StatRow(Struct, frozen=True):
    """What was counted of everything, or of one item. Fields that count mail are always 0."""

    keys: dict[str, str]
    """What the item is called; empty for everything."""
    reset_timestamp: int = 0
    """Unix seconds."""
    last_update: float = 0.0
    """Unix time of the end of the last exchange; 0.0: none."""
    num_logins: int = 0
    """Sessions begun."""
    num_cmds: int = 0
    """Exchanges."""
    num_connected_sessions: int = 0
    user_cpu: float = 0.0
    """CPU seconds of all workers; this and the others that a process uses count for everything only."""
    sys_cpu: float = 0.0
    clock_time: float = 0.0
    """Sum of the durations of exchanges, in seconds."""
    min_faults: int = 0
    maj_faults: int = 0
    vol_cs: int = 0
    invol_cs: int = 0
    disk_input: int = 0
    """Bytes."""
    disk_output: int = 0
    read_count: int = 0
    read_bytes: int = 0
    write_count: int = 0
    write_bytes: int = 0
    mail_lookup_path: int = 0
    mail_lookup_attr: int = 0
    mail_read_count: int = 0
    mail_read_bytes: int = 0
    mail_cache_hits: int = 0
    auth_successes: int = 0
    """Tokens admitted."""
    auth_master_successes: int = 0
    auth_failures: int = 0
    """Requests refused with 401 or 403."""
    auth_db_tempfails: int = 0
    """Admissions that could not be decided."""
    auth_cache_hits: int = 0
    auth_cache_misses: int = 0
    fscache_read: int = 0
    fscache_stat: int = 0
    fscache_write: int = 0
    idx_del: int = 0
    idx_iter: int = 0
    idx_read: int = 0
    idx_read_usecs: int = 0
    idx_wbytes: int = 0
    idx_write: int = 0
    idx_write_usecs: int = 0
    obox_copy: int = 0
    obox_del: int = 0
    obox_iter: int = 0
    obox_read: int = 0
    obox_read_usecs: int = 0
    obox_stat: int = 0
    obox_wbytes: int = 0
    obox_write: int = 0
    obox_write_usecs: int = 0


class DumpStats(Struct, frozen=True):
    """Of what, and which."""

    type: Kind
    filter: Annotated[
        str,
        Meta(
            max_length=1024,
            description="user=MASK domain=NAME session=ID ip=NETWORK since=UNIX connected, all of which must hold",
        ),
    ] = ""


class NoParameters(Struct, frozen=True):
    """Nothing is asked for."""


class Emptied(Struct, frozen=True):
    """When counting began anew, in Unix seconds."""

    reset_timestamp: int


@operation("stats.dump", reads=True)
async def dump(control: Control, call: Call, params: DumpStats) -> list[StatRow]:
    """Show what was counted since the last reset: of everything, or item by item, the latest first."""
    wanted = read_filter(params.filter)
    results = await control.workers.order(Dump())
    return await asyncio.to_thread(_rows, params.type, wanted, results, control.counting_since)


async def foresee(control: Control, call: Call, params: NoParameters) -> list[str]:
    """What a reset would do."""
    return ["would begin counting anew"]


@operation("stats.reset", preview=foresee)
async def reset(control: Control, call: Call, params: NoParameters) -> Emptied:
    """Begin counting anew, in all workers. The metrics for monitoring go on."""
    now = control.clock()
    await control.workers.order(ResetStats())
    control.counting_since = now
    return Emptied(now // SECOND)


def _rows(kind: Kind, wanted: Filter, results: Iterable[Result], since: int) -> list[StatRow]:
    """In a thread: what the workers said, as rows."""
    counted = [(pid, msgspec.msgpack.decode(raw, type=Counted)) for pid, raw in results]
    begun = min((since, *(each.since for _, each in counted))) // SECOND
    if kind == "global":
        return [_everything([each for _, each in counted], begun)]
    items = sorted(filter(wanted.chooses, ITEMS[kind](counted)), key=_latest_first)
    return [_row(item.keys, item.sums, begun) for item in items[: MOST_SLOW if kind == "command" else MOST]]


def _latest_first(item: Item) -> tuple[int, list[str]]:
    return -item.sums.last, list(item.keys.values())


def _everything(counted: Sequence[Counted], begun: int) -> StatRow:
    total = Sums()
    for each in counted:
        add(total, each.total)
    used = {name: sum(each.usage.get(name, 0) for each in counted) for name in _USED}
    return msgspec.structs.replace(_row({}, total, begun), **{name: _USED[name](used[name]) for name in _USED})


def _seconds(seconds: float) -> float:
    """To the microsecond: sums of fractions have tails."""
    return round(seconds, 6)


_USED: dict[str, Callable[[float], float]] = {
    "user_cpu": _seconds, "sys_cpu": _seconds, "min_faults": int, "maj_faults": int, "vol_cs": int, "invol_cs": int,
    "disk_input": int, "disk_output": int,
}  # fmt: skip


def _row(keys: dict[str, str], sums: Sums, begun: int) -> StatRow:
    return StatRow(
        keys=keys,
        reset_timestamp=begun,
        last_update=sums.last / SECOND,
        num_logins=sums.logins,
        num_cmds=sums.exchanges,
        num_connected_sessions=sums.connected,
        clock_time=sums.micros / SECOND,
        read_count=sums.reads,
        read_bytes=sums.read_bytes,
        write_count=sums.writes,
        write_bytes=sums.write_bytes,
        auth_successes=sums.admitted,
        auth_failures=sums.refused,
        auth_db_tempfails=sums.undecided,
        auth_cache_hits=sums.cached,
        auth_cache_misses=sums.asked,
    )
