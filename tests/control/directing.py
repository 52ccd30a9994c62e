"""A house with a director, and workers that take their time."""

import asyncio
from collections.abc import Collection, Mapping

import msgspec
from tests.control.house import ADMIN, House, Workers

from ostiary.control.call import Call
from ostiary.core.director import DirectorRules, Unsteer
from ostiary.core.oauth import Rules
from ostiary.link.messages import Change, Drain, Order, Place, Question, SessionRow, Who
from ostiary.link.orders import Result, Silent
from ostiary.link.receipt import Receipt

A, B, C = "127.0.0.11", "127.0.0.12", "127.0.0.13"
MINUTE = 60_000_000
MAIL = DirectorRules("mail", {A: 8011, B: 8012}, 8080, user_expire=MINUTE)
SAMIK, USER1 = 3853430566, 617210206
"""Hashes of `samik`, who goes to B, and of `user1`, who goes to A."""


class Slow(Workers):
    """Workers that drain when they are let, and remember the order of everything that they were told."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Change | Order] = []
        self.free = asyncio.Event()
        self.free.set()
        self.silent = False
        self._news = asyncio.Event()

    async def apply(self, change: Change) -> Receipt:
        self.heard.append(change)
        return await super().apply(change)

    async def order(self, order: Order, patience: float = 10.0) -> list[Result]:
        self.heard.append(order)
        self._news.set()
        if self.silent:
            raise Silent([1], (await super().order(order, patience)))
        if isinstance(order, Drain):
            await self.free.wait()
        return await super().order(order, patience)

    @property
    def drains(self) -> list[Drain]:
        return [each for each in self.heard if isinstance(each, Drain)]

    @property
    def unsteered(self) -> list[Unsteer]:
        return [each for change in self.told for each in change.steering]

    async def until(self, count: int) -> list[Drain]:
        """The drains, once there are so many."""
        async with asyncio.timeout(20):
            while len(self.drains) < count:
                self._news.clear()
                await self._news.wait()
        return self.drains

    def connected(self, *users: str) -> None:
        """These have sessions."""
        rows = [SessionRow(name, name, "http", "192.0.2.9", 1, 1) for name in users]
        self.says[Who] = {1: rows}


class Asked:
    """A question to the director, and what came of it."""

    def __init__(self, *names: str, tag: str = "", kept: bool = True, upstream: str = "mail") -> None:
        self.questions = [Question(upstream, tag, name, kept) for name in names]
        self.places: list[Place] = []
        self.answered = asyncio.Event()

    def told(self, places: list[Place]) -> None:
        self.places += places
        if len(self.places) == len(self.questions):
            self.answered.set()

    @property
    def hosts(self) -> list[str]:
        by_question = {place.question: place.host for place in self.places}
        return [by_question[each] for each in self.questions]


def directed(house: House, *directors: DirectorRules) -> Slow:
    """Give the house directors, and slow workers."""
    house.control.rules = Rules(directors={each.name: each for each in directors or (MAIL,)})
    house.control.workers = workers = Slow()
    return workers


async def steer(house: House, *names: str, tag: str = "", kept: bool = True, upstream: str = "mail") -> list[str]:
    """Where these go, who need not wait."""
    asked = Asked(*names, tag=tag, kept=kept, upstream=upstream)
    await house.control.steering.steer(asked.questions, asked.told)
    return asked.hosts


async def waiting(house: House, *names: str) -> Asked:
    """A question that has to wait."""
    asked = Asked(*names)
    await house.control.steering.steer(asked.questions, asked.told)
    assert asked.places == []
    return asked


async def dry(house: House, name: str, params: msgspec.Struct) -> list[str]:
    """What a dry run says."""
    said: list[str] = await house.run(name, params, call=Call(ADMIN, "test", dry=True))
    return said


class Nobody:
    """Directors that have no droplets."""

    def enlist(self, serving: Mapping[str, Collection[str]], graces: Mapping[str, int]) -> None:
        """Nothing follows from who serves."""

    async def dismiss(self) -> None:
        """Nobody leaves."""
