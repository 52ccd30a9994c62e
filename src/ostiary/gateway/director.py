"""Users of an upstream with `balance: director` and the backend of each, as control has said it.

What is remembered holds while the worker's lease is fresh, like admissions. A user that is in use is told to control
once in half its time. Those without a name are steered by their client application, else by their address.
"""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from ostiary.core.snapshot import Director as Definition
from ostiary.link.messages import Place, Question, Unsteer

if TYPE_CHECKING:
    from ostiary.gateway.client import Client
    from ostiary.gateway.exchange import Exchange
    from ostiary.gateway.upstream import Backend

LONGEST_NAME = 255
"""Characters; whose name is longer counts as nobody."""
MOST_NAMELESS = 10_000
SECOND = 1_000_000_000
HALF = 2

Key = tuple[str, int]
"""Tag and user hash."""


class Assigned:
    """Where the users of one hash go. Times are monotonic nanoseconds."""

    __slots__ = ("backend", "clients", "half", "host", "key", "refresh", "until")

    def __init__(self, place: Place, backend: "Backend", now: int) -> None:
        self.key: Key = (place.question.tag, place.hash)
        self.host = place.host
        self.backend = backend
        self.half = place.seconds * SECOND // HALF
        self.refresh = now + self.half
        self.until = now + place.seconds * SECOND
        self.clients: set[Client] = set()
        """Connections that have used it and are open."""


class Director:
    """One upstream's."""

    __slots__ = (
        "_cookie", "_field", "_hashes", "_leaving", "_nameless", "_names", "_source", "_sweep", "expire", "upstream",
        "used",
    )  # fmt: skip

    def __init__(self, upstream: str, definition: Definition) -> None:
        self.upstream = upstream
        self._source, _, name = definition.user_from.partition(" ")
        self._field = b"cookie" if self._source == "cookie" else name.lower().encode()
        self._cookie = name
        self.expire = definition.user_expire * 1000
        self._names: dict[str, dict[str, Assigned]] = {}
        self._hashes: dict[Key, Assigned] = {}
        self._nameless: dict[Question, Backend] = {}
        self._leaving: dict[Key, set[Client]] = {}
        self._sweep: Iterator[Assigned] = iter(())
        self.used: list[tuple[str, str, int]] = []
        """What control is to be told of."""

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, tag: str, name: str, now: int) -> Assigned | None:
        """What is remembered of a user."""
        names = self._names.get(tag)
        found = names.get(name) if names is not None else None
        if found is None or found.until < now:
            return None
        if found.refresh < now:
            self._touch(found, now)
        return found

    @property
    def by_token(self) -> bool:
        """Whether users are named by their tokens, so that each has a session."""
        return self._source == "token"

    def connections(self, name: str) -> "set[Client]":
        """Those whose last exchange was this user's."""
        found = [each for names in self._names.values() if (each := names.get(name)) is not None]
        return {client for each in found for client in each.clients if client.exchange.assigned is each}

    def nameless(self, question: Question) -> "Backend | None":
        """Where somebody without a name goes."""
        return self._nameless.get(question)

    def _touch(self, assigned: Assigned, now: int) -> None:
        assigned.refresh = now + assigned.half
        assigned.until = now + assigned.half * HALF
        self.used.append((self.upstream, *assigned.key))

    def take_in(self, place: Place, backend: "Backend", now: int) -> Assigned | None:
        """Remember what control has said; None for somebody without a name."""
        question = place.question
        if not question.kept:
            if len(self._nameless) >= MOST_NAMELESS:
                self._nameless.clear()
            self._nameless[question] = backend
            return None
        key = (question.tag, place.hash)
        assigned = self._hashes.get(key)
        if assigned is None or assigned.host != place.host:
            assigned = self._hashes[key] = Assigned(place, backend, now)
        assigned.refresh, assigned.until = now + assigned.half, now + assigned.half * HALF
        self._names.setdefault(question.tag, {})[question.name] = assigned
        return assigned

    def forget(self, unsteer: Unsteer) -> int:
        """Forget what is named; those who were there are remembered until they are drained. How many went."""
        self._nameless.clear()
        if unsteer.hashes:
            gone = [found for key in unsteer.hashes if (found := self._hashes.pop((key[0], key[1]), None))]
        elif unsteer.hosts:
            hosts = frozenset(unsteer.hosts)
            gone = [each for each in self._hashes.values() if each.host in hosts]
        else:
            gone = list(self._hashes.values())
        for each in gone:
            self._hashes.pop(each.key, None)
            each.until = 0
            if each.clients:
                self._leaving.setdefault(each.key, set()).update(each.clients)
        return len(gone)

    def clear(self) -> None:
        """Forget everything: what was said may hold no longer."""
        self.forget(Unsteer(self.upstream))

    def leaving(self, keys: list[Key]) -> "set[Client]":
        """The connections of users that were forgotten, once."""
        return set().union(*(self._leaving.pop((key[0], key[1]), ()) for key in keys))

    def tick(self, now: int, share: float) -> None:
        """Look at a share of all: those with an open connection live on, those that are over go."""
        many = max(100, int(len(self._hashes) * share))
        some = list(islice(self._sweep, many))
        for each in some:
            if each.until < now:
                self._drop(each)
            elif each.clients and each.refresh < now:
                self._touch(each, now)
        if len(some) < many:
            self._begin_again(now)

    def _drop(self, each: Assigned) -> None:
        if self._hashes.get(each.key) is each:
            del self._hashes[each.key]

    def _begin_again(self, now: int) -> None:
        """All were looked at: forget names of what is over, and look anew."""
        self._leaving.clear()
        for tag, names in list(self._names.items()):
            live = {name: each for name, each in names.items() if each.until >= now}
            if live:
                self._names[tag] = live
            else:
                del self._names[tag]
        self._sweep = iter(list(self._hashes.values()))

    def inherit(self, other: "Director") -> None:
        """Take over from the upstream's former definition who is still to be drained, should that be asked."""
        other.clear()
        self._leaving = other._leaving

    def name(self, exchange: "Exchange") -> str:
        """The user's name where this upstream looks for it; empty: nobody is named there."""
        if self._source == "token":
            name = exchange.admitted.user if exchange.admitted is not None else ""
        else:
            values = [value for field, value in exchange.fields.pairs if field == self._field]
            name = values[0].decode("utf-8", "replace") if len(values) == 1 else ""
            if self._source == "cookie":
                name = _cookie(name, self._cookie)
        return name if len(name) <= LONGEST_NAME else ""


def _cookie(text: str, wanted: str) -> str:
    """The value of the cookie that is named so, if there is just one (RFC 6265 section 4.2.1)."""
    pairs = [pair.strip(" ").partition("=") for pair in text.split(";")]
    values = [value.strip('"') for name, equals, value in pairs if equals and name == wanted]
    return values[0] if len(values) == 1 else ""


def nobody(exchange: "Exchange") -> str:
    """By what somebody without a name is steered: the client application, else the address."""
    if exchange.admitted is not None:
        return exchange.admitted.admission.client
    return exchange.fields.address


def remember(assigned: Assigned, client: "Client") -> None:
    """This connection uses it."""
    assigned.clients.add(client)
    client.assigned.append(assigned)
