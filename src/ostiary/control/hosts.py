"""What operators write of directors and their hosts, read: upstream, address or name, tag."""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeAlias

from msgspec import Meta

from ostiary.control.control import Control
from ostiary.core.director import DirectorRules, read_host
from ostiary.core.refusal import Conflict, NotFound, Unavailable

Resolve: TypeAlias = Callable[[str], Awaitable[list[str]]]
"""The addresses of a name, in the order of preference; none where it has none."""
PATIENCE = 5.0
"""Seconds for a name."""
_NAME = re.compile(r"[0-9A-Za-z_]([0-9A-Za-z._-]{0,251}[0-9A-Za-z_.])?", re.ASCII)

UpstreamName = Annotated[str, Meta(description="upstream with balance: director; empty: the only one")]
HostText = Annotated[str, Meta(description="address or name of a host; ADDRESS:PORT of a droplet")]


async def resolve(name: str) -> list[str]:
    """What the system says of a name."""
    try:
        async with asyncio.timeout(PATIENCE):
            found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def director(control: Control, upstream: str) -> DirectorRules:
    """The director that is meant. Refuses NotFound `director.unknown`, Conflict `director.unset`."""
    directors = control.rules.directors
    if upstream:
        if upstream not in directors:
            raise NotFound("director.unknown", "There is no such upstream with balance: director")
        return directors[upstream]
    if len(directors) != 1:
        there = f"there are {', '.join(sorted(directors))}" if directors else "no upstream has balance: director"
        raise Conflict("director.unset", f"Say which upstream is meant: {there}")
    return next(iter(directors.values()))


async def addresses(control: Control, rules: DirectorRules, text: str) -> list[str]:
    """All addresses of a host; of a droplet that serves this director its ADDRESS:PORT.

    Refuses Invalid `host.invalid`, Unavailable `host.unresolved`.
    """
    name = text.strip()
    if name in control.steering.enlisted(rules.name).hosts:
        return [name]
    address = read_host(name)
    if address:
        return [address]
    found = await control.resolve(name) if _NAME.fullmatch(name) else []
    read = [read_host(each) for each in found]
    if not read:
        raise Unavailable(
            "host.unresolved",
            "The host is no address, no ADDRESS:PORT of a droplet that serves, and no name that has an address",
        )
    return read


async def address(control: Control, rules: DirectorRules, text: str) -> str:
    """The first address of a host. Refuses what `addresses` refuses."""
    return (await addresses(control, rules, text))[0]


def tagged(host: str, tag: str) -> tuple[str, str]:
    """A host that may be written HOST@TAG, apart from its tag. Refuses Conflict `host.tag`."""
    host, _, own = host.strip().partition("@")
    if own and tag and own != tag:
        raise Conflict("host.tag", "The host and the parameter tag name two tags")
    return host, own or tag
