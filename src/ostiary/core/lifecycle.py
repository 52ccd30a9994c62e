"""The life of a droplet, as a table of states and events, and what follows when one ends.

    created ──launch──▶ starting ──ready──▶ running ──stop──▶ stopping ──exit──▶ exited
                           ▲  └──── crash ◀────┘ (ended by itself)
                           └─ launch ── crashed ── fail ─▶ failed (restarts used up, or never became healthy)

Nothing starts that is not wanted: an operator's stop is final, whatever the policy says and whatever is under way.
"""

from enum import Enum
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from ostiary.core.droplets import UNSEEN, Restarts, ago, span

State = Literal["created", "starting", "running", "stopping", "exited", "crashed", "failed"]
Shown = Literal["created", "starting", "running", "stopping", "exited", "crashed", "failed", "unknown"]
"""`unknown`: the engine cannot be reached; what was known before holds again when it can."""
HealthState = Literal["none", "starting", "healthy", "unhealthy"]
Wanted = Literal["running", "stopped", "gone"]
ALIVE: Final[frozenset[str]] = frozenset({"starting", "running", "stopping"})


class Event(Enum):
    """What can happen to a droplet."""

    LAUNCH = "it is being started"
    FOUND = "its process was found running"
    READY = "it serves"
    STOP = "it is being ended"
    EXIT = "it ended, and stays so"
    CRASH = "it ended, and a restart is due"
    FAIL = "it is given up"


TABLE: Final[dict[tuple[State, Event], State]] = {
    ("created", Event.LAUNCH): "starting",
    ("starting", Event.LAUNCH): "starting",
    ("stopping", Event.LAUNCH): "starting",
    ("exited", Event.LAUNCH): "starting",
    ("crashed", Event.LAUNCH): "starting",
    ("failed", Event.LAUNCH): "starting",
    ("created", Event.FOUND): "starting",
    ("stopping", Event.FOUND): "starting",
    ("exited", Event.FOUND): "starting",
    ("crashed", Event.FOUND): "starting",
    ("failed", Event.FOUND): "starting",
    ("starting", Event.READY): "running",
    ("starting", Event.STOP): "stopping",
    ("running", Event.STOP): "stopping",
    ("crashed", Event.STOP): "exited",
    ("starting", Event.EXIT): "exited",
    ("running", Event.EXIT): "exited",
    ("stopping", Event.EXIT): "exited",
    ("starting", Event.CRASH): "crashed",
    ("running", Event.CRASH): "crashed",
    ("stopping", Event.CRASH): "crashed",
    ("created", Event.FAIL): "failed",
    ("starting", Event.FAIL): "failed",
    ("running", Event.FAIL): "failed",
    ("stopping", Event.FAIL): "failed",
    ("exited", Event.FAIL): "failed",
    ("crashed", Event.FAIL): "failed",
}
"""Where an event has no line, it changes nothing."""


class Life(Struct, frozen=True):
    """What is known of a droplet's life, and what is wanted of it. Times are Unix microseconds."""

    state: State = "created"
    wanted: Wanted = "running"
    health: HealthState = "none"
    restarts: int = 0
    """By policy, since it was made."""
    streak: int = 0
    """Restarts without quiet running between them, since an operator started it."""
    launched: int = 0
    """When it was last ordered to start."""
    started: int | None = None
    before: int | None = None
    """When the life before this one had started: what is still told of that is known."""
    finished: int | None = None
    exit_code: int | None = None
    clean: bool = False
    """It ended on request, and needed no kill."""
    out_of_memory: bool = False
    """It ended by itself, and something of it had been killed for want of memory."""
    due: int = 0
    """When it is started again, while it is crashed."""

    @property
    def alive(self) -> bool:
        """Whether it has a process."""
        return self.state in ALIVE

    @property
    def serves(self) -> bool:
        """Whether requests may go to it."""
        return self.state == "running" and self.health in ("none", "healthy")


def step(life: Life, event: Event) -> Life:
    """What the table says, and nothing else."""
    return replace(life, state=TABLE.get((life.state, event), life.state))


def want(life: Life, wanted: Wanted) -> Life:
    """An operator's wish. What is to be gone stays so."""
    return life if life.wanted == "gone" else replace(life, wanted=wanted, streak=0)


def launch(life: Life, at: int, *, checked: bool) -> Life:
    """It is being started, if that is wanted; `checked`: it has a health check."""
    if life.wanted != "running" or life.state == "running":
        return life
    before = life.before if life.started is None else life.started
    return replace(
        step(life, Event.LAUNCH), health="starting" if checked else "none", launched=at, before=before, started=None,
        finished=None, exit_code=None, clean=False, out_of_memory=False, due=0,
        restarts=life.restarts + (life.state == "crashed"),
    )  # fmt: skip


def found(life: Life, started: int | None, *, checked: bool) -> Life:
    """Its process runs although nobody was there to see it start. What served, serves."""
    if life.wanted != "running":
        return life
    known = life.state in ("starting", "running")
    health: HealthState = life.health if known else "starting" if checked else "none"
    return replace(step(life, Event.FOUND), health=health, started=started, finished=None, exit_code=None, due=0)


def ready(life: Life) -> Life:
    """It serves."""
    if life.state != "starting":
        return life
    return replace(step(life, Event.READY), health="healthy" if life.health == "starting" else life.health)


def beat(life: Life, *, healthy: bool) -> Life:
    """What its health check says of one that was ready before."""
    return replace(life, health="healthy" if healthy else "unhealthy") if life.state == "running" else life


def stop(life: Life) -> Life:
    """It is being ended, or its restart is called off."""
    return replace(step(life, Event.STOP), due=0, health="none" if life.state == "crashed" else life.health)


def stopped(life: Life, at: int, code: int | None, *, killed: bool) -> Life:
    """It has ended on request."""
    after = _ended(life, Event.EXIT, at, code)
    return after if after is life else replace(after, clean=not killed)


def failed(life: Life, at: int, code: int | None) -> Life:
    """It is given up."""
    if life.finished is not None:
        at, code = life.finished, life.exit_code
    return _ended(life, Event.FAIL, at, code)


def ended(
    life: Life, at: int, code: int | None, restarts: Restarts, *, unwell: bool = False, out_of_memory: bool = False
) -> Life:
    """It has ended by itself (`unwell`: or was ended because it was unhealthy): what the policy makes of that.

    Whose end nobody saw counts as failed.
    """
    if not life.alive:
        return life
    life = replace(life, out_of_memory=out_of_memory)
    well = restarts.policy == "on_failure" and code == 0 and not unwell
    if life.wanted != "running" or restarts.policy == "never" or well:
        return _ended(life, Event.EXIT, at, code)
    began = life.launched if life.started is None else life.started
    streak = 0 if at - began >= restarts.reset_after else life.streak
    if streak >= restarts.max:
        return _ended(life, Event.FAIL, at, code)
    due = at + min(restarts.first_wait << min(streak, 40), restarts.max_wait)
    return replace(_ended(life, Event.CRASH, at, code), streak=streak + 1, due=due)


def _ended(life: Life, event: Event, at: int, code: int | None) -> Life:
    """What is over already does not end again."""
    if (life.state, event) not in TABLE:
        return life
    return replace(step(life, event), health="none", finished=at, exit_code=code, clean=False, due=0)


def told_code(life: Life) -> str:
    """The code that it ended with, and why, if that is known: `137 (out of memory)`."""
    return f"{life.exit_code} (out of memory)" if life.out_of_memory else str(life.exit_code)


def prose(life: Life, now: int) -> str:
    """The state in words, as container engines put it: always a number and a unit."""
    if life.state == "created":
        return "Created"
    if life.alive:
        return f"Up {span(now - (life.launched if life.started is None else life.started))}"
    code = UNSEEN if life.exit_code is None else life.exit_code
    word = "Restarting" if life.state == "crashed" else "Exited"
    return f"{word} ({0 if life.clean else code}) {ago(now if life.finished is None else life.finished, now)}"
