"""Flush, reload, configuration."""

import msgspec
from msgspec.structs import replace

from ostiary.control.caches import Flush, Flushed
from ostiary.control.reload import NotReloaded
from ostiary.core.refusal import Invalid, Mistake
from ostiary.dialects.doorman.asked import Asked, Row, signed_in
from ostiary.dialects.doorman.words import NO_FLUSH, done, error, message
from ostiary.dialects.message import Answer, Request


async def flush(asked: Asked) -> Answer:
    """Drop what is cached everywhere; `penalties=true` lifts those of log-ins too."""
    flushed: Flushed = await asked.run("caches.flush", Flush(_penalties(asked.request)))
    counts = msgspec.to_builtins(flushed)
    told = ", ".join(f"{name}={count}" for name, count in counts.items())
    return message("All caches cleared", ("X-Ostiary-Flushed", told), *asked.receipt())


def _penalties(request: Request) -> bool:
    values = [value for name, value in request.pairs() if name == "penalties"]
    if values not in ([], ["true"], ["false"]):
        raise Invalid("params.invalid", "penalties", (Mistake("$.penalties", "expected true or false, once"),))
    return values == ["true"]


async def reload(asked: Asked) -> Answer:
    """Read the configuration again; the answer comes when every worker serves it."""
    try:
        loaded = await asked.run("config.reload")
    except NotReloaded as refusal:
        return _not_reloaded(refusal)
    shown = {"message": "Configuration reloaded successfully", **msgspec.to_builtins(loaded)}
    return done({"data": shown}, *asked.receipt())


def _not_reloaded(refusal: NotReloaded) -> Answer:
    """CFG008: every mistake with its place, in file order, and what keeps serving."""
    errors = [
        {"file": each.file, "line": each.line, "path": each.path, "message": each.message} for each in refusal.mistakes
    ]
    return error(422, ("CFG008", refusal.message), errors=errors, revision=refusal.revision)


async def current(asked: Asked) -> Answer:
    """The effective settings and where each comes from; the command to reload stands in both places."""
    shown = msgspec.to_builtins(await asked.run("config.current"))
    return done({"data": shown, "reload_command": shown["reload_command"]})


async def reloadable_keys(asked: Asked) -> Answer:
    """The settings that a reload can change, for whoever is signed in, whatever that needs elsewhere."""
    principal = asked.call.principal
    asked.become(replace(principal, permissions=principal.permissions | {"config:read"}))
    return done({"data": msgspec.to_builtins(await asked.run("config.reloadable_keys"))})


ROWS = (
    Row("DELETE", "/api/caches", "caches.flush", flush, NO_FLUSH),
    Row("POST", "/platform/config/reload", "config.reload", reload),
    Row("GET", "/platform/config/current", "config.current", current),
    Row("GET", "/platform/config/reloadable-keys", "config.reloadable_keys", reloadable_keys, gate=signed_in),
)
