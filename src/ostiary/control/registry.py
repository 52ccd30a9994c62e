"""The registry: every operation once, with what it takes, gives, needs and is called.

A module of operations is a subject (`scopes.py`); its functions are declared by `@operation`. Surfaces, the command
line, OpenAPI and the audit are projections of the Registry that node.py builds from those modules.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

import msgspec
from msgspec import Struct

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.core.permission import NOBODY, USER
from ostiary.core.refusal import Forbidden, Invalid, Limited, Mistake, NotFound, Refusal, Unauthenticated, Unavailable
from ostiary.link.messages import Change

P = TypeVar("P", bound=Struct)
R = TypeVar("R")
Run = Callable[[Control, Call, P], Awaitable[R]]

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


def operation(
    name: str,
    *,
    reads: bool = False,
    permission: str | None = None,
    target: str = "",
    own: str = "",
    also: tuple[str, ...] = (),
) -> Callable[[Run[P, R]], Operation]:
    """Declare a function `(control, call, params: P) -> R` as the operation `name`.

    Without `permission` it asks `subject:read` or `subject:manage`. The first line of the docstring is the summary.
    """
    subject = name.partition(".")[0]
    asked = f"{subject}:{'read' if reads else 'manage'}" if permission is None else permission

    def declare(run: Run[P, R]) -> Operation:
        hints = get_type_hints(run)
        summary = (run.__doc__ or name).strip().partition("\n")[0]
        return Operation(name, asked, reads, hints["params"], hints["return"], summary, target, own, also, run)

    return declare


class Registry:
    """All operations by name, and the one way to run them."""

    def __init__(self, subjects: Iterable[ModuleType]) -> None:
        found = [each for subject in subjects for each in vars(subject).values() if isinstance(each, Operation)]
        self.operations: Mapping[str, Operation] = {
            each.name: each for each in sorted(found, key=lambda each: each.name)
        }
        self._changing: set[asyncio.Task[Any]] = set()

    def get(self, name: str) -> Operation:
        """The operation `name`. Refuses NotFound `operation.unknown`."""
        if name not in self.operations:
            raise NotFound("operation.unknown", "There is no such operation")
        return self.operations[name]

    async def run(self, control: Control, name: str, params: Struct, call: Call) -> Any:
        """Run an operation for `call`: permission, the operation, and for a change its audit record.

        The record of success is committed before this returns; that of a refusal too. A change once begun goes on to
        its end although the caller is cancelled (a client hung up): what is committed must reach the workers.
        """
        declared = self.get(name)
        if declared.reads:
            allow(declared, call, params)
            return await declared.run(control, msgspec.structs.replace(call, operation=name), params)
        changing = asyncio.create_task(self._change(control, declared, params, call))
        self._keep(changing)
        return await asyncio.shield(changing)

    async def settled(self) -> None:
        """Wait until no change is under way; for the end of the process."""
        while self._changing:
            await asyncio.wait(self._changing)

    async def _change(self, control: Control, declared: Operation, params: Struct, call: Call) -> Any:
        target = getattr(params, declared.target) if declared.target else ""
        call = msgspec.structs.replace(call, operation=declared.name, target="" if target is None else str(target))
        try:
            allow(declared, call, params)
            result = await declared.run(control, call, params)
        except RECORDED as refusal:
            await self.refused(control, declared.name, call, refusal)
            raise
        if not call.trail.recorded:
            await control.audit.append(call.done(control.clock()))
        if call.trail.later is not None:
            self._keep(asyncio.create_task(_tell(control, call.trail.later)))
        return result

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._changing.add(task)
        task.add_done_callback(self._changing.discard)

    async def refused(self, control: Control, name: str, call: Call, refusal: Refusal) -> None:
        """Write the audit record of a refusal, unless `name` only reads.

        For surfaces that refuse (the credential, say) before there is anything to run.
        """
        if not self.get(name).reads and isinstance(refusal, RECORDED):
            call = msgspec.structs.replace(call, operation=name)
            await control.audit.append(call.record(control.clock(), refusal.code))


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
