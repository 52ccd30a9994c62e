"""The director under load: a hundred thousand active users, hosts that come, go and die, and processes that are killed.

Hosts note every visit and users every answer; both are judged afterwards. No user may ever have been at two hosts at
once, and nothing may have come to a host after its removal was answered. No request may fail, but for those in flight
to a process that was killed, and those to a dead host before it was found dead; these are counted apart.
"""

import contextlib
import http.client
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Self

import msgspec

from bench.evidence import Evidence, Gone, Kill
from bench.machine import free_port
from bench.measure import command_line, percentile, tree
from bench.ostiary import Ostiary, Settings
from bench.parts.director import HOSTS, operation
from bench.process import Failed, Process, listens
from bench.report import Figure, Outcome
from bench.stage import Stage, say
from bench.visitors import BEGUN, QUICK, Ask, Job
from bench.visits import Visit, read

UPSTREAM = "mail"
NEW, LEAVING, MORTAL = HOSTS[9], HOSTS[1], HOSTS[3]
"""Added under load; removed; killed. The last one is a process of its own."""
DRAINED, REMOVED = HOSTS[0], LEAVING
CONTROL_KILLS = {HOSTS[4]: 0.01, HOSTS[5]: 0.04, HOSTS[6]: 0.1}
"""Hosts in the middle of whose flush control is killed, and how many seconds after it began."""
WORKER_KILL = HOSTS[7]
MOVED = 60
ROOM = 2_000_000
"""Visits that a process of hosts can note."""
SETTLE = 1.5
"""Seconds between two operations."""
COLUMNS = ["operation", "ms", "control, ms of CPU", "p99 of quick requests due then, ms", "longest"]
SHOWN = 10
"""What is wrong, at most."""
PATIENCE = 60.0
LOOK = 0.1
"""Seconds between two looks. Looking at /proc more often can hold up the end of a process that has just been killed."""
WORKERS = 2
USERS_A_CONNECTION = 50
"""Of those who have none of their own."""


class Step(NamedTuple):
    """An operation: how long it took by the clock, and how long control worked meanwhile, for whatever."""

    name: str
    began: float
    ended: float
    cpu: float

    @property
    def wall(self) -> float:
        """Seconds."""
        return self.ended - self.began


class Times(NamedTuple):
    """When the load was steady and nothing else happened; until when nobody was moved."""

    quiet: float
    loud: float
    moved: float
    active: int
    """Users who had a host when it began."""


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process, all its threads, to the nanosecond; 0 where it has gone."""
    spent = 0
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            spent += int((thread / "schedstat").read_text().split()[0])
    return spent / 1e9


def number(host: str) -> int:
    """By which a host is known in visits."""
    return int(host.rpartition(".")[2])


class Hosts:
    """The processes of all hosts: one of most of them, one of that which is killed."""

    def __init__(self, stage: Stage, port: int) -> None:
        self.stage, self.port = stage, port
        self.books: list[tuple[Path, float]] = []
        """Each with the moment when its process was killed."""
        self.most = self.start([host for host in HOSTS if host != MORTAL])
        self.mortal = self.start([MORTAL])

    def start(self, addresses: list[str]) -> Process:
        """A process with a book of its own."""
        book = self.stage.directory / f"book{len(self.books)}"
        words = [sys.executable, "-m", "bench.hosts", str(self.port), str(book), str(ROOM), *addresses]
        process = Process(words, self.stage.cores.load, book.with_suffix(".log"))
        process.wait_until(lambda: listens(self.port, addresses[-1]), "hosts")
        self.books.append((book, math.inf))
        return process

    def kill(self) -> float:
        """Kill the mortal one; gives when."""
        self.mortal.signal(signal.SIGKILL)
        killed = time.monotonic()
        self.mortal.wait(PATIENCE)
        self.books[-1] = (self.books[-1][0], killed)
        return killed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.most.stop()
        self.mortal.stop()

    def visits(self) -> list[Visit]:
        """All that were noted."""
        return [visit for file, killed in self.books for visit in read(file, killed)]


class Show:
    """What happens while the load goes on."""

    def __init__(self, ostiary: Ostiary, hosts: Hosts) -> None:
        self.ostiary, self.hosts = ostiary, hosts
        self.token = operation(ostiary, "tokens.create_personal", {"label": "bench"})["access_token"]
        self.steps: list[Step] = []
        self.kills: list[Kill] = []
        self.removed: list[Gone] = []
        self.emptied: list[Gone] = []
        """Down, and their users flushed."""

    # Operations

    def run(self, name: str, **params: object) -> Any:
        return operation(self.ostiary, f"director.{name}", {"upstream": UPSTREAM, **params}, f"Bearer {self.token}")

    def step(self, name: str, work: Callable[[], object]) -> Step:
        """Do it, note what it took, and let the load settle."""
        control = self.ostiary.control()
        spent, began = cpu_of(control), time.monotonic()
        work()
        ended = time.monotonic()
        step = Step(name, began, ended, cpu_of(control) - spent)
        say(f"  {name}: {step.wall * 1000:,.0f} ms, control {step.cpu * 1000:,.0f} ms of CPU")
        self.steps.append(step)
        time.sleep(SETTLE)
        return step

    def board(self) -> dict[str, tuple[str, int]]:
        """State and users of each host."""
        return {each["host"]: (each["state"], each["users"]) for each in self.run("status")["hosts"]}

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Ask until it is so; control may be away meanwhile."""
        began = time.monotonic()
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException, Failed):
                if holds():
                    return
            if time.monotonic() - began > PATIENCE:
                raise Failed(f"after {PATIENCE:g} s still not: {what}")
            time.sleep(LOOK)

    # Acts

    def come_and_go_down(self) -> None:
        """Nobody is moved by this."""
        self.step("add", lambda: self.run("add", host=NEW))
        self.step("down", lambda: self.run("down", host=DRAINED))

    def move(self, users: int) -> None:
        """Some of those who ask all the time, one after the other."""
        control = self.ostiary.control()
        took = []
        spent, began = cpu_of(control), time.monotonic()
        for user in range(users):
            before = time.monotonic()
            self.run("move", user=f"u{user}", host=HOSTS[user % 3 + 7])
            took.append(time.monotonic() - before)
        ended = time.monotonic()
        each = median(took)
        self.steps.append(Step("move (median of one)", ended - each, ended, (cpu_of(control) - spent) / users))
        say(f"  move: {users} users in {ended - began:.1f} s, {each * 1000:.0f} ms each")
        time.sleep(SETTLE)

    def empty(self, host: str) -> None:
        """Flush a host that is down; nothing new comes to it until it is up."""
        users = self.board()[host][1]
        done = self.step(f"flush of {users:,} users", lambda: self.run("flush", host=host))
        self.expect(self.board()[host] == ("down", 0), f"{host} has users after its flush")
        self.emptied.append(Gone(number(host), done.ended, time.monotonic()))
        self.step("up", lambda: self.run("up", host=host))

    def remove(self, host: str) -> None:
        users = self.board()[host][1]
        done = self.step(f"remove, with {users:,} users", lambda: self.run("remove", host=host))
        self.removed.append(Gone(number(host), done.ended, time.monotonic()))
        self.step("add again", lambda: self.run("add", host=host))

    def kill_control(self, host: str, after: float) -> None:
        """In the middle of a flush, which is begun anew with its successor."""
        self.run("down", host=host)
        users = self.board()[host][1]
        flushing = self.begin_flush(host)
        time.sleep(after)
        control = self.ostiary.control()
        os.kill(control, signal.SIGKILL)
        killed = time.monotonic()
        self.kills.append(Kill("control", killed))
        outcome = flushing()
        self.until("control is back", lambda: bool(self.board()))
        say(f"  control killed {after * 1000:.0f} ms into a flush of {users:,}, which {outcome}")
        self.steps.append(Step("control back", killed, time.monotonic(), cpu_of(self.ostiary.control())))
        self.empty(host)

    def begin_flush(self, host: str) -> Callable[[], str]:
        """In a thread; gives how to wait for its end, which says what became of it."""
        outcome: list[str] = []

        def flush() -> None:
            try:
                self.run("flush", host=host)
                outcome.append("was answered")
            except (OSError, http.client.HTTPException, Failed) as problem:
                outcome.append(f"was lost ({type(problem).__name__})")

        thread = threading.Thread(target=flush)
        thread.start()

        def wait() -> str:
            thread.join()
            return outcome[0]

        return wait

    def kill_worker(self, host: str) -> None:
        """In the middle of a flush."""
        self.run("down", host=host)
        flushing = self.begin_flush(host)
        time.sleep(0.02)
        pid = workers(self.ostiary)[0]
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        self.kills.append(Kill("worker", killed))
        say(f"  worker killed 20 ms into a flush, which {flushing()}")
        self.until("the worker is back", lambda: len(workers(self.ostiary)) == WORKERS)
        self.steps.append(Step("flush while a worker is killed", killed, time.monotonic(), 0.0))
        self.expect(self.board()[host] == ("down", 0), f"{host} has users after its flush")
        time.sleep(SETTLE)
        self.step("up", lambda: self.run("up", host=host))

    def kill_host(self) -> None:
        """It goes down by itself, and its users elsewhere; then it comes back."""
        users = frozenset(int(each["user"][1:]) for each in self.run("map", host=MORTAL))
        control = self.ostiary.control()
        spent, killed = cpu_of(control), self.hosts.kill()
        self.until("the dead host is down and has no user", lambda: self.board()[MORTAL] == ("down", 0))
        known = time.monotonic()
        self.kills.append(Kill("host", killed, number(MORTAL), known, users))
        self.steps.append(Step(f"host with {len(users):,} users killed", killed, known, cpu_of(control) - spent))
        say(f"  host with {len(users):,} users killed: down and empty after {known - killed:.1f} s")
        time.sleep(SETTLE)
        self.hosts.mortal = self.hosts.start([MORTAL])
        began = time.monotonic()
        self.until("the host is up again", lambda: bool(self.board()[MORTAL][0] == "up"))
        self.steps.append(Step("host back, and up by itself", began, time.monotonic(), 0.0))

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise Failed(otherwise)


def workers(ostiary: Ostiary) -> list[int]:
    """The pids of the workers."""
    return [pid for pid in tree(ostiary.process.pid) if " worker " in f"{command_line(pid)} "]


def settings(port: int) -> Settings:
    """Nine hosts, which are looked after."""
    health = {"every": "500ms", "timeout": "2s", "fall": 2, "rise": 2}
    servers = [f"{host}:{port}" for host in HOSTS if host != NEW]
    mail = {
        "servers": servers, "balance": "director", "director_port": port, "user_from": "header X-User",
        "health": health,
    }  # fmt: skip
    return {"upstreams": {UPSTREAM: mail}, "routes": [{"match": "GET /visit", "upstream": UPSTREAM}]}


@contextlib.contextmanager
def crowd(stage: Stage, job: Job) -> Iterator[Callable[[], list[Ask]]]:
    """Users, all of whom have come once; gives how to end it."""
    asked, result = stage.directory / "crowd", stage.directory / "asked"
    asked.write_bytes(msgspec.json.encode(job))
    words = [sys.executable, "-m", "bench.visitors", str(asked), str(result)]
    with Process(words, stage.cores.load, stage.directory / "crowd.log") as process:
        began = time.monotonic()
        process.wait_until(lambda: BEGUN in process.last_words(), "the users", 600)
        say(f"  {job.users:,} users have come in {time.monotonic() - began:.0f} s")

        def end() -> list[Ask]:
            process.signal(signal.SIGTERM)
            if process.wait(60):
                raise Failed(f"the users broke down: {process.last_words()}")
            return msgspec.msgpack.decode(result.read_bytes(), type=list[Ask])

        yield end


def measure(stage: Stage) -> Outcome:
    """All acts, then the judgement."""
    port, scale = free_port(), stage.scale
    hosts = Hosts(stage, port)
    with hosts, stage.ostiary("ostiary", settings(port), workers=WORKERS) as ostiary:
        show = Show(ostiary, hosts)
        shared = scale.users // USERS_A_CONNECTION
        with crowd(stage, Job(ostiary.gateway, scale.users, scale.regular, shared, scale.visits)) as end:
            times = acts(show, scale.quiet_seconds)
            asked = end()
    return outcome(show, Evidence(hosts.visits(), asked, show.kills), times)


def acts(show: Show, seconds: float) -> Times:
    """All that happens, one after the other."""
    quiet = time.monotonic()
    time.sleep(seconds)
    active, loud = sum(users for _, users in show.board().values()), time.monotonic()
    show.come_and_go_down()
    moved = time.monotonic()
    show.move(MOVED)
    show.empty(DRAINED)
    show.step("flush of all", lambda: show.run("flush", host="all"))
    for host, after in CONTROL_KILLS.items():
        show.kill_control(host, after)
    show.kill_worker(WORKER_KILL)
    show.kill_host()
    show.step("flush of all, again", lambda: show.run("flush", host="all"))
    show.remove(REMOVED)
    show.step("kick", lambda: show.run("kick", user="u1"))
    return Times(quiet, loud, moved, active)


def waits(asked: list[Ask], begin: float, end: float) -> list[float]:
    """Milliseconds that quick requests took that were due then, and were answered with 200."""
    return [(a.answered - a.due) * 1000 for a in asked if a.kind == QUICK and a.status == 200 and begin <= a.due < end]


def outcome(show: Show, evidence: Evidence, times: Times) -> Outcome:
    """Figures and table."""
    split, doubtful = evidence.split()
    failed, apart = evidence.failed(), evidence.apart()
    for each in [*split, *doubtful, *failed][:SHOWN]:
        say(f"  {each}")
    quiet = percentile(waits(evidence.asked, times.quiet, times.loud), 99)
    during = percentile(waits(evidence.asked, times.loud, show.steps[-1].ended), 99)
    rows = [row(step, waits(evidence.asked, step.began, step.ended + SETTLE)) for step in show.steps]
    notes = (
        f"{len(evidence.asked):,} requests; p99 of the quick ones {quiet:.1f} ms at first, {during:.0f} ms "
        f"in all that. Found no answer, which a kill explains or a connection that was just ending: {apart or 'none'}. "
        f"Overlaps whose first visit was cut and may have ended before its host saw it: {len(doubtful)}."
    )
    return Outcome("The director under load", figures(show, evidence, times, during / quiet), COLUMNS, rows, notes)


def figures(show: Show, evidence: Evidence, times: Times, slower: float) -> list[Figure]:
    """All of them."""
    late = sum(len(evidence.at_removed(each)) for each in show.removed)
    sent = sum(len(evidence.sent_to(each)) for each in show.emptied)
    strayed = evidence.strayed(times.quiet, times.moved)
    return [
        Figure("director_load_split", len(evidence.split()[0]), 0, "times that a user was at two backends at once"),
        Figure("director_load_removed", late, 0, "requests at a backend after its removal was answered"),
        Figure("director_load_flushed", sent, 0, "requests sent to a backend that was down, after its flush"),
        Figure("director_load_strayed", strayed, 0, "active users who moved because a backend came or went down"),
        Figure("director_load_failed", len(evidence.failed()), 0, f"requests of {len(evidence.asked):,} that failed"),
        Figure("director_load_users", times.active, None, "active users"),
        Figure("director_load_p99", slower, None, "p99 of quick requests in all that, beside that before it"),
    ]  # fmt: skip


def row(step: Step, waits: list[float]) -> list[str]:
    """Of the table."""
    times = (step.wall * 1000, step.cpu * 1000, percentile(waits, 99), max(waits, default=math.nan))
    return [step.name, *(f"{each:,.0f}" for each in times)]
