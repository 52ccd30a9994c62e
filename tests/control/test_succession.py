"""Control is killed and another comes: real workers, a real link and a real store, in one process.

What is committed and not told, what is told and not drained: a user is at one host at a time all the same. Users of
whom nothing was said are not asked about, and nobody is told where they go.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from tempfile import TemporaryDirectory

import pytest
from tests.control.directing import SAMIK, A, B
from tests.control.house import House
from tests.gateway.door import Line, install
from tests.gateway.test_sessions import Gate, get
from tests.gateway.wire import Message, Recorder, Wire, connected, ok, until
from tests.link.fakes import Authority, listener, serving
from tests.listening import listening

from ostiary.control.director import MoveUser
from ostiary.control.steering import Steering
from ostiary.core.director import DirectorRules, Host, Move, Unsteer
from ostiary.core.oauth import Rules
from ostiary.core.refusal import Conflict
from ostiary.core.snapshot import Director, Gateway, Upstream
from ostiary.gateway.worker import Worker
from ostiary.link.client import Client
from ostiary.link.messages import Change, Place, Question, Who
from ostiary.link.server import Server
from ostiary.link.steered import Past
from ostiary.store.ports import Record

LIMIT = 60.0
USERS = Upstream("mail", (), "director", director=Director(user_from="header X-User"))
RECORD = Record(1, "user", "admin", "password", "192.0.2.1", "test", "director.move", "samik", "done", "r-1")


class Asked(Steering):
    """Remembers whom it was asked about."""

    def __init__(self, house: House) -> None:
        control = house.control
        super().__init__(house.store.directors, lambda: control.rules, lambda: control.workers, house.clock)
        self.names: list[str] = []

    async def steer(self, questions: Sequence[Question], told: Callable[[list[Place]], None]) -> None:
        self.names += [each.name for each in questions]
        await super().steer(questions, told)


@asynccontextmanager
async def worker(number: int, path: str) -> AsyncIterator[int]:
    """A worker that looks for control at `path`; the port of its gateway."""
    client = Client(number, os.getpid())
    door = Worker(number, client)
    install(door, 1, [Line("GET /m", "/m", "mail")], [USERS], Gateway(access_log=""))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        tasks = [asyncio.create_task(each) for each in (client.run(path, door), door.serve([sock]))]
        yield sock.getsockname()[1]
        for each in list(door.clients):
            each.transport.abort()
        await door.drain()
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)
        for upstream in door.upstreams.values():
            upstream.retire()


class Scene:
    """Two workers, two hosts, and one control after another. What comes to B waits for the gate, once it is closed."""

    def __init__(self, house: House, path: str) -> None:
        self.house, self.path = house, path
        self.listener = listener(path)
        self.gate = Gate()
        self.gate.opened.set()
        self.one = Recorder(lambda message: ok(b"A"))
        self.two = Recorder(self._late)
        self.ports: list[int] = []
        self.hosts: dict[str, int] = {}

    async def _late(self, message: Message) -> bytes:
        await self.gate.opened.wait()
        return ok(b"B")

    @asynccontextmanager
    async def control(self, *, successor: bool = True) -> AsyncIterator[Asked]:
        """A control process, which is killed at the end of the block."""
        control = self.house.control
        past = Past(*await self.house.store.directors.late())
        steering = control.steering = Asked(self.house)
        control.rules = Rules(directors={"mail": DirectorRules("mail", self.hosts)})
        server = control.workers = Server(Authority(), 2, steering=steering, past=past)
        if successor:
            steering.resume()
        async with serving(server, self.listener.dup()):
            await server.order(Who(), LIMIT)  # both are there, and have a lease
            yield steering
        await steering.close()

    def seen(self, name: str) -> list[str]:
        """To which hosts a user's requests have come so far."""
        there = {A: self.one, B: self.two}
        return [host for host, at in there.items() for each in at.requests if each.one(b"x-user") == name.encode()]

    async def body(self, wire: Wire, name: str) -> bytes:
        return (await wire.ask(asks(name))).body

    async def commit(self) -> int:
        """A move of samik to A that nobody is told of; its number in the change log."""
        move = Move("samik", SAMIK, self.house.now, self.house.now + 1, self.house.now + 2)
        done = await self.house.store.directors.move("mail", lambda kept: Host(A, self.hosts[A]), move, RECORD)
        return done.seq


def asks(name: str) -> bytes:
    return get("", "/m", f"X-User: {name}\r\n")


@pytest.fixture
async def scene(house: House) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(TemporaryDirectory(prefix="ost-"))
        found = Scene(house, f"{directory}/link.sock")
        for host, recorder in ((A, found.one), (B, found.two)):
            found.hosts[host] = (await stack.enter_async_context(listening(recorder.serve, host))).port
        for number in (1, 2):
            found.ports.append(await stack.enter_async_context(worker(number, found.path)))
        try:
            yield found
        finally:
            found.gate.opened.set()
        found.listener.close()


async def test_who_was_not_moved_is_not_asked_about_again(scene: Scene) -> None:
    names = [f"user{number}" for number in range(20)]
    async with connected(scene.ports[0]) as wire:
        async with scene.control(successor=False) as first:
            before = [await scene.body(wire, name) for name in [*names, "samik"]]
            assert first.names == [*names, "samik"]
        await scene.commit()
        async with scene.control() as second:
            await second.quiet("mail")
            after = [await scene.body(wire, name) for name in [*names, "samik"]]
            assert second.names == ["samik"]
    assert (after[:-1], after[-1], before[-1]) == (before[:-1], b"A", b"B")


@pytest.mark.parametrize("told", [False, True])
async def test_a_kill_between_a_move_and_its_end_leaves_nobody_at_two_hosts(scene: Scene, told: bool) -> None:
    """Killed when the move is committed; or when workers have heard of it, and were not told to drain."""
    async with connected(scene.ports[0]) as one, connected(scene.ports[1]) as other:
        async with scene.control(successor=False):
            assert [await scene.body(one, "samik"), await scene.body(other, "samik")] == [b"B", b"B"]
            scene.gate.opened.clear()
            await one.say(asks("samik"))
            await until(lambda: len(scene.two.requests) == 3)
            seq = await scene.commit()
            if told:
                change = Change(seq, steering=[Unsteer("mail", [("", SAMIK)])])
                telling = asyncio.create_task(scene.house.control.workers.apply(change))
                await asyncio.sleep(0)
        if told:
            telling.cancel()
        async with scene.control() as second:
            await other.say(asks("samik"))
            await until(lambda: second.names == ["samik"])
            with pytest.raises(Conflict) as refusal:
                await scene.house.run("director.move", MoveUser("samik", B))
            assert refusal.value.code == "user.moving"
            assert scene.seen("samik") == [B] * 3
            scene.gate.opened.set()
            assert (await one.answer()).body == b"B"
            assert (await other.answer()).body == b"A"
            assert await scene.body(one, "samik") == b"A"
    assert scene.seen("samik") == [A] * 2 + [B] * 3
