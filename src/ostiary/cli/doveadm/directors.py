"""The commands of the director, and of the nodes that share its work."""

import shlex
from typing import Annotated

import typer

from ostiary.cli.doveadm import asking
from ostiary.cli.doveadm.asking import Parameters
from ostiary.cli.doveadm.groups import Context, change, given, group, listed, plain, same, shown
from ostiary.cli.doveadm.layout import Format, Row
from ostiary.cli.output import printable

MOST_NAMES = 1 << 20
"""Bytes of a list of users; a request holds no more."""
HOSTS = same("mail server ip", "tag", "vhosts", "state") | {"state-changed": "state changed", "users": "users"}
HOST = same("status", "expires", "hashed", "initial-config")
ASSIGNMENTS = same("user", "hash", "mail server ip", "expire time")
DUMP = same("command", "socket-path", "host", "vhost_count", "state")
NODES = same(
    "director ip", "port", "type", "last failed", "status", "ping ms", "input", "output", "buffered", "buffered peak",
    "last read", "last write",
)  # fmt: skip
director, ring = group(), group()
User = Annotated[str, typer.Argument(metavar="USER", help="name of the user")]
Host = Annotated[str, typer.Argument(metavar="HOST", help="address or name of the backend")]
Ip = Annotated[str, typer.Argument(metavar="IP", help="address of the node")]
Port = Annotated[int | None, typer.Argument(metavar="PORT", help="its port")]


@director.callback()
def directors() -> None:
    """The director, which ties each user to one backend."""


@director.command("status")
def director_status(
    ctx: Context,
    user: Annotated[str | None, typer.Argument(metavar="USER", help="name, or hash, of a user")] = None,
    tag: Annotated[str | None, typer.Argument(metavar="TAG", help="the tag whose backends are meant")] = None,
) -> None:
    """Show the backends; or where a user is, where the ring has them, and where the configuration file alone would."""
    if user is None:
        listed(ctx, "directorStatus", {}, HOSTS)
        return
    rows = asking.ask(ctx.obj, "directorStatus", given(user=user, tag=tag))
    if not plain(ctx, Format.TABLE):
        shown(ctx, rows, HOST)
        return
    for row in rows:
        typer.echo(f"Current: {row['status']} (expires {row['expires']})")
        typer.echo(f"Hashed: {row['hashed']}".rstrip())
        typer.echo(f"Initial config: {row['initial-config']}".rstrip())


@director.command("map")
def director_map(
    ctx: Context,
    host: Annotated[str | None, typer.Argument(metavar="HOST", help="only those of the backend")] = None,
    names: Annotated[
        typer.FileBinaryRead | None,
        typer.Option(
            "-f",
            "--users-file",
            metavar="FILE",
            help="names of users, one a line, for what is only a hash; -: standard input",
        ),
    ] = None,
    hashed: Annotated[str | None, typer.Option("-h", "--hash", metavar="HASH", help="the users of a hash")] = None,
    user: Annotated[str | None, typer.Option("-u", "--user", metavar="USER", help="the hash of a user")] = None,
) -> None:
    """Show which users are tied to which backends."""
    if sum(each is not None for each in (host, hashed, user)) > 1:
        raise typer.BadParameter("give one of HOST, -h HASH and -u USER")
    meant = _by_hash(hashed) or _by_user(user) or given(host=host)
    rows = asking.ask(ctx.obj, "directorMap", meant | ({} if names is None else {"usersFile": _names(names)}))
    one = "user" if hashed is not None else "hash" if user is not None else ""
    if one and plain(ctx, Format.TABLE, Format.TAB):
        for row in rows:
            typer.echo(printable(row[one]))
    else:
        shown(ctx, rows, same(one) if one else ASSIGNMENTS)


def _by_hash(hashed: str | None) -> Parameters:
    return {} if hashed is None else {"hashMap": True, "host": hashed}


def _by_user(user: str | None) -> Parameters:
    return {} if user is None else {"userMap": True, "host": user}


def _names(file: typer.FileBinaryRead) -> str:
    content = file.read(MOST_NAMES + 1)
    if len(content) > MOST_NAMES:
        raise typer.BadParameter(f"{file.name} holds more than {MOST_NAMES} bytes")
    return content.decode(errors="replace")


@director.command("add")
def director_add(
    ctx: Context,
    host: Host,
    vhosts: Annotated[str | None, typer.Argument(metavar="VHOSTS", help="its weight; else 100, or what it has")] = None,
    tag: Annotated[str | None, typer.Option("-t", "--tag", metavar="TAG", help="a ring of its own")] = None,
) -> None:
    """Add a backend, or change the weight of one."""
    change(ctx, "directorAdd", tag=tag, host=host, vhostCount=vhosts)


@director.command("up")
def director_up(ctx: Context, host: Host) -> None:
    """Let new users come to a backend again."""
    change(ctx, "directorUp", host=host)


@director.command("down")
def director_down(ctx: Context, host: Host) -> None:
    """Let nobody new come to a backend; its users stay."""
    change(ctx, "directorDown", host=host)


@director.command("remove")
def director_remove(ctx: Context, host: Host) -> None:
    """Take a backend away, and end the connections of its users."""
    change(ctx, "directorRemove", host=host)


@director.command("move")
def director_move(ctx: Context, user: User, host: Host) -> None:
    """Move a user to a backend, with all connections."""
    change(ctx, "directorMove", user=user, host=host)


@director.command("kick")
def director_kick(ctx: Context, user: User) -> None:
    """End the connections of a user to the backends of the director."""
    change(ctx, "directorKick", user=user)


@director.command("flush")
def director_flush(
    ctx: Context,
    host: Annotated[str, typer.Argument(metavar="HOST|all", help="address or name of the backend, or all")],
    force: Annotated[bool, typer.Option("-F", "--force", help="forget the users, without waiting for anybody")] = False,
) -> None:
    """Move the users of a backend to where the ring has them now."""
    change(ctx, "directorFlush", host=host, forceFlush=force)


@director.command("dump")
def director_dump(ctx: Context) -> None:
    """Print the commands that make the backends what they are now."""
    rows = asking.ask(ctx.obj, "directorDump", {"state": True})
    if not plain(ctx, Format.TABLE):
        shown(ctx, rows, DUMP)
        return
    for row in rows:
        typer.echo(" ".join(["ostiary", "doveadm", "director", row["command"], *map(shlex.quote, _words(row))]))


def _words(row: Row) -> list[str]:
    """What stands behind the command; a tag is of a host that is added."""
    host, _, tag = row["host"].partition("@")
    return [*(["-t", tag] if tag else []), host, *([row["vhost_count"]] if row["vhost_count"] else [])]


@ring.callback()
def nodes() -> None:
    """The nodes that share the work of the director."""


@ring.command("add")
def ring_add(ctx: Context, ip: Ip, port: Port = None) -> None:
    """Expect a node."""
    change(ctx, "directorRingAdd", ip=ip, port=_text(port))


@ring.command("remove")
def ring_remove(ctx: Context, ip: Ip, port: Port = None) -> None:
    """Expect a node no longer; one that is there stops admitting."""
    change(ctx, "directorRingRemove", ip=ip, port=_text(port))


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


@ring.command("status")
def ring_status(ctx: Context) -> None:
    """Show the nodes."""
    listed(ctx, "directorRingStatus", {}, NODES)


director.add_typer(ring, name="ring")
