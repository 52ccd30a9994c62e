"""What is kept of people, as the operations see it: accounts, roles, credentials, settings.

Like `ports`: each change, its entry in the change log and its audit record are one transaction, committed before the
method returns; Unavailable `store.unavailable` when the store cannot be reached; times are Unix microseconds.
A user is changed by number, because a name can come to mean another person.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from msgspec import UNSET, Struct, UnsetType

from ostiary.core.people import Credential, Kind, Role, User
from ostiary.store.ports import Changed, Record

Attributes = dict[str, str | int | float | bool | None]


class Account(NamedTuple):
    """A user with what is kept of the secrets. Never shown, never logged."""

    user: User
    role: Role | None
    """None for a role that is gone: then nothing is allowed."""
    password: str
    """argon2id; empty: there is none."""
    totp: bytes
    """The sealed TOTP secret; empty: there is none."""
    totp_step: int
    """The last step of which a code was used."""


class Holder(NamedTuple):
    """A credential, whatever its state, with the user who holds it and what that user may do now."""

    credential: Credential
    user: User
    role: Role | None
    """None for a role that is gone: then nothing is allowed."""


class NewUser(Struct, frozen=True):
    """An account to be made. `password` is argon2id, `totp` sealed; empty: none."""

    name: str
    role: str
    created: int
    email: str = ""
    password: str = ""
    totp: bytes = b""
    active: bool = True
    groups: tuple[str, ...] = ()
    attributes: Attributes = {}
    ui_access: bool = False
    first_name: str = ""
    last_name: str = ""
    make_role: bool = False
    """Whether a role that does not exist is made, without permissions."""


class UserChange(Struct, frozen=True):
    """What an update of a user sets; UNSET fields stay as they are."""

    email: str | UnsetType = UNSET
    groups: tuple[str, ...] | UnsetType = UNSET
    attributes: Attributes | UnsetType = UNSET
    ui_access: bool | UnsetType = UNSET
    first_name: str | UnsetType = UNSET
    last_name: str | UnsetType = UNSET


class UserFilter(Struct, frozen=True):
    """Which users: `roles` those with one of these (empty: any), `hidden` none with one of these."""

    order: Literal["created", "name"] = "created"
    offset: int = 0
    limit: int = 100
    roles: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    active: bool | None = None


class Page(Struct, frozen=True):
    """Some of the users, and how many there are in all."""

    users: list[User]
    total: int


class NewCredential(Struct, frozen=True):
    """A credential to be made."""

    digest: bytes
    kind: Kind
    family: bytes
    issued: int
    expires: int
    """0: never."""
    authenticated: int
    label: str = ""


class Proof(Struct, frozen=True):
    """What a log-in was decided on; it must still be so when its credentials are kept."""

    number: int
    """Of the user."""
    password: str | None = None
    """The argon2id text that was verified against."""
    totp_step: int = 0
    """The step of the code; no code of it or an earlier one may have been used."""
    ends: tuple[Kind, ...] = ()
    """Kinds of the user's older credentials that this log-in ends."""


class Users(Protocol):
    async def named(self, name: str) -> Account | None:
        """The user of that exact name or (letter case aside) address; an address first where there is an `@`."""

    async def get(self, name: str) -> User | None:
        """The user of exactly that name."""

    async def at(self, email: str) -> User | None:
        """The user of that address, letter case aside."""

    async def taken(self, name: str) -> bool:
        """Whether that is a user's name or address, letter case aside."""

    async def page(self, which: UserFilter) -> Page:
        """Some of the users, in order."""

    async def empty(self) -> bool:
        """Whether nobody is registered."""

    async def create(self, user: NewUser, record: Record, *, first: Literal["only", "owner", "no"] = "no") -> User:
        """Register a user. `first`: `only` if nobody is registered yet; `owner`: as owner if nobody is.

        Refuses Conflict `user.exists`, `email.exists`, `owner.exists`, `user.not_first`; NotFound `role.unknown`.
        """

    async def update(self, number: int, change: UserChange, record: Record) -> Changed[User]:
        """Refuses NotFound `user.unknown`, Conflict `email.exists`."""

    async def set_role(self, number: int, role: str, record: Record) -> Changed[User]:
        """Refuses NotFound `user.unknown`, `role.unknown`; Conflict `owner.role` for or from the owner's role."""

    async def transfer(self, owner: int, heir: int, record: Record) -> Changed[User]:
        """The heir becomes owner, the owner `admin`. Refuses NotFound `user.unknown`, Conflict `owner.other`."""

    async def set_password(
        self, number: int, password: str, record: Record, keep: bytes = b"", *, ends: bool = True
    ) -> Changed[int]:
        """Set it (empty: none); `ends`: all credentials but that of the digest `keep`, tokens of applications too."""

    async def set_totp(self, number: int, sealed: bytes, record: Record, *, again: bool) -> Changed[bytes]:
        """The sealed secret that is kept now: `sealed` where there was none or with `again`, else the older one."""

    async def set_active(self, number: int, active: bool, record: Record) -> Changed[User]:
        """Disable (with a cut-off) or enable. Refuses NotFound `user.unknown`, Conflict `owner.active`."""

    async def cut_off(self, number: int, record: Record) -> Changed[User]:
        """From now on all that was issued to the user before is refused. Refuses NotFound `user.unknown`."""

    async def lift(self, number: int, record: Record) -> Changed[User]:
        """Remove the cut-off. Refuses NotFound `user.unknown`."""

    async def delete(self, number: int, record: Record) -> int:
        """With everything that the user held. Refuses NotFound `user.unknown`, Conflict `owner.delete`."""

    async def known(self, number: int, address: str, since: int) -> bool:
        """Whether the user came in from `address` since that moment."""


class Roles(Protocol):
    async def page(self) -> list[Role]:
        """Custom roles by name."""

    async def get(self, name: str) -> Role | None:
        """A custom or built-in role."""

    async def create(self, role: Role, record: Record) -> int:
        """Refuses Conflict `role.exists`."""

    async def update(
        self, name: str, permissions: frozenset[str] | None, description: str | UnsetType | None, record: Record
    ) -> Changed[Role]:
        """Absent (None, UNSET) ones stay. Refuses NotFound `role.unknown`, Conflict `role.built_in`."""

    async def delete(self, name: str, record: Record) -> int:
        """Refuses NotFound `role.unknown`, Conflict `role.built_in`, `role.in_use`."""


class Credentials(Protocol):
    async def find(self, digest: bytes) -> Holder | None:
        """The credential of that digest, whatever its state."""

    async def open(self, proof: Proof, made: Sequence[NewCredential], record: Record, address: str) -> list[bytes]:
        """Keep what a log-in gives; digests of older personal tokens that this ended (the least used beyond 100).

        The address becomes known. Refuses Unauthenticated `login.stale` where what was proven is so no more.
        """

    async def replace(
        self, old: bytes, made: Sequence[NewCredential], record: Record, *, grace: int = 0
    ) -> Changed[tuple[bytes, ...]]:
        """End the credential `old` with its family, and keep what comes in its place, in one step.

        Gives the digests that ended. Refuses Unauthenticated `credential.spent` for one that is used up; then, unless
        that was within `grace` microseconds, its whole family has ended (`Changed` is in the refusal: see Reused).
        """

    async def create(self, number: int, made: NewCredential, record: Record) -> list[bytes]:
        """A personal token, made by hand. Like `open`."""

    async def page(self, number: int, after: int, limit: int, *, live: bool = False) -> list[Credential]:
        """Those of a user, oldest first; with `live` only those that were not ended."""

    async def end(self, digest: bytes, record: Record) -> Changed[tuple[bytes, ...]]:
        """End one for good, with its family; the digests that ended."""

    async def end_all(self, number: int | None, kinds: Sequence[Kind], record: Record) -> Changed[list[int]]:
        """End for good those kinds of a user, or of all users (None); the number of the user of each that ended."""

    async def touch(self, used: Mapping[bytes, int]) -> None:
        """Remember when these were last used."""


class Settings(Protocol):
    async def all(self) -> dict[str, str]:
        """What operators have set, name -> value."""

    async def set(self, values: Mapping[str, str | None], author: str, record: Record) -> int:
        """Set some (None: forget it), all or none; the number of the change."""
