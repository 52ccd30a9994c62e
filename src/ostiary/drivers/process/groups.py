"""Control groups: what holds a droplet's processes together, and to their limits. Both versions of cgroups.

Version 2 has one tree, version 1 one a controller; machines mix them. Groups are made below the keeper's own, or below
the nearest ancestor where that is allowed (in version 2 a group with processes cannot have groups with limits).
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

LIMITS = ("memory", "cpu", "pids")
PERIOD = 100_000
"""Microseconds over which a share of the processors is measured out."""
FILES = {
    "memory": ("memory.max", "memory.limit_in_bytes"),
    "cpu": ("cpu.max", "cpu.cfs_quota_us"),
    "pids": ("pids.max", "pids.max"),
}
"""What sets a limit, in version 2 and 1. Where the file is missing, so is the limit."""


def mounted(mounts: str, own: str) -> tuple[dict[str, tuple[Path, Path]], tuple[Path, Path] | None]:
    """Of `/proc/self/mountinfo` and `/proc/self/cgroup`: version 1's controllers and version 2's tree, each as where
    it is mounted and our own place in it."""
    mine = {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        mine.update(dict.fromkeys(controllers.split(","), path))
    first: dict[str, tuple[Path, Path]] = {}
    second = None
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        _, _, _, root, point, *_ = left.split(" ")
        kind, _, options = right.split(" ")[:3]
        names = [""] if kind == "cgroup2" else [each for each in options.split(",") if each in LIMITS]
        for name in names if kind in ("cgroup", "cgroup2") else ():
            inside = mine.get(name)
            if inside is None or not inside.startswith(root.rstrip("/")):
                continue
            places = Path(point), Path(point, inside[len(root.rstrip("/")) :].lstrip("/"))
            if kind == "cgroup2":
                second = places
            else:
                first[name] = places
    return first, second


class Groups:
    """The node's groups. `places`: controller -> directory; `""` only holds processes together."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        self.places = places
        self.enforced = sorted(each for each in LIMITS if each in places)

    def make(self, droplet: str, limits: Mapping[str, float]) -> list[str]:
        """A group for a droplet that is about to start; its directories."""
        made: list[str] = []
        for place in dict.fromkeys(self.places.values()):
            group = place / droplet
            group.mkdir(exist_ok=True)
            made.append(str(group))
        for name in self.enforced:
            limit(self.places[name] / droplet, name, limits.get(name, 0))
        return made

    def close(self) -> None:
        """Remove the node's groups if no droplet has one any more."""
        retire(self.places)

    def strays(self, known: Iterable[str]) -> list[list[str]]:
        """Groups of droplets that nobody knows."""
        names = {each.name for place in self.places.values() for each in place.iterdir() if each.is_dir()}
        places = dict.fromkeys(self.places.values())
        return [[str(place / name) for place in places] for name in names.difference(known)]


def limit(group: Path, name: str, most: float) -> None:
    """Set a limit of a group; 0: none."""
    if not most:
        return
    newer = (group / FILES[name][0]).exists()
    if name == "cpu":
        quota = max(1_000, round(most * PERIOD))
        put(group / FILES[name][0 if newer else 1], f"{quota} {PERIOD}" if newer else str(quota))
        return
    put(group / FILES[name][0 if newer else 1], str(int(most)))
    if name == "memory":
        extra = {"memory.swap.max": "0", "memory.oom.group": "1", "memory.memsw.limit_in_bytes": str(int(most))}
        for file, value in extra.items():
            if (group / file).exists():
                put(group / file, value)


def put(file: Path, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def join(groups: Iterable[str]) -> None:
    """The calling process enters these groups."""
    for each in groups:
        put(Path(each, "cgroup.procs"), "0")


def pids(groups: Iterable[str]) -> list[int]:
    """Who is in any of these groups; none where they are gone."""
    found: set[int] = set()
    for each in groups:
        try:
            found.update(map(int, Path(each, "cgroup.procs").read_text().split()))
        except OSError:
            continue
    return list(found)


def seal(groups: Iterable[str]) -> None:
    """Let nobody in these groups fork any more, so that killing all comes to an end."""
    for each in groups:
        try:
            put(Path(each, "pids.max"), "0")
        except OSError:
            continue  # another controller's, or removed already


def starved(groups: Iterable[str]) -> bool:
    """Whether the kernel killed somebody there for want of memory."""
    for each in groups:
        for file in ("memory.events", "memory.oom_control"):
            try:
                lines = Path(each, file).read_text().splitlines()
            except OSError:
                continue
            if any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines):
                return True
    return False


def drop(groups: Iterable[str]) -> None:
    """Remove what is empty."""
    for each in groups:
        try:
            Path(each).rmdir()
        except OSError:
            continue


def find(name: str, mounts: str, own: str) -> Groups:
    """The groups that may be made here, all below directories called `name`."""
    first, second = mounted(mounts, own)
    places: dict[str, Path] = {}
    if second is not None:
        places = newer(name, *second)
    for controller, (_, mine) in first.items():
        place = made(mine / name)
        if place is not None and usable(place, controller):
            places[controller] = place
    whole = places.get("")
    if whole is not None and len(places) > 1:
        del places[""]
        if whole not in places.values():
            drop([str(whole)])
    return Groups(places)


def newer(name: str, top: Path, mine: Path) -> dict[str, Path]:
    """Places of version 2: where most limits can be set, the nearest first."""
    best: dict[str, Path] = {}
    for each in (mine, *mine.parents):
        found = delegated(name, each)
        if len(found) > len(best):
            retire(best)
            best = found
        else:
            retire(found)
        if len(best) > len(LIMITS) or each == top:
            break
    return best


def retire(places: Mapping[str, Path]) -> None:
    drop(str(place) for place in dict.fromkeys(places.values()))


def delegated(name: str, parent: Path) -> dict[str, Path]:
    """What can be set in groups below `parent`; it is given to them where that is not done yet."""
    for controller in LIMITS:
        allow(parent, controller)
    place = made(parent / name)
    if place is None:
        return {}
    for controller in LIMITS:
        allow(place, controller)
    if not enterable(place):
        drop([str(place)])
        return {}
    return {each: place for each in ("", *LIMITS) if not each or usable(place, each)}


def allow(group: Path, controller: str) -> None:
    try:
        put(group / "cgroup.subtree_control", f"+{controller}")
    except OSError:
        return  # not available here, or not ours to give


def made(place: Path) -> Path | None:
    try:
        place.mkdir(exist_ok=True)
    except OSError:
        return None
    return place


def usable(place: Path, controller: str) -> bool:
    """Whether a group below `place` has the limit's file and can be entered."""
    trial = made(place / "trial")
    if trial is None:
        return False
    try:
        return any((trial / file).exists() for file in FILES[controller]) and entered(trial)
    finally:
        drop([str(trial)])


def enterable(place: Path) -> bool:
    trial = made(place / "trial")
    if trial is None:
        return False
    try:
        return entered(trial)
    finally:
        drop([str(trial)])


def entered(group: Path) -> bool:
    """Whether a child of ours can enter."""
    child = os.fork()
    if not child:
        try:
            join([str(group)])
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0
