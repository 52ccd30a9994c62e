"""The commands of the director and of its ring, which is the nodes (doveadm.md 5, 7 and 8)."""

import re
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from ostiary.control.nodes import NodeStatus
from ostiary.control.whereabouts import Assignment, DirectorStatus, DumpRow
from ostiary.core.director import LAST_HASH, check_tag
from ostiary.core.refusal import Conflict, NotFound, Unavailable
from ostiary.dialects.doveadm.commands import SOCKET, Asked, Command, Parameter, bad, hidden, needed
from ostiary.dialects.doveadm.rows import Row, nothing, when
from ostiary.dialects.doveadm.words import ORIGINAL, TEMPORARY

UNKNOWN = "<unknown>"
MOST_COUNT = 1_000_000
"""More vhosts than any host has: what is beyond is told as this."""
_DIGITS = re.compile(r"[0-9]+", re.ASCII)
HOST = needed("host")


# -- what is asked


def _host(asked: Asked) -> str:
    """The host without blanks around it. Refuses Unavailable where nothing is left: no such name is known."""
    host: str = asked.values["host"].strip()
    if not host:
        raise Unavailable("host.unresolved", "An empty name is no host's")
    return host


def _vhosts(asked: Asked) -> dict[str, object]:
    if "vhostCount" not in asked.values:
        return {}
    count = asked.values["vhostCount"]
    if not _DIGITS.fullmatch(count):
        raise bad("vhostCount", "It must be a whole number, 0 or more")
    return {"vhosts": int(count) if len(count.lstrip("0")) < 7 else MOST_COUNT}


def _status(asked: Asked) -> dict[str, object]:
    """All hosts, whatever the tag; or where a user goes within it."""
    return {**asked.upstream, **({**asked.given(user="user"), **_tag(asked)} if asked.values.get("user") else {})}


def _map(asked: Asked) -> dict[str, object]:
    """All, those of a host, the hash of a user, or the users of a hash."""
    by_user, by_hash = asked.values.get("userMap"), asked.values.get("hashMap")
    listed = [name.removesuffix("\r") for name in asked.values.get("usersFile", "").split("\n")]
    meant = {**asked.upstream, "users": [name for name in listed if name]}
    if not by_user and not by_hash:
        return {**meant, **({"host": _host(asked)} if "host" in asked.values else {})}
    if by_user and by_hash:
        raise bad("hashMap", "userMap and hashMap are not given together")
    text = asked.values.get("host", "")
    if not text:
        raise bad("host", "It has to hold the user, or the hash")
    return {**meant, **({"user": text} if by_user else {"hash": _number(text, "host", 0, LAST_HASH)})}


def _number(text: str, parameter: str, least: int, most: int) -> int:
    if not _DIGITS.fullmatch(text) or len(text) > 20 or not least <= int(text) <= most:
        raise bad(parameter, f"It must be a number from {least} to {most}")
    return int(text)


def _add(asked: Asked) -> dict[str, object]:
    return {**_turn(asked), **_vhosts(asked)}


def _turn(asked: Asked) -> dict[str, object]:
    return {**asked.upstream, "host": _host(asked), **_tag(asked)}


def _tag(asked: Asked) -> dict[str, object]:
    """The tag, if one was sent. Refuses Invalid `tag.invalid`."""
    check_tag(asked.values.get("tag", ""))
    return asked.given(tag="tag")


def _remove(asked: Asked) -> dict[str, object]:
    host = _host(asked)
    if "@" in host:
        raise Conflict("host.tag", "A host is removed by its address alone")
    return {**asked.upstream, "host": host}


def _user(asked: Asked) -> dict[str, object]:
    user = asked.values["user"]
    if not user:
        raise bad("user", "It is empty")
    return {"user": user}


def _move(asked: Asked) -> dict[str, object]:
    return {**asked.upstream, **_user(asked), "host": _host(asked)}


def _kick(asked: Asked) -> dict[str, object]:
    return {**asked.upstream, **_user(asked), **asked.given(detail="passdbField")}


def _flush(asked: Asked) -> dict[str, object]:
    parallel = asked.values.get("maxParallel", 0)
    more = {"max_parallel": min(parallel, MOST_COUNT)} if parallel > 0 else {}
    return {**asked.upstream, "host": _host(asked), **asked.given(force="forceFlush"), **more}


def _upstream(asked: Asked) -> dict[str, object]:
    return dict(asked.upstream)


def _node(asked: Asked) -> dict[str, object]:
    port = {"port": _number(asked.values["port"], "port", 1, 65_535)} if "port" in asked.values else {}
    return {"address": asked.values["ip"].strip(), **port}


# -- what is shown


def _hosts(result: DirectorStatus, asked: Asked) -> list[Row]:
    if result.user is not None:
        user = result.user
        return [
            {
                "status": user.status or "n/a",
                "expires": when(user.expires) if user.expires else "-1",
                "hashed": user.hashed,
                "initial-config": user.initial,
            }
        ]
    return [
        {
            "mail server ip": each.host,
            "tag": each.tag,
            "vhosts": str(each.vhosts),
            "state": each.state,
            "state-changed": when(each.changed) if each.changed else "-",
            "users": str(each.users),
        }
        for each in result.hosts
    ]


def _assignments(result: list[Assignment], asked: Asked) -> list[Row]:
    if asked.values.get("userMap"):
        return [{"hash": str(each.hash)} for each in result[:1]]
    if asked.values.get("hashMap"):
        return [{"user": each.user or UNKNOWN} for each in result]
    return [
        {
            "user": each.user or UNKNOWN,
            "hash": str(each.hash),
            "mail server ip": each.host,
            "expire time": when(each.expires),
        }
        for each in result
    ]


def _dump(result: list[DumpRow], asked: Asked) -> list[Row]:
    """Rows that can be sent back; down marks only where they are asked for."""
    sent = asked.values.get("socketPath", "")
    path = sent if sent in asked.settings.sockets else asked.settings.socket_path
    marks = asked.values.get("state", False)
    return [
        {
            "command": each.command,
            "socket-path": path,
            "host": f"{each.host}@{each.tag}" if each.tag and each.command == "add" else each.host,
            "vhost_count": "" if each.vhosts is None else str(each.vhosts),
            **({"state": each.state} if marks and each.command == "add" else {}),
        }
        for each in result
        if marks or each.command != "down"
    ]


def _ring(result: list[NodeStatus], asked: Asked) -> list[Row]:
    return [
        {
            "director ip": each.address,
            "port": str(each.port),
            "type": each.type,
            "last failed": when(each.last_failed) if each.last_failed else "never",
            "status": each.status,
            "ping ms": _or_dash(each.ping_ms),
            "input": _or_dash(each.input),
            "output": _or_dash(each.output),
            "buffered": _or_dash(each.buffered),
            "buffered peak": _or_dash(each.buffered_peak),
            "last read": "-" if each.last_read is None else when(each.last_read),
            "last write": "-" if each.last_write is None else when(each.last_write),
        }
        for each in result
    ]


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)


def _silent(result: Any, asked: Asked) -> list[Row]:
    return nothing(result)


def _command(
    name: str,
    operation: str,
    parameters: tuple[Parameter, ...],
    ask: Callable[[Asked], dict[str, object]],
    show: Callable[[Any, Asked], list[Row]] = _silent,
    *,
    unknown: int | None = None,
) -> Command:
    """One that takes a socket first; `unknown` is what an unknown host is told, where that is not the usual."""
    codes = ORIGINAL if unknown is None else {**ORIGINAL, NotFound: unknown}
    return Command(name, operation, (SOCKET, *parameters), ask, show, codes)


_UP = (HOST, hidden("user", other="host"), hidden("tag"))
VHOSTS = Parameter("vhostCount")
DIRECTORS: tuple[Command, ...] = (
    _command("directorStatus", "director.status", (Parameter("user"), Parameter("tag")), _status, _hosts),
    _command(
        "directorMap",
        "director.map",
        (Parameter("usersFile"), Parameter("hashMap", "boolean"), Parameter("userMap", "boolean"), Parameter("host")),
        _map,
        _assignments,
    ),
    _command("directorAdd", "director.add", (Parameter("tag"), HOST, VHOSTS), _add),
    _command("directorUpdate", "director.update", (HOST, needed("vhostCount")), _add, unknown=TEMPORARY),
    _command("directorUp", "director.up", _UP, _turn),
    _command("directorDown", "director.down", _UP, _turn),
    _command("directorRemove", "director.remove", (HOST,), _remove),
    replace(_command("directorMove", "director.move", (needed("user"), HOST), _move), apart="user"),
    _command("directorKick", "director.kick", (Parameter("passdbField"), needed("user")), _kick),
    _command(
        "directorFlush",
        "director.flush",
        (Parameter("forceFlush", "boolean"), Parameter("maxParallel", "integer"), HOST),
        _flush,
    ),
    _command("directorDump", "director.dump", (hidden("state", "boolean"),), _upstream, _dump),
    _command("directorRingAdd", "nodes.add", (needed("ip"), Parameter("port")), _node),
    _command("directorRingRemove", "nodes.remove", (needed("ip"), Parameter("port")), _node),
    _command("directorRingStatus", "nodes.status", (), lambda asked: {}, _ring),
)
