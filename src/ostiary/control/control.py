"""What the operations work with: ports, workers, clock and entropy, filled in by node.py."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ostiary.core.oauth import Rules
from ostiary.core.snapshot import Snapshot
from ostiary.link.messages import Change, Order, Report
from ostiary.link.orders import Result
from ostiary.link.receipt import Receipt, WorkerStatus
from ostiary.store import fleet, people, places, ports

if TYPE_CHECKING:
    from ostiary.control.authority import Authority
    from ostiary.control.csrf import Csrf
    from ostiary.control.formations import Formations
    from ostiary.control.hosts import Resolve
    from ostiary.control.jobs import Jobs
    from ostiary.control.keys import Keys
    from ostiary.control.login import Login
    from ostiary.control.passwords import Passwords
    from ostiary.control.penalties import Penalties
    from ostiary.control.reconciler import Reconciler
    from ostiary.control.reload import Reloader
    from ostiary.control.services import Services
    from ostiary.control.steering import Steering
    from ostiary.control.vault import Vault


class Workers(Protocol):
    """The gateway workers, together."""

    async def apply(self, change: Change) -> Receipt:
        """Returns when every worker has applied `change` or can no longer act on the old state."""

    async def install(self, snapshot: Snapshot, routes: Sequence[bytes]) -> Receipt:
        """Returns when every worker serves `snapshot`. Refuses Invalid where a worker cannot build it."""

    async def collect(self) -> list[Report]:
        """A report of each worker that answers within a second."""

    async def order(self, order: Order, patience: float = 5.0) -> list[Result]:
        """Have every worker carry out `order`; what each said. Refuses Unavailable `workers.silent`."""

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
    directors: places.Directors
    nodes: places.Nodes
    replays: ports.Replays
    keeping: ports.Keeping
    apps: fleet.Apps
    workers: Workers
    configuration: "Reloader"
    """What serves now, and how another comes in its place."""
    authority: "Authority"
    """What the link asks; `caches.flush` empties its counters."""
    steering: "Steering"
    """What the link asks of directors, and the moves under way."""
    resolve: "Resolve"
    """The addresses of a name."""
    login: "Login"
    penalties: "Penalties"
    passwords: "Passwords"
    vault: "Vault"
    """Of client secrets."""
    keys: "Keys"
    csrf: "Csrf"
    totp_vault: "Vault"
    """Of TOTP secrets; each belongs to the number of its user."""
    droplet_vault: "Vault"
    """Of environments: a droplet's belongs to its id, an app's to `app UUID`."""
    reconciler: "Reconciler"
    formations: "Formations"
    """The droplets of apps."""
    jobs: "Jobs"
    clock: Callable[[], int]
    """Unix time in microseconds."""
    entropy: Callable[[int], bytes]
    """That many random bytes."""
    services: "Services"
    """Which of them operators have stopped."""
    started: int
    """When this process began, in Unix microseconds."""
    counting_since: int
    """The last reset of the statistics; without one, `started`."""
    stop: Callable[[], None]
    """Have the whole node drain and end."""
    rules: Rules = field(default_factory=Rules)
    """What the settings say on tokens and log-ins; each reload sets it anew."""
    mode: str = "sqlite"
    """Which kind of database the store is, or `postgresql`."""
