"""Orders of control: listing sessions, ending them, and letting what flows to a backend end.

What must end is looked at again and again, a few times in a tenth of a second, so that exchanges need not know that
somebody waits for them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING

from ostiary.core.marks import Mark
from ostiary.gateway.client import Client
from ostiary.gateway.director import Director, Key
from ostiary.gateway.sessions import row
from ostiary.gateway.turns import few_at_a_time, in_turns
from ostiary.link.messages import Drain, Kick, SessionRow, Stray

if TYPE_CHECKING:
    from ostiary.gateway.worker import Worker

LOOK = 0.02
"""Seconds between two looks at what must end."""
SESSION_ENDED = b'{"error":"session ended"}'
AT_ONCE = 1_000_000_000
"""Nanoseconds that a connection gets to end when it was told to end at once."""


async def who(clients: Iterable[Client]) -> list[SessionRow]:
    """Every session."""
    wall = time_ns() - monotonic_ns()
    rows: list[SessionRow] = []
    async for some in few_at_a_time(list(clients)):
        rows += [
            row(tally, client.tunnels(tally.user), wall) for client in some for tally in client.tallies() if tally.user
        ]
    return rows


async def kick(worker: "Worker", order: Kick) -> list[str]:
    """End sessions; returns when they have ended. The names of those whose sessions were ended."""
    upstream = worker.upstreams.get(order.upstream)
    director = upstream.director if upstream is not None else None
    if director is not None and not director.by_token and order.detail is None:
        return await kick_named(worker, director, order)
    ended: set[str] = set()
    open_: list[Callable[..., bool]] = []
    async for client, users in _wanted(worker, order):
        ended |= users
        if order.force:
            ended |= {tally.user for tally in client.tallies() if tally.user}
            client.end_now(SESSION_ENDED, "session ended")
            open_.append(_connected(worker, client))
        else:
            open_.append(_finish(worker, client, users))
    await _all_over(open_, AT_ONCE if order.force else order.grace * 1000)
    return sorted(ended)


async def _wanted(worker: "Worker", order: Kick) -> AsyncIterator[tuple[Client, set[str]]]:
    """The connections that are meant, each with those of its users who are."""
    names = frozenset(order.users)
    async for client in in_turns(list(worker.clients)):
        if client not in worker.clients or (order.upstream and not client.flows_to(order.upstream)):
            continue
        if order.detail is None:
            users = {tally.user for tally in client.tallies() if tally.user in names}
        else:
            users = {tally.user for tally in client.tallies() if tally.user and tally.has(*order.detail)}
        if users:
            yield client, users


async def kick_named(worker: "Worker", director: Director, order: Kick) -> list[str]:
    """End what flows for users whom no token names; returns when it has ended. The names of those who were there."""
    found = [(name, client) for name in order.users for client in director.connections(name)]
    open_ = [_end_gently(worker, client, client.shared(), client.busy()) for _, client in found]
    await _all_over(open_, order.grace * 1000)
    return sorted({name for name, _ in found})


def _finish(worker: "Worker", client: Client, users: set[str]) -> Callable[..., bool]:
    """Let the users' exchange end, and the connection with it unless others share it; how to see that it is over."""
    others = any(tally.user and tally.user not in users for tally in client.tallies())
    for user in users:
        client.sign_off(user)
    return _end_gently(worker, client, others, client.serves(users))


def _end_gently(worker: "Worker", client: Client, others: bool, theirs: bool) -> Callable[..., bool]:
    """Let a connection end; where `others` share it only what is under way, if that is `theirs`."""
    if not others:
        client.end_gently()
        return _connected(worker, client)
    return _in_flight(worker, client) if theirs else lambda: False


def _connected(worker: "Worker", client: Client) -> Callable[..., bool]:
    def open_(cut: bool = False) -> bool:
        there = client in worker.clients and not client.said_all()
        if there and cut:
            client.end_now(None, "session ended")
        return there

    return open_


def _in_flight(worker: "Worker", client: Client, flows: Callable[[Client], bool] = Client.busy) -> Callable[..., bool]:
    """Whether the exchange that the connection is in now still goes on (to where it went, as `flows` sees it)."""
    started = client.exchange.started

    def goes_on(cut: bool = False) -> bool:
        there = client in worker.clients and client.exchange.started == started and flows(client)
        if there and cut:
            client.end_now(None, "drained too slowly")
        return there

    return goes_on


async def drain(worker: "Worker", order: Drain) -> list[str]:
    """Let what flows to backends end. The names of those whose exchanges there were."""
    upstream = worker.upstreams.get(order.upstream)
    hosts = frozenset(order.hosts)
    keys = frozenset((key[0], key[1]) for key in order.hashes)
    if order.mark is not None:
        keys |= await _taken(worker, order.upstream, order.mark)
    candidates = list(worker.clients) if hosts else []
    if upstream is not None and upstream.director is not None:
        candidates += upstream.director.leaving(keys)
    there = [client for client in dict.fromkeys(candidates) if client in worker.clients]
    meant = [client for client in there if client.flows(order.upstream, hosts, keys, order.close)]
    users = {client.tally.user for client in meant if client.tally.user}
    for client in meant:
        if order.close and not client.shared():
            client.end_gently()
        elif client.tunnelling():
            client.end_now(None, "moved")
    open_ = [
        _in_flight(worker, client, lambda each: each.flows(order.upstream, hosts, keys, False)) for client in meant
    ]
    await _all_over(open_, order.grace * 1000)
    return sorted(users)


async def strays(clients: Iterable[Client]) -> list[Stray]:
    """What flows for users whom a change took away from where it flows to."""
    found: dict[Stray, None] = {}
    async for client in in_turns(list(clients)):
        exchange = client.exchange
        assigned, target = exchange.assigned, exchange.match.target
        if (
            client.busy()
            and exchange.flowing()
            and assigned is not None
            and assigned.forgotten()
            and target is not None
        ):
            found[Stray(target.upstream.definition.name, *assigned.key, assigned.stay.host)] = None
    return list(found)


async def _taken(worker: "Worker", upstream: str, mark: Mark) -> set[Key]:
    """Users whom a mark took away from a host, of those here who still are, or last were, there."""
    found: set[Key] = set()
    async for client in in_turns(list(worker.clients)):
        assigned = client.exchange.assigned
        if assigned is None or assigned.stay.host != mark.host or not assigned.forgotten():
            continue
        if client.flows_to(upstream) and mark.takes(assigned.key[1]):
            found.add(assigned.key)
    return found


async def _all_over(open_: list[Callable[..., bool]], grace: int) -> None:
    """Wait until none of these goes on; what does after `grace` nanoseconds is cut."""
    until = monotonic_ns() + grace
    while open_ := [each for each in open_ if each()]:
        if monotonic_ns() >= until:
            open_ = [each for each in open_ if each(cut=True)]
        await asyncio.sleep(LOOK)
