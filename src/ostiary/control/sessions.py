"""Sessions: which users are on open connections of the gateway, and how they are ended.

Workers hold them; control asks all of them. Who is to be ended is found out first, by the masks, so that workers are
told names and no mask has to mean the same in two places.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import pairwise
from operator import attrgetter
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.mask import MOST_ADDRESS, MOST_MASK, Network, address_order, asked_network, parse_address, user_mask
from ostiary.core.refusal import Invalid, NotFound
from ostiary.core.snapshot import SECOND
from ostiary.link.messages import Kick, SessionRow, Who

MOST = 1_000_000
"""Rows of one listing."""
PATIENCE = 10.0
"""Seconds that a worker may take beyond the time that exchanges in flight are given."""

UserMask = Annotated[str, Meta(max_length=MOST_MASK, description="of users: * and ? stand for any text, any character")]
NetworkMask = Annotated[
    str, Meta(max_length=MOST_ADDRESS, description="one address of the user lies in it: 10.0.0.0/8")
]


class Session(Struct, frozen=True, gc=False):
    """A user on an open connection. Times are Unix microseconds."""

    id: str
    user: str
    service: str
    """`http`, or `ws` while a tunnel is open."""
    pid: int
    """Of the worker that holds the connection."""
    address: str
    since: int
    last: int
    """When its last exchange ended, or `since`."""


class ListSessions(Struct, frozen=True):
    """Which sessions; what is empty does not choose."""

    user: UserMask = ""
    network: NetworkMask = ""
    limit: Annotated[int, Meta(ge=1, le=MOST, description="at most so many")] = 10_000
    offset: Annotated[int, Meta(ge=0, description="without the first so many")] = 0


class KickSessions(Struct, frozen=True):
    """Whose sessions; one of the two masks is needed, and both must match."""

    user: UserMask = ""
    network: NetworkMask = ""
    force: Annotated[bool, Meta(description="at once, and whole connections although others share them")] = False


class Kicked(Struct, frozen=True):
    """All whose sessions were ended, others on the same connections among them; sorted."""

    users: list[str]


@operation("sessions.list", reads=True)
async def list_(control: Control, call: Call, params: ListSessions) -> list[Session]:
    """List the sessions of users: by name, service, worker and address."""
    network = asked_network(params.network)
    sessions = await everybody(control)
    if params.user or network is not None:
        users = chosen(sessions, params.user, network)
        sessions = [each for each in sessions if each.user in users]
    return in_order(sessions)[params.offset : params.offset + params.limit]


async def foresee(control: Control, call: Call, params: KickSessions) -> list[str]:
    """Whose sessions would be ended, but for others who share their connections."""
    return [f"would end {user}" for user in await _meant(control, params)]


@operation("sessions.kick", permission="sessions:kick", target="user", preview=foresee)
async def kick(control: Control, call: Call, params: KickSessions) -> Kicked:
    """End sessions; returns when they have ended everywhere. It does not keep anybody from coming again."""
    call.trail.about = params.network
    users = await _meant(control, params)
    grace = 0 if params.force else control.rules.kick_grace
    results = await control.workers.order(Kick(users, params.force, grace), grace / SECOND + PATIENCE)
    ended = {name for _, raw in results for name in msgspec.msgpack.decode(raw, type=list[str])}
    if not ended:
        raise _nobody()
    return Kicked(sorted(ended))


async def _meant(control: Control, params: KickSessions) -> list[str]:
    """Who is to be ended. Refuses Invalid `mask.missing`, NotFound `session.none`."""
    network = asked_network(params.network)
    if not params.user and (network is None or not network.prefixlen):
        raise Invalid("mask.missing", "Say whose sessions: a mask of users, or a network smaller than everything")
    users = sorted(chosen(await everybody(control), params.user, network))
    if not users:
        raise _nobody()
    return users


async def everybody(control: Control) -> list[Session]:
    """All sessions of all workers. Refuses Unavailable `workers.silent`."""
    sessions: list[Session] = []
    for pid, raw in await control.workers.order(Who()):
        rows = _rows(raw)
        await asyncio.sleep(0)  # each step takes milliseconds where there are ten thousand: others go in between
        sessions += [Session(row.id, row.user, row.service, pid, row.address, row.since, row.last) for row in rows]
        await asyncio.sleep(0)
    return sessions


_rows = msgspec.msgpack.Decoder(list[SessionRow]).decode


def chosen(sessions: Iterable[Session], user: str, network: Network | None) -> set[str]:
    """Those users whose name matches and who have a session from the network; without a mask, all."""
    named = user_mask(user) if user else None
    return {
        each.user
        for each in sessions
        if (named is None or named.fullmatch(each.user)) and (network is None or _within(each.address, network))
    }


def in_order(sessions: Iterable[Session]) -> list[Session]:
    """By user, service, process and address. Users mostly have one session: nothing but names is compared then."""
    found = sorted(sessions, key=attrgetter("user"))
    names = [each.user for each in found]
    for name in {one for one, other in pairwise(names) if one == other}:
        same = slice(bisect_left(names, name), bisect_right(names, name))
        found[same] = sorted(found[same], key=_within_user)
    return found


def _within(address: str, network: Network) -> bool:
    parsed = parse_address(address)
    return parsed is not None and parsed in network


def _within_user(session: Session) -> tuple[str, int, tuple[int, int, str], str]:
    return session.service, session.pid, address_order(session.address), session.id


def _nobody() -> NotFound:
    return NotFound("session.none", "No session matches")
