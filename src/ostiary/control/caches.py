"""Flushing: what workers and control remember for speed, and what counters have counted."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.refusal import Forbidden
from ostiary.link.messages import Change


class Flush(Struct, frozen=True):
    """What to flush."""

    penalties: Annotated[bool, Meta(description="forget the penalties of failed log-ins too")] = False


class Flushed(Struct, frozen=True):
    """How much went, in all workers and nodes together."""

    admissions: int
    users: int
    roles: int
    limits: int
    workers: int
    nodes: int
    penalties: int | UnsetType = UNSET


async def foresee(control: Control, call: Call, params: Flush) -> list[str]:
    """What a flush would drop."""
    _check(call, params)
    return ["cached admissions and limits of all workers", *(["penalties"] if params.penalties else [])]


def _check(call: Call, params: Flush) -> None:
    if params.penalties and not call.principal.may("tokens:manage"):
        raise Forbidden("penalties.denied", "Forgetting penalties needs the permission tokens:manage")


@operation("caches.flush", permission="gateway:manage", preview=foresee)
async def flush(control: Control, call: Call, params: Flush) -> Flushed:
    """Drop every cached admission and start every rate limit anew; tokens and penalties stay."""
    _check(call, params)
    limits = control.authority.forget()
    receipt = await control.workers.apply(Change(0, everything=True, limits=True, streams=False))
    limits += control.authority.forget()
    call.trail.receipt = receipt
    return Flushed(
        admissions=receipt.dropped.get("admissions", 0),
        users=0,
        roles=0,
        limits=limits + receipt.dropped.get("limits", 0),
        workers=receipt.workers,
        nodes=1,
        penalties=control.login.forget() if params.penalties else UNSET,
    )
