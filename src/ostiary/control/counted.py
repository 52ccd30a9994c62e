"""What the workers counted, item by item, and the filter that chooses among the items (doveadm.md 6.4)."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from ostiary.core.mask import MOST_MASK, Network, parse_address, read_network, user_mask
from ostiary.core.refusal import Invalid
from ostiary.core.snapshot import SECOND
from ostiary.link.messages import Counted, SessionRow, Sums

All = Sequence[tuple[int, Counted]]
"""What each worker counted, by its pid."""
_NUMBER = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?", re.ASCII)


class Trait(NamedTuple):
    """Something that an item is known by, as a filter sees it; None: that is not known of it."""

    user: str | None = None
    address: str | None = None
    session: str | None = None
    connected: bool = False
    domain: str | None = None


class Item(NamedTuple):
    """One thing that was counted. A filter chooses it by one of its traits: its own, or one of its sessions'."""

    keys: dict[str, str]
    sums: Sums
    traits: Sequence[Trait]


class Filter(NamedTuple):
    """What must hold of one trait, and from when on (Unix microseconds) the item must have been in use."""

    tests: Sequence[Callable[[Trait], bool]]
    since: int

    def chooses(self, item: Item) -> bool:
        recent = item.sums.last >= self.since
        return recent and (not self.tests or any(all(test(trait) for test in self.tests) for trait in item.traits))


def _users(counted: All) -> Iterator[Item]:
    traits = _by(counted, lambda row: row.user)
    for user, sums in _summed((each.users for _, each in counted), lambda user: user).items():
        yield Item({"user": user}, sums, [Trait(user, domain=domain_of(user)), *traits.get(user, ())])


def _domains(counted: All) -> Iterator[Item]:
    traits = _by(counted, lambda row: domain_of(row.user))
    for _, each in counted:
        for user in each.users:
            domain = domain_of(user)
            traits.setdefault(domain, []).append(Trait(user, domain=domain))
    for domain, sums in _summed((each.users for _, each in counted), domain_of).items():
        yield Item({"domain": domain}, sums, traits[domain])


def _addresses(counted: All) -> Iterator[Item]:
    traits = _by(counted, lambda row: row.address)
    for address, sums in _summed((each.addresses for _, each in counted), lambda address: address).items():
        yield Item({"ip": address}, sums, [Trait(address=address), *traits.get(address, ())])


def _sessions(counted: All) -> Iterator[Item]:
    for pid, each in counted:
        for row, is_open, sums in ((one.session, one.open, one.sums) for one in each.sessions):
            keys = {"session": row.id, "user": row.user, "ip": row.address, "service": row.service, "pid": str(pid)}
            yield Item({**keys, "connected": str(int(is_open))}, sums, [_trait(row, is_open)])


def _commands(counted: All) -> Iterator[Item]:
    for _, each in counted:
        still = {one.session.id for one in each.sessions if one.open}
        for slow in each.slow:
            keys = {"cmd": slow.route, "session": slow.session, "user": slow.user, "ip": slow.address}
            user, domain = slow.user, domain_of(slow.user)
            trait = Trait(user, slow.address, slow.session, bool(slow.session) and slow.session in still, domain)
            yield Item(keys, slow.sums, [trait])


ITEMS: dict[str, Callable[[All], Iterator[Item]]] = {
    "user": _users, "domain": _domains, "ip": _addresses, "session": _sessions, "command": _commands,
}  # fmt: skip


def _trait(row: SessionRow, is_open: bool) -> Trait:
    return Trait(row.user, row.address, row.id, is_open, domain_of(row.user))


def _by(counted: All, name: Callable[[SessionRow], str]) -> dict[str, list[Trait]]:
    """The sessions' traits, by what they have in common."""
    found: dict[str, list[Trait]] = {}
    for _, each in counted:
        for one in each.sessions:
            found.setdefault(name(one.session), []).append(_trait(one.session, one.open))
    return found


def _summed(parts: Iterable[dict[str, Sums]], name: Callable[[str], str]) -> dict[str, Sums]:
    """The sums of all workers, added up by what `name` makes of each key."""
    found: dict[str, Sums] = {}
    for part in parts:
        for key, sums in part.items():
            add(found.setdefault(name(key), Sums()), sums)
    return found


def add(into: Sums, more: Sums) -> None:
    """Add up; the later `last` counts. Written out: it is done tens of thousands of times for one answer."""
    into.logins += more.logins
    into.exchanges += more.exchanges
    into.micros += more.micros
    into.reads += more.reads
    into.read_bytes += more.read_bytes
    into.writes += more.writes
    into.write_bytes += more.write_bytes
    into.admitted += more.admitted
    into.refused += more.refused
    into.undecided += more.undecided
    into.cached += more.cached
    into.asked += more.asked
    into.connected += more.connected
    into.last = max(into.last, more.last)


def domain_of(user: str) -> str:
    """What follows the last `@`, or nothing."""
    return user.rpartition("@")[2] if "@" in user else ""


# Filters


def read_filter(text: str) -> Filter:
    """A filter out of its words; those that are none are ignored. Refuses Invalid `filter.invalid`."""
    tests: list[Callable[[Trait], bool]] = []
    since = 0
    for word in text.split():
        name, equals, value = word.partition("=")
        if word == "connected":
            tests.append(lambda trait: trait.connected)
        elif equals and name == "since":
            since = max(since, _moment(value))
        elif not equals and _NUMBER.fullmatch(word):
            since = max(since, _moment(word))
        elif equals and name in _TESTS:
            tests.append(_TESTS[name](value))
    return Filter(tests, since)


def _user_is(mask: str) -> Callable[[Trait], bool]:
    if len(mask) > MOST_MASK:
        raise _ill_formed("a mask is too long")
    pattern = user_mask(mask)
    return lambda trait: trait.user is not None and pattern.fullmatch(trait.user) is not None


def _domain_is(domain: str) -> Callable[[Trait], bool]:
    wanted = domain.casefold()
    return lambda trait: trait.domain is not None and trait.domain.casefold() == wanted


def _session_is(session: str) -> Callable[[Trait], bool]:
    return lambda trait: trait.session == session


def _address_in(text: str) -> Callable[[Trait], bool]:
    network = read_network(text)
    if network is None:
        raise _ill_formed("ip= takes an address, or an address and bits: 10.0.0.0/8")
    return lambda trait: trait.address is not None and _within(trait.address, network)


def _within(text: str, network: Network) -> bool:
    address = parse_address(text)
    return address is not None and address in network


_TESTS: dict[str, Callable[[str], Callable[[Trait], bool]]] = {
    "user": _user_is, "domain": _domain_is, "session": _session_is, "ip": _address_in,
}  # fmt: skip


def _moment(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise _ill_formed("since= takes a Unix time in seconds")
    whole, _, fraction = text.partition(".")
    return int(whole) * SECOND + int(fraction[:6].ljust(6, "0"))


def _ill_formed(why: str) -> Invalid:
    return Invalid("filter.invalid", f"The filter is not well formed: {why}")
