"""A house whose droplets run in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec.structs import replace
from tests.control.drivers import Memory
from tests.dialects.house import House

from ostiary.core.droplets import DropletRules, Health, Limits, Restarts, Template
from ostiary.core.snapshot import SECOND

HEALTH = Health(80, "/", every=SECOND // 100, timeout=30 * SECOND)
WEB = Template("web", ("web",), ports=(22, 80, 443), health=HEALTH, limits=Limits(1 << 20, 0.5))
HELLO = Template("hello", ("deaf",))
CRASH = Template("crash", ("exit", "3"), restart=Restarts("never"))
STARVE = Template("starve", ("starve",), restart=Restarts("never"))
NEVER = Template("never", ("deaf",), ports=(80,), health=Health(80), start_timeout=SECOND // 10)
NOPE = Template("nope", ("nope",))
TEMPLATES = {each.name: each for each in (WEB, HELLO, CRASH, STARVE, NEVER, NOPE)}


class Fleet:
    """The droplets of a house."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.engine = Memory(house.clock)

    def rule(self, **more: object) -> None:
        """Change what the settings say."""
        rules = self.house.control.rules
        self.house.control.rules = replace(rules, droplets=replace(rules.droplets, **more))


@asynccontextmanager
async def fleet(house: House) -> AsyncIterator[Fleet]:
    """The house with an engine, and templates."""
    found = Fleet(house)
    house.control.rules = replace(house.control.rules, droplets=DropletRules(templates=TEMPLATES, default="web"))
    reconciler = house.control.reconciler
    await reconciler.open(found.engine)
    running = asyncio.create_task(reconciler.run())
    try:
        yield found
    finally:
        await house.control.jobs.close()
        await reconciler.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await found.engine.rest()
