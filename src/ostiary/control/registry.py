"""The registry: every operation once, with what it takes, gives, needs and is called.

A module of operations is a subject (`scopes.py`); its functions are declared by `@operation`. Surfaces, the command
line, OpenAPI and the audit are projections of the Registry that node.py builds from those modules.
"""

import asyncio
import dataclasses
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

import msgspec
from msgspec import Struct

from ostiary.control.call import Call, Trail
from ostiary.control.control import Control, Workers
from ostiary.control.refusals import Refusals
from ostiary.core.permission import NOBODY, USER
from ostiary.core.refusal import Forbidden, Invalid, Limited, Mistake, NotFound, Refusal, Unauthenticated, Unavailable
from ostiary.core.snapshot import Snapshot
from ostiary.link.messages import Change, Order
from ostiary.link.orders import Result
from ostiary.link.receipt import Receipt
from ostiary.store.sql import rehearsing

P = TypeVar("P", bound=Struct)
R = TypeVar("R")
Run = Callable[[Control, Call, P], Awaitable[R]]
Preview = Callable[[Control, Call, P], Awaitable[list[str]]]
"""What a change would do, a text a thing; refuses what the change would refuse."""
Follow = Callable[[Control, Call, P], AsyncIterator[bytes]]
"""What `run` shows, line by line, and what comes to it; refuses what `run` would refuse."""

log = logging.getLogger("ostiary.control")
_REPEATED = re.compile(r"(?<=^Invalid enum value) .*", re.DOTALL)
"""No answer repeats what was sent: it may be a secret in the wrong place."""
RECORDED = (Unauthenticated, Forbidden, NotFound, Limited)
"""Refusals of changes that stand in the audit."""


class Operation(Struct, frozen=True):
    """One thing that an operator (or a client) can do."""

    name: str
    permission: str
    """Empty: anybody; the operation itself looks at who is asking."""
    reads: bool
    """Whether it changes nothing: then GET does too, and no audit record is written."""
    params: type[Struct]
    result: Any
    """A type, for the schema."""
    summary: str
    target: str
    """The parameter that names what is acted upon, for the audit; empty: none."""
    own: str
    """The parameter that names a user: who is signed in as that very user needs no permission. Empty: none."""
    also: tuple[str, ...]
    """Other permissions, each of which does as well."""
    run: Callable[[Control, Call, Any], Awaitable[Any]]
    preview: Callable[[Control, Call, Any], Awaitable[list[str]]] | None = None
    """Where `run` touches more than the store and the workers."""
    follow: Callable[[Control, Call, Any], AsyncIterator[bytes]] | None = None
    """Where what is read goes on."""


def operation(
    name: str,
    *,
    reads: bool = False,
    permission: str | None = None,
    target: str = "",
    own: str = "",
    also: tuple[str, ...] = (),
    preview: Preview[P] | None = None,
    follow: Follow[P] | None = None,
) -> Callable[[Run[P, R]], Operation]:
    """Declare a function `(control, call, params: P) -> R` as the operation `name`.

    Without `permission` it asks `subject:read` or `subject:manage`. The first line of the docstring is the summary.
    """
    subject = name.partition(".")[0]
    asked = f"{subject}:{'read' if reads else 'manage'}" if permission is None else permission

    def declare(run: Run[P, R]) -> Operation:
        hints = get_type_hints(run)
        summary = (run.__doc__ or name).strip().partition("\n")[0]
        result = hints["return"]
        return Operation(name, asked, reads, hints["params"], result, summary, target, own, also, run, preview, follow)

    return declare


class Registry:
    """All operations by name, and the one way to run them."""

    def __init__(self, subjects: Iterable[ModuleType]) -> None:
        found = [each for subject in subjects for each in vars(subject).values() if isinstance(each, Operation)]
        self.operations: Mapping[str, Operation] = {
            each.name: each for each in sorted(found, key=lambda each: each.name)
        }
        self._changing: set[asyncio.Task[Any]] = set()
        self._refusals = Refusals()

    def get(self, name: str) -> Operation:
        """The operation `name`. Refuses NotFound `operation.unknown`."""
        if name not in self.operations:
            raise NotFound("operation.unknown", "There is no such operation")
        return self.operations[name]

    async def run(self, control: Control, name: str, params: Struct, call: Call) -> Any:
        """Run an operation for `call`: permission, the operation, and for a change its audit record.

        The record of success is committed before this returns; that of a refusal too (those of whoever is barred are
        counted together, refusals.py). A change once begun goes on to
        its end although the caller is cancelled (a client hung up): what is committed must reach the workers. Where the
        call is dry, a change gives a list of texts: what it would do.
        """
        declared = self.get(name)
        if declared.reads:
            allow(declared, call, params)
            return await declared.run(control, msgspec.structs.replace(call, operation=name), params)
        if call.dry:
            return await _rehearse(control, declared, params, call)
        changing = asyncio.create_task(self._change(control, declared, params, call))
        self._keep(changing)
        return await asyncio.shield(changing)

    def follow(self, control: Control, name: str, params: Struct, call: Call) -> AsyncIterator[bytes]:
        """What an operation reads, line by line and without end. Refuses as `run`, NotFound `operation.unknown`."""
        declared = self.get(name)
        if declared.follow is None:
            raise NotFound("operation.unknown", "There is nothing to follow")
        allow(declared, call, params)
        return declared.follow(control, msgspec.structs.replace(call, operation=name), params)

    async def settled(self) -> None:
        """Wait until no change is under way and the audit has all of them; for the end of the process."""
        while self._changing:
            await asyncio.wait(self._changing)
        await self._refusals.settled()

    async def _change(self, control: Control, declared: Operation, params: Struct, call: Call) -> Any:
        call = msgspec.structs.replace(call, operation=declared.name, target=target(declared, params))
        try:
            allow(declared, call, params)
            result = await declared.run(control, call, params)
        except RECORDED as refusal:
            await self.refused(control, declared.name, call, refusal)
            raise
        except Refusal as refusal:
            if call.trail.lasting and refusal.code != "store.unavailable":
                await _ended(control, call, refusal)
            raise
        if not call.trail.recorded:
            await control.audit.append(call.done(control.clock()))
        if call.trail.later is not None:
            self._keep(asyncio.create_task(_tell(control, call.trail.later)))
        return result

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._changing.add(task)
        task.add_done_callback(self._changing.discard)

    def refused_again(self, name: str, surface: str, address: str) -> bool:
        """Count a refusal of nobody's attempt with those of the same address that the audit will sum up.

        False: it is the first for a while, and `refused` has yet to record it.
        """
        return self._refusals.one_more((address, surface, name, NOBODY.name))

    async def refused(self, control: Control, name: str, call: Call, refusal: Refusal) -> None:
        """Write the audit record of a refusal, unless `name` only reads.

        For surfaces that refuse (the credential, say) before there is anything to run.
        """
        if not self.get(name).reads and isinstance(refusal, RECORDED):
            call = msgspec.structs.replace(call, operation=name)
            await self._refusals.keep(control, call, refusal)


async def _ended(control: Control, call: Call, refusal: Refusal) -> None:
    """Have the audit say what stopped a change that had begun."""
    try:
        await control.audit.append(call.record(control.clock(), refusal.code))
    except Unavailable as problem:
        log.error("How %s ended is missing in the audit: %s", call.operation, problem.message)


async def _rehearse(control: Control, declared: Operation, params: Struct, call: Call) -> list[str]:
    """Foresee a change: by its preview, or by doing it in a store that keeps nothing, beside workers that hear nothing.

    What it would leave behind in `call.trail` is dropped.
    """
    about = target(declared, params)
    call = msgspec.structs.replace(call, operation=declared.name, target=about, trail=Trail())
    allow(declared, call, params)
    if declared.preview is not None:
        return await declared.preview(control, call, params)
    token = rehearsing.set(True)
    try:
        await declared.run(dataclasses.replace(control, workers=Deaf(control.workers)), call, params)
    finally:
        rehearsing.reset(token)
    return [declared.summary]


class Deaf:
    """Workers that are told nothing, and take everything for done."""

    def __init__(self, workers: Workers) -> None:
        self.collect = workers.collect
        self.status = workers.status

    async def apply(self, change: Change) -> Receipt:
        return Receipt(change.seq, 0, 0, 0)

    async def install(self, snapshot: Snapshot, routes: Sequence[bytes]) -> Receipt:
        return Receipt(snapshot.revision, 0, 0, 0)

    async def order(self, order: Order, patience: float = 0) -> list[Result]:
        return []


def target(declared: Operation, params: Struct) -> str:
    """What the parameters say is acted upon."""
    named = getattr(params, declared.target) if declared.target else None
    return "" if named is None else str(named)


async def _tell(control: Control, change: Change) -> None:
    """Have workers apply a change that no answer waits for; one that does not confirm it has lost its lease."""
    try:
        await control.workers.apply(change)
    except Unavailable as refusal:
        log.warning("Workers have not confirmed a change: %s", refusal.message)


def allow(declared: Operation, call: Call, params: Struct | None = None) -> None:
    """Refuse Unauthenticated `authentication.required` or Forbidden `permission.denied`.

    Before there are parameters, what users may do to themselves passes for whoever is signed in.
    """
    if any(call.principal.may(each) for each in (declared.permission, *declared.also)):
        return
    oneself = params is None or (declared.own and getattr(params, declared.own) in ("", call.principal.name))
    if declared.own and call.principal.kind == USER and oneself:
        return
    if call.principal.kind == NOBODY.kind:
        raise Unauthenticated("authentication.required", "Authentication is required")
    raise Forbidden("permission.denied", f"This needs the permission {declared.permission}")


def parse(declared: Operation, values: object, *, lax: bool = False) -> Struct:
    """Parameters out of decoded JSON; `lax` also takes numbers and truth values as text (a query, a command line).

    Refuses Invalid `params.invalid` with the path of the mistake.
    """
    try:
        return msgspec.convert(values, declared.params, strict=not lax)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        mistake = Mistake(path.rstrip("`") or "$", _REPEATED.sub("", message))
        raise Invalid("params.invalid", "The parameters are not valid", (mistake,)) from error
