"""Where users are and would be: what operators see of a director (doveadm.md 7.3 to 7.5)."""

from typing import Annotated

from msgspec import Meta, Struct

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.hosts import UpstreamName, address, director
from ostiary.control.registry import operation
from ostiary.core import director as core
from ostiary.core.director import LAST_HASH, Board, DirectorRules, user_hash

MOST = 1_000_000
"""Rows of one answer."""

Hash = Annotated[int, Meta(ge=0, le=LAST_HASH)]


class DirectorStatusOf(Struct, frozen=True):
    """Of which director; of whom."""

    upstream: UpstreamName = ""
    user: Annotated[str, Meta(description="a name, or the hash of one; empty: show the hosts")] = ""
    tag: Annotated[str, Meta(description="of the user")] = ""


class HostStatus(Struct, frozen=True):
    """A host now."""

    host: str
    tag: str
    vhosts: int
    state: str
    """`up` or `down`."""
    changed: int
    """When the state changed last (Unix microseconds); 0: never."""
    users: int
    """Assignments, not connections."""


class UserStatus(Struct, frozen=True):
    """A user, seen or not."""

    status: str
    """The host of the assignment; empty: there is none."""
    expires: int
    """Unix microseconds; 0: there is none."""
    hashed: str
    """The host that the ring says now; empty: none is up."""
    initial: str
    """The same of the ring of the configuration's hosts."""


class DirectorStatus(Struct, frozen=True):
    """The hosts by address, or one user."""

    hosts: list[HostStatus]
    user: UserStatus | None


class MapUsers(Struct, frozen=True):
    """Which assignments."""

    upstream: UpstreamName = ""
    users: Annotated[list[str], Meta(description="names that label the rows, instead of those seen")] = []
    host: Annotated[str, Meta(description="only those of this host")] = ""
    user: Annotated[str, Meta(description="only this user, assigned or not: one row")] = ""
    hash: Annotated[Hash | None, Meta(description="names with this hash, one a row")] = None
    limit: Annotated[int, Meta(ge=1, le=MOST, description="at most so many")] = MOST
    offset: Annotated[int, Meta(ge=0, description="without the first so many")] = 0


class Assignment(Struct, frozen=True):
    """Where a user is."""

    user: str
    """The first name seen; empty: none is known."""
    hash: int
    host: str
    """Empty: not assigned."""
    tag: str
    expires: int
    """Unix microseconds; 0: not assigned."""


class DumpHosts(Struct, frozen=True):
    """Which director."""

    upstream: UpstreamName = ""


class DumpRow(Struct, frozen=True):
    """A command that makes a host what it is."""

    command: str
    """`add`, `down` or `remove`."""
    host: str
    tag: str
    vhosts: int | None
    """Only of `add`."""
    state: str
    """`up` or `down`; empty for `remove`."""


@operation("director.status", reads=True)
async def status(control: Control, call: Call, params: DirectorStatusOf) -> DirectorStatus:
    """Show the hosts of a director, or where one user goes."""
    rules = director(control, params.upstream)
    board = await control.steering.board(rules.name)
    if params.user:
        return DirectorStatus([], await _user(control, board, params.user, params.tag))
    users = await control.directors.users(rules.name, control.clock())
    return DirectorStatus(
        [
            HostStatus(each.host, each.tag, each.vhosts, each.state, each.changed, users.get(each.host, 0))
            for each in board.hosts.values()
        ],
        None,
    )


async def _user(control: Control, board: Board, user: str, tag: str) -> UserStatus:
    """Digits are a hash, unless somebody of that very name is known."""
    number = user_hash(user, board.rules.user_hash)
    found = await _found(control, board.rules, tag, number)
    if _is_hash(user) and (found is None or user not in found.names):
        number = int(user)
        found = await _found(control, board.rules, tag, number)
    initial = board.initial.host(number) if not tag else ""
    hashed = board.ring(tag).host(number)
    if found is None:
        return UserStatus("", 0, hashed, initial)
    return UserStatus(found.host, found.expires, hashed, initial)


def _is_hash(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(LAST_HASH)) and int(text) <= LAST_HASH


async def _found(control: Control, rules: DirectorRules, tag: str, number: int) -> core.Assignment | None:
    if not core.tag_ok(tag):
        return None
    found = await control.directors.find(rules.name, tag, [number], control.clock())
    return found[0] if found else None


@operation("director.map", reads=True)
async def map_(control: Control, call: Call, params: MapUsers) -> list[Assignment]:
    """List assignments, longest unrefreshed first; or who has a hash, or where a user is."""
    rules = director(control, params.upstream)
    if params.user or params.hash is not None:
        return (await _looked_up(control, rules, params))[params.offset : params.offset + params.limit]
    host = await address(control, rules, params.host) if params.host else ""
    found = await control.directors.page(rules.name, host, control.clock(), params.limit, params.offset)
    if not params.users:
        return [_row(each.names[0] if each.names else "", each) for each in found]
    names = {user_hash(name, rules.user_hash): name for name in reversed(params.users)}
    return [_row(names.get(each.hash, ""), each) for each in found]


async def _looked_up(control: Control, rules: DirectorRules, params: MapUsers) -> list[Assignment]:
    number = user_hash(params.user, rules.user_hash) if params.hash is None else params.hash
    there = await _everywhere(control, rules, number)
    first = there[0] if there else core.Assignment("", number, "")
    if params.hash is None:
        return [_row(params.user, first)]
    if params.users:
        return [_row(name, first) for name in params.users if user_hash(name, rules.user_hash) == number]
    return [_row(name, each) for each in there for name in each.names]


async def _everywhere(control: Control, rules: DirectorRules, number: int) -> list[core.Assignment]:
    """The assignments of a hash, by tag."""
    board, now = await control.steering.board(rules.name), control.clock()
    tags = sorted({each.tag for each in board.hosts.values()})
    return [each for tag in tags for each in await control.directors.find(rules.name, tag, [number], now)]


def _row(name: str, each: core.Assignment) -> Assignment:
    return Assignment(name, each.hash, each.host, each.tag, each.expires)


@operation("director.dump", reads=True)
async def dump(control: Control, call: Call, params: DumpHosts) -> list[DumpRow]:
    """List the commands that make the hosts what they are."""
    board = await control.steering.board(director(control, params.upstream).name)
    hosts = board.hosts.values()
    return [
        *(DumpRow("add", each.host, each.tag, each.vhosts, each.state) for each in hosts),
        *(DumpRow("down", each.host, each.tag, None, each.state) for each in hosts if each.state == core.DOWN),
        *(DumpRow("remove", host, "", None, "") for host in board.gone),
    ]
