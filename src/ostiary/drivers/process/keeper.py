"""The keeper of a node's droplets: their parent, which outlives control, and whom control asks over a Unix socket.

    keeper STATE     becomes a daemon; returns when it can be reached at STATE/keeper

One a directory: a lock tells. It ends when nobody is connected and nothing runs. Another that follows it, after it was
killed, adopts what it left. While nothing happens it sleeps. It imports next to nothing.

Every line of the socket is a JSON object: {"n", "do", ...} is an order, {"n", "ok"} or {"n", "no": [meaning, code,
message]} its answer; {"seen"} tells everybody what became of a droplet; {"hello"} comes first. Only the user who runs
it (and root) is talked to.
"""

import contextlib
import fcntl
import json
import os
import re
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ostiary.drivers.process import groups, proc, record
from ostiary.drivers.process.life import FULL, Droplet, No, Watch, complain
from ostiary.drivers.process.plunge import libc

VERSION = 1
"""Of what is spoken on the socket: a driver of another version asks the keeper to leave, and starts its own."""
PR_SET_CHILD_SUBREAPER = 36
LINE = 16_000_000
"""Bytes of an order at most; the largest environment is a quarter of that."""
BEHIND = 8_000_000
"""Bytes that a client may leave unread."""
CLIENTS = 32
STEP = 0.02
"""Seconds between two looks at what is about to end."""
FIRST = 60.0
"""Seconds that whoever started it has to connect."""
ID = re.compile(r"[0-9a-f]{12}\Z")


class Client:
    """Somebody who is connected."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.got = b""
        self.owed = bytearray()


class Keeper:
    """All droplets of a node, and who asks about them."""

    def __init__(self, state: Path, listener: socket.socket, files: int) -> None:
        self.state, self.listener, self.files = state, listener, files
        self.poll = select.epoll()
        self.calls: dict[int, Callable[[], None]] = {}
        self.clients: dict[int, Client] = {}
        self.droplets: dict[str, Droplet] = {}
        self.removed: dict[str, list[tuple[Client, bytes]]] = {}
        """Droplets that are just being removed, and what is ordered about them meanwhile: it waits."""
        self.leaving = False
        name = "ostiary-{0.st_dev:x}-{0.st_ino:x}".format(state.stat())
        mounts, own = Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()
        self.watch = Watch(self.add, self.drop, self.told, groups.find(name, mounts, own), proc.boot())
        self.orders: dict[str, Callable[[dict[str, Any], Callable[[Any], None]], None]] = {
            "create": self.create,
            "start": lambda order, done: self.named(order).start(done),
            "stop": self.stop,
            "remove": self.remove,
            "look": lambda order, done: done([each.seen() for each in self.droplets.values()]),
            "usage": lambda order, done: done(self.named(order).usage()),
            "leave": self.leave,
        }

    # The loop

    def add(self, descriptor: int, call: Callable[[], None]) -> None:
        self.calls[descriptor] = call
        self.poll.register(descriptor, select.EPOLLIN)

    def drop(self, descriptor: int) -> None:
        if self.calls.pop(descriptor, None) is not None:
            self.poll.unregister(descriptor)

    def run(self) -> None:
        """Serve until there is nothing more to do."""
        children, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "leaving", True))
        self.add(children, lambda: self.reap(children))
        self.add(self.listener.fileno(), self.accept)
        while not self.leaving:
            ending = [each for each in self.droplets.values() if each.ending is not None]
            for descriptor, _ in self.poll.poll(STEP if ending else None if self.needed() else FIRST):
                if descriptor in self.calls:
                    self.calls[descriptor]()
            for each in ending:
                each.end()
            self.leaving = self.leaving or not self.needed()

    def needed(self) -> bool:
        """Whether somebody is connected, or something runs."""
        return bool(self.clients) or any(each.record.state == "running" for each in self.droplets.values())

    def reap(self, children: int) -> None:
        """Take leave of every child that has ended: leaders, and orphans of droplets.

        A leader's pid stays its own, a zombie's, until it has been asked who else belongs to it.
        """
        os.read(children, 4096)
        leaders = {each.record.pid: each for each in self.droplets.values() if each.record.state == "running"}
        while (found := ended()) is not None:
            if found.si_pid in leaders:
                killed = found.si_code != os.CLD_EXITED
                leaders[found.si_pid].left(128 + found.si_status if killed else found.si_status)
            os.waitpid(found.si_pid, 0)

    # Droplets

    def scan(self) -> None:
        """Find what a former keeper left: adopt what runs, and clear away what it was about to make or remove."""
        for each in self.state.iterdir():
            kept = record.read(each / "record") if ID.match(each.name) else None
            if kept is not None:
                self.droplets[each.name] = Droplet(each.name, each, kept, self.watch)
            elif ID.match(each.name):
                aside(each)
        for droplet in self.droplets.values():
            if droplet.record.state == "running":
                droplet.adopt()
        for stray in self.watch.groups.strays(self.droplets):
            groups.seal(stray)
            proc.send(signal.SIGKILL, [each for each in map(proc.stat, groups.pids(stray)) if each is not None])
            groups.drop(stray)

    def named(self, order: dict[str, Any]) -> Droplet:
        found = self.droplets.get(order["droplet"])
        if found is None:
            raise No("NotFound", "droplet.gone", f"There is no droplet {order['droplet']}")
        return found

    def create(self, order: dict[str, Any], done: Callable[[Any], None]) -> None:
        """Make its directory, all at once; know what it runs."""
        droplet = order["droplet"]
        if not ID.match(droplet):
            raise No("Invalid", "droplet.invalid", "A droplet's id is 12 hexadecimal digits")
        if droplet not in self.droplets:
            place = furnish(self.state, droplet)
            self.droplets[droplet] = Droplet(droplet, place, record.Record(), self.watch)
        made = self.droplets[droplet]
        if order["user"] is not None:
            for each in ("work", "output"):
                os.chown(made.place / each, *order["user"][:2])
        made.spec = {**order, "files": self.files}
        done(None)

    def stop(self, order: dict[str, Any], done: Callable[[Any], None]) -> None:
        self.named(order).stop(order["signal"], order["seconds"], done)

    def remove(self, order: dict[str, Any], done: Callable[[Any], None]) -> None:
        """Kill it, and put its directory aside for the driver to delete."""
        found = self.droplets.get(order["droplet"])
        if found is None:
            done(None)
        else:
            self.removed.setdefault(found.id, [])
            found.stop(signal.SIGKILL, 0.0, lambda _: self.forget(found, done))

    def forget(self, droplet: Droplet, done: Callable[[Any], None]) -> None:
        waiting = self.removed.pop(droplet.id, [])
        if self.droplets.pop(droplet.id, None) is not None:
            groups.drop(droplet.record.groups)
            aside(droplet.place)
            self.tell({"seen": {"droplet": droplet.id, "state": "gone"}})
        done(None)
        for client, line in waiting:
            self.obey(client, line)

    def leave(self, order: dict[str, Any], done: Callable[[Any], None]) -> None:
        """Make room for another keeper; what runs goes on."""
        self.leaving = True
        done(None)

    def told(self, droplet: Droplet) -> None:
        self.tell({"seen": droplet.seen()})

    def tell(self, message: dict[str, Any]) -> None:
        for each in list(self.clients.values()):
            self.say(each, message)

    # Clients

    def accept(self) -> None:
        link, _ = self.listener.accept()
        _, uid, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (0, os.geteuid()) or len(self.clients) >= CLIENTS:
            link.close()
            return
        link.setblocking(False)
        client = Client(link)
        self.clients[link.fileno()] = client
        self.add(link.fileno(), lambda: self.serve(client))
        self.say(client, {"hello": VERSION, "pid": os.getpid(), "enforced": self.watch.groups.enforced})

    def part(self, client: Client) -> None:
        if self.clients.pop(client.link.fileno(), None) is not None:
            self.drop(client.link.fileno())
            client.link.close()

    def serve(self, client: Client) -> None:
        """Read orders; send what could not be sent before."""
        self.flush(client)
        try:
            got = client.link.recv(262_144)
        except BlockingIOError:
            return
        except OSError:
            got = b""
        client.got += got
        *lines, rest = client.got.split(b"\n") if b"\n" in got else (client.got,)
        client.got = rest
        if not got or len(rest) > LINE:
            self.part(client)
        for line in lines:
            self.obey(client, line)

    def obey(self, client: Client, line: bytes) -> None:
        """Carry out an order. Who does not speak as agreed is cut off."""

        def done(answer: Any) -> None:
            word = {"no": answer.args} if isinstance(answer, No) else {"ok": answer}
            self.say(client, {"n": order["n"], **word})

        try:
            order = json.loads(line)
            do = self.orders[order["do"]]
            if order.get("droplet") in self.removed and order["do"] != "remove":
                self.removed[order["droplet"]].append((client, line))
            else:
                do(order, done)
        except (ValueError, TypeError, KeyError) as error:
            complain(f"not an order: {error!r}")
            self.part(client)
        except No as no:
            done(no)
        except OSError as error:
            code = "disk.full" if error.errno in FULL else "driver.failed"
            done(No("Unavailable", code, f"{error.filename or self.state}: {error.strerror or error}"))

    def say(self, client: Client, message: dict[str, Any]) -> None:
        """Send, or keep for when there is room; who does not read for too long is cut off."""
        if client.link.fileno() not in self.clients:
            return
        client.owed += json.dumps(message).encode() + b"\n"
        self.flush(client)
        if len(client.owed) > BEHIND:
            self.part(client)

    def flush(self, client: Client) -> None:
        """Send what goes; the loop calls again when more does. A broken link is seen when it is read."""
        try:
            while client.owed:
                del client.owed[: client.link.send(client.owed)]
        except BlockingIOError:
            self.poll.modify(client.link, select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            client.owed.clear()
        else:
            self.poll.modify(client.link, select.EPOLLIN)


def ended() -> os.waitid_result | None:
    """A child that has ended, left as it is; None: there is none."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None


def aside(place: Path) -> None:
    """Put a droplet's directory where the driver deletes it, if it is there."""
    try:
        place.rename(place.with_name(f".{place.name}.{time.time_ns():x}.old"))
    except FileNotFoundError:
        complain(f"{place} had been removed")


def furnish(state: Path, droplet: str) -> Path:
    """Make the directory of a droplet, wholly or not at all."""
    draft, place = state / f".{droplet}.new", state / droplet
    try:
        draft.mkdir(0o711, exist_ok=True)
        (draft / "work").mkdir(0o700, exist_ok=True)
        if not (draft / "output").exists():
            os.mkfifo(draft / "output", 0o600)
        record.write(draft / "record", record.Record())
        return draft.rename(place)
    except OSError:
        for name in ("record", "output"):
            (draft / name).unlink(missing_ok=True)
        for each in (draft / "work", draft):
            if each.exists():
                each.rmdir()
        raise


def listen(state: Path) -> socket.socket:
    """The keeper's socket, for this user alone. Its path may be longer than a socket's may be."""
    directory = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    (state / "keeper").unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    listener.bind(f"/proc/self/fd/{directory}/keeper")
    os.umask(before)
    os.close(directory)
    listener.listen(CLIENTS)
    listener.setblocking(False)
    return listener


def alone(state: Path) -> bool:
    """Whether there is no other keeper; from now on, there is this one."""
    lock = os.open(state / "keeper.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def detach(state: Path) -> None:
    """Become a process of its own: neither signals nor the end of who started it reach it."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    log = os.open(state / "keeper.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with contextlib.suppress(PermissionError):  # control's; a session of its own has its own share anyway (autogroup)
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def shut() -> None:
    """Close what whoever started us has left open: event loops pass it on, and droplets would get it too."""
    for each in list(Path("/proc/self/fd").iterdir()):
        if int(each.name) > 2:
            with contextlib.suppress(OSError):  # what the list was read from
                os.close(int(each.name))


def main() -> None:
    """Become the keeper of a directory; status 3: it has one."""
    shut()
    os.umask(0)
    state = Path(sys.argv[1])
    if not alone(state):
        sys.exit(3)
    listener = listen(state)
    detach(state)
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    keeper = Keeper(state, listener, files)
    keeper.scan()
    keeper.run()
    keeper.watch.groups.close()
