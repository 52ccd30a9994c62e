"""A charge: one droplet in the reconciler's care, with what is kept of it, its lock and what it waits for."""

import asyncio
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct

from ostiary.control.probes import Probe
from ostiary.core.droplets import DropletRules, Recipe, ago, environment, filled
from ostiary.core.lifecycle import HealthState, Life, Shown, prose
from ostiary.core.snapshot import SECOND
from ostiary.drivers.port import Seen, Spec
from ostiary.store.fleet import Kept


class Port(Struct, frozen=True):
    """Where a port of a droplet is reached."""

    type: str
    ip: str
    port: int


class Droplet(Struct, frozen=True):
    """A droplet as operators see it. Times are Unix microseconds."""

    id: str
    name: str
    created: str
    """`2 minutes ago`."""
    status: str
    """`Up 5 seconds`, `Exited (3) 2 minutes ago`."""
    ports: dict[str, Port]
    """Of the template -> where it is reached, while it runs."""
    state: Shown
    health: HealthState
    template: str
    app: str | None
    driver: str
    exit_code: int | None
    out_of_memory: bool
    """It has ended by itself, and something of it was killed for want of memory."""
    created_at: int
    started_at: int | None
    finished_at: int | None
    restarts: int
    limits: dict[str, int | float]
    """Memory in bytes, cpu in cores, pids; those that there are."""
    enforced: list[str]
    """Which of these are really applied on this machine."""


class Charge:
    """One droplet. `turned` hears when it begins to serve, or ceases."""

    def __init__(self, kept: Kept, recipe: Recipe, turned: Callable[[], None]) -> None:
        self.kept = kept
        self.recipe = recipe
        self.life = kept.life
        self.lock = asyncio.Lock()
        self.removed = False
        self.end: Seen | None = None
        """How the life that is being ended has ended."""
        self._turned = turned
        self._moved = asyncio.Event()
        self._probe: Probe | None = None
        self._timer: asyncio.TimerHandle | None = None

    # As upstreams see it

    @property
    def id(self) -> str:
        return self.kept.id

    @property
    def name(self) -> str:
        return self.kept.name

    @property
    def template(self) -> str:
        return self.kept.template

    @property
    def app(self) -> str:
        return self.kept.place.app if self.kept.place else ""

    @property
    def type(self) -> str:
        return self.kept.place.type if self.kept.place else ""

    @property
    def ports(self) -> Mapping[int, int]:
        return self.kept.ports

    @property
    def serves(self) -> bool:
        return self.life.serves and not self.removed

    @property
    def grace(self) -> int:
        """Microseconds that what flows to it may take to end, when it leaves."""
        return self.recipe.template.stop.drain if self.life.alive else 0

    # Its life

    @property
    def runs(self) -> bool:
        """Whether it runs and was ready."""
        return self.life.state == "running"

    def become(self, life: Life) -> None:
        """Its life has gone on."""
        if life == self.life:
            return
        served, self.life = self.serves, life
        if not life.alive:
            self.quiet()
        self.wake()
        if self.serves != served:
            self._turned()

    def wake(self) -> None:
        """Have those look again who wait for something to happen."""
        self._moved.set()
        self._moved = asyncio.Event()

    async def moved(self) -> None:
        """Return when something has happened."""
        await self._moved.wait()

    def probed(self, told: Callable[[bool], None], *, relayed: bool = False) -> None:
        """Look after its health from now on; `relayed`: its engine takes connections before it does."""
        self.quiet()
        health = self.recipe.template.health
        if health is not None:
            healthy = self.life.health == "healthy"
            self._probe = Probe(health, self.ports[health.port], told, healthy=healthy, relayed=relayed)

    def later(self, seconds: float, then: Callable[[], None]) -> None:
        """Do something then, unless its life ends before, or something else is to be done later."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), then)

    def quiet(self) -> None:
        """Look after its health no more, and do nothing later."""
        if self._probe is not None:
            self._probe.end()
            self._probe = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What is told of it

    def spec(self, driver: str, python: str) -> Spec:
        """What the driver is to run. A container listens on the template's ports, a process where it is reached."""
        recipe, name = self.recipe, self.name
        template = recipe.template
        listens: Mapping[int, int] = self.ports
        if driver == "docker":
            listens, python = {port: port for port in self.ports}, "python3"
        return Spec(
            self.id,
            name,
            tuple(filled(each, listens, name, python) for each in recipe.command),
            recipe.image,
            environment(recipe, listens, name, self.id),
            dict(self.ports),
            template.limits,
            template.user,
            template.mounts,
        )

    def shown(self, now: int, driver: str, enforced: frozenset[str], *, reached: bool) -> Droplet:
        """As operators see it; not `reached`: the engine is away."""
        life, kept, limits = self.life, self.kept, self.recipe.template.limits.given()
        live = life.alive and reached
        return Droplet(
            kept.id,
            kept.name,
            ago(kept.created, now),
            prose(life, now) if reached else "Unknown",
            {str(inside): Port("tcp", "127.0.0.1", port) for inside, port in kept.ports.items() if live},
            life.state if reached else "unknown",
            life.health if live else "none",
            kept.template,
            self.app or None,
            driver,
            life.exit_code,
            life.out_of_memory,
            kept.created,
            life.started,
            life.finished,
            life.restarts,
            limits,
            [each for each in limits if each in enforced],
        )


class Gate:
    """Lets so many through at once as `rules` say; asked anew each time."""

    def __init__(self, rules: Callable[[], DropletRules]) -> None:
        self._rules = rules
        self._inside = 0
        self._left = asyncio.Condition()

    async def __aenter__(self) -> None:
        async with self._left:
            await self._left.wait_for(lambda: self._inside < self._rules().concurrency)
            self._inside += 1

    async def __aexit__(self, *failure: object) -> None:
        async with self._left:
            self._inside -= 1
            self._left.notify()


def seconds(microseconds: int) -> float:
    """As asyncio wants it."""
    return microseconds / SECOND


def sealed_text(recipe: Recipe) -> str:
    """A recipe as it is sealed."""
    return msgspec.json.encode(recipe).decode()


recipe_of = msgspec.json.Decoder(Recipe).decode
"""A recipe out of that text."""
