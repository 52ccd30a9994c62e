"""Probes: whether the process answers, and whether traffic is served."""

from msgspec import Struct

from ostiary.core.refusal import Unavailable
from ostiary.dialects.desk import Desk
from ostiary.dialects.doorman.asked import Asked, Row, anyone
from ostiary.dialects.doorman.words import done
from ostiary.dialects.message import Answer


class State(Struct, frozen=True):
    """How the node does."""

    store: bool
    draining: bool
    configured: int
    serving: int
    revision: int

    @property
    def ready(self) -> bool:
        """Whether the store answers, somebody serves, and the node is not ending."""
        return self.store and self.serving > 0 and not self.draining


async def health(asked: Asked) -> Answer:
    """Whether the process answers at all."""
    return done({"status": "online"})


async def liveness(asked: Asked) -> Answer:
    """The same under another name."""
    return done({"status": "alive"})


async def readiness(asked: Asked) -> Answer:
    """Whether traffic is served; more to whoever manages the gateway."""
    state = await state_of(asked.desk)
    shown: dict[str, object] = {"status": "ready" if state.ready else "degraded"}
    if asked.may("gateway:manage"):
        shown |= {
            "mode": asked.desk.control.mode,
            "cache_backend": "in-process",
            "store": state.store,
            "bus": True,
            "workers": {"configured": state.configured, "serving": state.serving},
            "revision": state.revision,
        }
    return done(shown, status=200 if state.ready else 503)


async def state_of(desk: Desk) -> State:
    """The state of now."""
    workers = desk.control.workers.status()
    serving = [each for each in workers if each.connected and each.revision]
    try:
        await desk.control.changes.newest()
    except Unavailable:
        return State(False, desk.draining, len(workers), len(serving), 0)
    revision = max((each.revision for each in serving), default=0)
    return State(True, desk.draining, len(workers), len(serving), revision)


ROWS = (
    Row("GET", "/api/health", "", health, gate=anyone),
    Row("GET", "/platform/monitor/liveness", "", liveness, gate=anyone),
    Row("GET", "/platform/monitor/readiness", "", readiness, gate=anyone),
)
