"""The driver of whoever runs no droplets (a command beside the node): it refuses everything."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NoReturn

from ostiary.core.refusal import Unavailable
from ostiary.drivers.port import Image, Printed, Seen, Spec, Usage


def refuse() -> NoReturn:
    """Say so."""
    raise Unavailable("driver.unavailable", "No droplets are run from here", 60)


class Absent:
    """See the port."""

    name = "process"
    enforced: frozenset[str] = frozenset()

    async def open(self) -> None:
        refuse()

    async def close(self, *, stop: bool) -> None:
        pass

    async def images(self) -> Sequence[Image]:
        refuse()

    async def create(self, spec: Spec) -> None:
        refuse()

    async def start(self, droplet: str) -> None:
        refuse()

    async def stop(self, droplet: str, signal: str, timeout: int) -> bool:
        refuse()

    async def remove(self, droplet: str) -> None:
        refuse()

    async def look(self) -> Mapping[str, Seen]:
        refuse()

    def watch(self) -> AsyncIterator[Seen]:
        refuse()

    async def usage(self, droplet: str) -> Usage:
        refuse()

    async def logs(self, droplet: str, tail: int) -> Sequence[bytes]:
        refuse()

    async def printed(self, droplet: str, tail: int) -> Sequence[Printed]:
        refuse()

    def follow(self, droplet: str, tail: int) -> AsyncIterator[bytes]:
        refuse()
