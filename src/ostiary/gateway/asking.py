"""Questions to control, and the exchanges that wait for each answer. Those of one turn of the loop travel together."""

import asyncio
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from ostiary.gateway.exchange import Exchange

Q = TypeVar("Q", bound=Hashable)
LATER, SOON = 5_000_000_000, 1_000_000_000
"""Nanoseconds that an exchange waits for control at most, then 503: one lease, or less where the lease has run out."""


class Asking(Generic[Q]):
    """Questions of one kind. `send` may do nothing while control is away: `again` is called when it is back."""

    def __init__(self, send: Callable[[list[Q]], None]) -> None:
        self._send = send
        self._unsent: list[Q] = []
        self.waiting: dict[Q, list[Exchange]] = {}

    def ask(self, question: Q, exchange: "Exchange") -> bool:
        """Have `exchange` wait for the answer; whether nobody did before."""
        waiting = self.waiting.get(question)
        if waiting is not None:
            waiting.append(exchange)
            return False
        self.waiting[question] = [exchange]
        self._queue(question)
        return True

    def give_up(self, question: Q, exchange: "Exchange") -> None:
        """`exchange` waits no longer. For those who still do it is asked anew: the answer may have been lost."""
        waiting = self.waiting.get(question, [])
        if exchange in waiting:
            waiting.remove(exchange)
        if waiting:
            self._queue(question)
        else:
            self.waiting.pop(question, None)

    def answered(self, question: Q) -> "list[Exchange]":
        """Who waits for this answer, no longer."""
        return self.waiting.pop(question, [])

    def again(self, more: Iterable[Q] = ()) -> None:
        """Ask everything that is waited for anew, and `more`."""
        self._unsent.clear()
        if questions := list({**self.waiting, **dict.fromkeys(more)}):
            self._send(questions)

    def _queue(self, question: Q) -> None:
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(question)

    def _flush(self) -> None:
        questions, self._unsent = self._unsent, []
        if questions:
            self._send(list(dict.fromkeys(questions)))
