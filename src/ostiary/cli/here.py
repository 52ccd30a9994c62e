"""Operations on the server's machine: in its store, with nobody to sign in as, whether the node runs or not."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ostiary.cli import client, target
from ostiary.cli.client import Problem, Target, fail
from ostiary.cli.output import written
from ostiary.cli.profiles import PROFILE

DEFAULT = Path("ostiary.yaml")
WHOM = ("OSTIARY_PASSWORD", "OSTIARY_TOKEN", PROFILE)
"""What in the environment says as whom a server is to be asked."""
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="OSTIARY_CONFIG",
        help=f"configuration file of the server of this machine, which then needs no password; else {DEFAULT} if that "
        "is here and nothing says whom to ask",
    ),
]  # fmt: skip
Whom = Target | Path
"""A server, or the configuration file of the one on this machine."""


def whom(config: Path | None, asked: target.Asked) -> Whom:
    """Where to ask. Whoever names a server or a user means that one. Refuses usage."""
    said = asked != target.Asked() or any(name in os.environ for name in WHOM)
    if not said and (config is not None or (DEFAULT.exists() and target.chosen(None)[1] is None)):
        return config or DEFAULT
    return target.target(asked)


def run(whom: Whom, operation: str, params: dict[str, Any]) -> Any:
    """The result of an operation. Raises Problem."""
    return _run_here(whom, operation, params) if isinstance(whom, Path) else client.run(whom, operation, params).result


def carry_out(whom: Whom, operation: str, params: dict[str, Any], *, as_json: bool) -> None:
    """Run an operation and print its result; what is refused ends the command."""
    try:
        found = run(whom, operation, params)
    except Problem as problem:
        fail(problem)
    written(found, sys.stdout, as_json=as_json)


def _run_here(config: Path, operation: str, params: dict[str, Any]) -> Any:
    """By who may write to the state directory, and so may do everything; the audit says `cli`."""
    import asyncio

    from ostiary.core.refusal import NotFound, Refusal

    try:
        return asyncio.run(_ran(config, operation, params))
    except Refusal as refusal:
        status = 404 if isinstance(refusal, NotFound) else 400
        raise Problem(status, refusal.code, refusal.message, tuple(map(str, refusal.mistakes))) from refusal


async def _ran(config: Path, operation: str, params: dict[str, Any]) -> Any:
    # Here: most commands ask a server, and need none of it.
    import msgspec

    from ostiary.control.call import Call
    from ostiary.control.configuration import load
    from ostiary.control.registry import parse
    from ostiary.control.sources import Disk
    from ostiary.control.subjects import registry
    from ostiary.core.permission import OWNER, Principal
    from ostiary.core.refusal import Invalid
    from ostiary.node.local import Elsewhere, control_of
    from ostiary.node.start import environment

    loaded = load(config, environment(None), Disk(config.parent.absolute()))
    if loaded.mistakes:
        raise Invalid("configuration.invalid", f"{config} has mistakes", tuple(loaded.mistakes))
    operations, call = registry(), Call(Principal("node", "cli", OWNER), "cli")
    async with control_of(config, loaded.settings, Elsewhere(loaded.settings)) as control:
        wanted = parse(operations.get(operation), params)
        return msgspec.to_builtins(await operations.run(control, operation, wanted, call))
