"""What the operations work with: ports, workers, clock and entropy, filled in by node.py."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ostiary.core.oauth import Rules
from ostiary.core.snapshot import Snapshot
from ostiary.link.messages import Change, Report
from ostiary.link.receipt import Receipt, WorkerStatus
from ostiary.store import people, ports

if TYPE_CHECKING:
    from ostiary.control.authority import Authority
    from ostiary.control.csrf import Csrf
    from ostiary.control.keys import Keys
    from ostiary.control.login import Login
    from ostiary.control.passwords import Passwords
    from ostiary.control.penalties import Penalties
    from ostiary.control.reload import Reloader
    from ostiary.control.vault import Vault


class Workers(Protocol):
    """The gateway workers, together."""

    async def apply(self, change: Change) -> Receipt:
        """Returns when every worker has applied `change` or can no longer act on the old state."""

    async def install(self, snapshot: Snapshot, routes: Sequence[bytes]) -> Receipt:
        """Returns when every worker serves `snapshot`. Refuses Invalid where a worker cannot build it."""

    async def collect(self) -> list[Report]:
        """A report of each worker that answers within a second."""

    def status(self) -> list[WorkerStatus]:
        """One line an expected worker."""


@dataclass(slots=True)
class Control:
    """Everything an operation may use."""

    scopes: ports.Scopes
    applications: ports.Applications
    tokens: ports.Tokens
    revisions: ports.Revisions
    consents: ports.Consents
    users: people.Users
    roles: people.Roles
    credentials: people.Credentials
    settings: people.Settings
    audit: ports.Audit
    changes: ports.Changes
    keeping: ports.Keeping
    workers: Workers
    configuration: "Reloader"
    """What serves now, and how another comes in its place."""
    authority: "Authority"
    """What the link asks; `caches.flush` empties its counters."""
    login: "Login"
    penalties: "Penalties"
    passwords: "Passwords"
    vault: "Vault"
    """Of client secrets."""
    keys: "Keys"
    csrf: "Csrf"
    totp_vault: "Vault"
    """Of TOTP secrets; each belongs to the number of its user."""
    clock: Callable[[], int]
    """Unix time in microseconds."""
    entropy: Callable[[int], bytes]
    """That many random bytes."""
    rules: Rules = field(default_factory=Rules)
    """What the settings say on tokens and log-ins; each reload sets it anew."""
    mode: str = "sqlite"
    """Which kind of database the store is, or `postgresql`."""
