"""Members: which droplets are backends of which upstream, told to the workers, and to directors whose hosts they are.

A droplet joins when it serves. It leaves, in force everywhere, before it is ended on purpose; then what is in flight
has its time.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from ostiary.core.droplets import DropletRules, Source
from ostiary.core.snapshot import SECOND
from ostiary.link.messages import Change, Drain, Order
from ostiary.link.orders import Result
from ostiary.link.receipt import Receipt

PATIENCE = 10.0
"""Seconds that workers may take longer than what is in flight."""


class Workers(Protocol):
    """The part of the workers that is used here."""

    async def apply(self, change: Change) -> Receipt: ...

    async def order(self, order: Order, patience: float = PATIENCE) -> list[Result]: ...


class Directors(Protocol):
    """The part of steering that is used here; other upstreams than directors' mean nothing to it."""

    def enlist(self, serving: Mapping[str, Collection[str]], graces: Mapping[str, int]) -> None: ...

    async def dismiss(self) -> None: ...


class Member(Protocol):
    """A droplet, as far as upstreams care."""

    @property
    def template(self) -> str: ...

    @property
    def app(self) -> str: ...

    @property
    def type(self) -> str: ...

    @property
    def ports(self) -> Mapping[int, int]: ...

    @property
    def serves(self) -> bool: ...

    @property
    def grace(self) -> int: ...


def backend(source: Source, member: Member) -> str:
    """Where the requests of an upstream go at a droplet; "" when it is none of its own."""
    if source.template:
        belongs = member.template == source.template and not member.app
    else:
        belongs = (member.app, member.type) == (source.app, source.type)
    port = member.ports.get(source.port or next(iter(member.ports), 0))
    return at(port) if belongs and port else ""


def at(port: int) -> str:
    """Where a port of a droplet is reached; as a director's host it is called so, as long as there is the droplet."""
    return f"127.0.0.1:{port}"


class Members:
    """`everyone` is asked anew each time; so are the rules."""

    def __init__(
        self,
        workers: Workers,
        directors: Directors,
        rules: Callable[[], DropletRules],
        everyone: Callable[[], Iterable[Member]],
    ) -> None:
        self._workers = workers
        self._directors = directors
        self._rules = rules
        self._everyone = everyone
        self._told: dict[str, list[str]] = {}
        self._telling = asyncio.Lock()

    def open(self) -> None:
        """What a predecessor left is known: users may still be at droplets that serve no more, which then leave."""
        self._enlist(self._backends(self._everyone()))
        self.enlist()

    def enlist(self) -> None:
        """Have directors know who serves; who does not any more is no host after `tell`."""
        self._enlist(self._now())

    def _enlist(self, serving: Mapping[str, Collection[str]]) -> None:
        graces = {at(port): each.grace for each in self._everyone() for port in each.ports.values()}
        self._directors.enlist(serving, graces)

    async def tell(self) -> None:
        """Have every worker know what holds now; returns when that is in force."""
        async with self._telling:
            self.enlist()
            now = self._now()
            self._told = {upstream: told for upstream, told in self._told.items() if upstream in now}
            news = {upstream: backends for upstream, backends in now.items() if self._told.get(upstream) != backends}
            if news:
                await self._workers.apply(Change(0, members=news, streams=False))
                self._told |= news
            await self._directors.dismiss()

    async def drain(self, member: Member, grace: int) -> None:
        """Let what flows to a droplet that has left end, at most `grace` microseconds long."""
        where = {upstream: backend(source, member) for upstream, source in self._rules().upstreams.items()}
        orders = [Drain(upstream, hosts=[host], grace=grace) for upstream, host in where.items() if host]
        await asyncio.gather(*(self._workers.order(order, grace / SECOND + PATIENCE) for order in orders))

    def _now(self) -> dict[str, list[str]]:
        return self._backends(each for each in self._everyone() if each.serves)

    def _backends(self, members: Iterable[Member]) -> dict[str, list[str]]:
        these = list(members)
        return {
            upstream: sorted(filter(None, (backend(source, each) for each in these)))
            for upstream, source in self._rules().upstreams.items()
        }
