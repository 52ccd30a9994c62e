"""The commands, what each asks, and under which headings its rows stand."""

import shlex
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ostiary.cli import target as targets
from ostiary.cli.doveadm import asking
from ostiary.cli.doveadm.asking import NOT_FOUND, USAGE, Asked, Failed, Parameters
from ostiary.cli.doveadm.layout import Columns, Format, Row, laid_out
from ostiary.cli.output import printable

MOST_NAMES = 1 << 20
"""Bytes of a list of users; a request holds no more."""
HOW_WRITTEN = "table, tab, json, flow or pager; else tab for stats dump, table for everything else"
STATUSES = (
    "Exit status: 0 done, 64 the words make no sense, 65 the change contradicts what is there, 67 no such user, "
    "68 no such session, service or host, 75 nobody answers or try again, 77 not signed in or not permitted, "
    "78 a setting is missing or wrong. What went wrong is one line on standard error. A secret is never a word of the "
    "command: it is asked for, read from a file, or in the environment."
)


class Group(TyperGroup):
    """Commands whose failures are one line on standard error, and an exit code of doveadm."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return _told(lambda: super(Group, self).make_context(info_name, args, parent, **extra))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit(USAGE)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        return _told(lambda: super(Group, self).invoke(ctx))


def _told(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except (typer.TyperException, Failed) as problem:
        said = problem.format_message() if isinstance(problem, typer.TyperException) else str(problem)
        typer.echo(f"Error: {printable(said)}", err=True)
        raise typer.Exit(problem.code if isinstance(problem, Failed) else USAGE) from problem


def _group() -> typer.Typer:
    return typer.Typer(cls=Group, add_completion=False)


app, service, stats, director, ring = _group(), _group(), _group(), _group(), _group()
User = Annotated[str, typer.Argument(metavar="USER", help="name of the user")]
Host = Annotated[str, typer.Argument(metavar="HOST", help="address or name of the backend")]
Ip = Annotated[str, typer.Argument(metavar="IP", help="address of the node")]
Port = Annotated[int | None, typer.Argument(metavar="PORT", help="its port")]
Mask = typer.Argument(metavar="MASK", help="users: a name, * and ? stand for any characters")
Net = Annotated[str | None, typer.Argument(metavar="NET", help="clients: an address, or a network such as 10.0.0.0/8")]
Context = typer.Context


@app.callback(epilog=STATUSES)
def doveadm(
    ctx: Context,
    form: Annotated[Format | None, typer.Option("-f", "--format", metavar="FORMAT", help=HOW_WRITTEN)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would change")] = False,
    url: targets.Url = None,
    api_key: Annotated[str | None, asking.Key] = None,
    password: Annotated[str | None, asking.Password] = None,
    login: targets.Login = None,
    password_file: targets.PasswordFile = None,
    profile: targets.ProfileName = None,
) -> None:
    """Sessions, services, statistics, penalties and the director, as the doveadm command of Dovecot has them."""
    ctx.obj = Asked(form, dry_run, api_key, password, targets.Asked(url, login, password_file, profile))


def _same(*names: str) -> dict[str, str]:
    """Columns whose headings are the keys."""
    return {name: name for name in names}


FORESEEN = _same("dry_run", "operation", "target", "change")
TOGETHER = {
    "username": "username", "connections": "#", "service": "proto", "pids": "(pids)", "ips": "(ips)",
}  # fmt: skip
SEPARATE = {"username": "username", "service": "proto", "pid": "pid", "ip": "ip"}
KICKED = {"result": "kicked connections from the following users:"}
PENALTIES = _same("IP", "penalty", "last_penalty", "last_update")
SERVICES = _same(
    "name", "process_count", "process_avail", "process_limit", "client_limit", "throttle_secs", "exit_failure_last",
    "exit_failures_in_sec", "last_drop_warning", "listen_pending", "listening", "doveadm_stop", "process_total",
)  # fmt: skip
HOSTS = _same("mail server ip", "tag", "vhosts", "state") | {"state-changed": "state changed", "users": "users"}
HOST = _same("status", "expires", "hashed", "initial-config")
ASSIGNMENTS = _same("user", "hash", "mail server ip", "expire time")
DUMP = _same("command", "socket-path", "host", "vhost_count", "state")
NODES = _same(
    "director ip", "port", "type", "last failed", "status", "ping ms", "input", "output", "buffered", "buffered peak",
    "last read", "last write",
)  # fmt: skip


class Item(Enum):
    """What is counted apart."""

    GLOBAL = "global"
    USER = "user"
    DOMAIN = "domain"
    IP = "ip"
    SESSION = "session"
    COMMAND = "command"


LEADS = {
    Item.GLOBAL: (), Item.USER: ("user",), Item.DOMAIN: ("domain",), Item.IP: ("ip",),
    Item.SESSION: ("session", "user", "ip", "service", "pid", "connected"),
    Item.COMMAND: ("cmd", "session", "user", "ip"),
}  # fmt: skip
"""What an item is called by, before its numbers."""


def _shown(ctx: Context, rows: list[Row], columns: Columns, otherwise: Format = Format.TABLE) -> None:
    asked: Asked = ctx.obj
    typer.echo(laid_out(rows, columns, asked.format or otherwise), nl=False)


def _listed(ctx: Context, command: str, parameters: Parameters, columns: Columns) -> None:
    _shown(ctx, asking.ask(ctx.obj, command, parameters), columns)


def _told_plainly(ctx: Context, *forms: Format) -> bool:
    """Whether rows are to be sentences or bare values instead of a table."""
    return (ctx.obj.format or Format.TABLE) in forms


def _change(ctx: Context, command: str, **parameters: object) -> None:
    """Do it without a word, or say what it would change."""
    rows = asking.ask(ctx.obj, command, _given(**parameters))
    if ctx.obj.dry_run:
        _shown(ctx, rows, FORESEEN)


def _given(**parameters: object) -> Parameters:
    """Those that were given."""
    return {name: value for name, value in parameters.items() if value is not None}


# -- the node


@app.command()
def reload(ctx: Context) -> None:
    """Read the configuration again; services that were stopped start."""
    _change(ctx, "reload")


@app.command()
def stop(ctx: Context) -> None:
    """End the node, when the exchanges in flight have ended."""
    _change(ctx, "stop")


@service.callback()
def services() -> None:
    """Services of the node: http, ws, oauth, admin; gateway stands for http and ws."""


@service.command("stop")
def service_stop(ctx: Context, names: Annotated[list[str], typer.Argument(metavar="NAME")]) -> None:
    """Stop services until the next reload; all that are named, or none."""
    _change(ctx, "serviceStop", service=names)


@service.command("status")
def service_status(ctx: Context, names: Annotated[list[str] | None, typer.Argument(metavar="NAME")] = None) -> None:
    """Show services; all of them, where none is named."""
    _listed(ctx, "serviceStatus", _given(service=names), SERVICES)


# -- sessions, penalties, statistics


@app.command()
def who(
    ctx: Context,
    mask: Annotated[str | None, Mask] = None,
    net: Net = None,
    separate: Annotated[bool, typer.Option("-1", "--separate", help="a line a session")] = False,
) -> None:
    """Show who is connected."""
    parameters: Parameters = {"mask": _masks(mask, net), "separateConnections": separate}
    _listed(ctx, "who", parameters, SEPARATE if separate else TOGETHER)


@app.command()
def kick(
    ctx: Context,
    mask: Annotated[str, typer.Argument(metavar="MASK", help="users, * and ? stand for any characters; or a network")],
    net: Net = None,
    force: Annotated[bool, typer.Option("-f", "--force", help="at once, and whoever shares a connection too")] = False,
) -> None:
    """End the connections of users."""
    try:
        rows = asking.ask(ctx.obj, "kick", {"mask": _masks(mask, net), "force": force})
    except Failed as problem:
        if problem.code != NOT_FOUND:
            raise
        typer.echo("no users kicked", err=True)
        raise typer.Exit(NOT_FOUND) from problem
    _shown(ctx, rows, FORESEEN if ctx.obj.dry_run else KICKED)


def _masks(*given: str | None) -> list[str]:
    return [mask for mask in given if mask is not None]


@app.command()
def penalty(ctx: Context, net: Net = None) -> None:
    """Show the addresses whose log-ins failed lately."""
    _listed(ctx, "penalty", _given(netmask=net), PENALTIES)


@stats.callback()
def statistics() -> None:
    """Statistics of the gateway since their last reset."""


@stats.command("dump")
def stats_dump(
    ctx: Context,
    item: Annotated[Item, typer.Argument(metavar="TYPE", help=", ".join(each.value for each in Item))],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILTER", help="user=MASK domain=NAME session=ID ip=NET since=UNIX connected"),
    ] = None,
) -> None:
    """Show them: of everything (global), or item by item; of these, those for which the whole filter holds."""
    rows = asking.ask(ctx.obj, "statsDump", _given(type=item.value, filter=" ".join(words or []) or None))
    _shown(ctx, rows, _same(*rows[0]) if rows else _counted(item), Format.TAB)


def _counted(item: Item) -> Columns:
    """The columns, where no row tells them."""
    from ostiary.dialects.doveadm.rows import STATS  # here: it brings all of control

    return _same(*LEADS[item], *STATS)


@stats.command("reset")
def stats_reset(ctx: Context) -> None:
    """Begin counting anew."""
    _change(ctx, "statsReset")


# -- the director


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
        _listed(ctx, "directorStatus", {}, HOSTS)
        return
    rows = asking.ask(ctx.obj, "directorStatus", _given(user=user, tag=tag))
    if not _told_plainly(ctx, Format.TABLE):
        _shown(ctx, rows, HOST)
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
    meant = _by_hash(hashed) or _by_user(user) or _given(host=host)
    rows = asking.ask(ctx.obj, "directorMap", meant | ({} if names is None else {"usersFile": _names(names)}))
    one = "user" if hashed is not None else "hash" if user is not None else ""
    if one and _told_plainly(ctx, Format.TABLE, Format.TAB):
        for row in rows:
            typer.echo(printable(row[one]))
    else:
        _shown(ctx, rows, _same(one) if one else ASSIGNMENTS)


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
    _change(ctx, "directorAdd", tag=tag, host=host, vhostCount=vhosts)


@director.command("up")
def director_up(ctx: Context, host: Host) -> None:
    """Let new users come to a backend again."""
    _change(ctx, "directorUp", host=host)


@director.command("down")
def director_down(ctx: Context, host: Host) -> None:
    """Let nobody new come to a backend; its users stay."""
    _change(ctx, "directorDown", host=host)


@director.command("remove")
def director_remove(ctx: Context, host: Host) -> None:
    """Take a backend away, and end the connections of its users."""
    _change(ctx, "directorRemove", host=host)


@director.command("move")
def director_move(ctx: Context, user: User, host: Host) -> None:
    """Move a user to a backend, with all connections."""
    _change(ctx, "directorMove", user=user, host=host)


@director.command("kick")
def director_kick(ctx: Context, user: User) -> None:
    """End the connections of a user to the backends of the director."""
    _change(ctx, "directorKick", user=user)


@director.command("flush")
def director_flush(
    ctx: Context,
    host: Annotated[str, typer.Argument(metavar="HOST|all", help="address or name of the backend, or all")],
    force: Annotated[bool, typer.Option("-F", "--force", help="forget the users, without waiting for anybody")] = False,
) -> None:
    """Move the users of a backend to where the ring has them now."""
    _change(ctx, "directorFlush", host=host, forceFlush=force)


@director.command("dump")
def director_dump(ctx: Context) -> None:
    """Print the commands that make the backends what they are now."""
    rows = asking.ask(ctx.obj, "directorDump", {"state": True})
    if not _told_plainly(ctx, Format.TABLE):
        _shown(ctx, rows, DUMP)
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
    _change(ctx, "directorRingAdd", ip=ip, port=_text(port))


@ring.command("remove")
def ring_remove(ctx: Context, ip: Ip, port: Port = None) -> None:
    """Expect a node no longer; one that is there stops admitting."""
    _change(ctx, "directorRingRemove", ip=ip, port=_text(port))


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


@ring.command("status")
def ring_status(ctx: Context) -> None:
    """Show the nodes."""
    _listed(ctx, "directorRingStatus", {}, NODES)


app.add_typer(service, name="service")
app.add_typer(stats, name="stats")
app.add_typer(director, name="director")
director.add_typer(ring, name="ring")
