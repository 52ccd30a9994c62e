"""What the load of a bench asks of the kernel, where the kernel tells what it gave."""

import logging
import os
import platform
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from bench.turns import SHORT, take_turns_soon

T = TypeVar("T")


def slice_of(pid: int, thread: int) -> int:
    """Nanoseconds. Skips where the kernel does not tell, or has none that can be asked for (before 6.12)."""
    text = Path(f"/proc/{pid}/task/{thread}/sched")
    found = re.search(r"se\.slice +: +(\d+)", text.read_text()) if text.exists() else None
    if found is None or tuple(map(int, re.findall(r"\d+", platform.release())[:2])) < (6, 12):
        pytest.skip(f"this kernel ({platform.release()}) does not tell how long a thread's slice is")
    return int(found[1])


def elsewhere(work: Callable[[], T]) -> T:
    """Do `work` in a thread of its own: what it asks for stays with that."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


def own_slice() -> int:
    return slice_of(os.getpid(), threading.get_native_id())


def test_a_thread_gets_the_slice_that_it_asks_for_and_keeps_its_policy_and_priority() -> None:
    def ask() -> tuple[int, int, int]:
        os.setpriority(os.PRIO_PROCESS, 0, 3)
        take_turns_soon()
        return own_slice(), os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)

    before = elsewhere(own_slice)
    assert elsewhere(ask) == (SHORT, os.SCHED_OTHER, 3)
    assert elsewhere(own_slice) == before > SHORT


def test_threads_started_later_have_it_too() -> None:
    def ask() -> int:
        take_turns_soon()
        return elsewhere(own_slice)

    assert elsewhere(ask) == SHORT


def test_an_unknown_machine_is_only_worth_a_line_for_who_looks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    with caplog.at_level(logging.DEBUG, "bench"):
        take_turns_soon()
    assert [record.getMessage() for record in caplog.records] == ["No short slices: unknown machine abacus"]
