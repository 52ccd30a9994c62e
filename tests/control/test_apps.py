"""The droplets of apps: a change of many is whole, also when control dies in the middle or the engine goes away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.control.house import ADMIN
from tests.control.test_reconciler import CRASH, RULES, WEB, Node, refused, until
from tests.store.template import fresh

from ostiary.control.call import Call
from ostiary.control.formations import Formations
from ostiary.control.vault import DROPLETS, Vault
from ostiary.core.apps import Choice
from ostiary.core.droplets import Place
from ostiary.core.snapshot import SECOND
from ostiary.store.fleet import App, Release
from ostiary.store.ports import Record
from ostiary.store.store import Store, open_store

UUID = "5b6f5a0e-4b0c-4b7e-9d58-5a3f0a3c1d2e"
LARGE = replace(WEB, name="large", ports=(80, 443))


def record() -> Record:
    return Call(ADMIN, "test").record(1, "done")


class Market(Node):
    """A node with an app, `shop`."""

    formations: Formations

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        templates = {**RULES.templates, LARGE.name: LARGE}
        self.rules = replace(RULES, templates=templates)

    async def begin(self) -> None:
        await super().begin()
        vault = Vault(self.key, lambda count: bytes(count), DROPLETS)
        self.formations = Formations(self.mortal.guard(self.store.apps), self.control, vault, lambda: self.rules)
        await self.formations.open()

    async def kill(self) -> None:
        await super().kill()
        await self.formations.close()

    async def make(self) -> None:
        first = Release(1, "initial", "u", "ann", self.formations.seal(UUID, {}), "web", 1)
        await self.store.apps.create("shop", UUID, 1, "web", first, 50, record())

    @property
    def _app(self) -> Awaitable[App | None]:
        return self.store.apps.get("shop")

    async def app(self) -> App:
        found = await self._app
        assert found is not None
        return found

    async def scale(self, count: int) -> None:
        await self.formations.scale(await self.app(), {"web": count}, record())

    async def roll(self, template: str = "web", **values: str) -> None:
        app = await self.app()
        sealed = self.formations.seal(UUID, values)
        release = Release(app.release + 1, "config", "u", "ann", sealed, template, 1)
        await self.formations.roll(app, release, Choice(template, ""), record())

    async def delete(self) -> None:
        await self.formations.delete(await self.app(), record())

    def places(self) -> list[tuple[int, int, str]]:
        """Number, release and state of each."""
        return [(place.number, place.release, each.state) for place, each in self.control.of_app("shop")]

    def words(self) -> list[str | None]:
        """What is in the environment of those that run, by port."""
        lives = [life for life in self.engine.lives.values() if life.seen.state == "running"]
        return [life.spec.env.get("WORD") for life in sorted(lives, key=lambda life: life.spec.name)]


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    store = await open_store(fresh(tmp_path / "ostiary.db"))
    made = Market(store)
    await made.begin()
    await made.make()
    yield made
    await made.bury()
    await made.formations.close()
    await made.engine.rest()
    await store.close()


def works(market: Market, what: str) -> Awaitable[None]:
    operations: dict[str, Callable[[], Awaitable[None]]] = {
        "scale up": lambda: market.scale(4),
        "scale down": lambda: market.scale(1),
        "roll": lambda: market.roll(WORD="new"),
        "delete": market.delete,
    }
    return operations[what]()


async def whole(market: Market) -> bool:
    """Whether the droplets are those of the app: as many as it has, in the release that is in force, all running."""
    app = await market._app
    if app is None:
        return market.places() == []
    wanted = [(number, app.release, "running") for number in range(1, app.structure.get("web", 0) + 1)]
    return market.places() == wanted and not app.ending and not await market.store.apps.proposed()


@pytest.mark.parametrize("what", ["scale up", "scale down", "roll", "delete"])
async def test_killed_at_any_point_its_successor_leaves_the_app_as_it_was_or_as_it_was_to_be(
    market: Market, what: str
) -> None:
    for point in range(1, 200, 7):
        if await market._app is None:
            await market.make()
        await market.scale(2)
        market.mortal.left = point
        work = asyncio.ensure_future(works(market, what))
        dying = asyncio.create_task(market.mortal.died.wait())
        await asyncio.wait({work, dying}, return_when=asyncio.FIRST_COMPLETED)
        survived = work.done()
        await market.kill()
        await market.begin()
        deadline = asyncio.get_running_loop().time() + 60
        while not await whole(market):
            assert asyncio.get_running_loop().time() < deadline, (point, market.places(), await market._app)
            await asyncio.sleep(0.005)
        app = await market._app
        count = len(market.places())
        assert count in {"scale up": {2, 4}, "scale down": {1, 2}, "roll": {2}, "delete": {0, 2}}[what]
        if what == "delete":
            assert (app is None) == (count == 0)
        if what == "roll" and app is not None:
            assert market.words() == (["new"] * 2 if app.release > 1 else [None] * 2)
        work.cancel()
        dying.cancel()
        if survived:
            assert point > 1
            return
    raise AssertionError("it never ended")


async def test_a_release_that_one_does_not_survive_is_taken_back(market: Market) -> None:
    await market.scale(3)
    await market.roll(WORD="one")
    code, message = await refused(market.roll("slow", WORD="two"))
    assert code == "app.unhealthy"
    assert message == "web.1 did not become healthy: Droplet shop.web.1 was not healthy within 0.1 s"
    assert market.places() == [(1, 2, "running"), (2, 2, "running"), (3, 2, "running")]
    assert market.words() == ["one"] * 3
    assert (await market.app()).release == 2
    assert await whole(market)


async def test_a_template_with_other_ports_gives_other_ports(market: Market) -> None:
    await market.scale(1)
    ids = [each.id for each in market.control.all()]
    await market.roll("large")
    [droplet] = market.control.all()
    assert ([droplet.id], list(droplet.ports)) == (ids, ["80", "443"])
    await market.roll("web")
    [droplet] = market.control.all()
    assert list(droplet.ports) == ["80"]
    await market.kill()
    await market.begin()
    assert [list(each.ports) for each in market.control.all()] == [["80"]]


async def test_what_was_stopped_follows_without_being_started(market: Market) -> None:
    await market.scale(2)
    await market.control.stop("shop.web.2")
    await market.roll(WORD="new")
    assert market.places() == [(1, 2, "running"), (2, 2, "exited")]
    await market.kill()
    await market.begin()
    await market.control.start("shop.web.2")
    assert market.words() == ["new", "new"]


async def test_when_the_engine_goes_away_a_release_is_taken_back_once_it_is_there_again(market: Market) -> None:
    await market.scale(3)
    market.engine.hold.clear()
    rolling = asyncio.ensure_future(market.roll(WORD="new"))
    await until(lambda: market.engine.running == 1)
    market.engine.leave()
    market.engine.hold.set()
    assert (await refused(rolling))[0] == "driver.unavailable"
    market.engine.away = False
    deadline = asyncio.get_running_loop().time() + 60
    while not await whole(market):
        assert asyncio.get_running_loop().time() < deadline, market.places()
        await asyncio.sleep(0.02)
    assert (await market.app()).release == 1
    assert market.words() == [None] * 3


async def test_the_lowest_free_numbers_are_taken(market: Market) -> None:
    await market.scale(3)
    await market.control.delete("shop.web.1", owned=True)
    await market.scale(3)
    assert [number for number, _, _ in market.places()] == [1, 2, 3]


async def test_types_are_those_of_the_template_and_those_that_there_are(market: Market) -> None:
    assert market.formations.types(await market.app()) == {"web"}
    await market.scale(1)
    market.rules = replace(market.rules, templates={})
    assert market.formations.types(await market.app()) == {"web"}
    assert (await refused(market.scale(2)))[0] == "app.no_build"
    typed = replace(CRASH, name="web", types={"job": ("deaf",)})
    market.rules = replace(market.rules, templates={"web": typed})
    assert market.formations.types(await market.app()) == {"job", "web"}
    code, message = await refused(market.roll(WORD="x"))
    assert (code, message) == ("type.unknown", "Container type web does not exist in application")
    assert await whole(market)


async def test_an_app_is_changed_by_one_at_a_time(market: Market) -> None:
    market.rules = replace(market.rules, lock_timeout=SECOND // 20)
    async with market.formations.held("shop"), market.formations.held("other"):
        with pytest.raises(Exception, match=r"^Another operation on shop is in progress\.$"):
            async with market.formations.held("shop"):
                pass
    async with market.formations.held("shop"):
        assert market.places() == []


async def test_variables_sealed_with_another_key_are_not_taken_for_none(market: Market) -> None:
    app = replace(await market.app(), uuid="another")
    release = await market.store.apps.release("shop")
    assert release is not None
    with pytest.raises(Exception, match="sealed with another key"):
        market.formations.values(app, release)


async def test_what_is_to_be_removed_is_removed_although_another_cannot_be(market: Market) -> None:
    await market.scale(3)
    market.rules = replace(market.rules, lock_timeout=SECOND // 20)
    async with market.control._held("shop.web.3"):
        code, _ = await refused(market.scale(1))
    assert code == "droplet.busy"
    await until(lambda: [number for number, _, _ in market.places()] == [1])
    assert Place("shop", "web", 1, 1) in [place for place, _ in market.control.of_app("shop")]


async def test_when_the_engine_goes_away_in_a_scale_what_it_made_is_removed_once_it_is_there_again(
    market: Market,
) -> None:
    await market.scale(1)
    market.engine.hold.clear()
    scaling = asyncio.ensure_future(market.scale(3))
    await until(lambda: market.engine.running == 2)
    market.engine.leave()
    market.engine.hold.set()
    assert (await refused(scaling))[0] == "driver.unavailable"
    market.engine.away = False
    deadline = asyncio.get_running_loop().time() + 60
    while not await whole(market):
        assert asyncio.get_running_loop().time() < deadline, market.places()
        await asyncio.sleep(0.02)
    assert [number for number, _, _ in market.places()] == [1]


async def test_an_app_that_is_deleted_while_the_engine_is_away_is_gone_once_it_is_there_again(market: Market) -> None:
    await market.scale(2)
    market.engine.leave()
    assert (await refused(market.delete()))[0] == "driver.unavailable"
    assert (await market.app()).ending
    market.engine.away = False
    deadline = asyncio.get_running_loop().time() + 60
    while await market._app is not None:
        assert asyncio.get_running_loop().time() < deadline, market.places()
        await asyncio.sleep(0.02)
    assert (market.places(), market.engine.lives) == ([], {})
