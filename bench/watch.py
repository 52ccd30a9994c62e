"""Steady traffic that shows one token at a time, and remembers what became of each request."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from bench.generator import Connection, Generator, Job
from bench.process import Failed


class Seen(NamedTuple):
    """One answered request. Times are seconds of the machine's monotonic clock."""

    token: int
    """Which of the job's."""
    sent: float
    status: int


class Watch(Generator):
    """A generator whose requests all show the token `current` of the job's."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.current = 0
        self.seen: list[Seen] = []

    def _turn(self) -> int:
        return self.current

    def _whole(self, connection: Connection, data: bytes) -> None:
        self.seen.append(Seen(connection.index, connection.sent, int(data[9:12])))


@contextmanager
def watching(job: Job) -> Iterator[Watch]:
    """Traffic from a thread of this process, while the context lasts. Failed if a request found no answer."""
    watch, begun = Watch(job), threading.Event()
    thread = threading.Thread(target=watch.run, args=(begun.set,))
    thread.start()
    try:
        if not begun.wait(10):
            raise Failed("the traffic did not begin")
        yield watch
    finally:
        watch.stop()
        thread.join()
    if watch.failures:
        raise Failed(f"failures in the traffic: {dict(watch.failures)}")


class Cut(NamedTuple):
    """One revocation: of which token, when it was asked for, when answered."""

    token: int
    asked: float
    answered: float


class Ending(NamedTuple):
    """How a token ended in the traffic."""

    last: float
    """Seconds from the moment its revocation was asked for until the last request was sent that passed."""
    passed: int
    """Requests that were sent after the answer and passed."""
    refused: int
    """Those that did not."""


def ending(seen: list[Seen], cut: Cut) -> Ending:
    """What the traffic says of one revocation. Failed where the token was not let through until then."""
    own = [each for each in seen if each.token == cut.token]
    if odd := [each for each in own if each.status != (200 if each.sent < cut.asked else each.status)]:
        raise Failed(f"a token was answered {odd[0].status} before it was revoked")
    passed = [each.sent for each in own if each.status == 200]
    after = [each for each in own if each.sent > cut.answered]
    late = sum(each.status == 200 for each in after)
    return Ending(max(passed, default=cut.asked) - cut.asked, late, len(after) - late)
