"""What is read off the kernel, and the arithmetic on it."""

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median

TICKS = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """`root` and all its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name, `state` first; empty for a process that has gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text[text.rindex(")") + 2 :].split()


def cpu_seconds(root: int) -> float:
    """CPU time of a whole process tree, user and system, ended and awaited children included."""
    times = [_stat(pid)[11:15] for pid in tree(root)]
    return sum(sum(map(int, each)) for each in times) / TICKS


def command_line(pid: int) -> str:
    """The words that a process was started with."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def own_memory(pid: int) -> int:
    """Bytes that are this process's alone (USS)."""
    return sum(_kilobytes(f"/proc/{pid}/smaps_rollup", name) for name in ("Private_Clean", "Private_Dirty")) * 1024


def resident(pid: int) -> int:
    """Bytes of this process in memory now."""
    return _kilobytes(f"/proc/{pid}/status", "VmRSS") * 1024


def resident_peak(pid: int) -> int:
    """The most that it ever was since `forget_peak`."""
    return _kilobytes(f"/proc/{pid}/status", "VmHWM") * 1024


def forget_peak(pid: int) -> None:
    """Count the peak from now on (proc(5): clear_refs, 5)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _kilobytes(path: str, name: str) -> int:
    return sum(int(line.split()[1]) for line in Path(path).read_text().splitlines() if line.startswith(f"{name}:"))


def settled(read: Callable[[], int], seconds: float = 8.0) -> int:
    """What `read` gives once it has stayed within one percent for a second; after `seconds`, what it gives then."""
    until = time.monotonic() + seconds
    last, steady = read(), 0
    while steady < 4 and time.monotonic() < until:
        time.sleep(0.25)
        now = read()
        steady = steady + 1 if abs(now - last) <= last / 100 else 0
        last = now
    return last


def percentile(values: Iterable[float], percent: float) -> float:
    """The least of `values` that `percent` of them do not exceed; nan where there are none."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of one round each: what disturbs a round disturbs both."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))
