"""Control groups: where they are found and what is written into them, on a tree of plain files."""

from pathlib import Path

import pytest

from ostiary.drivers.process.groups import limit, mounted, starved

MOUNTS = """\
24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
31 24 0:27 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
32 24 0:28 / /sys/fs/cgroup/memory rw,relatime shared:10 - cgroup cgroup rw,memory
33 24 0:29 /box /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
34 24 0:30 /elsewhere /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
"""
OWN = "5:memory:/a/b\n4:cpu,cpuacct:/box/c\n3:pids:/\n0::/user.slice/x\n"


def test_both_versions_are_found_where_they_are_mounted() -> None:
    first, second = mounted(MOUNTS, OWN)
    assert first == {
        "memory": (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/memory/a/b")),
        "cpu": (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup/cpu/c")),
    }
    assert second == (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/unified/user.slice/x"))


def test_where_nothing_is_mounted_there_are_none() -> None:
    assert mounted("24 1 254:0 / / rw - ext4 /dev/vda rw\n", "0::/\n") == ({}, None)


@pytest.mark.parametrize(
    ("name", "most", "files", "written"),
    [
        ("memory", 1000, ["memory.max", "memory.swap.max", "memory.oom.group"], ["1000", "0", "1"]),
        ("memory", 1000, ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"], ["1000", "1000"]),
        ("memory", 1000, ["memory.limit_in_bytes"], ["1000"]),
        ("cpu", 0.5, ["cpu.max"], ["50000 100000"]),
        ("cpu", 0.001, ["cpu.cfs_quota_us"], ["1000"]),
        ("pids", 12, ["pids.max"], ["12"]),
        ("pids", 0, ["pids.max"], [""]),
    ],
)
def test_a_limit_is_written_as_its_version_wants_it(
    tmp_path: Path, name: str, most: float, files: list[str], written: list[str]
) -> None:
    for each in files:
        (tmp_path / each).touch()
    limit(tmp_path, name, most)
    assert [(tmp_path / each).read_text() for each in files] == written


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("memory.events", "oom 1\noom_kill 1\n", True),
        ("memory.events", "oom 1\noom_kill 0\n", False),
        ("memory.oom_control", "under_oom 0\noom_kill 2\n", True),
        ("memory.stat", "oom_kill 2\n", False),
    ],
)
def test_who_was_killed_for_want_of_memory_is_known(tmp_path: Path, file: str, text: str, expected: bool) -> None:
    (tmp_path / file).write_text(text)
    assert starved([str(tmp_path)]) is expected
