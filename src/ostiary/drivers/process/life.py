"""A droplet in the keeper: one life of one process after the other, each with all that came of it.

What is to be run stays in memory (its environment holds secrets); what became of it is in its directory:

    record   where it is in its life        output     the pipe (FIFO) that it writes to
    log      what it said, and `log.1`      work       its working directory, its own

A life ends when its last process is gone: when the leader ends by itself the others are killed, as in a container;
when it was told to stop they have until its timeout, too.
"""

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ostiary.drivers.process import groups, proc, record
from ostiary.drivers.process.output import Output
from ostiary.drivers.process.plunge import plunge
from ostiary.drivers.process.record import Record

FULL = (errno.ENOSPC, errno.EDQUOT)


class No(Exception):
    """A refusal: its meaning (the name of the class), its code, and a sentence for a person."""


Done = Callable[[Any], None]
"""Takes what an order came to, or a No."""


class Watch(NamedTuple):
    """What a droplet asks of the keeper's loop."""

    add: Callable[[int, Callable[[], None]], None]
    drop: Callable[[int], None]
    told: Callable[["Droplet"], None]
    groups: groups.Groups
    boot: str


class Ending:
    """The end of a life: until `deadline` (monotonic seconds) everybody may end by themselves."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.killed = False
        self.waiting: list[Done] = []


class Droplet:
    """One droplet of this node."""

    __slots__ = (
        "before", "ending", "held", "id", "known", "output", "place", "record", "said", "spec", "starting", "watch",
    )  # fmt: skip

    def __init__(self, droplet: str, place: Path, kept: Record, watch: Watch) -> None:
        self.id, self.place, self.record, self.watch = droplet, place, kept, watch
        self.before = kept
        """The record before the start that is going on."""
        self.known: set[tuple[int, int]] = set()
        """Processes (pid, start) that were seen to belong to it; only where there are no groups."""
        self.spec: dict[str, Any] | None = None
        self.output: Output | None = None
        self.ending: Ending | None = None
        self.starting: list[Done] = []
        self.said = self.held = -1
        """What tells whether its program could be started; the pidfd of an adopted leader."""

    def keep(self, changed: Record) -> None:
        """Change the record; on disk too, if somebody did not take the directory away."""
        self.record = changed
        try:
            record.write(self.place / "record", changed)
        except OSError as error:
            complain(f"droplet {self.id}: {error}")

    def seen(self) -> dict[str, Any]:
        kept = self.record
        return {
            "droplet": self.id,
            "state": kept.state,
            "exit_code": kept.code,
            "started": kept.started,
            "finished": kept.finished,
            "out_of_memory": kept.starved,
        }

    def members(self) -> list[proc.Stat]:
        """Its living processes."""
        kept = self.record
        if not kept.groups:
            mark = b"DROPLET_ID=" + self.id.encode()
            there = proc.family(kept.pid, kept.began, self.known, mark, self.place / "output")
            self.known = {(each.pid, each.start) for each in there}
            return there
        found = map(proc.stat, groups.pids(kept.groups))
        return [each for each in found if each is not None and each.lives]

    def usage(self) -> dict[str, Any]:
        found = self.members() if self.record.state == "running" else []
        return {
            "cpu_seconds": sum(each.ticks for each in found) / proc.TICKS,
            "memory_bytes": sum(each.pages for each in found) * proc.PAGE,
            "pids": sum(each.threads for each in found),
        }

    # Start

    def start(self, done: Done) -> None:
        """Start it; `done` when its program has taken over. It is written down before that, so that none is lost."""
        if self.starting:
            self.starting.append(done)
            return
        if self.record.state == "running":
            done(None)
            return
        if self.spec is None:
            raise No("NotFound", "droplet.gone", f"What droplet {self.id} is to run is not known here any more")
        self.launch(self.spec)
        self.starting.append(done)

    def launch(self, spec: dict[str, Any]) -> None:
        """Fork; let the child go on when the record says that it is there."""
        self.before = self.record
        places = self.watch.groups.make(self.id, spec["limits"])
        self.output = Output(self.place)
        waits, go = os.pipe()
        said, says = os.pipe()
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            pid = os.fork()
            if not pid:
                plunge(spec, self.place, places, waits, says, (go, said))
            born = proc.stat(pid)
            self.record = Record(
                "running", None, time.time_ns() // 1000, pid=pid, began=born.start if born else 0,
                boot=self.watch.boot, groups=tuple(places),
            )  # fmt: skip
            record.write(self.place / "record", self.record)
            os.write(go, b"!")
        except OSError as error:
            self.record = self.before
            os.close(said)
            self.output.close()
            self.output = None
            raise No("Unavailable", "driver.failed", f"Cannot start it: {error.strerror or error}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.close(go)
            os.close(waits)
            os.close(says)
        self.said = said
        self.watch.add(said, self.launched)
        self.watch.add(self.output.descriptor, self.speak)

    def launched(self) -> None:
        """The program has taken over, or why not is there to be read."""
        why = os.read(self.said, 64)
        self.watch.drop(self.said)
        os.close(self.said)
        self.said = -1
        waiting, self.starting = self.starting, []
        answer = refused(why.decode(), self.spec or {}) if why else None
        if answer is None:
            self.watch.told(self)
        else:
            self.hush()
            groups.drop(self.record.groups)
            self.keep(self.before._replace(groups=self.record.groups))
        for done in waiting:
            done(answer)

    def speak(self) -> None:
        """There is output; or nobody is left who could write any."""
        if self.output is not None and not self.output.take():
            self.watch.drop(self.output.descriptor)

    def hush(self) -> None:
        """Take what is left in the pipe, and close it."""
        if self.output is not None:
            self.watch.drop(self.output.descriptor)
            self.output.close()
            self.output = None

    # Adoption

    def adopt(self) -> None:
        """Take over what a former keeper left running, if it is the same process; otherwise its end was not seen."""
        kept = self.record
        if kept.boot != self.watch.boot:
            self.keep(kept._replace(state="exited", code=None, finished=time.time_ns() // 1000, groups=()))
            return
        try:
            self.output = Output(self.place)
            self.watch.add(self.output.descriptor, self.speak)
        except OSError as error:
            complain(f"droplet {self.id}: {error}")
        held = proc.hold(kept.pid, kept.began)
        if held is None:
            self.left(kept.code)
            return
        self.held = held
        self.watch.add(held, lambda: self.left(None))

    # End

    def left(self, code: int | None) -> None:
        """The leader has ended."""
        if self.said >= 0:
            self.launched()
            if self.record.state != "running":
                return
        if self.held >= 0:
            self.watch.drop(self.held)
            os.close(self.held)
            self.held = -1
        self.keep(self.record._replace(code=code, finished=self.record.finished or time.time_ns() // 1000))
        if self.ending is None:
            self.ending = Ending(0.0)
        self.end()

    def stop(self, number: int, seconds: float, done: Done) -> None:
        """Signal everybody; `done` with whether anybody had to be killed, when all are gone."""
        if self.record.state != "running":
            done(False)
            return
        deadline = time.monotonic() + seconds
        if self.ending is None:
            self.ending = Ending(deadline)
        self.ending.deadline = min(self.ending.deadline, deadline)
        self.ending.waiting.append(done)
        proc.send(number, self.members())
        self.end()

    def end(self) -> bool:
        """Go on ending; whether all are gone."""
        ending = self.ending
        if ending is None:
            return True
        there = self.members()
        gone = self.record.finished is not None
        if there and time.monotonic() >= ending.deadline:
            ending.killed = True
            groups.seal(self.record.groups)
            proc.send(signal.SIGKILL, there)
        elif gone and not there:
            self.ended(ending)
            return True
        return False

    def ended(self, ending: Ending) -> None:
        self.hush()
        starved = groups.starved(self.record.groups)
        groups.drop(self.record.groups)
        self.ending = None
        self.keep(self.record._replace(state="exited", starved=starved))
        self.watch.told(self)
        for done in ending.waiting:
            done(ending.killed)


def complain(text: str) -> None:
    """Say on the keeper's own log what nobody else will hear of."""
    try:
        os.write(2, f"{text}\n".encode())
    except OSError:
        pass  # the disk is full


def refused(why: str, spec: dict[str, Any]) -> No:
    """Why a program did not start. `why`: what was tried, and the error's number."""
    step, _, number = why.rpartition(" ")
    program, reason = spec["command"][0], os.strerror(int(number))
    if step != "run":
        return No("Unavailable", "driver.failed", f"Cannot start {program}: {step}: {reason}")
    if int(number) in (errno.ENOENT, errno.ENOTDIR):
        return No("Invalid", "command.unknown", f"No such program: {program}")
    return No("Invalid", "command.refused", f"Cannot run {program}: {reason}")
