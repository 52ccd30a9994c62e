"""What is kept of directors and nodes, as the operations see it.

Like `ports`: what changes something commits before it returns; Unavailable `store.unavailable` when the store cannot be
reached; times are Unix microseconds. Hosts are what operators made of them; what lies under them, the configuration,
the store does not know: decisions are functions that it calls with the hosts as the transaction sees them.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from ostiary.core.director import Assignment, Board, Edit, Host, Move, Unsteer
from ostiary.core.marks import Mark
from ostiary.store.ports import Changed, Record

Read: TypeAlias = Callable[[Sequence[Host]], Board]
"""The board of an upstream, from the hosts that operators changed."""
User: TypeAlias = tuple[str, int]
"""Tag and user hash."""


class Wanted(NamedTuple):
    """A user who is to be somewhere."""

    tag: str
    hash: int
    names: tuple[str, ...]
    """By which it is asked for."""


class Moved(NamedTuple):
    """An assignment before (None: there was none that counts) and after a move."""

    before: Assignment | None
    after: Assignment


class Left(NamedTuple):
    """Users who left a host together: how many, and the mark that says where they are."""

    users: int
    mark: Mark


class Flushed(NamedTuple):
    """Users who left a host one by one: those who have another, and those who have none."""

    seq: int
    moved: list[User]
    forgotten: list[User]


class Late(NamedTuple):
    """The last changes of directors, each with its number: all that there were after `after`, up to `newest`."""

    after: int
    newest: int
    changes: list[tuple[int, Unsteer]]


class Directors(Protocol):
    """Hosts and assignments of all directors."""

    async def hosts(self, upstream: str) -> list[Host]:
        """What operators changed."""

    async def change(
        self, upstream: str, decide: Callable[[list[Host]], Edit], record: Record, held: int = 0
    ) -> Changed[Edit]:
        """Change hosts as `decide` says, and forget users with them; `held` names that. Refuses what it refuses."""

    async def assign(
        self, upstream: str, wanted: Sequence[Wanted], read: Read, now: int
    ) -> tuple[Board, dict[User, Assignment]]:
        """Find or make assignments, and let them live their whole time from now; none where no host is up.

        `wanted` has each tag and hash once. One of a host that is not on the board counts as none.
        """

    async def touch(self, upstream: str, tag: str, hashes: Sequence[int], now: int, expires: int) -> None:
        """Let those that live go on until `expires`."""

    async def find(self, upstream: str, tag: str, hashes: Sequence[int], now: int) -> list[Assignment]:
        """Those that live, in any order."""

    async def page(self, upstream: str, host: str, now: int, limit: int, offset: int) -> list[Assignment]:
        """Those that live (of a host, if one is given), longest unrefreshed first."""

    async def users(self, upstream: str, now: int) -> dict[str, int]:
        """How many live, by host."""

    async def move(
        self, upstream: str, host: Callable[[Sequence[Host]], Host], move: Move, record: Record
    ) -> Changed[Moved]:
        """Move a user to the host that `host` finds. Refuses what that and `Move.decide` refuse."""

    async def flush(
        self, upstream: str, host: str, read: Read, held: int, at: int, spared: Collection[int] = ()
    ) -> Left | None:
        """Move the users of `host` whose place on the ring is elsewhere, but for the hashes `spared`; None: nobody is.

        `held` names the move. Refuses NotFound `host.unknown`.
        """

    async def flush_users(
        self, upstream: str, host: str, read: Read, held: int, at: int, hashes: Sequence[int]
    ) -> Flushed:
        """Move these users of `host`, as far as their place on the ring is elsewhere. Refuses as `flush`."""

    async def forget(self, upstream: str, hosts: Sequence[str], held: int, at: int) -> Changed[int]:
        """Forget all users of these hosts; how many. Who comes again waits for the move `held` (0: for none)."""

    async def others(self, upstream: str, hosts: Sequence[str]) -> list[str]:
        """Hosts that have users and are not among `hosts`."""

    async def late(self) -> Late:
        """What the end of the change log has of directors."""

    async def sweep(self, upstream: str) -> None:
        """Rewrite the assignments of all who were moved or forgotten at once; nobody sees a difference."""


class Nodes(Protocol):
    """Nodes that are expected."""

    async def all(self) -> list[tuple[str, int]]:
        """Address and port of each."""

    async def add(self, address: str, port: int, record: Record) -> int:
        """Expect one more; 0: it was expected."""

    async def remove(self, address: str, port: int, record: Record) -> int:
        """Expect one no longer; 0: it was not expected."""
