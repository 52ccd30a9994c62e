"""What the operations work with, put together: the concrete store, keys and counters behind the ports of Control."""

import sys
import time
from collections.abc import Callable, Sequence

from ostiary.control.argon2id import OWASP, Cost
from ostiary.control.authority import Authority
from ostiary.control.control import Control, Workers
from ostiary.control.csrf import Csrf
from ostiary.control.formations import Formations
from ostiary.control.hosts import resolve
from ostiary.control.jobs import Jobs
from ostiary.control.keys import Keys
from ostiary.control.login import Login
from ostiary.control.passwords import Hashing, Passwords
from ostiary.control.penalties import Penalties
from ostiary.control.principals import SESSION_KEYS
from ostiary.control.reconciler import Reconciler
from ostiary.control.reload import Reloader
from ostiary.control.services import Services
from ostiary.control.steering import Steering
from ostiary.control.vault import DROPLETS, TOTP, Vault
from ostiary.core.droplets import DropletRules
from ostiary.core.oauth import Rules
from ostiary.core.people import OwnKey, PeopleRules
from ostiary.store.ports import Keeping
from ostiary.store.store import Store


def unix_microseconds() -> int:
    return time.time_ns() // 1000


def monotonic_microseconds() -> int:
    return time.monotonic_ns() // 1000


def _stays() -> None:
    """Where there is no node to end."""


class Wiring:
    """One control's. `key` (32 bytes) is the state directory's; clocks are in microseconds, `ticks` never goes back.

    `strangers`: where their passwords are hashed; None: in a thread.
    """

    def __init__(
        self, store: Store, keeping: Keeping, key: bytes, entropy: Callable[[int], bytes], clock: Callable[[], int],
        ticks: Callable[[], int], cost: Cost = OWASP, stop: Callable[[], None] = _stays,
        strangers: Hashing | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._keeping = keeping
        self._key = key
        self._entropy = entropy
        self._clock = clock
        self._stop = stop
        self.penalties = Penalties(self.people, clock, key)
        self.authority = Authority(store.tokens, self.rules, clock, ticks, self.penalties.guess)
        self.steering = Steering(store.directors, self.rules, self.workers, clock)
        self.passwords = Passwords(entropy, cost, strangers)
        self.control: Control

    def connect(self, workers: Workers, configuration: Reloader) -> Control:
        """Control with its workers and its configuration, which know each other already."""
        store, key, clock, entropy = self._store, self._key, self._clock, self._entropy
        penalties, totp_vault = self.penalties, Vault(key, entropy, TOTP)
        vault = Vault(key, entropy, DROPLETS)
        reconciler = Reconciler(
            store.droplets, workers, self.steering, vault, self.droplets, clock, entropy, sys.executable
        )
        self.control = Control(
            scopes=store.scopes,
            applications=store.applications,
            tokens=store.tokens,
            revisions=store.revisions,
            users=store.users,
            roles=store.roles,
            credentials=store.credentials,
            settings=store.settings,
            consents=store.consents,
            audit=store.audit,
            changes=store.changes,
            directors=store.directors,
            nodes=store.nodes,
            replays=store.replays,
            mode=store.mode,
            keeping=self._keeping,
            apps=store.apps,
            droplet_vault=vault,
            reconciler=reconciler,
            formations=Formations(store.apps, reconciler, vault, self.droplets),
            jobs=Jobs(store.jobs, clock, entropy),
            workers=workers,
            configuration=configuration,
            authority=self.authority,
            steering=self.steering,
            resolve=resolve,
            login=Login(store.users, self.passwords, penalties, totp_vault, self.people, clock),
            penalties=penalties,
            passwords=self.passwords,
            vault=Vault(key, entropy),
            totp_vault=totp_vault,
            keys=Keys(store.keys, key, clock, entropy, self.alg, self.configured),
            csrf=Csrf(key),
            clock=clock,
            entropy=entropy,
            services=Services(workers),
            started=clock(),
            counting_since=clock(),
            stop=self._stop,
        )
        return self.control

    def rules(self) -> Rules:
        """As the settings have them now."""
        return self.control.rules

    def workers(self) -> Workers:
        """Who serves the gateway."""
        return self.control.workers

    def people(self) -> PeopleRules:
        """The part that is about people."""
        return self.control.rules.people

    def droplets(self) -> DropletRules:
        """The part that is about droplets."""
        return self.control.rules.droplets

    def configured(self, purpose: str) -> Sequence[OwnKey]:
        """The keys of a purpose that the configuration brings."""
        return self.control.rules.people.session_keys if purpose == SESSION_KEYS else ()

    def alg(self, purpose: str) -> str:
        """What the keys of a purpose sign with."""
        return self.control.rules.signing_alg if purpose == "oauth" else "EdDSA"
