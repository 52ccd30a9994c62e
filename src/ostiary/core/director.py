"""The director: which user goes to which host.

Each host that is up puts `vhosts` points on the hash ring of its tag; a user goes to the first point at or after the
hash of its name (doveadm.md 7.1). What operators changed lies over the hosts of the configuration: its servers, known
by their addresses, and droplets that serve it, which share an address and are known by ADDRESS:PORT.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterable, Sequence
from functools import cached_property, lru_cache
from hashlib import md5
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from ostiary.core.mask import inet_aton
from ostiary.core.refusal import Conflict, Invalid, NotFound
from ostiary.core.snapshot import SECOND

UP, DOWN, REMOVED = "up", "down", "removed"
VHOSTS, MOST_VHOSTS = 100, 1000
MOST_TAG = 255
LAST_HASH = 2**32 - 1
NAMELESS = ""
"""In the place of a host that is forgotten: nobody with a name is meant."""
MOST_NAMES, LONGEST_NAME = 8, 255
"""Names that are kept with an assignment, and the characters of one that is kept."""


class Health(Struct, frozen=True):
    """How hosts are looked after; times in microseconds."""

    every: int
    timeout: int
    fall: int
    rise: int


class DirectorRules(Struct, frozen=True):
    """An upstream with `balance: director`, as the configuration has it. Times in microseconds."""

    name: str
    hosts: dict[str, int] = {}
    """Address in its usual short form -> port."""
    port: int = 80
    """Of hosts that operators add."""
    user_hash: str = "%Lu"
    user_expire: int = 900 * SECOND
    health: Health | None = None


class Host(Struct, frozen=True):
    """A host of a director, or what operators made of it."""

    host: str
    """Address in its usual short form; a droplet's ADDRESS:PORT."""
    port: int
    tag: str = ""
    vhosts: int = VHOSTS
    state: str = UP
    """UP or DOWN; REMOVED only of what lies over the configuration."""
    changed: int = 0
    """When the state changed last (Unix microseconds); 0: never."""
    ailing: bool = False
    """It is down because it did not answer."""

    @property
    def address(self) -> str:
        """Where it is reached, without the port."""
        return apart(self.host)[0]

    @property
    def backend(self) -> str:
        """HOST:PORT, as an upstream has it."""
        return f"[{self.host}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Assignment(Struct, frozen=True):
    """Where the users of one hash go, within a tag."""

    tag: str
    hash: int
    host: str
    names: tuple[str, ...] = ()
    """Under which it was asked for, the first first."""
    expires: int = 0
    """Unix microseconds; it does not count from then on."""
    held: int = 0
    """Names the move that brought the users here, or of which they were forgotten: while it goes on they wait."""


class Unsteer(Struct, array_like=True, frozen=True):
    """Forget where users of an upstream with `balance: director` go: those of `hashes`, and those at `hosts`.

    With neither, all; where clients without a user go is forgotten in any case. Who comes next is asked about anew.
    The change log has what a change ends in this form, and so workers hear of it.
    """

    upstream: str
    """Empty: all of them."""
    hashes: list[tuple[str, int]] = []
    """Tag and user hash of each."""
    hosts: list[str] = []


class Arc(NamedTuple):
    """Neighbouring hashes, from `first` to `last`, that go to one host (`""`: to none)."""

    first: int
    last: int
    host: str


def _hash(text: str) -> int:
    return int.from_bytes(md5(text.encode("utf-8", "replace"), usedforsecurity=False).digest()[:4])


def user_hash(name: str, form: str = "%Lu") -> int:
    """The number of a user, 1 to LAST_HASH. `form`: `%u`, `%n` (up to the first `@`), with `L` in lower case."""
    if form.endswith("n"):
        name = name.partition("@")[0]
    return _hash(name.lower() if "L" in form else name) or 1


def apart(host: str) -> tuple[str, int]:
    """A host's address, and the port of a droplet (0: it is none)."""
    address, colon, port = host.partition(":")
    return (address, int(port)) if colon and ":" not in port else (host, 0)


def of_droplet(host: str) -> bool:
    """Whether a host is known by address and port, as droplets are."""
    return apart(host)[1] > 0


def address_order(host: str) -> tuple[int, int, int]:
    """By what hosts are sorted: IPv4 first, then by address, then by port."""
    text, port = apart(host)
    address = ip_address(text)
    return address.version, int(address), port


class Ring:
    """The points of the hosts of one tag."""

    def __init__(self, hosts: Iterable[tuple[str, int]]) -> None:
        """`hosts`: addresses and how many points each has."""
        by_address = sorted(hosts, key=lambda each: address_order(each[0]))
        points = [(_hash(f"{host}-{index}"), host) for host, vhosts in by_address for index in range(vhosts)]
        points.sort(key=lambda point: point[0])  # stable: of equal values the lower address comes first
        self._values = [value for value, _ in points]
        self._hosts = [host for _, host in points]

    def host(self, number: int) -> str:
        """Where a hash goes; `""`: nobody has a point."""
        if not self._hosts:
            return ""
        index = bisect_left(self._values, number)
        return self._hosts[index] if index < len(self._hosts) else self._hosts[0]

    def arcs(self) -> list[Arc]:
        """All hashes from 0 to LAST_HASH, in order; no two neighbours have the same host."""
        arcs: list[Arc] = []
        ends = zip([*self._values, LAST_HASH], [*self._hosts, self.host(LAST_HASH)], strict=True)
        first = 0
        for last, host in ends:
            if last < first:
                continue
            if arcs and arcs[-1].host == host:
                arcs[-1] = Arc(arcs[-1].first, last, host)
            else:
                arcs.append(Arc(first, last, host))
            first = last + 1
        return arcs

    def elsewhere(self, host: str, hashes: Sequence[int]) -> list[int]:
        """Those of `hashes`, which are in order, that do not go to `host`."""
        found: list[int] = []
        for arc in self.arcs():
            if arc.host != host:
                found += hashes[bisect_left(hashes, arc.first) : bisect_right(hashes, arc.last)]
        return found


class Enlisted(Struct, frozen=True):
    """The droplets that are hosts of a director, by name: ADDRESS:PORT."""

    serving: frozenset[str] = frozenset()
    leaving: frozenset[str] = frozenset()
    """Nobody new comes to these, who is there is about to be forgotten; then they have left, and may join again."""

    @property
    def hosts(self) -> frozenset[str]:
        return self.serving | self.leaving

    def now(self, serving: Iterable[str]) -> "Enlisted":
        """When these serve: who is new joins, and who serves no more begins to leave."""
        these = frozenset(serving)
        return self if these == self.serving else Enlisted(these, self.leaving | (self.serving - these))

    def without(self, hosts: Iterable[str]) -> "Enlisted":
        """When these have left."""
        return Enlisted(self.serving, self.leaving.difference(hosts))


NOBODY = Enlisted()


class Board:
    """The hosts of one director at one moment. `kept` is what operators changed; `enlisted` are its droplets."""

    def __init__(self, rules: DirectorRules, kept: Sequence[Host], enlisted: Enlisted = NOBODY) -> None:
        self.rules = rules
        self.kept = list(kept)
        self.enlisted = enlisted
        self.configured = rules.hosts | {host: apart(host)[1] for host in enlisted.hosts}
        """Hosts that there are without operators -> port."""
        changed = {each.host: each for each in kept if not of_droplet(each.host) or each.host in enlisted.hosts}
        configured = {host: Host(host, port) for host, port in self.configured.items()}
        there = [each for each in (configured | changed).values() if each.state != REMOVED]
        self.known = {each.host: each for each in sorted(there, key=lambda each: address_order(each.host))}
        """Where users may be: the hosts, and droplets that are leaving."""
        self.hosts = {host: each for host, each in self.known.items() if host not in enlisted.leaving}
        self.gone = sorted((host for host in self.configured if host not in self.known), key=address_order)
        """Hosts of the configuration that operators removed."""
        self._rings: dict[str, Ring] = {}

    def ring(self, tag: str) -> Ring:
        """Of a tag; without points where it has no host that is up."""
        ring = self._rings.get(tag)
        if ring is None:
            ring = Ring(self.weights(tag))
            if any(each.tag == tag for each in self.hosts.values()):
                self._rings[tag] = ring
        return ring

    def weights(self, tag: str) -> tuple[tuple[str, int], ...]:
        """What the ring of a tag is made of: the hosts that are up, and how many points each has."""
        return tuple((each.host, each.vhosts) for each in self.hosts.values() if (each.tag, each.state) == (tag, UP))

    @cached_property
    def initial(self) -> Ring:
        """Of the configuration's hosts alone; they have no tag."""
        return Ring((host, VHOSTS) for host in self.configured)

    def host(self, address: str, tag: str | None = None) -> Host:
        """The host of that name (and of a tag, where one is given). Refuses NotFound `host.unknown`."""
        found = self.hosts.get(address)
        if found is None or tag not in (None, found.tag):
            raise NotFound("host.unknown", f"{self.rules.name} has no host {address}{f' of tag {tag}' if tag else ''}")
        return found


# What operators do to hosts


class Edit(Struct, frozen=True):
    """What a change does: `put` hosts are so from now on, those of `drop` as configured; users of `forget` go."""

    put: list[Host] = []
    drop: list[str] = []
    forget: list[str] = []
    anew: list[str] = []
    """Hosts that are reached in another way: who is there is asked about again."""
    changes: list[str] = []
    """The same for a person, a text each."""


def add(board: Board, addresses: Sequence[str], tag: str, vhosts: int | None, port: int | None) -> Edit:
    """Add hosts, or change their vhosts and port.

    Refuses Conflict `host.tag`, `host.port`, `vhosts.too_many`, Invalid, and NotFound `host.unknown` for droplets.
    """
    check_vhosts(vhosts)
    check_tag(tag)
    edits = []
    for address in addresses:
        _check_port(address, port)
        found = board.hosts.get(address)
        edits.append(_new(board, address, tag, vhosts, port) if found is None else _set(found, tag, vhosts, port))
    return Edit(
        [host for each in edits for host in each.put],
        anew=[host for each in edits for host in each.anew],
        changes=[text for each in edits for text in each.changes],
    )


def _new(board: Board, address: str, tag: str, vhosts: int | None, port: int | None) -> Edit:
    usual = board.configured.get(address, board.rules.port)
    if of_droplet(address) and address not in board.enlisted.serving - board.enlisted.leaving:
        raise NotFound("host.unknown", f"{board.rules.name} has no droplet that serves at {address}")
    made = Host(address, port or usual, tag, VHOSTS if vhosts is None else vhosts)
    return Edit([made], changes=[f"{address} added with {made.vhosts} vhosts"])


def _check_port(address: str, port: int | None) -> None:
    own = apart(address)[1]
    if own and port not in (None, own):
        raise Conflict("host.port", f"{address} is a droplet: it has port {own} until it is deleted")


def update(board: Board, address: str, tag: str, vhosts: int | None) -> Edit:
    """Change the vhosts of a host. Refuses as `add`, and NotFound `host.unknown`."""
    check_vhosts(vhosts)
    check_tag(tag)
    return _set(board.host(address), tag, vhosts, None)


def _set(found: Host, tag: str, vhosts: int | None, port: int | None) -> Edit:
    if tag and tag != found.tag:
        raise Conflict("host.tag", f"{found.host} has the tag {found.tag or 'none'}: remove it first")
    made = replace(found, vhosts=found.vhosts if vhosts is None else vhosts, port=port or found.port)
    if made == found:
        return Edit()
    anew = [found.host] if made.port != found.port else []
    said = [f"{found.host}: vhosts {found.vhosts} -> {made.vhosts}"] if made.vhosts != found.vhosts else []
    return Edit([made], anew=anew, changes=said + [f"{each}: port {found.port} -> {made.port}" for each in anew])


def turn(board: Board, address: str, tag: str | None, state: str, now: int, *, ailing: bool = False) -> Edit:
    """Take a host up or down. Refuses NotFound `host.unknown`. What an operator says twice is no longer health's."""
    found = board.host(address, tag)
    if found.state == state:
        return Edit([replace(found, ailing=False)]) if found.ailing and not ailing else Edit()
    made = replace(found, state=state, changed=now, ailing=ailing)
    return Edit([made], changes=[f"{address}: {found.state} -> {state}"])


def remove(board: Board, address: str) -> Edit:
    """Remove a host, and forget its users. Refuses NotFound `host.unknown`."""
    found = board.host(address)
    put = [replace(found, state=REMOVED)] if address in board.configured else []
    return Edit(put, [] if put else [address], [address], changes=[f"{address} removed"])


def reset(board: Board) -> Edit:
    """Let all hosts be as configured; the users of those that then are not, or are of another tag, are forgotten."""
    fresh = Board(board.rules, (), board.enlisted).hosts
    gone = [each.host for each in board.hosts.values() if each.tag or each.host not in fresh]
    stay = [each for each in board.hosts.values() if each.host not in gone]
    anew = [each.host for each in stay if each.port != fresh[each.host].port]
    changes = [f"{each.host}: {_said(each, board)}" for each in board.kept]
    return Edit([], [each.host for each in board.kept], gone, anew, changes)


def _said(kept: Host, board: Board) -> str:
    return "as configured" if kept.host in board.configured or of_droplet(kept.host) else "removed"


def check_vhosts(vhosts: int | None) -> None:
    """Refuse Invalid `vhosts.invalid` below 0, Conflict `vhosts.too_many` above MOST_VHOSTS."""
    if vhosts is not None and vhosts < 0:
        raise Invalid("vhosts.invalid", "vhosts is a number from 0 to 1000")
    if vhosts is not None and vhosts > MOST_VHOSTS:
        raise Conflict("vhosts.too_many", "A host has at most 1000 vhosts")


def tag_ok(tag: str) -> bool:
    """Whether a text can be a tag: no blanks, `@` and control characters, at most 255 characters."""
    return len(tag) <= MOST_TAG and tag.isprintable() and not any(each.isspace() or each == "@" for each in tag)


def check_tag(tag: str) -> None:
    """Refuse Invalid `tag.invalid`."""
    if not tag_ok(tag):
        raise Invalid("tag.invalid", "A tag has at most 255 characters, and no blanks, @ or control characters")


# Texts of operators


@lru_cache(1024)
def read_host(text: str) -> str:
    """A host's address in its usual short form; `""`: the text is none, but may be a name.

    IPv6, IPv4, or its short forms (`127.24` is 127.0.0.24, inet_aton(3)). Refuses Invalid `host.invalid`: a bare
    number, a zone, and addresses that no host can have.
    """
    text = text.strip()
    try:
        address = ip_address(text)
    except ValueError:
        short = inet_aton(text)
        if "." not in text and (short is not None or text.isdecimal()):
            raise _no_host("A host is an address or a name, not a number") from None
        if short is None:
            return ""
        address = short
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise _no_host("A host's address has no zone")
        address = address.ipv4_mapped or address
    if address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255":
        raise _no_host(f"{address} is the address of no host")
    return str(address)


def _no_host(message: str) -> Invalid:
    return Invalid("host.invalid", message)


# Moves


def named(names: tuple[str, ...], *more: str) -> tuple[str, ...]:
    """`names` with those of `more` that are new, as long as there is room."""
    if not names and len(more) == 1 and len(more[0]) <= LONGEST_NAME:
        return more
    kept = dict.fromkeys([*names, *(name for name in more if len(name) <= LONGEST_NAME)])
    return tuple(kept)[:MOST_NAMES]


class Move(Struct, frozen=True):
    """A user is to go to another host. Times are Unix microseconds."""

    name: str
    hash: int
    now: int
    expires: int
    held: int
    """The number of this move, should the user have to wait for it."""
    going: Container[int] = frozenset()
    """The moves that are under way: in which something may still flow to a host before."""

    def decide(self, host: Host, found: Assignment | None) -> Assignment:
        """The assignment from now on. Refuses Conflict `user.moving`."""
        live = found if found is not None and found.expires > self.now else None
        if live is None:
            held = found.held if found is not None else 0
            return Assignment(host.tag, self.hash, host.host, named((), self.name), self.expires, held)
        if live.host != host.host and live.held in self.going:
            raise Conflict("user.moving", f"The user is still being moved to {live.host}")
        held = live.held if live.host == host.host else self.held
        return replace(live, host=host.host, names=named(live.names, self.name), expires=self.expires, held=held)
