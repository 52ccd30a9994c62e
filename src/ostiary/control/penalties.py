"""Penalties: what failed log-ins cost, on all surfaces together; and the operations that list and lift them.

Three counts stand against guessing (doorman.md 4.2, cikit.md 5): failures of an account from addresses that it knows,
those from all others (so that a stranger cannot shut its owner out), and failures of an address whatever the name. An
attempt takes its place in the counts before anything is checked and gives it back on success: parallel guesses gain
nothing. They live in this process and begin anew with it.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

from msgspec import Meta, Struct

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.penalty import Penalty, barred, fail, neighbourhood, recent, spared, wait
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

    def __init__(self, penalties: "Penalties", account: tuple[str, bool], address: str, at: int) -> None:
        self._penalties = penalties
        self._account = account
        self._address = address
        self._at = at

    def succeed(self) -> None:
        """Give back its place; failures of this account from such addresses are forgotten."""
        self._penalties.forgive(self._account, self._address, self._at)


class Penalties:
    """The counts. `clock` is Unix microseconds; `rules` are asked anew each time, because reloads change them."""

    def __init__(self, rules: Callable[[], PeopleRules], clock: Callable[[], int]) -> None:
        self._rules = rules
        self._clock = clock
        self._accounts: _Bounded[tuple[str, bool], Penalty] = _Bounded()
        self._addresses: _Bounded[str, deque[int]] = _Bounded()
        self._windows: _Bounded[tuple[str, str], tuple[int, int]] = _Bounded()

    def admit(self, address: str) -> Room:
        """Count a request to log in. Refuses Throttled."""
        return self._window("login", address, self._rules().login_limit, LOGIN_WINDOW)

    def admit_registration(self, address: str) -> Room:
        """Count a registration. Refuses Throttled."""
        return self._window("registration", address, REGISTRATIONS, REGISTRATION_WINDOW)

    def check(self, address: str) -> None:
        """Refuse Throttled to an address that is barred."""
        self._bar(("", False), neighbourhood(address), self._clock())

    def begin(self, account: str, address: str, *, known: bool, counted: bool = True) -> Attempt:
        """Begin an attempt on `account` (as typed, letter case folded; empty: an address only). Refuses Throttled.

        Not `counted`: it is the same as one that is under way.
        """
        now, rules = self._clock(), self._rules()
        near, key = neighbourhood(address), (account, known)
        self._bar(key, near, now)
        if not counted:
            return Attempt(self, key, near, now)
        if account:
            penalty = self._accounts.items.get(key, Penalty())
            self._accounts.set(key, fail(penalty, now, rules.account_failures))
        if near:
            failures = self._addresses.items.get(near) or deque(maxlen=max(1, rules.address_failures))
            failures.append(now)
            self._addresses.set(near, failures)
        return Attempt(self, key, near, now)

    def guess(self, address: str) -> int:
        """Count a token that never was against an address; microseconds for which that is barred now."""
        try:
            self.begin("", address, known=False)
        except Throttled:
            pass  # barred already: a guess more prolongs nothing
        return self._barred(neighbourhood(address), self._clock())

    def forgive(self, account: tuple[str, bool], address: str, at: int) -> None:
        """What a success gives back."""
        self._accounts.items.pop(account, None)
        failures = self._addresses.items.get(address)
        if failures is not None and at in failures:
            failures.remove(at)
            if not failures:
                del self._addresses.items[address]

    def listed(self) -> list["Listed"]:
        """What stands now, barred or not, those that failed last first."""
        now = self._clock()
        accounts = [
            Listed("account", name, penalty.failures, penalty.until if wait(penalty, now) else 0, penalty.last, known)
            for (name, known), penalty in self._accounts.items.items()
        ]
        addresses = [
            Listed("address", name, len(counted), now + left if (left := self._barred(name, now)) else 0, counted[-1])
            for name, failures in self._addresses.items.items()
            if (counted := recent(failures, now))
        ]
        return sorted([*accounts, *addresses], key=lambda each: -each.last)

    def forget(self, which: Callable[["Listed"], bool] | None = None) -> int:
        """Lift penalties (all, and the limits too, without `which`); how many there were."""
        gone = [each for each in self.listed() if which is None or which(each)]
        for each in gone:
            if each.kind == "account":
                self._accounts.items.pop((each.name, each.known), None)
            else:
                self._addresses.items.pop(each.name, None)
        if which is None:
            self._windows.items.clear()
        return len(gone)

    def _bar(self, account: tuple[str, bool], address: str, now: int) -> None:
        rules = self._rules()
        left = self._wait(account, now)
        if left:
            raise Throttled(left, now, rules.account_failures)
        left = self._barred(address, now)
        if left:
            raise Throttled(left, now, rules.address_failures)

    def _wait(self, account: tuple[str, bool], now: int) -> int:
        return wait(self._accounts.items.get(account, Penalty()), now)

    def _barred(self, address: str, now: int) -> int:
        failures = self._addresses.items.get(address)
        if failures and spared(address, self._rules().trusted_networks):
            return 0
        return barred(failures, now, self._rules().address_failures) if failures else 0

    def _window(self, what: str, address: str, allowed: int, window: int) -> Room:
        now, key = self._clock(), (what, neighbourhood(address))
        begun, count = self._windows.items.get(key, (now, 0))
        if now - begun >= window:
            begun, count = now, 0
        if count >= allowed:
            raise Throttled(begun + window - now, now, allowed)
        self._windows.set(key, (begun, count + 1))
        return Room(allowed, allowed - count - 1, -(-(begun + window) // SECOND))


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


class ListPenalties(Struct, frozen=True):
    """Which penalties."""

    kind: Annotated[str, Meta(description="account or address; empty: both")] = ""
    barred: Annotated[bool, Meta(description="only those that hold attempts up now")] = False
    limit: Annotated[int, Meta(ge=1, le=10_000, description="at most so many")] = 1000
    offset: Annotated[int, Meta(ge=0, description="without the first so many")] = 0


class ClearPenalties(Struct, frozen=True):
    """Which penalties to lift; with neither, all."""

    account: Annotated[str, Meta(description="of this account, as it was typed")] = ""
    address: Annotated[str, Meta(description="of this address")] = ""


class Cleared(Struct, frozen=True):
    """How many were lifted."""

    cleared: int


@operation("penalties.list", reads=True)
async def list_(control: Control, call: Call, params: ListPenalties) -> list[Listed]:
    """List the penalties of failed log-ins, the latest first."""
    found = [
        each
        for each in control.penalties.listed()
        if params.kind in ("", each.kind) and (each.until or not params.barred)
    ]
    return found[params.offset : params.offset + params.limit]


@operation("penalties.clear")
async def clear(control: Control, call: Call, params: ClearPenalties) -> Cleared:
    """Lift the penalties of an account or an address, or all of them."""
    wanted = {("account", params.account.casefold()), ("address", neighbourhood(params.address))} - {
        ("account", ""), ("address", ""),
    }  # fmt: skip
    which = (lambda each: (each.kind, each.name) in wanted) if wanted else None
    count = control.penalties.forget(which)
    # Workers know who is barred; what they have drawn of limits, they draw again.
    call.trail.receipt = await control.workers.apply(Change(0, limits=True, streams=False))
    return Cleared(count)
