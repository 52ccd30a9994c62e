"""Guessed tokens: what workers report to control of tokens that do not pass, and which addresses must wait.

Control knows which of them never were, counts those against the address (as failed log-ins are), and bars it in every
worker for a while. A barred address gets 429 for tokens that control would have to be asked about; what is admitted
already passes as before, so that an office behind one address does not suffer for one guesser in it.
"""

from collections.abc import Callable

from ostiary.core.penalty import neighbourhood

MOST = 10_000
"""Guesses that wait to be reported, and addresses that are barred; beyond, they are let go of."""
REPORTED_AFTER = 0.05
"""Seconds."""


class Guesses:
    """Of one worker. `report` sends what was gathered; `later` calls it back after some seconds."""

    __slots__ = ("_barred", "_gathered", "_later", "_report")

    def __init__(
        self, report: Callable[[dict[bytes, str]], None], later: Callable[[float, Callable[[], None]], object]
    ) -> None:
        self._report = report
        self._later = later
        self._gathered: dict[bytes, str] = {}
        self._barred: dict[str, int] = {}

    def note(self, digest: bytes, address: str) -> None:
        """Control does not admit the token that this address has shown."""
        if not self._gathered:
            self._later(REPORTED_AFTER, self._send)
        if len(self._gathered) < MOST:
            self._gathered[digest] = neighbourhood(address)

    def bar(self, until: dict[str, int]) -> None:
        """These addresses wait until then (monotonic ns)."""
        if len(self._barred) + len(until) > MOST:
            self._barred.clear()
        self._barred.update(until)

    def lift(self) -> None:
        """Nobody waits any more."""
        self._barred.clear()

    def wait(self, address: str, now: int) -> int:
        """Microseconds that the address has to wait; 0: it does not."""
        if not self._barred:
            return 0
        near = neighbourhood(address)
        left = self._barred.get(near, 0) - now
        if left <= 0:
            self._barred.pop(near, None)
        return max(0, left // 1000)

    def _send(self) -> None:
        gathered, self._gathered = self._gathered, {}
        self._report(gathered)
