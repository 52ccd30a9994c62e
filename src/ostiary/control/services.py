"""Services: what listens, what operators have stopped, and starting it again.

A service that is stopped comes back by a reload, a restart, or `services.start`. The administration itself is a
service that is listed and cannot be stopped here: `node.stop` ends the whole node.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated

from msgspec import Meta, Struct

from ostiary.control.call import Call
from ostiary.control.control import Control, Workers
from ostiary.control.registry import operation
from ostiary.core.refusal import Invalid, NotFound
from ostiary.link.messages import Change
from ostiary.link.receipt import Receipt

HTTP, WS, OAUTH, ADMIN = "http", "ws", "oauth", "admin"
ALL = (HTTP, WS, OAUTH, ADMIN)
AT_WORKERS = frozenset({HTTP, WS})
GATEWAY = "gateway"
NAMES: Mapping[str, tuple[str, ...]] = {name: (name,) for name in ALL} | {GATEWAY: (HTTP, WS)}

ADMIN_CONNECTIONS = 1024
"""That the administration's listeners take."""

Names = Annotated[list[str], Meta(description="http, ws, oauth, gateway, or configured names")]


class Services:
    """Which services operators have stopped."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.stopped: frozenset[str] = frozenset()
        self._told = 0
        self._settled: frozenset[str] | None = frozenset()
        """What is stopped in all workers; None while not all have said so."""

    async def set(self, stopped: frozenset[str]) -> Receipt | None:
        """Have exactly these stopped; returns when it is so everywhere, with a receipt if workers had to know.

        What holds is set, and told, before anything is waited for: the last of several at once holds everywhere.
        """
        self.stopped, theirs = stopped, stopped & AT_WORKERS
        if theirs == self._settled:
            return None
        self._settled = None
        self._told += 1
        mine = self._told
        receipt = await self._workers.apply(Change(0, stopped=sorted(theirs)))
        if mine == self._told:
            self._settled = theirs
        return receipt


class Service(Struct, frozen=True):
    """A service as the original describes it; what has no meaning here is 0 or false."""

    name: str
    process_count: int
    """Processes that serve it now."""
    process_avail: int
    process_limit: int
    """Processes that should."""
    client_limit: int
    """Connections that one of them takes."""
    throttle_secs: int
    exit_failure_last: int
    exit_failures_in_sec: int
    last_drop_warning: int
    listen_pending: bool
    listening: bool
    doveadm_stop: bool
    """An operator has stopped it."""
    process_total: int


class WhichServices(Struct, frozen=True):
    """Which services; none: all."""

    services: Names = []


class StopServices(Struct, frozen=True):
    """Which services to stop."""

    services: Names


class Stopped(Struct, frozen=True):
    """The services that are stopped now."""

    stopped: list[str]


@operation("services.status", reads=True, also=("gateway:manage",))
async def status(control: Control, call: Call, params: WhichServices) -> list[Service]:
    """Show the services and which of them are stopped; unknown names are left out."""
    names = _names(control)
    wanted = {each for name in params.services for each in names.get(name, ())} if params.services else set(ALL)
    return [_shown(control, name) for name in ALL if name in wanted]


async def foresee_stop(control: Control, call: Call, params: StopServices) -> list[str]:
    """Which services would be stopped that are not yet."""
    return [f"would stop {name}" for name in sorted(_meant(control, params.services) - control.services.stopped)]


@operation("services.stop", also=("gateway:manage",), preview=foresee_stop)
async def stop(control: Control, call: Call, params: StopServices) -> Stopped:
    """Stop services in all workers, all of those named or none; what is under way has `drain_timeout` to end."""
    call.trail.about = ", ".join(params.services)
    found = _meant(control, params.services)
    call.trail.receipt = await control.services.set(control.services.stopped | found)
    return Stopped(sorted(control.services.stopped))


async def foresee_start(control: Control, call: Call, params: WhichServices) -> list[str]:
    """Which services would be started again."""
    return [f"would start {name}" for name in sorted(_to_start(control, params.services) & control.services.stopped)]


@operation("services.start", also=("gateway:manage",), preview=foresee_start)
async def start(control: Control, call: Call, params: WhichServices) -> Stopped:
    """Start services again that were stopped; without names, all."""
    call.trail.about = ", ".join(params.services)
    found = _to_start(control, params.services)
    call.trail.receipt = await control.services.set(control.services.stopped - found)
    return Stopped(sorted(control.services.stopped))


def _meant(control: Control, services: Iterable[str]) -> frozenset[str]:
    """What is to be stopped. Refuses Invalid `service.admin`, NotFound `service.unknown`."""
    if ADMIN in services:
        raise Invalid("service.admin", "The administration is not stopped like a service: node.stop ends the node")
    return _known(control, services)


def _to_start(control: Control, services: Iterable[str]) -> frozenset[str]:
    return _known(control, services) if services else frozenset(ALL)


def _known(control: Control, services: Iterable[str]) -> frozenset[str]:
    names = _names(control)
    if any(name not in names for name in services):
        raise NotFound("service.unknown", f"There is no such service; there are {', '.join(sorted(names))}")
    return frozenset(each for name in services for each in names[name])


def _names(control: Control) -> Mapping[str, tuple[str, ...]]:
    """Every name of a service, and what it stands for."""
    return {**control.rules.services, **NAMES}


def _shown(control: Control, name: str) -> Service:
    stopped = name in control.services.stopped
    workers = control.workers.status()
    count, limit = sum(each.connected for each in workers), len(workers)
    if name not in AT_WORKERS:
        count = limit = 1
    return Service(
        name,
        process_count=count,
        process_avail=0 if stopped else count,
        process_limit=limit,
        client_limit=control.rules.connections if name in AT_WORKERS else ADMIN_CONNECTIONS,
        throttle_secs=0,
        exit_failure_last=0,
        exit_failures_in_sec=0,
        last_drop_warning=0,
        listen_pending=False,
        listening=not stopped and count > 0,
        doveadm_stop=stopped,
        process_total=count,
    )
