"""The node as a whole: how it does, and its end."""

from importlib.metadata import version
from platform import python_version

from msgspec import Struct

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.refusal import Unavailable
from ostiary.core.snapshot import SECOND
from ostiary.link.receipt import WorkerStatus


class NoParameters(Struct, frozen=True):
    """Nothing is asked for."""


class Health(Struct, frozen=True):
    """How the node does."""

    version: str
    """Of Ostiary."""
    python: str
    uptime: int
    """Seconds since control, the process that administers, was started."""
    mode: str
    """Which kind of database the store is."""
    store: bool
    """Whether it answers."""
    revision: int
    """Of the configuration that serves."""
    workers: list[WorkerStatus]
    stopped: list[str]
    """Services that operators have stopped."""


class Nothing(Struct, frozen=True):
    """There is nothing to say."""


@operation("node.health", reads=True, permission="services:read", also=("gateway:manage",))
async def health(control: Control, call: Call, params: NoParameters) -> Health:
    """Show versions, how long the node is up, its store and its workers."""
    return Health(
        version("ostiary"),
        python_version(),
        (control.clock() - control.started) // SECOND,
        control.mode,
        await _answers(control),
        control.configuration.revision,
        control.workers.status(),
        sorted(control.services.stopped),
    )


async def foresee(control: Control, call: Call, params: NoParameters) -> list[str]:
    """What a stop would do."""
    return ["would drain and end the node"]


@operation("node.stop", permission="node:stop", preview=foresee)
async def stop(control: Control, call: Call, params: NoParameters) -> Nothing:
    """Drain and end the node, once the whole answer has been sent."""
    call.trail.afterwards = control.stop
    return Nothing()


async def _answers(control: Control) -> bool:
    try:
        await control.changes.newest()
    except Unavailable:
        return False
    return True
