"""`ostiary audit export`: the audit as JSON lines, oldest first."""

import sys
import tempfile
from typing import IO, Annotated, Any

import msgspec
import typer

from ostiary.cli.client import Problem, Target, fail, run
from ostiary.cli.moments import WRITTEN, moment
from ostiary.cli.run import PAGE
from ostiary.cli.target import Asked, Login, PasswordFile, ProfileName, Url, target

LIST = "audit.list"
Moment = Annotated[str | None, typer.Option(metavar="TIME", help=f"a moment, {WRITTEN}")]
Only = Annotated[str, typer.Option(help="only records of this")]


def export(
    since: Moment = None, until: Moment = None, operation: Only = "", name: Only = "", outcome: Only = "",
    audit_target: Annotated[str, typer.Option("--target", help="only records about this")] = "",
    surface: Only = "", address: Only = "", url: Url = None, login: Login = None, password_file: PasswordFile = None,
    profile: ProfileName = None,
) -> None:  # fmt: skip
    """Write the audit records as JSON lines, oldest first; times are Unix microseconds, as they are kept."""
    only = {
        "operation": operation, "name": name, "outcome": outcome, "target": audit_target, "surface": surface,
        "address": address, "since": moment(since, "--since") if since else 0,
        "until": moment(until, "--until") if until else 0,
    }  # fmt: skip
    with tempfile.TemporaryFile() as spool:
        try:
            ends = _spool(target(Asked(url, login, password_file, profile)), only, spool)
        except Problem as problem:
            fail(problem)
        for start, end in reversed(list(zip([0, *ends], ends, strict=False))):
            spool.seek(start)
            sys.stdout.write(spool.read(end - start).decode())


def _spool(whom: Target, only: dict[str, Any], spool: IO[bytes]) -> list[int]:
    """Fetch all pages, newest first, each turned round; where each ends in `spool`. Raises Problem.

    What is exported may be larger than memory, and records that come meanwhile do not shift what is still to come.
    """
    ends, before = [], 0
    while page := run(whom, LIST, only | {"before": before, "limit": PAGE}).result:
        spool.writelines(msgspec.json.encode(record) + b"\n" for record in reversed(page))
        ends.append(spool.tell())
        before = page[-1]["number"]
    return ends
