"""From a fork of the keeper to the droplet's program: what happens in the child in between."""

import ctypes
import os
import resource
import signal
from pathlib import Path
from typing import Any, NoReturn

from ostiary.drivers.process import groups

PR_SET_NO_NEW_PRIVS = 38
RESTORED = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
"""Signals that Python, the keeper, or whoever started all of this may treat in their own way."""
libc = ctypes.CDLL(None, use_errno=True)


def plunge(
    spec: dict[str, Any], place: Path, places: list[str], waits: int, says: int, ours: tuple[int, ...]
) -> NoReturn:
    """Become the droplet, or say on `says` which step failed with which error.

    Nothing is run before `waits` says that the keeper has written down who we are: one that dies before that leaves
    nobody behind.
    """
    step = "begin"
    try:
        for each in RESTORED:
            signal.signal(each, signal.SIG_DFL)
        for descriptor in ours:
            os.close(descriptor)
        os.setsid()
        if not os.read(waits, 1):
            os._exit(127)
        step = "enter the control groups"
        groups.join(places)
        step = "open the output"
        wire(place)
        step = "enter its directory"
        os.chdir(place / "work")
        step = "change the user"
        change(spec["user"])
        step = "run"
        restore(spec["files"])
        os.execvpe(spec["command"][0], spec["command"], spec["env"])
    except OSError as error:
        os.write(says, f"{step} {error.errno}".encode())
    finally:
        os._exit(127)


def wire(place: Path) -> None:
    """Nothing to read; both streams into the pipe, held open both ways so that it outlives its reader."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    pipe = os.open(place / "output", os.O_RDWR)
    os.dup2(pipe, 1)
    os.dup2(pipe, 2)


def change(user: list[Any] | None) -> None:
    """Become another user for good: none of its programs gets more rights again."""
    if user is None:
        return
    uid, gid, others = user
    os.setgroups(others)
    os.setgid(gid)
    os.setuid(uid)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")


def restore(files: int) -> None:
    """Put back what is the keeper's own way. Signals that came since the fork are delivered now."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
