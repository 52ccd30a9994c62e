"""A batch: commands one after the other, each for itself (doveadm.md 2.3).

Neighbouring moves of different users are the exception that nobody sees: they run at once, in their order, so that
many share a commit and a barrier. Two thousand of them are to take two seconds.

    known? -> values -> permission 77 -> missing or bad value 64 -> the operation -> its rows

The failure, the time-out or the defect of one command ends that command only. A time-out ends the waiting: a change
that has begun goes on.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from ostiary.control.call import Call, Trail
from ostiary.control.registry import Operation, allow, parse, target
from ostiary.core.refusal import Forbidden, Refusal, Unauthenticated, Unavailable
from ostiary.core.snapshot import SECOND
from ostiary.dialects.desk import Desk
from ostiary.dialects.doveadm.commands import Asked, Command
from ostiary.dialects.doveadm.grammar import Command as Sent
from ostiary.dialects.doveadm.values import BadValue
from ostiary.dialects.doveadm.words import DEFECT, blamed, done, error, exit_code

log = logging.getLogger("ostiary.doveadm")
MOST_ANSWER = 1 << 28
"""Bytes of an answer after which further commands are not run."""
MOST_TOGETHER = 256
"""Neighbouring commands about different users that run at once: a few hundredths of a second of work."""
MOST_TAG = 64
"""Characters of a tag that the audit keeps, behind the request's id."""
ENDS_NODE = "node.stop"


class Options(Struct, frozen=True):
    """What a client may ask for beyond the original (doveadm.md 2.4)."""

    dry_run: bool = False
    stop_on_error: bool = False
    explain: bool = False


class Batch:
    """The commands of one request. `call` is what each of its calls begins with."""

    def __init__(self, desk: Desk, commands: Mapping[str, Command], call: Call, options: Options) -> None:
        self._desk = desk
        self._commands = commands
        self._call = call
        self._options = options
        self._settings = desk.settings().dialects.doveadm
        self._end = asyncio.get_running_loop().time() + self._settings.payload_timeout / SECOND
        self._barred: Refusal | None = None
        """Why nothing more is run."""
        self._failed = False
        self.applied = ""
        """The receipt of the last change, as its header says it."""
        self.afterwards: Callable[[], None] | None = None

    async def run(self, batch: Sequence[Sent], barred: Refusal | None = None) -> bytes:
        """The answer to all. With `barred` nothing is run: each command answers that."""
        self._barred = barred
        entries: list[bytes] = []
        room = MOST_ANSWER
        for together in self._in_turn(batch):
            made = await asyncio.gather(*map(self._entry, together))
            entries += made
            room -= sum(map(len, made))
            self._failed = self._failed or any(entry.startswith(b'["error"') for entry in made)
            if room < 0:
                self._barred = Unavailable("answer.too_large", "The answer is too large already")
        return b"[" + b",".join(entries) + b"]"

    def _in_turn(self, batch: Sequence[Sent]) -> Iterator[list[Sent]]:
        """The commands one by one; but neighbours that cannot tell together, so that they share a commit."""
        together: list[Sent] = []
        users: set[str] = set()
        for sent in batch:
            user = self._apart(sent)
            fits = together and sent.name == together[0].name and user not in users and len(together) < MOST_TOGETHER
            if together and not (fits and user):
                yield together
                together, users = [], set()
            together.append(sent)
            users.add(user)
        if together:
            yield together

    def _apart(self, sent: Sent) -> str:
        """Whom a command is about, however the director makes a number of the name; empty: it has to run alone."""
        command = self._commands.get(sent.name)
        user = sent.values.get(command.apart) if command and command.apart else None
        if not isinstance(user, str) or self._options.stop_on_error:
            return ""
        return user.partition("@")[0].lower()

    async def _entry(self, sent: Sent) -> bytes:
        """One command's entry, whatever it does."""
        command = self._commands.get(sent.name)
        if self._failed and self._options.stop_on_error:
            return self._error("skipped", 0, sent.tag, "A command before it failed")
        if command is None:
            return self._error("unknownMethod", 0, sent.tag, "There is no such command")
        try:
            return done(await self._timed(command, command.asked(sent, self._settings), sent.tag), sent.tag)
        except BadValue as value:
            return self._error("invalidRequest", 0, sent.tag, str(value), value.parameter)
        except Refusal as refusal:
            return self._error("exitCode", exit_code(refusal, command.codes), sent.tag, *_reason(refusal, sent))
        except Exception:
            log.exception(
                "command failed", extra={"pairs": {"request_id": self._call.request_id, "command": sent.name}}
            )
            return self._error("internalError", DEFECT, sent.tag, "An unexpected error occurred")

    def _error(self, kind: str, code: int, tag: str, message: str, parameter: str = "") -> bytes:
        return error(kind, code, tag, message if self._options.explain else None, parameter)

    async def _timed(self, command: Command, asked: Asked, tag: str) -> list[object]:
        """The rows, in time. Refuses Unavailable `command.late`, and what `_run` refuses."""
        now = asyncio.get_running_loop().time()
        if self._barred is None and now >= self._end:
            self._barred = Unavailable("payload.late", "The time for the whole request is over; this was not run")
        if self._barred is not None:
            raise self._barred
        try:
            async with asyncio.timeout(min(self._settings.command_timeout / SECOND, self._end - now)) as limit:
                return await self._run(command, asked, tag)
        except TimeoutError:
            if not limit.expired():
                raise
            raise Unavailable("command.late", "It takes too long; what it changes may still come to be") from None

    async def _run(self, command: Command, asked: Asked, tag: str) -> list[object]:
        operation = self._desk.registry.get(command.operation)
        call = replace(self._call, request_id=_tagged(self._call.request_id, tag), trail=Trail())
        await self._allowed(operation, call)
        command.complete(asked)
        params = parse(operation, command.ask(asked))
        result = await self._desk.run(operation.name, params, call)
        if call.dry and not operation.reads:
            about = target(operation, params)
            return [_foreseen(operation.name, about, change) for change in result]
        self._left(operation, call)
        return command.show(result, asked)

    async def _allowed(self, operation: Operation, call: Call) -> None:
        """Refuse Forbidden or Unauthenticated, which stands in the audit whatever is asked."""
        try:
            if call.principal.kind == "application":
                raise Forbidden("permission.denied", "A client's access token permits nothing here")
            allow(operation, call)
        except (Forbidden, Unauthenticated) as refusal:
            if not call.dry:
                control = self._desk.control
                refused = replace(call, operation=operation.name)
                await control.audit.append(refused.record(control.clock(), refusal.code))
            raise

    def _left(self, operation: Operation, call: Call) -> None:
        """What a command left behind for the whole answer."""
        self.applied = call.trail.applied or self.applied
        self.afterwards = call.trail.afterwards or self.afterwards
        if operation.name == ENDS_NODE:
            self._barred = Unavailable("node.stopping", "The node ends; this was not run")


def _foreseen(operation: str, about: str, change: str) -> dict[str, str]:
    return {"dry_run": "1", "operation": operation, "target": about, "change": change}


def _reason(refusal: Refusal, sent: Sent) -> tuple[str, str]:
    """Why a command was refused: a sentence, and the parameter to blame."""
    if not refusal.mistakes:
        return refusal.message, blamed(refusal, sent.values)
    mistake = refusal.mistakes[0]
    if mistake.file:
        return f"{refusal.message}: {mistake}", ""
    return mistake.message, mistake.path.removeprefix("$.").removeprefix("$")


def _tagged(request_id: str, tag: str) -> str:
    """What the audit calls a command: the request and its tag, in printable characters."""
    shown = "".join(each if each.isprintable() else "?" for each in tag[:MOST_TAG])
    return f"{request_id} {shown}"
