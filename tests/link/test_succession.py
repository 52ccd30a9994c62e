"""A control comes after another: what workers know of directors holds, but for what they may not have been told."""

import asyncio
import os

from tests.link.fakes import Authority, Door, Link, listener, serving
from tests.link.test_orders import Director

from ostiary.core.director import Unsteer
from ostiary.link.client import MOST_UNSAID, Client, Uses
from ostiary.link.messages import Change
from ostiary.link.server import Server
from ostiary.link.steered import Past

ALL = Unsteer("")
EIGHT, NINE, TEN = [Unsteer("u", hashes=[("", number)]) for number in (8, 9, 10)]
USE = ("u", "", 7)


async def test_a_worker_is_told_what_came_into_the_log_after_what_it_was_told(place: str) -> None:
    door, held = Door(), listener(place)
    first = Server(Authority(), 1, past=Past(0, 7, [(7, Unsteer("u", hosts=["x"]))]))
    async with Link(Authority(), first, place).worker(1, door):
        async with serving(first, held.dup()):
            await door.leased(1)
            await first.apply(Change(8, steering=[EIGHT]))  # not in what a lease says yet
        second = Server(Authority(), 1, past=Past(0, 9, [(7, Unsteer("u", hosts=["x"])), (8, EIGHT), (9, NINE)]))
        changing = asyncio.create_task(second.apply(Change(10, steering=[TEN])))
        await asyncio.sleep(0)
        async with serving(second, held):
            await asyncio.wait_for(changing, 30)
            await door.leased(2)
        assert door.unsteered == [ALL, EIGHT, TEN, EIGHT, NINE]


async def test_a_worker_that_was_told_too_long_ago_forgets_everything(place: str) -> None:
    door, held = Door(), listener(place)
    first = Server(Authority(), 1, past=Past(0, 7, []))
    async with Link(Authority(), first, place).worker(1, door):
        async with serving(first, held.dup()):
            await door.leased(1)
        async with serving(Server(Authority(), 1, past=Past(8, 9, [(9, NINE)])), held):
            await door.leased(2)
        assert door.unsteered == [ALL, ALL]


async def test_a_connection_that_breaks_costs_nothing_that_is_known(place: str) -> None:
    door, link = Door(), Link(Authority(), Server(Authority(), 1, past=Past(0, 7, [(7, EIGHT)])), place)
    client = Client(1, os.getpid())
    async with serving(link.server, listener(place)):
        async with link.worker(1, door, client):
            await door.leased(1)
        changing = asyncio.create_task(link.server.apply(Change(8, steering=[NINE])))
        async with link.worker(1, door, client):
            await asyncio.wait_for(changing, 30)
            await door.leased(2)
    assert door.unsteered == [ALL, NINE]


async def test_a_worker_hears_which_uses_may_not_have_been_written_down(place: str) -> None:
    door, held, director = Door(), listener(place), Director()
    client = Client(1, os.getpid())
    async with Link(Authority(), Server(Authority(), 1), place).worker(1, door, client):
        server = Server(Authority(), 1, steering=director)
        async with serving(server, held.dup()):
            await door.leased(1)
            client.touch([USE])
            await asyncio.wait_for(director.asked.wait(), 30)
            await server.apply(Change(1))  # what was said before has been heard
        async with serving(Server(Authority(), 1, steering=director), held.dup()):
            await door.leased(2)
            assert ("doubt", [USE]) not in door.told
            director.away = True
            director.asked.clear()
            client.touch([USE])
            await asyncio.wait_for(director.asked.wait(), 30)
        await door.until("connected", False)
        client.touch([("u", "", 8)])
        async with serving(Server(Authority(), 1, steering=director), held):
            await door.until("doubt", [USE, ("u", "", 8)])


def test_uses_are_noted_once_however_often_they_are_said_in_vain() -> None:
    uses = Uses()
    for _ in range(3 * MOST_UNSAID):
        number = uses.note([USE])
    uses.written(number)
    assert (uses.take(), uses.take()) == ([USE], [])
