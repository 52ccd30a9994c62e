"""Penalties: what failed log-ins cost, on all surfaces together; and the operations that list and lift them.

Three counts stand against guessing (doorman.md 4.2, cikit.md 5): failures of an account from addresses that it knows,
those from all others (so that a stranger cannot shut its owner out), and failures of an address whatever the name. An
attempt takes its place in the counts before anything is checked and gives it back on success: parallel guesses gain
nothing. They live in this process and begin anew with it.

Beside them an address has a level (doveadm.md 6.3), which a failure raises when it is known to be one. It makes nobody
wait unless `login.penalty_waits` says so.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from hashlib import blake2b
from typing import Annotated, Generic, NamedTuple, TypeVar

from msgspec import Meta, Struct
from msgspec.structs import replace

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.mask import MOST_ADDRESS, Network, asked_network, read_network
from ostiary.core.penalty import (
    HIGHEST,
    Level,
    Penalty,
    barred,
    fail,
    gone,
    height,
    hold_up,
    neighbourhood,
    recent,
    rise,
    spared,
    wait,
)
from ostiary.core.people import PeopleRules
from ostiary.core.refusal import Limited
from ostiary.core.snapshot import SECOND
from ostiary.link.messages import Change

MOST = 100_000
"""Accounts and addresses that are remembered at once; beyond, the one that failed longest ago is forgotten."""
LOGIN_WINDOW = 300 * SECOND
"""In which `login.limit` requests to log in may come from one address."""
REGISTRATION_WINDOW, REGISTRATIONS = 3600 * SECOND, 300

K = TypeVar("K")
V = TypeVar("V")


class Throttled(Limited):
    """An attempt that is not looked at. `allowed` of the count that refuses; it ends at `reset` (Unix seconds)."""

    def __init__(self, microseconds: int, now: int, allowed: int) -> None:
        seconds = -(-microseconds // SECOND)
        message = f"Too many log-in attempts. Please wait {seconds} seconds before trying again."
        super().__init__("login.throttled", message, seconds)
        self.allowed = allowed
        self.reset = now // SECOND + seconds


class Room(Struct, frozen=True):
    """What is left of the requests to log in of one address."""

    allowed: int
    remaining: int
    reset: int
    """Unix seconds."""


class Standing(NamedTuple):
    """Microseconds from `now` for which an address is turned away, and what the count allows that does so."""

    left: int
    now: int
    allowed: int


class _Bounded(Generic[K, V]):
    """A dictionary that forgets what was set longest ago."""

    def __init__(self) -> None:
        self.items: OrderedDict[K, V] = OrderedDict()

    def set(self, key: K, value: V) -> None:
        self.items[key] = value
        self.items.move_to_end(key)
        if len(self.items) > MOST:
            self.items.popitem(last=False)


class Attempt:
    """An attempt that stands in the counts as a failure until it succeeds."""

    def __init__(
        self, penalties: "Penalties", account: tuple[str, bool], address: str, at: int, shown: bytes
    ) -> None:  # fmt: skip
        self._penalties = penalties
        self._account = account
        self._address = address
        self._at = at
        self._shown = shown

    def succeed(self) -> None:
        """Give back its place; failures of this account from such addresses are forgotten."""
        self._penalties.forgive(self._account, self._address, self._at)

    def fail(self) -> None:
        """Raise the level of its address."""
        self._penalties.rise(self._address, self._shown)


class Penalties:
    """The counts. `clock` is Unix microseconds; `rules` are asked anew each time, because reloads change them.

    Of what was shown only digests are kept, under `key` (16 bytes or more).
    """

    def __init__(self, rules: Callable[[], PeopleRules], clock: Callable[[], int], key: bytes) -> None:
        self._rules = rules
        self._clock = clock
        self._key = key
        self._accounts: _Bounded[tuple[str, bool], Penalty] = _Bounded()
        self._addresses: _Bounded[str, deque[int]] = _Bounded()
        self._levels: _Bounded[str, Level] = _Bounded()
        self._windows: _Bounded[tuple[str, str], tuple[int, int]] = _Bounded()

    def admit(self, address: str) -> Room:
        """Count a request to log in. Refuses Throttled, whoever is barred before anything is read or looked up."""
        self.check(address)
        return self._window("login", address, self._rules().login_limit, LOGIN_WINDOW)

    def admit_registration(self, address: str) -> Room:
        """Count a registration. Refuses Throttled."""
        return self._window("registration", address, REGISTRATIONS, REGISTRATION_WINDOW)

    def check(self, address: str) -> None:
        """Refuse Throttled to an address that is barred, or has to wait."""
        self._bar(neighbourhood(address), self._clock())

    def turned_away(self, address: str) -> Standing | None:
        """Why `admit` refuses an address now, of which a Throttled can be made. Nothing is counted."""
        now, near = self._clock(), neighbourhood(address)
        standing = self._standing(near, now)
        if standing is None:
            allowed = self._rules().login_limit
            begun, count = self._counted("login", near, LOGIN_WINDOW, now)
            standing = Standing(begun + LOGIN_WINDOW - now, now, allowed) if count >= allowed else None
        return standing

    def failures(self, address: str) -> int:
        """How often an address has failed lately."""
        return len(recent(self._addresses.items.get(neighbourhood(address), ()), self._clock()))

    def begin(self, account: str, address: str, secret: str, *, known: bool, counted: bool = True) -> Attempt:
        """Begin an attempt on `account` (as typed, letter case folded). Refuses Throttled.

        Not `counted`: it is the same as one that is under way.
        """
        now, rules = self._clock(), self._rules()
        near, key = neighbourhood(address), (account, known)
        self._hold(key, now)
        self._bar(near, now)
        attempt = Attempt(self, key, near, now, self._digest(account, secret))
        if counted:
            penalty = self._accounts.items.get(key, Penalty())
            self._accounts.set(key, fail(penalty, now, rules.account_failures))
            self._count(near, now)
        return attempt

    def failed(self, address: str, name: str, secret: str) -> None:
        """Count a failure against an address and nobody's account. Refuses Throttled where that is barred already."""
        near, now = neighbourhood(address), self._clock()
        self._bar(near, now)
        self._count(near, now)
        self.rise(near, self._digest(name, secret))

    def succeeded(self, address: str) -> None:
        """Something that no attempt was begun for is right: the level of its address is 0."""
        self._lower(neighbourhood(address))

    def guess(self, address: str, token: bytes) -> int:
        """Count a token (its digest) that never was against an address; microseconds for which that is barred now."""
        try:
            self.failed(address, "", token.hex())
        except Throttled:
            pass  # barred already: a guess more prolongs nothing
        return self._barred(neighbourhood(address), self._clock())

    def rise(self, address: str, shown: bytes) -> None:
        """A failure of what counts as one address."""
        if not address:
            return
        now = self._clock()
        self._forget_levels(now)
        self._levels.set(address, rise(self._levels.items.get(address, Level()), shown, now))

    def forgive(self, account: tuple[str, bool], address: str, at: int) -> None:
        """What a success gives back."""
        self._lower(address)
        self._accounts.items.pop(account, None)
        failures = self._addresses.items.get(address)
        if failures is not None and at in failures:
            failures.remove(at)
            if not failures:
                del self._addresses.items[address]

    def listed(self) -> list["Listed"]:
        """What stands now, barred or not, those that failed last first."""
        now = self._clock()
        self._forget_levels(now)
        accounts = [
            Listed("account", name, penalty.failures, penalty.until if wait(penalty, now) else 0, penalty.last, known)
            for (name, known), penalty in self._accounts.items.items()
        ]
        addresses = [
            self._listed(name, counted, self._levels.items.get(name), now)
            for name in {**self._addresses.items, **self._levels.items}
            if (counted := recent(self._addresses.items.get(name, ()), now)) or name in self._levels.items
        ]
        return sorted([*accounts, *addresses], key=lambda each: -each.last)

    def _listed(self, name: str, failures: list[int], level: Level | None, now: int) -> "Listed":
        """An address; while it is barred, its level is the highest and lasts."""
        left = self._barred(name, now)
        if level is None and left:
            level = Level(HIGHEST, failures[-1], failures[-1])
        shown = level or Level()
        penalty = HIGHEST if left else height(shown, now)
        last = failures[-1] if failures else shown.updated
        until = now + left if left else 0
        return Listed("address", name, len(failures), until, last, False, penalty, shown.raised, shown.updated)

    def remembered(self) -> dict[str, int]:
        """How many accounts and addresses have failed and are remembered, by kind."""
        return {"account": len(self._accounts.items), "address": len(self._addresses.items)}

    def forget(self, which: Callable[["Listed"], bool] | None = None) -> int:
        """Lift penalties (all, and the limits too, without `which`); how many there were."""
        gone = [each for each in self.listed() if which is None or which(each)]
        for each in gone:
            if each.kind == "account":
                self._accounts.items.pop((each.name, each.known), None)
            else:
                self._addresses.items.pop(each.name, None)
                self._levels.items.pop(each.name, None)
        if which is None:
            self._windows.items.clear()
        return len(gone)

    def _hold(self, account: tuple[str, bool], now: int) -> None:
        left = wait(self._accounts.items.get(account, Penalty()), now)
        if left:
            raise Throttled(left, now, self._rules().account_failures)

    def _bar(self, address: str, now: int) -> None:
        standing = self._standing(address, now)
        if standing is not None:
            raise Throttled(*standing)

    def _standing(self, address: str, now: int) -> Standing | None:
        """What an address has to wait for; None: nothing."""
        rules = self._rules()
        left = self._barred(address, now)
        if left:
            return Standing(left, now, rules.address_failures)
        left = hold_up(self._levels.items.get(address, Level()), rules.penalty_waits, now)
        return Standing(left, now, 1) if left and not spared(address, rules.trusted_networks) else None

    def _count(self, address: str, now: int) -> None:
        """One more failure of an address."""
        if address:
            failures = self._addresses.items.get(address) or deque(maxlen=max(1, self._rules().address_failures))
            failures.append(now)
            self._addresses.set(address, failures)

    def _lower(self, address: str) -> None:
        """A success: the level is 0, and what was shown before still raises nothing."""
        level = self._levels.items.get(address)
        if level is not None:
            self._levels.set(address, replace(level, height=0, updated=self._clock()))

    def _forget_levels(self, now: int) -> None:
        """Those that are gone; the oldest come first."""
        levels = self._levels.items
        while levels and gone(next(iter(levels.values())), now):
            levels.popitem(last=False)

    def _digest(self, name: str, secret: str) -> bytes:
        shown = f"{len(name)} {name}{secret}".encode("utf-8", "surrogatepass")
        return blake2b(shown, digest_size=16, key=self._key, person=b"penalties").digest()

    def _barred(self, address: str, now: int) -> int:
        failures, rules = self._addresses.items.get(address), self._rules()
        left = barred(failures, now, rules.address_failures) if failures else 0
        return 0 if left and spared(address, rules.trusted_networks) else left

    def _window(self, what: str, address: str, allowed: int, window: int) -> Room:
        now, near = self._clock(), neighbourhood(address)
        begun, count = self._counted(what, near, window, now)
        if count >= allowed:
            raise Throttled(begun + window - now, now, allowed)
        self._windows.set((what, near), (begun, count + 1))
        return Room(allowed, allowed - count - 1, -(-(begun + window) // SECOND))

    def _counted(self, what: str, address: str, window: int, now: int) -> tuple[int, int]:
        """When the window of an address began, and how many came in it."""
        begun, count = self._windows.items.get((what, address), (now, 0))
        return (begun, count) if now - begun < window else (now, 0)


class Listed(Struct, frozen=True):
    """A penalty as operators see it."""

    kind: str
    """`account` or `address`."""
    name: str
    failures: int
    until: int
    """Unix time in microseconds until which no attempt is looked at; 0: none is held up."""
    last: int
    """Of the last failure."""
    known: bool = False
    """Of an account: from addresses from which its user came in before."""
    penalty: int = 0
    """Of an address: its level, 0 to 4."""
    last_penalty: int = 0
    """When that rose last, in Unix microseconds."""
    last_update: int = 0
    """When it was touched last; 0: there is none any more."""


class ListPenalties(Struct, frozen=True):
    """Which penalties."""

    kind: Annotated[str, Meta(description="account or address; empty: both")] = ""
    network: Annotated[str, Meta(max_length=MOST_ADDRESS, description="only addresses in it: 10.0.0.0/8")] = ""
    barred: Annotated[bool, Meta(description="only those that hold attempts up now")] = False
    limit: Annotated[int, Meta(ge=1, le=10_000, description="at most so many")] = 1000
    offset: Annotated[int, Meta(ge=0, description="without the first so many")] = 0


class ClearPenalties(Struct, frozen=True):
    """Which penalties to lift; with none of these, all."""

    account: Annotated[str, Meta(description="of this account, as it was typed")] = ""
    address: Annotated[str, Meta(description="of this address")] = ""
    network: Annotated[str, Meta(max_length=MOST_ADDRESS, description="of all addresses in it: 10.0.0.0/8")] = ""


class Cleared(Struct, frozen=True):
    """How many were lifted."""

    cleared: int


@operation("penalties.list", reads=True)
async def list_(control: Control, call: Call, params: ListPenalties) -> list[Listed]:
    """List the penalties of failed log-ins, the latest first."""
    network = asked_network(params.network, short=True)
    found = [
        each
        for each in control.penalties.listed()
        if params.kind in ("", each.kind)
        and (each.until or not params.barred)
        and (network is None or _lies_in(each, network))
    ]
    return found[params.offset : params.offset + params.limit]


async def foresee(control: Control, call: Call, params: ClearPenalties) -> list[str]:
    """Which penalties would be lifted."""
    which = _chosen(params)
    return [f"would lift that of {each.kind} {each.name}" for each in control.penalties.listed() if which(each)]


@operation("penalties.clear", preview=foresee)
async def clear(control: Control, call: Call, params: ClearPenalties) -> Cleared:
    """Lift the penalties of an account, an address or a network, or all of them."""
    every = params == ClearPenalties()
    count = control.penalties.forget(None if every else _chosen(params))
    # Workers know who is barred; what they have drawn of limits, they draw again.
    call.trail.receipt = await control.workers.apply(Change(0, limits=True, streams=False))
    return Cleared(count)


def _chosen(params: ClearPenalties) -> Callable[[Listed], bool]:
    """Which penalties are meant. Refuses Invalid `network.invalid`."""
    network = asked_network(params.network, short=True)
    wanted = {("account", params.account.casefold()), ("address", neighbourhood(params.address))}
    named = {(kind, name) for kind, name in wanted if name}
    every = params == ClearPenalties()
    return lambda each: every or (each.kind, each.name) in named or (network is not None and _lies_in(each, network))


def _lies_in(each: Listed, network: Network) -> bool:
    """Whether it is of an address of the network; what counts as one address may be larger than that."""
    own = read_network(each.name) if each.kind == "address" else None
    return own is not None and own.version == network.version and own.overlaps(network)
