"""Formations: the droplets of each app, brought to its structure and its release by one operation at a time.

A release is proposed before the first droplet follows it, and in force when the last one does. A structure is kept when
the new droplets serve and before the surplus goes, and that an app is to be deleted before its droplets go. So whatever
control dies in, `mend` brings an app back to one state that it was in: what follows a release that is not in force is
taken back, what exceeds the structure is removed; and the deletion of an app goes on.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol
from weakref import WeakValueDictionary

import msgspec

from ostiary.control.charge import Droplet, seconds
from ostiary.control.vault import Vault
from ostiary.core.apps import LATEST, Choice, Value, env, planned
from ostiary.core.droplets import DropletRules, Place, Recipe, Template, recipe
from ostiary.core.lifecycle import Wanted
from ostiary.core.refusal import Conflict, Invalid, NotFound, Refusal, Unavailable
from ostiary.store.fleet import App, Apps, Release
from ostiary.store.ports import Record

log = logging.getLogger("ostiary.droplets")

RETRY = 2.0
"""Seconds between two tries to mend an app while the engine is away."""
PAGE = 1000

UNHEALTHY = "app.unhealthy"
_PASSING = ("droplet.busy", "driver.unavailable", "store.unavailable")
"""Refusals that say nothing of a droplet's health."""

_values = msgspec.json.Decoder(dict[str, Value]).decode
Placed = tuple[Place, Droplet]


class Fleet(Protocol):
    """The part of the reconciler that is used here."""

    def of_app(self, app: str) -> list[Placed]: ...

    def wanted(self, name: str) -> Wanted: ...

    async def create(self, recipe: Recipe, name: str = "", place: Place | None = None) -> Droplet: ...

    async def restart(self, name: str, recipe: Recipe | None = None, release: int | None = None) -> Droplet: ...

    async def remake(self, name: str, recipe: Recipe, release: int) -> None: ...

    async def delete(self, name: str, *, owned: bool = False) -> None: ...


class Formations:
    """`rules` are asked anew each time."""

    def __init__(self, apps: Apps, fleet: Fleet, vault: Vault, rules: Callable[[], DropletRules]) -> None:
        self._apps = apps
        self._fleet = fleet
        self._vault = vault
        self._rules = rules
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Mend what a predecessor has left half done; goes on in the background."""
        cut = {app.id for app, _ in await self._apps.proposed()}
        offset = 0
        while page := (await self._apps.page(None, PAGE, offset))[0]:
            offset += len(page)
            for app in page:
                if app.id in cut or app.ending or self._astray(app):
                    self._mend_later(app.id)

    async def close(self) -> None:
        """Mend nothing any more."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @asynccontextmanager
    async def held(self, ident: str) -> AsyncIterator[None]:
        """An app, to be changed by nobody else. Refuses Conflict `app.busy`."""
        lock = self._locks.setdefault(ident, asyncio.Lock())
        try:
            async with asyncio.timeout(seconds(self._rules().lock_timeout)):
                await lock.acquire()
        except TimeoutError:
            raise busy(ident) from None
        try:
            yield
        finally:
            lock.release()

    # What an app is made from

    def seal(self, app: str, values: Mapping[str, Value]) -> bytes:
        """The variables of the app with this uuid, as they are kept."""
        return self._vault.close(f"app {app}", msgspec.json.encode(values).decode())

    def values(self, app: App, release: Release) -> dict[str, Value]:
        """The variables of a release. Refuses Unavailable `app.sealed`."""
        text = self._vault.open(f"app {app.uuid}", release.values)
        if not text:
            raise Unavailable("app.sealed", "The variables of the app were sealed with another key", 60)
        return _values(text)

    def types(self, app: App) -> set[str]:
        """The process types that its droplets can have, or have."""
        template = self._rules().templates.get(app.template)
        known = set(template.types or {"web": ()}) if template else set()
        return known | app.structure.keys() | {place.type for place, _ in self._fleet.of_app(app.id)}

    def recipe(self, app: App, release: Release, choice: Choice, kind: str) -> Recipe:
        """What a droplet of a type is made from. Refuses Invalid `app.no_build`, `type.unknown`."""
        template = self._template(choice)
        if not kind:
            raise Invalid("type.unknown", "Container type  does not exist in application")
        return recipe(template, env(self.values(app, release)), kind, choice.image)

    def _template(self, choice: Choice) -> Template:
        template = self._rules().templates.get(choice.template)
        if template is None:
            raise Invalid("app.no_build", "No build associated with this release")
        return template

    async def check(self, app: App, kinds: Iterable[str]) -> None:
        """Refuse what `recipe` refuses for any of these types."""
        release, choice = await self.current(app)
        for kind in kinds:
            self.recipe(app, release, choice, kind)

    async def current(self, app: App) -> tuple[Release, Choice]:
        """The release in force, and what it runs. Refuses Unavailable `app.unreleased`."""
        release = await self._apps.release(app.id)
        if release is None:
            raise Unavailable("app.unreleased", "The app has no release")
        return release, choice_of(app, release)

    # What is done

    async def scale(self, app: App, wanted: Mapping[str, int], record: Record) -> None:
        """Have as many droplets of each named type as are wanted: the new ones serve, then the surplus goes.

        Refuses Invalid `app.no_build`, `type.unknown`, Unavailable `app.unhealthy`: then all is as it was.
        """
        release, choice = await self.current(app)
        recipes = {kind: self.recipe(app, release, choice, kind) for kind in wanted}
        plan = planned([place for place, _ in self._fleet.of_app(app.id)], wanted)
        try:
            await self._add([Place(app.id, kind, number, release.number) for kind, number in plan.add], recipes)
            await self._apps.scaled(app.id, {**app.structure, **wanted}, record)
        except Refusal:
            await self._take_back(app)
            raise
        try:
            await self._remove(plan.remove)
        except Refusal:
            self._mend_later(app.id)
            raise

    async def roll(self, app: App, release: Release, choice: Choice, record: Record) -> None:
        """Have all droplets follow a new release, one by one; those that are stopped when they start again.

        Refuses Invalid `app.no_build`, `type.unknown` before anything, Unavailable `app.unhealthy` when one did not
        become healthy: then all follow the release in force.
        """
        placed = self._fleet.of_app(app.id)
        recipes = {place.type: self.recipe(app, release, choice, place.type) for place, _ in placed}
        await self._apps.propose(app.id, release)
        try:
            for each in placed:
                await self._follow(each, recipes, release.number)
            await self._apps.settle(app.id, release.number, choice.template, record)
        except Refusal:
            await self._take_back(app)
            raise

    async def restart(self, placed: Sequence[Placed]) -> None:
        """Restart droplets one by one. Refuses Unavailable `app.unhealthy`."""
        for place, _ in placed:
            with _healthy(place):
                await self._fleet.restart(place.name)

    async def delete(self, app: App, record: Record) -> None:
        """Drain and remove all droplets, then the app. What is refused or cut off in the middle goes on later."""
        await self._apps.end(app.id, record)
        try:
            await self._end(app)
        except Refusal:
            self._mend_later(app.id)
            raise

    async def _end(self, app: App) -> None:
        await self._remove([place for place, _ in self._fleet.of_app(app.id)])
        await self._apps.delete(app.id)

    async def _add(self, places: Sequence[Place], recipes: Mapping[str, Recipe]) -> None:
        """Create droplets, all at once. Refuses what the first that fails refuses, when the others have ended too."""
        creating = (self._create(place, recipes[place.type]) for place in places)
        failures = [each for each in await asyncio.gather(*creating, return_exceptions=True) if each is not None]
        if failures:
            raise failures[0]

    async def _create(self, place: Place, recipe: Recipe) -> None:
        with _healthy(place):
            await self._fleet.create(recipe, place.name, place)

    async def _follow(self, placed: Placed, recipes: Mapping[str, Recipe], number: int) -> None:
        """Have a droplet be made anew; what an operator has stopped stays so."""
        place, _ = placed
        if self._fleet.wanted(place.name) == "stopped":
            await self._fleet.remake(place.name, recipes[place.type], number)
        else:
            with _healthy(place):
                await self._fleet.restart(place.name, recipes[place.type], number)

    async def _remove(self, places: Iterable[Place]) -> None:
        """Remove droplets, each drained first; those that cannot be removed hold up none of the others."""
        removing = (self._delete(place) for place in places)
        failures = [each for each in await asyncio.gather(*removing, return_exceptions=True) if each is not None]
        if failures:
            raise failures[0]

    async def _delete(self, place: Place) -> None:
        try:
            await self._fleet.delete(place.name, owned=True)
        except NotFound:
            pass  # what a predecessor was about to remove is gone already

    # What was cut off

    def _astray(self, app: App) -> bool:
        """Whether its droplets are not what is in force."""
        places = [place for place, _ in self._fleet.of_app(app.id)]
        return bool(_surplus(app, places)) or any(place.release > app.release for place in places)

    async def _mend(self, app: App) -> None:
        """Have the droplets be what is in force; an app whose deletion has begun is deleted."""
        if app.ending:
            await self._end(app)
            return
        release, choice = await self.current(app)
        placed = self._fleet.of_app(app.id)
        surplus = _surplus(app, [place for place, _ in placed])
        await self._remove(surplus)
        for each in placed:
            if each[0].release > release.number and each[0] not in surplus:
                await self._back(app, each, release, choice)
        await self._apps.withdraw(app.id)

    async def _back(self, app: App, placed: Placed, release: Release, choice: Choice) -> None:
        """Have a droplet follow the release in force again; one that did not serve before may not do so now."""
        kind = placed[0].type
        try:
            await self._follow(placed, {kind: self.recipe(app, release, choice, kind)}, release.number)
        except Unavailable as refusal:
            if refusal.code != UNHEALTHY:
                raise
            log.warning("App %s, back at release %d: %s", app.id, release.number, refusal.message)

    async def _take_back(self, app: App) -> None:
        """Undo what is not in force; what cannot be undone now is undone later."""
        try:
            await self._mend(app)
        except Refusal as refusal:
            log.warning("App %s: %s", app.id, refusal.message)
            self._mend_later(app.id)

    def _mend_later(self, ident: str) -> None:
        task = asyncio.get_running_loop().create_task(self._mending(ident))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def _mending(self, ident: str) -> None:
        """Mend an app; as long as something is away, again and again."""
        while True:
            async with self._locks.setdefault(ident, asyncio.Lock()):
                app = await self._apps.get(ident)
                if app is None:
                    return
                try:
                    await self._mend(app)
                except (Unavailable, Conflict) as refusal:
                    log.warning("App %s is not mended yet: %s", ident, refusal.message)
                else:
                    log.info("App %s %s", ident, "is gone" if app.ending else f"is at release {app.release} again")
                    return
            await asyncio.sleep(RETRY)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        failure = None if task.cancelled() else task.exception()
        if isinstance(failure, Refusal):
            log.error("An app cannot be mended: %s", failure.message)
        elif failure is not None:
            log.error("A task of apps failed", exc_info=failure)


def busy(ident: str) -> Conflict:
    """What an app is called that something else is done to."""
    return Conflict("app.busy", f"Another operation on {ident} is in progress.")


def choice_of(app: App, release: Release) -> Choice:
    """What the release in force runs."""
    own = release.image.removesuffix(LATEST) == app.template
    return Choice(app.template, "" if own else release.image)


def _surplus(app: App, places: Sequence[Place]) -> list[Place]:
    """What exceeds the structure."""
    return planned(places, {place.type: app.structure.get(place.type, 0) for place in places}).remove


@contextmanager
def _healthy(place: Place) -> Iterator[None]:
    """What has kept a droplet from becoming healthy, in Deis's words."""
    try:
        yield
    except (Conflict, Unavailable) as refusal:
        if refusal.code in _PASSING:
            raise
        text = f"{place.type}.{place.number} did not become healthy: {refusal.message}"
        raise Unavailable(UNHEALTHY, text) from refusal
