"""The commands, what each asks, and under which headings its rows stand."""

from enum import Enum
from typing import Annotated

import typer

from ostiary.cli import target as targets
from ostiary.cli.doveadm import asking
from ostiary.cli.doveadm.asking import NOT_FOUND, Asked, Failed, Parameters
from ostiary.cli.doveadm.directors import director
from ostiary.cli.doveadm.groups import FORESEEN, Context, Everything, change, given, group, listed, same, shown
from ostiary.cli.doveadm.layout import Columns, Format

HOW_WRITTEN = "table, tab, json, flow or pager; else tab for stats dump, table for everything else"
STATUSES = (
    "Exit status: 0 done, 64 the words make no sense, 65 the change contradicts what is there, 67 no such user, "
    "68 no such session, service or host, 70 a defect of the server, 75 nobody answers or try again, 77 not signed in "
    "or not permitted, 78 a setting is missing or wrong."
)
app, service, stats = group(Everything), group(), group()
Mask = typer.Argument(metavar="MASK", help="users: a name, * and ? stand for any characters")
Net = Annotated[str | None, typer.Argument(metavar="NET", help="clients: an address, or a network such as 10.0.0.0/8")]
Named = typer.Argument(metavar="NAME", help="http, ws, oauth, admin, or gateway for the first two")


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


TOGETHER = {
    "username": "username", "connections": "#", "service": "proto", "pids": "(pids)", "ips": "(ips)",
}  # fmt: skip
SEPARATE = {"username": "username", "service": "proto", "pid": "pid", "ip": "ip"}
KICKED = {"result": "kicked connections from the following users:"}
PENALTIES = same("IP", "penalty", "last_penalty", "last_update")
SERVICES = same(
    "name", "process_count", "process_avail", "process_limit", "client_limit", "throttle_secs", "exit_failure_last",
    "exit_failures_in_sec", "last_drop_warning", "listen_pending", "listening", "doveadm_stop", "process_total",
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


# -- the node


@app.command()
def reload(ctx: Context) -> None:
    """Read the configuration again; services that were stopped start."""
    change(ctx, "reload")


@app.command()
def stop(ctx: Context) -> None:
    """End the node, when the exchanges in flight have ended."""
    change(ctx, "stop")


@service.callback()
def services() -> None:
    """Services of the node."""


@service.command("stop")
def service_stop(ctx: Context, names: Annotated[list[str], Named]) -> None:
    """Stop services until the next reload; all that are named, or none."""
    change(ctx, "serviceStop", service=names)


@service.command("status")
def service_status(ctx: Context, names: Annotated[list[str] | None, Named] = None) -> None:
    """Show services; all of them, where none is named."""
    listed(ctx, "serviceStatus", given(service=names), SERVICES)


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
    listed(ctx, "who", parameters, SEPARATE if separate else TOGETHER)


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
    shown(ctx, rows, FORESEEN if ctx.obj.dry_run else KICKED)


def _masks(*given: str | None) -> list[str]:
    return [mask for mask in given if mask is not None]


@app.command()
def penalty(ctx: Context, net: Net = None) -> None:
    """Show the addresses whose log-ins failed lately."""
    listed(ctx, "penalty", given(netmask=net), PENALTIES)


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
    rows = asking.ask(ctx.obj, "statsDump", given(type=item.value, filter=" ".join(words or []) or None))
    shown(ctx, rows, same(*rows[0]) if rows else _counted(item), Format.TAB)


def _counted(item: Item) -> Columns:
    """The columns, where no row tells them."""
    from ostiary.dialects.doveadm.rows import STATS  # here: it brings all of control

    return same(*LEADS[item], *STATS)


@stats.command("reset")
def stats_reset(ctx: Context) -> None:
    """Begin counting anew."""
    change(ctx, "statsReset")


app.add_typer(service, name="service")
app.add_typer(stats, name="stats")
app.add_typer(director, name="director")
