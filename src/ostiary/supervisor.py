"""The parent of a node: holds the listening sockets, starts and restarts control and workers, passes signals on.

It imports next to nothing, so that it can be started by its path, without site packages, and so that there is next to
nothing in it that could fail. Usage: `supervisor.py PLAN [NOTIFY]`, where PLAN is the path of a JSON file:

    gateway, admin    addresses to listen at, `host:port`; port 0: any free one (the same for all workers)
    scheme            of the gateway's URL, for people
    workers           how many worker processes; 0: control gets the gateway's socket
    run, pid_file     directory for sockets and `addresses.json`; where the pid is written
    control, worker   their command lines; supervisor adds what they need
    drain             seconds that workers may take to end

and NOTIFY a file descriptor that gets, instead of the terminal, one JSON line for each thing that a person is to see.

What happens at each death:

    a worker          is replaced at once on the same listening socket: what waits in its queue is served by the
                      successor. One that keeps dying is started after 0, 0.1, 0.2, 0.4 ... 5 seconds.
    control           the same, with `resume` in its command line: it goes on with the revision in the store. One that
                      has been ready is replaced at once, however often: leases run. Before it has ever been ready, an
                      exit of its own accord refuses the start: everything ends, status 1.
    the supervisor    the others see the end of a pipe of which it alone holds the other end: they drain and end.

Signals: SIGTERM and SIGINT drain the workers, then end control; the same one again ends all at once (not the other:
a terminal sends SIGINT to everybody, and whoever started us may answer it with a SIGTERM). SIGHUP goes to control.
Children begin with these three blocked: one that arrives while control is starting is delivered once it is up.
"""

import errno
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

ALIVE, REPORT, ADMIN, LINK, PUBLIC, GATEWAY = range(3, 9)
"""File descriptors of children: ends with the supervisor; what control says to it; listening sockets."""

LOWEST = 100
"""The supervisor's own descriptors are at least this, out of the way of those."""
BACKLOG = 4096
LASTING = 10.0
"""Seconds after which a child has not died at its start."""
BACKOFF = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0)
GRACE = 5.0
"""Seconds beyond `drain` until a worker is killed; seconds for control to end."""
SUCCESSION = 5.0
"""Seconds that a successor of a killed supervisor waits for its address: what is left of the former node drains."""
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
LINK_NAME, PUBLIC_NAME, ADDRESSES_NAME = "link-{}.sock", "public.sock", "addresses.json"


class Refused(Exception):
    """The node cannot start; the text is for a person."""


# Pid files


def living(pid_file: Path) -> int:
    """The pid of the Ostiary that `pid_file` names, or 0: no file, no such process, or another program."""
    try:
        pid = int(pid_file.read_text()[:32])
    except (OSError, ValueError):
        return 0
    return pid if pid > 0 and is_ostiary(pid) else 0


def is_ostiary(pid: int) -> bool:
    """Whether process `pid` is a supervisor of Ostiary."""
    if not Path("/proc/self").exists():
        return is_there(pid)
    try:
        return b"ostiary/supervisor.py\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def is_there(pid: int) -> bool:
    """Whether there is a process `pid`."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def put(path: Path, text: str) -> None:
    """Write a file whole: nobody sees half of it. Refuses what cannot be written."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text)
        draft.replace(path)
    except OSError as error:
        if draft.exists():
            draft.unlink()
        raise Refused(f"cannot write {path}: {error.strerror}") from error


def write(descriptor: int, line: str) -> None:
    """Write a line; nobody being there to read it is no reason to end."""
    try:
        os.write(descriptor, line.encode() + b"\n")
    except OSError:
        pass


# Sockets


def lifted(descriptor: int) -> int:
    """The same file at a descriptor that no child's can collide with; `descriptor` is closed."""
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, LOWEST)
    os.close(descriptor)
    return high


def listen(address: str, count: int, what: str, patience: float) -> tuple[list[int], str]:
    """`count` listening sockets on one port, for one process each, and their address.

    An address that somebody listens at is refused, even where SO_REUSEPORT would let us share it by mistake.
    """
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + patience
    while True:
        try:
            family, _, _, _, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
            if place[1]:
                bound(family, place, shared=False).close()
            first = bound(family, place, shared=True)
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise Refused(f"cannot listen at {address} ({what}): {error.strerror or error}") from error
            time.sleep(0.05)
    actual = first.getsockname()
    # Each bound to the port by its number, even where any would do: so it keeps it when it stops listening for a while.
    sockets = [bound(family, actual, shared=True) for _ in range(count)]
    first.close()
    for each in sockets:
        each.listen(BACKLOG)
    return [lifted(each.detach()) for each in sockets], f"{host}:{actual[1]}"


def bound(family: int, place: Any, shared: bool) -> socket.socket:
    """A socket bound to `place`; `shared`: others of ours may be, too."""
    each = socket.socket(family, socket.SOCK_STREAM)
    each.setblocking(False)
    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        each.bind(place)
    except OSError:
        each.close()
        raise
    return each


def listen_unix(path: Path) -> int:
    """A listening Unix socket that only this user can reach."""
    path.unlink(missing_ok=True)
    each = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    each.setblocking(False)
    try:
        each.bind(str(path))
    except OSError as error:
        why = error.strerror or f"{error}; choose a shorter state_dir"
        raise Refused(f"cannot make the socket {path}: {why}") from error
    path.chmod(0o600)
    each.listen(BACKLOG)
    return lifted(each.detach())


# The node


class Plan(NamedTuple):
    """What is to run; see the head of this file."""

    gateway: str
    admin: str
    scheme: str
    workers: int
    run: str
    pid_file: str
    control: list[str]
    worker: list[str]
    drain: float


class Child:
    """A process that is to run. `files`: its descriptor -> ours."""

    def __init__(self, name: str, command: list[str], files: dict[int, int]) -> None:
        self.name, self.command, self.files = name, command, files
        self.pid = 0
        self.due: float | None = time.monotonic()
        self.began = 0.0
        self.failures = 0

    def start(self, extra: list[str]) -> None:
        """Start it with the signals blocked that it has no handlers for yet."""
        self.due, self.began = None, time.monotonic()
        self.pid = os.posix_spawn(
            self.command[0],
            [*self.command, *extra],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, ours, its) for its, ours in self.files.items()],
            setsigmask=SIGNALS,
            setsigdef=(*SIGNALS, signal.SIGCHLD, signal.SIGPIPE),
        )

    def ended(self) -> float:
        """It has ended: when it is to start again, in seconds from now."""
        now = time.monotonic()
        self.pid = 0
        self.failures = 0 if now - self.began >= LASTING else self.failures
        delay = BACKOFF[min(self.failures, len(BACKOFF) - 1)]
        self.failures += 1
        self.due = now + delay
        return delay

    def kill(self, number: signal.Signals) -> None:
        if self.pid:
            os.kill(self.pid, number)


class Supervisor:
    """One node, from its sockets to its end."""

    def __init__(self, plan: Plan, notify: int) -> None:
        self.plan = plan
        self.notify = notify
        self.pid_file = Path(plan.pid_file)
        self.run = Path(plan.run)
        self.link = self.run / LINK_NAME.format(os.getpid())
        self.ready = False
        self.reload_open = False
        self.stopping: list[int] = []
        """The signals that told us to stop."""
        self.deadline: float | None = None
        self.status = 0
        self.report = bytearray()
        self.gateways: list[int] = []
        self.urls: dict[str, str] = {}
        self.control: Child
        self.workers: list[Child] = []

    def main(self) -> int:
        """Run the node; its exit status."""
        self.wakeup = self._signals()
        try:
            self.lock()
            self.prepare()
            put(self.pid_file, f"{os.getpid()}\n")
            self.loop()
        except Refused as refused:
            self.tell("refused", str(refused))
            return 1
        finally:
            self.clean()
        return self.status

    # Preparations

    def _signals(self) -> int:
        """Have signals arrive as bytes in a pipe, whose end to read is returned."""
        theirs, ours = os.pipe()
        theirs, ours = lifted(theirs), lifted(ours)
        os.set_blocking(ours, False)
        os.set_blocking(theirs, False)
        signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
        for number in (*SIGNALS, signal.SIGCHLD):
            signal.signal(number, lambda number, frame: None)
        return theirs

    def lock(self) -> None:
        """Be the only node with this state directory, and with this pid file."""
        self.run.mkdir(parents=True, exist_ok=True)
        self.run.chmod(0o700)
        self.held = lifted(os.open(self.run, os.O_RDONLY | os.O_DIRECTORY))
        try:
            fcntl.flock(self.held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"already running, pid {living(self.pid_file) or 'unknown'} ({self.run})") from None
        if pid := living(self.pid_file):
            raise Refused(f"already running, pid {pid} ({self.pid_file})")

    def prepare(self) -> None:
        """Open the sockets and describe the children."""
        plan = self.plan
        patience = SUCCESSION if self.pid_file.exists() else 0.0
        for stale in self.run.glob(LINK_NAME.format("*")):
            stale.unlink()
        self.gateways, gateway = listen(plan.gateway, max(1, plan.workers), "gateway.listen", patience)
        (admin,), address = listen(plan.admin, 1, "admin.listen", patience)
        self.urls = {"gateway": f"{plan.scheme}://{gateway}", "admin": f"http://{address}"}
        alive, self.alive = (lifted(each) for each in os.pipe())
        self.reports, report = (lifted(each) for each in os.pipe())
        os.set_blocking(self.reports, False)
        files = {ALIVE: alive, REPORT: report, ADMIN: admin}
        files |= {LINK: listen_unix(self.link), PUBLIC: listen_unix(self.run / PUBLIC_NAME)}
        if not plan.workers:
            files[GATEWAY] = self.gateways[0]
        self.control = Child("control", [*plan.control, self.urls["gateway"], self.urls["admin"]], files)
        self.workers = [
            Child(
                f"worker {number}",
                [*plan.worker, str(number), str(self.link)],
                {ALIVE: alive, GATEWAY: self.gateways[number - 1]},
            )
            for number in range(1, plan.workers + 1)
        ]

    def clean(self) -> None:
        """Leave nothing behind that is ours."""
        if not self.urls:
            return
        self.link.unlink(missing_ok=True)
        (self.run / PUBLIC_NAME).unlink(missing_ok=True)
        (self.run / ADDRESSES_NAME).unlink(missing_ok=True)
        if self.pid_file.is_file() and self.pid_file.read_text() == f"{os.getpid()}\n":
            self.pid_file.unlink()

    # Running

    @property
    def children(self) -> list[Child]:
        return [self.control, *self.workers]

    def loop(self) -> None:
        """Start what is due and answer signals until all have ended."""
        poll = select.poll()
        poll.register(self.wakeup, select.POLLIN)
        poll.register(self.reports, select.POLLIN)
        while not self.stopping or any(child.pid for child in self.children):
            self.start_due()
            for descriptor, _ in poll.poll(self.pause()):
                if descriptor == self.wakeup:
                    self.signalled(os.read(self.wakeup, 4096))
                else:
                    self.read_report()
            self.press()

    def pause(self) -> float | None:
        """Milliseconds until something is due."""
        due = [child.due for child in self.children if child.due is not None and not self.stopping]
        due += [self.deadline] if self.deadline is not None else []
        return max(0.0, min(due) - time.monotonic()) * 1000 + 1 if due else None

    def start_due(self) -> None:
        now = time.monotonic()
        for child in self.children:
            if child.due is None or child.due > now or self.stopping:
                continue
            try:
                child.start(["resume"] if child is self.control and self.ready else [])
            except OSError as error:
                delay = child.ended()
                self.log("error", "process cannot start", process=child.name, error=str(error), restart_in=delay)
            if child is self.control and child.pid and self.reload_open:
                child.kill(signal.SIGHUP)
                self.reload_open = False

    def signalled(self, numbers: bytes) -> None:
        """Act on signals. A reload that is asked for while control is away is handed to its successor."""
        if signal.SIGHUP in numbers and not self.stopping:
            self.reload_open = True
            self.control.kill(signal.SIGHUP)
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                self.stop(number)
        if signal.SIGCHLD in numbers:
            self.reap()

    def reap(self) -> None:
        """Take note of all children that have ended.

        A successor is started before its predecessor is let go: where others look at that one in /proc just then, it
        can take the kernel seconds.
        """
        while any(child.pid for child in self.children):
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return
            for child in self.children:
                if child.pid == found.si_pid:
                    self.ended(child, found.si_status if found.si_code == os.CLD_EXITED else -found.si_status)
            self.start_due()
            os.waitpid(found.si_pid, 0)

    def ended(self, child: Child, status: int) -> None:
        """A child has ended; `status` is negative for a signal."""
        if self.stopping:
            child.pid = 0
            self.end_control()
            return
        if child is self.control:
            self.read_report()
            self.report.clear()
        delay = child.ended()
        if child is self.control and not self.ready and status >= 0:
            self.status = 1
            self.stop(0)
            return
        self.log("warning", "process ended", process=child.name, status=status, restart_in=delay)

    # Stopping

    def stop(self, number: int) -> None:
        """First drain the workers, then end control. Told the same again, end all at once."""
        again = number in self.stopping
        self.stopping.append(number)
        if again:
            for child in self.children:
                child.kill(signal.SIGKILL)
        elif len(self.stopping) == 1:
            self.drain()

    def drain(self) -> None:
        """Have the workers end, and refuse who still wants to connect."""
        self.deadline = time.monotonic() + self.plan.drain + GRACE
        for child in self.workers:
            child.kill(signal.SIGTERM)
        for descriptor in self.gateways:
            os.close(descriptor)
        self.end_control()

    def end_control(self) -> None:
        """Control is the last: workers ask it until they have ended."""
        if not any(child.pid for child in self.workers):
            self.deadline = time.monotonic() + GRACE + (0 if self.workers else self.plan.drain)
            self.control.kill(signal.SIGTERM)

    def press(self) -> None:
        """Kill who had time enough to end."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            slow = [child for child in self.workers if child.pid] or [self.control]
            for child in slow:
                self.log("warning", "process does not end and is killed", process=child.name)
                child.kill(signal.SIGKILL)
            self.deadline = time.monotonic() + GRACE

    # Reports

    def read_report(self) -> None:
        """What control says: one JSON line each."""
        try:
            self.report += os.read(self.reports, 65536)
        except BlockingIOError:
            return
        while b"\n" in self.report:
            line, _, self.report = self.report.partition(b"\n")
            self.reported(json.loads(line or b"{}"))

    def reported(self, said: dict[str, Any]) -> None:
        if "ready" in said:
            self.control.failures = 0
        match said:
            case {"ready": _} if not self.ready:
                self.ready = True
                put(self.run / ADDRESSES_NAME, json.dumps({**self.urls, "pid": os.getpid()}) + "\n")
                self.tell("ready", f"gateway {self.urls['gateway']}\nadmin {self.urls['admin']}")
                self.notify = self.release()
            case {"reloaded": _}:
                self.reload_open = False
            case {"drain": seconds}:
                self.plan = self.plan._replace(drain=seconds)
            case {"owner": text}:
                self.tell("owner", text)
            case {"stop": _} if not self.stopping:
                self.stop(0)
            case {"refused": text}:
                self.tell("refused", text)

    def release(self) -> int:
        """Whoever waited for the node to be up need wait no longer."""
        if self.notify >= 0:
            os.close(self.notify)
        return -1

    def tell(self, what: str, text: str) -> None:
        """Say something to the person who started the node, and not to a log."""
        if self.notify >= 0:
            write(self.notify, json.dumps({what: text}))
        elif what == "ready":
            write(sys.stdout.fileno(), text)
        else:
            write(sys.stderr.fileno(), f"ostiary: {text}" if what == "refused" else text)

    def log(self, level: str, event: str, **pairs: object) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        write(sys.stderr.fileno(), json.dumps({"timestamp": stamp, "level": level, "event": event, **pairs}))


def main() -> int:
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text()))
    notify = lifted(int(sys.argv[2])) if len(sys.argv) > 2 else -1
    return Supervisor(plan, notify).main()


if __name__ == "__main__":
    sys.exit(main())
