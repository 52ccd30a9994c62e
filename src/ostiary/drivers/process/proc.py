"""Which process is meant. A pid is only a number: start time and boot make it one process, a pidfd makes it safe."""

import os
import signal
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Stat(NamedTuple):
    """What /proc says of a process; times in ticks, `start` since the boot."""

    pid: int
    state: str
    parent: int
    session: int
    ticks: int
    threads: int
    start: int
    pages: int

    @property
    def lives(self) -> bool:
        """Not a zombie. Of a process whose first thread has ended the others may live."""
        return self.state not in "ZX" or self.threads > 1


def boot() -> str:
    """What tells this boot of the machine from any other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def stat(pid: int) -> Stat | None:
    """The process that has `pid` now; None: there is none. proc(5)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    field = text[text.rindex(b")") + 2 :].split()
    ticks = sum(map(int, field[11:15]))
    return Stat(
        pid, field[0].decode(), int(field[1]), int(field[3]), ticks, int(field[17]), int(field[19]), int(field[21])
    )


def hold(pid: int, start: int) -> int | None:
    """A pidfd of the living process that has `pid` and began at `start`; None: it is gone, whoever has its pid now."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return None
    found = stat(pid)
    if found is not None and found.start == start and found.lives:
        return descriptor
    os.close(descriptor)
    return None


def send(number: int, processes: Iterable[Stat]) -> None:
    """Signal exactly these, not who has their pids meanwhile."""
    for each in processes:
        descriptor = hold(each.pid, each.start)
        if descriptor is None:
            continue
        try:
            signal.pidfd_send_signal(descriptor, signal.Signals(number))
        except ProcessLookupError:
            pass  # it ended in between
        finally:
            os.close(descriptor)


def everybody() -> dict[int, Stat]:
    """All living processes that can be seen."""
    found = (stat(int(each.name)) for each in Path("/proc").iterdir() if each.name.isdigit())
    return {each.pid: each for each in found if each is not None and each.lives}


def marked(pid: int, mark: bytes) -> bool:
    """Whether the process was started with `mark` (`KEY=value`) in its environment."""
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def speaks(pid: int, pipe: Path) -> bool:
    """Whether the process writes its output or its errors into `pipe`."""
    for each in (1, 2):
        try:
            if Path(f"/proc/{pid}/fd/{each}").readlink() == pipe:
                return True
        except OSError:
            continue
    return False


def family(leader: int, began: int, known: Collection[tuple[int, int]], mark: bytes, pipe: Path) -> list[Stat]:
    """Who belongs to a droplet where there are no groups: the session of `leader` while that is the process that began
    at `began`, who is `known` (pid, start), who carries the mark or writes into the pipe, and their descendants. Who
    left its parents, its session, its environment and its output at once is not found."""
    there = everybody()
    first = stat(leader)
    session = leader if first is not None and first.start == began else -1
    mine = {
        pid
        for pid, each in there.items()
        if session in (pid, each.session) or (pid, each.start) in known or marked(pid, mark) or speaks(pid, pipe)
    }
    grew = True
    while grew:
        more = {pid for pid, each in there.items() if pid not in mine and each.parent in mine}
        grew = bool(more)
        mine |= more
    return [there[pid] for pid in mine]
