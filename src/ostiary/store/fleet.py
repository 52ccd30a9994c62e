"""What is kept of droplets, of work on them, and of apps, as the operations see it.

Like `ports`: what is committed is committed before the method returns; Unavailable `store.unavailable` when the store
cannot be reached; times are Unix microseconds.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from msgspec import Struct

from ostiary.core.droplets import Place
from ostiary.core.lifecycle import Life
from ostiary.store.ports import Record


class Kept(Struct, frozen=True):
    """A droplet as it is kept."""

    id: str
    """12 hexadecimal digits."""
    name: str
    template: str
    created: int
    ports: dict[int, int]
    """Of the template -> of 127.0.0.1, in the template's order."""
    recipe: bytes
    """What it is made from, sealed."""
    life: Life = Life()
    place: Place | None = None
    """In an app."""


class Job(Struct, frozen=True):
    """Work on a droplet that nobody waits for."""

    id: str
    operation: str
    droplet: str
    state: Literal["queued", "running", "done", "failed"]
    created_at: int
    finished_at: int | None = None
    error: str | None = None
    code: str | None = None
    """Of the refusal that it failed with; `interrupted`: control ended meanwhile."""


class App(Struct, frozen=True):
    """A named group of droplets with an owner."""

    number: int
    id: str
    uuid: str
    owner: int
    """Number of the user."""
    owner_name: str
    template: str
    """Empty: none yet."""
    release: int
    """The one in force."""
    structure: dict[str, int]
    """Process type -> how many droplets, as it was scaled."""
    created: int
    updated: int
    ending: bool = False
    """Its deletion has begun."""


class Release(Struct, frozen=True):
    """What the droplets of an app are made from, in one numbered state."""

    number: int
    kind: Literal["initial", "config", "build"]
    uuid: str
    author: str
    """Name of the user."""
    values: bytes
    """The environment, sealed."""
    image: str
    """Template or image that it runs; empty: none yet."""
    created: int


class Noted(NamedTuple):
    """A line of what was done to an app."""

    at: int
    text: str


class Droplets(Protocol):
    async def all(self) -> list[Kept]:
        """Every droplet, oldest first."""

    async def create(self, droplet: Kept, prefix: str, most: int, record: Record | None = None) -> Kept:
        """Keep a new one; without a name it gets the prefix and the next number. Its ports are its own from now on.

        The record will be about its name. Refuses Conflict `droplets.limit` beyond `most`, `droplet.exists`,
        `port.taken`.
        """

    async def live(self, ident: str, life: Life, record: Record | None = None) -> None:
        """Keep what is known of its life and what is wanted of it, and who wants it. One that is gone stays gone."""

    async def remake(self, droplet: Kept) -> None:
        """Have it made from something else; its id and its name stay. Refuses Conflict `port.taken`."""

    async def delete(self, ident: str) -> None:
        """Forget it; its name and its ports are free."""


class Jobs(Protocol):
    async def put(self, job: Job, record: Record | None = None) -> None:
        """Keep a job, or what has become of it, with its audit record."""

    async def get(self, ident: str) -> Job | None:
        """The job of that id."""

    async def interrupt(self, at: int) -> int:
        """Have every unfinished job be failed: control has ended meanwhile. How many there were."""


class Apps(Protocol):
    async def create(
        self, ident: str, uuid: str, owner: int, template: str, release: Release, most: int, record: Record
    ) -> App:
        """Make an app with its first release, and note that.

        Refuses Conflict `app.exists`, Forbidden `apps.limit` beyond `most`.
        """

    async def get(self, ident: str) -> App | None:
        """The app of that id."""

    async def page(self, user: int | None, limit: int, offset: int = 0) -> tuple[list[App], int]:
        """By id: all, or those that `user` owns or shares; and how many there are."""

    async def owned(self, user: int) -> int:
        """How many the user owns."""

    async def transfer(self, ident: str, owner: int, most: int, record: Record) -> None:
        """Give it to another user. Refuses NotFound `app.unknown`, Conflict `apps.full`: that user has `most`."""

    async def end(self, ident: str, record: Record) -> None:
        """Keep that its deletion has begun: there are to be no droplets. `record` goes into the audit when it is gone.

        Refuses NotFound `app.unknown`.
        """

    async def delete(self, ident: str) -> None:
        """Forget one whose deletion has begun, with all that belongs to it. Refuses NotFound `app.unknown`."""

    async def share(self, ident: str, user: int, record: Record) -> None:
        """Let `user` work with it; again: nothing happens. Refuses NotFound `app.unknown`."""

    async def unshare(self, ident: str, user: int, record: Record) -> bool:
        """Whether the user was a collaborator. Refuses NotFound `app.unknown`."""

    async def collaborators(self, ident: str) -> list[str]:
        """Their names, by name."""

    async def shared(self, ident: str, user: int) -> bool:
        """Whether the user is a collaborator."""

    async def scaled(self, ident: str, structure: Mapping[str, int], record: Record) -> None:
        """Keep how many droplets of each type there are to be. Refuses NotFound `app.unknown`."""

    async def release(self, ident: str, number: int = 0) -> Release | None:
        """A release; 0: the one in force."""

    async def build(self, ident: str) -> Release | None:
        """The newest release of kind `build` that is or was in force."""

    async def config(self, ident: str) -> Release | None:
        """The newest that is or was in force and is of another kind: it has changed the environment."""

    async def propose(self, ident: str, release: Release) -> None:
        """Keep the release that is to follow the one in force, in place of one that was proposed before.

        Refuses Conflict `release.stale` when its number is not the next one, NotFound `app.unknown`.
        """

    async def settle(self, ident: str, number: int, template: str, record: Record) -> None:
        """Have the proposed release be in force, and the app have this template."""

    async def withdraw(self, ident: str) -> None:
        """Forget the proposed release."""

    async def proposed(self) -> Sequence[tuple[App, Release]]:
        """Releases that were neither settled nor withdrawn: control ended while they were rolled."""

    async def note(self, ident: str, at: int, text: str) -> None:
        """Keep a line of what was done; the last 1000 stay."""

    async def notes(self, ident: str, limit: int) -> list[Noted]:
        """The last ones, oldest first."""
