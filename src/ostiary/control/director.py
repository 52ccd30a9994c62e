"""The director: what operators do with hosts and users (doveadm.md 7.3). What is answered is in force everywhere."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.flushing import Flush, forget
from ostiary.control.hosts import HostText, UpstreamName, address, addresses, director, tagged
from ostiary.control.registry import Preview, operation
from ostiary.control.sessions import everybody
from ostiary.control.steering import draining
from ostiary.core.director import (
    DOWN,
    NAMELESS,
    UP,
    Board,
    DirectorRules,
    Edit,
    Host,
    Move,
    Unsteer,
    add,
    check_vhosts,
    remove,
    reset,
    turn,
    update,
    user_hash,
)
from ostiary.core.refusal import Invalid
from ostiary.core.snapshot import SECOND
from ostiary.link.messages import Change, Drain, Kick
from ostiary.store.sql import rehearsing

PATIENCE = 10.0
"""Seconds that a worker may take beyond the time that exchanges in flight are given."""
PARALLEL = 100
"""Users with connections who are moved at a time, unless another number is given."""

P = TypeVar("P", bound=Struct)
Plan: TypeAlias = tuple[DirectorRules, Callable[[Board], Edit]]
Port = Annotated[int, Meta(ge=1, le=65535)]


class Steered(Struct, frozen=True):
    """What changed, a text each."""

    changes: list[str]


class AddHost(Struct, frozen=True):
    """A host to be added, or changed."""

    host: Annotated[str, Meta(description="address or name, or HOST@TAG; of a name each address is added")]
    upstream: UpstreamName = ""
    tag: Annotated[str, Meta(description="empty: none, or the one it has")] = ""
    vhosts: Annotated[int | None, Meta(description="0 to 1000; null: 100, or as many as it has")] = None
    port: Annotated[Port | None, Meta(description="null: director_port, or the one it has")] = None


class UpdateHost(Struct, frozen=True):
    """A host and its new weight."""

    host: Annotated[str, Meta(description="address or name, or HOST@TAG")]
    vhosts: Annotated[int, Meta(description="0 to 1000")]
    upstream: UpstreamName = ""


class TurnHost(Struct, frozen=True):
    """A host to be taken up or down."""

    host: HostText
    upstream: UpstreamName = ""
    tag: Annotated[str | None, Meta(description="that it must have")] = None


class RemoveHost(Struct, frozen=True):
    """A host to be removed."""

    host: HostText
    upstream: UpstreamName = ""


class Reset(Struct, frozen=True):
    """Which director."""

    upstream: UpstreamName = ""


def foreseen(plan: Callable[[Control, P], Awaitable[Plan]]) -> Preview[P]:
    """What a change of hosts would do."""

    async def preview(control: Control, call: Call, params: P) -> list[str]:
        rules, decide = await plan(control, params)
        return decide(await control.steering.board(rules.name)).changes

    return preview


async def edit(control: Control, call: Call, rules: DirectorRules, decide: Callable[[Board], Edit]) -> Steered:
    """Change hosts; returns when nobody can reach those any more whose users are forgotten. They wait for that too."""
    name, read, grace = rules.name, control.steering.read(rules.name), control.rules.kick_grace
    held, drains = control.steering.hold(name, grace), list[Drain]()
    try:
        done = call.done(control.clock())
        changed = await control.directors.change(name, lambda kept: decide(read(kept)), done, held)
        made = changed.value
        if made.forget:
            drains = [Drain(name, hosts=made.forget, grace=grace, close=True)]
        if changed.seq:
            # Users keep their hosts; only where those without a name go is always asked about anew.
            gone = Unsteer(name, hosts=[*made.forget, *made.anew] or [NAMELESS])
            call.trail.receipt = await control.workers.apply(Change(changed.seq, steering=[gone]))
    finally:
        await control.steering.end(name, held, drains)
    return Steered(made.changes)


async def _adding(control: Control, params: AddHost) -> Plan:
    rules = director(control, params.upstream)
    host, tag = tagged(params.host, params.tag)
    check_vhosts(params.vhosts)
    found = await addresses(control, rules, host)
    return rules, lambda board: add(board, found, tag, params.vhosts, params.port)


async def _updating(control: Control, params: UpdateHost) -> Plan:
    rules = director(control, params.upstream)
    host, tag = tagged(params.host, "")
    check_vhosts(params.vhosts)
    found = await address(control, rules, host)
    return rules, lambda board: update(board, found, tag, params.vhosts)


async def _upping(control: Control, params: TurnHost) -> Plan:
    return await _turning(control, params, UP)


async def _downing(control: Control, params: TurnHost) -> Plan:
    return await _turning(control, params, DOWN)


async def _turning(control: Control, params: TurnHost, state: str) -> Plan:
    rules, now = director(control, params.upstream), control.clock()
    found = await address(control, rules, params.host)
    return rules, lambda board: turn(board, found, params.tag, state, now)


async def _removing(control: Control, params: RemoveHost) -> Plan:
    rules = director(control, params.upstream)
    found = await address(control, rules, params.host)
    return rules, lambda board: remove(board, found)


async def _resetting(control: Control, params: Reset) -> Plan:
    return director(control, params.upstream), reset


@operation("director.add", target="host", preview=foreseen(_adding))
async def add_(control: Control, call: Call, params: AddHost) -> Steered:
    """Add a host, or change what is given of one that is there; nobody is moved."""
    return await edit(control, call, *await _adding(control, params))


@operation("director.update", target="host", preview=foreseen(_updating))
async def update_(control: Control, call: Call, params: UpdateHost) -> Steered:
    """Change the weight of a host; nobody is moved."""
    return await edit(control, call, *await _updating(control, params))


@operation("director.up", target="host", preview=foreseen(_upping))
async def up(control: Control, call: Call, params: TurnHost) -> Steered:
    """Take a host up: new users come to it."""
    return await edit(control, call, *await _upping(control, params))


@operation("director.down", target="host", preview=foreseen(_downing))
async def down(control: Control, call: Call, params: TurnHost) -> Steered:
    """Take a host down: nobody new comes to it; who is there stays."""
    return await edit(control, call, *await _downing(control, params))


@operation("director.remove", target="host", preview=foreseen(_removing))
async def remove_(control: Control, call: Call, params: RemoveHost) -> Steered:
    """Remove a host, forget its users and end their connections to it."""
    return await edit(control, call, *await _removing(control, params))


@operation("director.reset", preview=foreseen(_resetting))
async def reset_(control: Control, call: Call, params: Reset) -> Steered:
    """Let all hosts be as the configuration has them."""
    return await edit(control, call, *await _resetting(control, params))


# Users


class MoveUser(Struct, frozen=True):
    """Who is to go where."""

    user: Annotated[str, Meta(description="name of the user")]
    host: Annotated[str, Meta(description="address or name of a host, which may be down")]
    upstream: UpstreamName = ""


class KickUser(Struct, frozen=True):
    """Whose connections to this upstream end."""

    user: Annotated[str, Meta(description="the name, letter for letter; or the value of the detail")]
    upstream: UpstreamName = ""
    detail: Annotated[str, Meta(description="users whose token has this detail with the value `user`")] = ""


class FlushHost(Struct, frozen=True):
    """Whose users go to where the ring says now."""

    host: Annotated[str, Meta(description="address or name of a host, or all")]
    upstream: UpstreamName = ""
    force: Annotated[bool, Meta(description="only forget the users; what flows, flows on")] = False
    max_parallel: Annotated[int, Meta(description="users with connections who are moved at a time; 0: 100")] = PARALLEL


async def _move(control: Control, params: MoveUser, held: int) -> tuple[DirectorRules, str, Move]:
    """Refuses Invalid `user.missing`, and what `address` refuses."""
    rules, now = director(control, params.upstream), control.clock()
    if not params.user:
        raise Invalid("user.missing", "Say which user is meant")
    found = await address(control, rules, params.host)
    number, going = user_hash(params.user, rules.user_hash), control.steering.going(rules.name)
    return rules, found, Move(params.user, number, now, now + rules.user_expire, held, going)


async def _move_foreseen(control: Control, call: Call, params: MoveUser) -> list[str]:
    rules, found, wanted = await _move(control, params, 0)
    host = (await control.steering.board(rules.name)).host(found)
    there = await control.directors.find(rules.name, host.tag, [wanted.hash], wanted.now)
    return _went(there[0].host if there else "", wanted.decide(host, there[0] if there else None).host)


def _went(before: str, after: str) -> list[str]:
    return [f"{before or 'none'} -> {after}"] if before != after else []


@operation("director.move", target="user", preview=_move_foreseen)
async def move(control: Control, call: Call, params: MoveUser) -> Steered:
    """Move a user to a host; returns when no new request of the user can reach the old one.

    What still flows to the old host may end, for a while; new requests wait for that. Refuses NotFound `host.unknown`,
    Conflict `user.moving`.
    """
    rules, found, wanted = await _move(control, params, 0)
    steering, name, grace = control.steering, rules.name, control.rules.kick_grace
    wanted = msgspec.structs.replace(wanted, held=steering.hold(name, grace))
    drains: list[Drain] = []
    try:
        changed = await control.directors.move(
            name, lambda kept: steering.read(name)(kept).host(found), wanted, call.done(wanted.now)
        )
        before, after = changed.value
        if after.held == wanted.held:
            drains = draining(name, [(after.tag, after.hash)], grace)
        if before is None or before.host != after.host:
            receipt = await steering.tell(changed.seq, Unsteer(name, [(after.tag, after.hash)]))
            call.trail.receipt = receipt
            drains = [] if receipt.still else drains
        else:
            steering.told.append(changed.seq)
    finally:
        steering.end_soon(name, wanted.held, drains)
    return Steered(_went("" if before is None else before.host, after.host))


async def _kick_foreseen(control: Control, call: Call, params: KickUser) -> list[str]:
    director(control, params.upstream)
    _named(params.user)
    present = {each.user for each in await everybody(control)}
    if params.detail:  # only workers know whose token has it
        return [f"{params.detail}={params.user} kicked"] if present else []
    return [f"{params.user} kicked"] if params.user in present else []


def _named(user: str) -> None:
    if not user:
        raise Invalid("user.missing", "Say which user is meant")


@operation("director.kick", target="user", preview=_kick_foreseen)
async def kick(control: Control, call: Call, params: KickUser) -> Steered:
    """End a user's connections to this upstream; returns when they have ended."""
    rules, grace = director(control, params.upstream), control.rules.kick_grace
    _named(params.user)
    users, detail = ([], (params.detail, params.user)) if params.detail else ([params.user], None)
    order = Kick(users, grace=grace, upstream=rules.name, detail=detail)
    results = await control.workers.order(order, grace / SECOND + PATIENCE)
    ended = {name for _, raw in results for name in msgspec.msgpack.decode(raw, type=list[str])}
    return Steered([f"{name} kicked" for name in sorted(ended)])


async def _flushed(control: Control, params: FlushHost) -> tuple[DirectorRules, list[Host]]:
    """The hosts that are meant. Refuses what `address` refuses, and NotFound `host.unknown`."""
    rules = director(control, params.upstream)
    found = "" if params.host.strip() == "all" else await address(control, rules, params.host)
    board = await control.steering.board(rules.name)
    return rules, [board.host(found)] if found else list(board.hosts.values())


async def _flush_foreseen(control: Control, call: Call, params: FlushHost) -> list[str]:
    rules, hosts = await _flushed(control, params)
    changes: list[str] = []
    token = rehearsing.set(True)
    try:
        for host in hosts:
            changes += await _would_flush(control, rules, host, params.force)
    finally:
        rehearsing.reset(token)
    return changes


async def _would_flush(control: Control, rules: DirectorRules, host: Host, force: bool) -> list[str]:
    """Within a rehearsal."""
    name, read, now = rules.name, control.steering.read(rules.name), control.clock()
    if force:
        count = (await control.directors.forget(name, [host.host], 0, now)).value
        return [f"{host.host}: {count} users forgotten"] if count else []
    flush = Flush(control, rules, host, 0)
    left = await control.directors.flush(name, host.host, read, 0, now)
    if left is not None:
        flush.moved, flush.forgotten = (0, left.users) if left.mark.forgets else (left.users, 0)
    return flush.changes


@operation("director.flush", target="host", preview=_flush_foreseen)
async def flush(control: Control, call: Call, params: FlushHost) -> Steered:
    """Move each user of a host whose place on the ring is another now; returns when every move has been made.

    Where no host is up they are forgotten, and their connections end. Refuses NotFound `host.unknown`.
    """
    rules, hosts = await _flushed(control, params)
    if params.force:
        counts = []
        for host in hosts:
            count, receipt = await forget(control, rules, [host.host])
            call.trail.receipt = receipt or call.trail.receipt
            counts += [f"{host.host}: {count} users forgotten"] if count else []
        return Steered(counts)
    changes: list[str] = []
    for host in hosts:
        one = Flush(control, rules, host, control.rules.kick_grace)
        await one.run(params.max_parallel if params.max_parallel > 0 else PARALLEL)
        call.trail.receipt = one.receipt or call.trail.receipt
        changes += one.changes
    return Steered(changes)
