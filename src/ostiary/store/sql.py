"""How statements are run: a connection as units of work see it, and lines, each of which is a thread with a connection.

Group commit: what is asked of a line while it works waits, and is then done together in one transaction, so that many
callers share one sync of the disk. An answer waits for the commit. Each unit sees what those before it did, and one
that refuses undoes its own writes only.

The statements are plain SQL that SQLite and PostgreSQL both speak (`:name` parameters, RETURNING, ON CONFLICT); what
differs between them is in `sqlite.py` and `postgresql.py`. The road not taken: SQLAlchemy's Connection over aiosqlite,
which costs a thread switch and a greenlet a statement instead of a switch a batch, and 0.25 s of imports a start.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from functools import lru_cache, partial
from itertools import groupby
from operator import attrgetter
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, cast

from ostiary.core.refusal import Invalid, Refusal, Unavailable

log = logging.getLogger("ostiary.store")

A = TypeVar("A")
R = TypeVar("R")
Row = tuple[Any, ...]
Mode = Literal["sqlite", "postgresql"]
MOST_MARKS = 16_384
"""Parameters in one statement; SQLite and PostgreSQL take 32,766."""


rehearsing: ContextVar[bool] = ContextVar("rehearsing", default=False)
"""Whether what is asked of the lines here is done and at once undone: each unit sees the store as it is."""


class Down(Exception):
    """The database cannot be used now, whatever is asked of it."""

    def refusal(self) -> Refusal:
        """What each of those who wait is told."""
        return Unavailable("store.unavailable", "The store cannot be reached")


class InUse(Down):
    """The database belongs to another node, which runs."""

    def refusal(self) -> Refusal:
        return Unavailable("store.in_use", str(self))


class Rejected(Exception):
    """The database does not do what a unit of work asked for; other units are not touched."""

    def refusal(self) -> Refusal:
        """What the unit's caller is told."""
        return Unavailable("store.unavailable", "The store cannot be reached")


class Unkeepable(Rejected):
    """A text or a number that the database has no form for."""

    def refusal(self) -> Refusal:
        return Invalid("store.value", "A text holds a character, or a number is of a size, that cannot be kept")


class Sql(ABC):
    """One connection; only its line's thread uses it."""

    mode: ClassVar[Mode]

    @abstractmethod
    def rows(self, statement: str, **values: object) -> list[Row]:
        """All rows of a statement."""

    def row(self, statement: str, **values: object) -> Row | None:
        """The only row, if there is one."""
        found = self.rows(statement, **values)
        return found[0] if found else None

    @abstractmethod
    def change(self, statement: str, **values: object) -> int:
        """How many rows the statement changed."""

    def among(self, statement: str, each: Sequence[object], **values: object) -> list[Row]:
        """Rows of a statement in which `(:each)` stands for all of `each` (at most MOST_MARKS)."""
        width = 1 << max(0, len(each) - 1).bit_length()
        padded = [*each, *[each[-1] if each else None] * (width - len(each))]
        named = {f"each{number}": value for number, value in enumerate(padded)}
        return self.rows(_spread(statement, width), **named, **values)

    def insert(self, statement: str, rows: Sequence[Row]) -> None:
        """Insert many rows; `statement` ends with VALUES.

        A power of two of them a statement: few texts to keep prepared, and few switches to and from the event loop's
        thread, which each step of a statement may cost.
        """
        start = 0
        while start < len(rows):
            most = min(len(rows) - start, MOST_MARKS // len(rows[0]))
            count = 1 << (most.bit_length() - 1)
            self.fill(statement, rows[start : start + count])
            start += count

    @abstractmethod
    def fill(self, statement: str, rows: Sequence[Row]) -> None:
        """Insert rows with one statement."""

    def attempt(self, unit: Callable[["Sql"], R]) -> R | Refusal:
        """What `unit` gives; or its refusal, and then nothing that it wrote stays."""
        self.do("SAVEPOINT unit")
        try:
            outcome = unit(self)
        except Refusal as refusal:
            self.do("ROLLBACK TO unit")
            self.do("RELEASE unit")
            return refusal
        self.do("RELEASE unit")
        return outcome

    @abstractmethod
    def do(self, statement: str) -> None:
        """Run a statement that has neither parameters nor rows."""

    @abstractmethod
    def transaction(self, work: Callable[["Sql"], R]) -> R:
        """Do `work` and commit; nothing of it stays if it fails. Raises Down, Rejected, and whatever `work` raises."""

    @abstractmethod
    def close(self) -> None:
        """End the connection."""


@lru_cache(256)
def _spread(statement: str, width: int) -> str:
    return statement.replace("(:each)", "(" + ", ".join(f":each{number}" for number in range(width)) + ")")


class _Asked(NamedTuple):
    work: Callable[[Sql, Sequence[Any]], Sequence[Any]]
    argument: Any
    answer: asyncio.Future[Any]


def _units(sql: Sql, units: Sequence[Callable[[Sql], R]]) -> Sequence[R | Refusal]:
    return [sql.attempt(unit) for unit in units]


def _nothing(sql: Sql) -> None:
    pass


class _Undone(Refusal):
    """Ends a unit that was only rehearsed, so that nothing that it wrote stays. `outcome` is what it would give."""

    def __init__(self, outcome: object) -> None:
        super().__init__("unit.rehearsed", "")
        self.outcome: Any = outcome


class Line:
    """A thread with a connection of its own, which does what is asked of it in batches, a transaction each."""

    def __init__(self, connect: Callable[[], Sql], name: str) -> None:
        self._connect = connect
        self._thread = ThreadPoolExecutor(1, name)
        self._sql: Sql | None = None
        self._waiting: list[_Asked] = []
        self._alone: deque[_Asked] = deque()
        self._busy = False
        self._trouble = ""
        """What the database said to the last batch, where it could not be used."""

    async def each(self, unit: Callable[[Sql], R]) -> R:
        """Do one unit of work."""
        return await self.together(_units, unit)

    async def together(self, work: Callable[[Sql, Sequence[A]], Sequence[R | Refusal]], argument: A) -> R:
        """Do `work` for `argument`, together with all others that wait for the same `work`.

        A Refusal among the outcomes is raised for its own caller. Refuses Unavailable `store.unavailable` where the
        database fails; then nothing was kept. (But for one case: a connection to PostgreSQL that is lost in the very
        COMMIT leaves unknown what was kept.) Refuses Invalid `store.value` where a value cannot be kept.
        """
        return await (self._rehearse(work, argument) if rehearsing.get() else self._ask(work, argument))

    async def _rehearse(self, work: Callable[[Sql, Sequence[A]], Sequence[R | Refusal]], argument: A) -> R:
        """The same, and nothing was kept."""

        def unit(sql: Sql) -> R:
            raise _Undone(work(sql, [argument])[0])

        try:
            return await self._ask(_units, unit)
        except _Undone as undone:
            outcome = undone.outcome
        if isinstance(outcome, Refusal):
            raise outcome
        return cast(R, outcome)

    async def _ask(self, work: Callable[[Sql, Sequence[A]], Sequence[R | Refusal]], argument: A) -> R:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        if not self._waiting and not self._busy:
            loop.call_soon(self._send)
        self._waiting.append(_Asked(work, argument, answer))
        return await answer

    async def close(self) -> None:
        """Finish what was asked, then end the connection and the thread."""
        if self._busy or self._waiting:
            with suppress(Unavailable):
                await self.each(_nothing)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._end)
        self._thread.shutdown(wait=True)

    def _send(self) -> None:
        """Give the thread what waits: all of it, unless some of it has to be tried alone."""
        if self._alone:
            batch = [self._alone.popleft()]
        else:
            batch, self._waiting = self._waiting, []
        self._busy = bool(batch)
        if batch:
            done = asyncio.get_running_loop().run_in_executor(self._thread, self._perform, batch)
            done.add_done_callback(partial(self._deliver, batch))

    def _deliver(self, batch: list[_Asked], done: asyncio.Future[list[Any]]) -> None:
        """Answer a batch. One that failed by more than the database's doing is done again, each unit alone."""
        failure = done.exception()
        self._note(failure)
        if failure is None:
            for asked, outcome in zip(batch, done.result(), strict=True):
                _answer(asked.answer, outcome)
        elif len(batch) == 1 or isinstance(failure, Down):
            for asked in batch:
                _answer(asked.answer, _meaning(failure))
        else:
            self._alone.extend(batch)
        self._send()

    def _note(self, failure: BaseException | None) -> None:
        """Log why the database cannot be used, once, and that it can be again: callers are not told the reason."""
        trouble = str(failure) if isinstance(failure, Down) else ""
        if trouble and trouble != self._trouble:
            log.error("The store cannot be used: %s", trouble)
        elif self._trouble and not trouble:
            log.info("The store can be used again")
        self._trouble = trouble

    def _perform(self, batch: list[_Asked]) -> list[Any]:
        if self._sql is None:
            self._sql = self._connect()
        return self._sql.transaction(partial(_outcomes, batch))

    def _end(self) -> None:
        if self._sql is not None:
            self._sql.close()


def _outcomes(batch: list[_Asked], sql: Sql) -> list[Any]:
    """One outcome for each of `batch`, in order; neighbours that ask for the same work share it."""
    outcomes: list[Any] = []
    for work, group in groupby(batch, key=attrgetter("work")):
        outcomes += work(sql, [asked.argument for asked in group])
    return outcomes


def _answer(answer: asyncio.Future[Any], outcome: object) -> None:
    if answer.done():
        return
    if isinstance(outcome, BaseException):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


def _meaning(failure: BaseException) -> BaseException:
    """What a caller is told of a failure."""
    if not isinstance(failure, Down | Rejected):
        return failure
    refusal = failure.refusal()
    refusal.__cause__ = failure
    return refusal
