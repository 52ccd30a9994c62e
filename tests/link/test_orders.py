"""Orders to all workers, what a worker that comes late is told, and where users go."""

import asyncio
import os
from collections.abc import Callable, Sequence

import msgspec
import pytest
from tests.link.fakes import Authority, Door, Link, listener, serving
from tests.link.test_server import Mute
from tests.undisturbed import undisturbed

from ostiary.core.director import Unsteer
from ostiary.core.refusal import Unavailable
from ostiary.link.client import Client
from ostiary.link.frames import frame
from ostiary.link.messages import Change, Hello, Kick, Place, Question, Who
from ostiary.link.server import Server
from ostiary.link.steered import MOST, Overtaking

ALICE = Question("u", "", "alice")
LONG = 60_000_000_000


class Obeying(Door):
    """Carries every order out at once."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.obeys = client


class Director:
    """Says where users go: while `gate` is closed, later."""

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.used: list[tuple[str, str, int]] = []
        self.away = False
        self.rounds = 0

    async def steer(self, questions: Sequence[Question], told: Callable[[list[Place]], None]) -> None:
        if self.away:
            raise Unavailable("store.unavailable", "The store cannot be reached")
        host = self.host
        self.rounds += 1
        self.asked.set()
        await self.gate.wait()
        told([Place(question, host, f"{host}:80", 7, 900) for question in questions])

    async def touch(self, used: Sequence[tuple[str, str, int]]) -> None:
        self.asked.set()
        if self.away:
            raise Unavailable("store.unavailable", "The store cannot be reached")
        self.used += used


def at(host: str) -> list[Place]:
    return [Place(ALICE, host, f"{host}:80", 7, 900)]


async def test_an_order_returns_when_every_worker_has_carried_it_out(link: Link) -> None:
    first, second = Client(1, os.getpid()), Client(2, os.getpid())
    async with link.worker(1, Obeying(first), first), link.worker(2, Obeying(second), second):
        results = await link.server.order(Who())
        assert [(pid, msgspec.msgpack.decode(raw)) for pid, raw in results] == [(os.getpid(), ["alice"])] * 2


async def test_an_order_waits_for_a_worker_that_is_still_to_come(link: Link) -> None:
    first, second = Client(1, os.getpid()), Client(2, os.getpid())
    async with link.worker(1, Obeying(first), first) as _:
        ordered = asyncio.create_task(link.server.order(Kick(["alice"])))
        await asyncio.sleep(0)
        assert not ordered.done()
        door = Obeying(second)
        async with link.worker(2, door, second):
            assert len(await ordered) == 2
            assert ("do", Kick(["alice"])) in door.told


@undisturbed
async def test_a_silent_worker_makes_an_order_unavailable(link: Link) -> None:
    first = Client(1, os.getpid())
    obeying, silent = Obeying(first), Door()
    async with link.worker(1, obeying, first), link.worker(2, silent):
        await obeying.leased(1)
        await silent.leased(1)
        with pytest.raises(Unavailable) as refused:
            await link.server.order(Who(), patience=0.1)
        assert (refused.value.code, refused.value.message) == (
            "workers.silent", "Of worker 2 no answer came in time",
        )  # fmt: skip


async def test_a_worker_that_ends_has_done_what_it_was_told_to_end(place: str) -> None:
    server = Server(Authority(), 1, lease=LONG)
    async with serving(server, listener(place)):
        mute = await Mute.start(place, frame(Hello(1, 0, 0)))
        ordered = asyncio.create_task(server.order(Kick(["alice"])))
        mute.kill()
        assert await ordered == []
        await mute.wait()


async def test_a_worker_that_comes_late_is_told_members_and_stopped_services(link: Link) -> None:
    first = Client(1, os.getpid())
    async with link.worker(1, Obeying(first), first):
        applied = asyncio.create_task(link.server.apply(Change(1, members={"u": ["127.0.0.1:1"]}, stopped=["ws"])))
        late = Changes()
        async with link.worker(2, late):
            await applied
            await late.until("members", {"u": ["127.0.0.1:1"]}, ["ws"])


class Changes(Door):
    """Writes down what changes say of members and services."""

    def change(self, change: Change) -> dict[str, int]:
        self._write("members", change.members, change.stopped)
        return {}


async def test_a_worker_learns_where_a_user_goes_and_says_who_is_in_use(place: str) -> None:
    director = Director()
    server = Server(Authority(), 1, steering=director)
    async with serving(server, listener(place)):
        door, link = Door(), Link(Authority(), server, place)
        async with link.worker(1, door) as client:
            await door.leased(1)
            client.steer([ALICE])
            await door.until("steered", at("127.0.0.1"))
            director.asked.clear()
            client.touch([("u", "", 7)])
            await asyncio.wait_for(director.asked.wait(), 30)
            assert director.used == [("u", "", 7)]


async def test_where_a_user_went_before_a_change_is_not_said_after_it(place: str) -> None:
    director = Director()
    server = Server(Authority(), 1, steering=director)
    async with serving(server, listener(place)):
        door, link = Door(), Link(Authority(), server, place)
        async with link.worker(1, door) as client:
            await door.leased(1)
            director.gate.clear()
            client.steer([ALICE])
            await asyncio.wait_for(director.asked.wait(), 30)
            director.host = "127.0.0.2"
            await server.apply(Change(1, steering=[Unsteer("u")]))
            director.gate.set()
            await door.until("steered", at("127.0.0.2"))
            assert ("steered", at("127.0.0.1")) not in door.told
            assert director.rounds == 2


@pytest.mark.parametrize(
    ("change", "rounds"),
    [
        (Unsteer("u", hashes=[("", 8), ("eu", 7)]), 1),
        (Unsteer("u", hosts=["127.0.0.9"]), 1),
        (Unsteer("v"), 1),
        (Unsteer("u", hashes=[("", 7)]), 2),
        (Unsteer("u", hosts=["127.0.0.1"]), 2),
    ],
)
async def test_who_is_not_meant_by_a_change_is_not_asked_about_anew(place: str, change: Unsteer, rounds: int) -> None:
    director = Director()
    server = Server(Authority(), 1, steering=director)
    async with serving(server, listener(place)):
        door, link = Door(), Link(Authority(), server, place)
        async with link.worker(1, door) as client:
            await door.leased(1)
            director.gate.clear()
            client.steer([ALICE])
            await asyncio.wait_for(director.asked.wait(), 30)
            await server.apply(Change(1, steering=[change]))
            director.gate.set()
            await door.until("steered", at("127.0.0.1"))
            assert director.rounds == rounds


def test_answers_for_nobody_and_of_no_host_are_overtaken_by_every_change_of_their_upstream() -> None:
    nobody = Place(Question("u", "", "127.0.0.1", False), "127.0.0.1", "127.0.0.1:80", 7, 900)
    nowhere = Place(ALICE, "", "", 7, 0)
    overtaking = Overtaking()
    overtaking.note(Unsteer("v"))
    assert [overtaking.overtook(each, 0) for each in (nobody, nowhere)] == [False, False]
    overtaking.note(Unsteer("u", hosts=[""]))
    assert [overtaking.overtook(each, 1) for each in (nobody, nowhere)] == [True, True]
    assert [overtaking.overtook(each, 2) for each in (nobody, nowhere)] == [False, False]


def test_changes_of_more_users_than_are_remembered_overtake_everything() -> None:
    overtaking, alice = Overtaking(), at("127.0.0.1")[0]
    overtaking.note(Unsteer("v", hashes=[("", number) for number in range(MOST)]))
    assert overtaking.overtook(alice, 0)
    assert not overtaking.overtook(alice, overtaking.moment)


async def test_a_director_that_cannot_answer_does_not_end_the_link(place: str) -> None:
    director = Director()
    director.away = True
    server = Server(Authority(), 1, steering=director)
    async with serving(server, listener(place)):
        door, link = Door(), Link(Authority(), server, place)
        async with link.worker(1, door) as client:
            await door.leased(1)
            client.steer([ALICE])
            await server.apply(Change(1))
            director.away = False
            client.steer([ALICE])
            await door.until("steered", at("127.0.0.1"))
