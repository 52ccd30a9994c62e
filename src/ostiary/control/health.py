"""Health: hosts of a director that do not answer go down by themselves, and their users elsewhere.

Off unless the upstream has `health`. A look is a connection that is made and closed. What an operator took down is not
looked at; what went down here comes up again when it answers.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.director import edit
from ostiary.control.flushing import Flush
from ostiary.core.director import DOWN, UP, DirectorRules, Host, turn
from ostiary.core.director import Health as Pace
from ostiary.core.permission import Principal
from ostiary.core.refusal import Refusal
from ostiary.core.snapshot import SECOND

Connect = Callable[[Host, float], Awaitable[bool]]
"""Whether a host takes a connection within so many seconds."""
IDLE = 1.0
"""Seconds between two looks at whether there is anything to look after."""
AT_ONCE = 1_000_000
"""Users who are moved at a time: what they have at a dead host ends anyway."""
WHO = Principal("node", "health")

log = logging.getLogger("ostiary.control")


async def connect(host: Host, timeout: float) -> bool:
    """Make a connection, and close it."""
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host.address, host.port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


class Health:
    """Looks after all directors. `ticks` never goes back (microseconds); `pause` waits for seconds."""

    def __init__(
        self,
        control: Control,
        ticks: Callable[[], int],
        pause: Callable[[float], Awaitable[None]],
        connect: Connect = connect,
    ) -> None:
        self._control = control
        self._ticks = ticks
        self._pause = pause
        self._connect = connect
        self._due: dict[str, int] = {}
        self._streaks: dict[tuple[str, str], int] = {}
        """How often in a row a host answered (or, below 0, did not)."""

    async def run(self) -> None:
        """Look for ever; ends by being cancelled."""
        while True:
            await self.step()
            soonest = min(self._due.values(), default=self._ticks() + int(IDLE * SECOND))
            await self._pause(min(IDLE, max(0, soonest - self._ticks()) / SECOND))

    async def step(self) -> None:
        """Look at the hosts whose turn it is."""
        now, directors = self._ticks(), self._control.rules.directors
        paces = {name: rules.health for name, rules in directors.items() if rules.health is not None}
        self._due = {name: self._due.get(name, now) for name in paces}
        due = [name for name, moment in self._due.items() if moment <= now]
        for name in due:
            self._due[name] = now + paces[name].every
        await asyncio.gather(*(self._tend(directors[name], paces[name]) for name in due))

    async def _tend(self, rules: DirectorRules, pace: Pace) -> None:
        try:
            board = await self._control.steering.board(rules.name)
            hosts = [each for each in board.hosts.values() if each.state == UP or each.ailing]
            seconds = pace.timeout / SECOND
            answers = await asyncio.gather(*(self._connect(each, seconds) for each in hosts))
            for host, answered in zip(hosts, answers, strict=True):
                await self._judge(rules, pace, host, answered)
        except Refusal as refusal:
            log.warning("Hosts of %s are not looked after for now: %s", rules.name, refusal.message)

    async def _judge(self, rules: DirectorRules, pace: Pace, host: Host, answered: bool) -> None:
        key: tuple[str, str] = (rules.name, host.host)
        streak = self._streaks.get(key, 0)
        streak = max(streak, 0) + 1 if answered else min(streak, 0) - 1
        self._streaks[key] = streak
        if -streak >= pace.fall and host.state == UP:
            await self._take_down(rules, host)
        elif streak >= pace.rise and host.ailing and await self._turn(rules, host, UP):
            log.warning("Host %s of %s answers again: it is up", host.host, rules.name)

    async def _take_down(self, rules: DirectorRules, host: Host) -> None:
        if await self._turn(rules, host, DOWN):
            log.warning("Host %s of %s does not answer: it is down, its users go elsewhere", host.host, rules.name)
            await Flush(self._control, rules, host, 0).run(AT_ONCE)

    async def _turn(self, rules: DirectorRules, host: Host, state: str) -> bool:
        """Whether it was not so already."""
        now = self._control.clock()
        call = Call(WHO, "health", operation=f"director.{state}", target=host.host)
        made = await edit(
            self._control, call, rules, lambda board: turn(board, host.host, None, state, now, ailing=state == DOWN)
        )
        return bool(made.changes)
