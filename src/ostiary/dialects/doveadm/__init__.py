"""The doveadm surface: `/doveadm/v1` on the admin listener, as clients of Dovecot's HTTP API know it.

    path and method 404 -> OPTIONS -> size 413 -> throttle 429 -> credential 401 -> foreign browser 403
      GET: the list of commands
      POST: query 400 -> payload 400 (grammar.py) -> Idempotency-Key (replays.py) -> the batch (batch.py)

`commands.py` and `directors.py` hold the original's commands, `extensions.py` makes one of every other operation.
"""

import asyncio
from functools import cached_property
from hashlib import sha256

import msgspec

from ostiary.core.permission import Principal
from ostiary.core.refusal import Forbidden, Limited, Unauthenticated, Unavailable
from ostiary.dialects.credentials import foreign
from ostiary.dialects.desk import Desk, call_of
from ostiary.dialects.doveadm.batch import Batch, Options
from ostiary.dialects.doveadm.commands import ALIASES, SESSIONS, Command
from ostiary.dialects.doveadm.directors import DIRECTORS
from ostiary.dialects.doveadm.extensions import extensions
from ostiary.dialects.doveadm.grammar import BadPayload, Shape, read
from ostiary.dialects.doveadm.grammar import Command as Sent
from ostiary.dialects.doveadm.keys import KEY, Keys, authorization
from ostiary.dialects.doveadm.replays import Replays, key_ok
from ostiary.dialects.doveadm.words import JSON, NO_STORE, text
from ostiary.dialects.message import Answer, Request

PATH = "/doveadm/v1"
METHODS = ("GET", "POST", "OPTIONS")
ROOM = 1 << 20
LARGE = 1 << 16
"""Bytes of a payload that is read in a thread, so that nothing waits for it."""
_ON = ("1", "true")


class BadQuery(Exception):
    """A query parameter or a header of ours has a value that means nothing."""


class Doveadm:
    """The doveadm surface."""

    prefixes = ("/doveadm",)
    faces_clients = False

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.keys = Keys(desk)
        self.replays = Replays(desk)

    # Made when first asked for: they take some 50 ms, and a control that comes back has none to spare.

    @cached_property
    def table(self) -> list[Command]:
        """Every command, in the order in which they are listed."""
        return [*SESSIONS, *DIRECTORS, *extensions(self.desk.registry.operations.values())]

    @cached_property
    def commands(self) -> dict[str, Command]:
        """Every command by each of its names."""
        named = {each.name: each for each in self.table}
        return named | {alias: named[name] for alias, name in ALIASES.items()}

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """What the grammar is to know of each name."""
        return {name: each.shape for name, each in self.commands.items()}

    @cached_property
    def listing(self) -> bytes:
        """The answer to GET."""
        return msgspec.json.encode([_listed(each) for each in self.table])

    def room(self, request: Request) -> int:
        return ROOM

    async def admit(self, request: Request) -> Answer | None:
        found = await self._judged(request)
        return found if isinstance(found, Answer) else None

    async def answer(self, request: Request) -> Answer:
        caller = await self._judged(request)
        if isinstance(caller, Answer):
            return caller
        if request.method == "GET":
            return Answer(200, self.listing, (JSON, NO_STORE))
        return await self._post(request, caller)

    async def _judged(self, request: Request) -> Answer | Principal:
        """Who asks for what the head names; or the answer that needs no body."""
        if request.path != PATH or request.method not in METHODS:
            return text(404, "Path Not Found", reason="Path Not Found")
        if request.method == "OPTIONS":
            return Answer(200, headers=(NO_STORE, ("Allow", ", ".join(METHODS))))
        if request.oversized:
            return self.refuse(request, 413, "")
        try:
            caller = await self.keys.caller(request)
        except Limited as refusal:
            return text(429, "Too Many Requests", ("Retry-After", str(refusal.retry_after)))
        except Unavailable as refusal:
            return text(503, "Service Unavailable", ("Retry-After", str(refusal.retry_after)))
        except (Unauthenticated, Forbidden):
            return Answer(401, headers=(NO_STORE, *self.keys.challenges), reason="Authentication required")
        if request.method == "POST" and foreign(request) and authorization(request)[0] not in (KEY, "bearer"):
            return text(403, "Cross-site request refused")
        return caller

    def refuse(self, request: Request, status: int, reason: str) -> Answer:
        """What is no request, or not to be read to its end; the connection closes after it."""
        words = {413: "Payload Too Large", 500: "Internal Server Error"}.get(status, reason)
        return text(status, words, close=True)

    async def _post(self, request: Request, caller: Principal) -> Answer:
        try:
            options = _options(request)
            key = _key(request)
            batch = await self._read(request.body)
        except (BadQuery, BadPayload) as problem:
            return text(400, str(problem))
        if not key or options.dry_run:
            return await self._run(request, caller, options, batch)
        seen = sha256(request.query.encode() + b"\n" + request.body).digest()
        try:
            return await self.replays.once(caller, key, seen, lambda: self._run(request, caller, options, batch))
        except Unavailable as refusal:
            return await self._run(request, caller, options, batch, refusal)

    async def _read(self, body: bytes) -> list[Sent]:
        if len(body) < LARGE:
            return read(body, self._known)
        return await asyncio.to_thread(read, body, self._known)

    def _known(self, name: str) -> Shape | None:
        return self.shapes.get(name)

    async def _run(
        self,
        request: Request,
        caller: Principal,
        options: Options,
        batch: list[Sent],
        barred: Unavailable | None = None,
    ) -> Answer:
        """The answer to a batch that could be read; with `barred` all of it is refused."""
        try:
            principal = await self.keys.permitted(caller)
        except Unavailable as refusal:
            principal, barred = caller, barred or refusal
        call = msgspec.structs.replace(call_of(request, principal, "doveadm"), dry=options.dry_run)
        running = Batch(self.desk, self.commands, call, options)
        body = await running.run(batch, barred)
        applied = (("X-Ostiary-Applied", running.applied),) if running.applied else ()
        return Answer(200, body, (JSON, NO_STORE, *applied), after=running.afterwards)


def _options(request: Request) -> Options:
    """What the query asks for. Raises BadQuery; parameters that are not ours are ignored."""
    names = Options.__struct_fields__
    given = [(name, value) for name, value in request.pairs() if name in names]
    if any(value not in _ON for _, value in given):
        raise BadQuery("Invalid query parameter")
    return Options(**{name: True for name, _ in given})


def _key(request: Request) -> str:
    """The request's `Idempotency-Key`, empty for none. Raises BadQuery."""
    given = request.headers.get("idempotency-key", [])
    if given and (len(given) > 1 or not key_ok(given[0])):
        raise BadQuery("Invalid Idempotency-Key")
    return given[0] if given else ""


def _listed(command: Command) -> dict[str, object]:
    """A command as the list shows it."""
    parameters = [{"name": each.name, "type": each.kind} for each in command.parameters if each.listed]
    return {"command": command.name, "parameters": parameters}
