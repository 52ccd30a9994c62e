"""The configuration as operators see it: what holds, where it comes from, whether another would do, and the reload."""

from msgspec import Struct

from ostiary.control.call import Call
from ostiary.control.configuration import Current, ReloadableKeys
from ostiary.control.configuration import current as shown
from ostiary.control.configuration import reloadable_keys as declared
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.control.reload import Reloaded, Validated


class NoParameters(Struct, frozen=True):
    """Nothing is asked for."""


@operation("config.current", reads=True)
async def current(control: Control, call: Call, params: NoParameters) -> Current:
    """Show the effective settings, secrets redacted, and where each comes from."""
    return shown(control.configuration.serving)


@operation("config.reloadable_keys", reads=True)
async def reloadable_keys(control: Control, call: Call, params: NoParameters) -> ReloadableKeys:
    """List the settings that a reload can change."""
    return declared()


@operation("config.validate", reads=True)
async def validate(control: Control, call: Call, params: NoParameters) -> Validated:
    """Read the files as a reload would, and say every mistake in them; nothing changes."""
    return await control.configuration.validate()


async def foresee(control: Control, call: Call, params: NoParameters) -> list[str]:
    """What a reload would change."""
    again = [f"{name} starts again" for name in sorted(control.services.stopped)]
    return [*await control.configuration.foresee(), *again]


@operation("config.reload", permission="config:reload", preview=foresee)
async def reload(control: Control, call: Call, params: NoParameters) -> Reloaded:
    """Read the files again; returns when every worker serves them. Mistakes change nothing and are all told.

    Services that were stopped start again.
    """
    reloaded = await control.configuration.reload(call)
    await control.services.set(frozenset())
    return reloaded
