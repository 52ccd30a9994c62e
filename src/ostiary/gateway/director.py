"""Users of an upstream with `balance: director` and the backend of each, as control has said it.

What is remembered holds while the worker's lease is fresh, like admissions. It outlives control: the next one says
first what has ended meanwhile (link/steered.py). A user that is in use is told to control once in half its time. Those
without a name are steered by their client application, else by their address.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from ostiary.core.director import Unsteer
from ostiary.core.snapshot import Director as Definition
from ostiary.link.messages import Place, Question

if TYPE_CHECKING:
    from ostiary.gateway.backend import Backend
    from ostiary.gateway.client import Client
    from ostiary.gateway.exchange import Exchange
    from ostiary.gateway.fields import RequestFields

LONGEST_NAME = 255
"""Characters; whose name is longer counts as nobody."""
MOST_NAMELESS = 10_000
FEW = 1_000
"""Forgotten ones among which those that linger are not looked for."""
SECOND = 1_000_000_000
HALF = 2

Key = tuple[str, int]
"""Tag and user hash."""


class Stay:
    """What is remembered of one backend. A mark here ends that for all of its users at once, however many they are."""

    __slots__ = ("backend", "host", "over")

    def __init__(self, host: str, backend: "Backend") -> None:
        self.host = host
        self.backend = backend
        self.over = False


class Assigned:
    """Where the users of one hash go. Times are monotonic nanoseconds."""

    __slots__ = ("clients", "half", "key", "names", "refresh", "stay", "until")

    def __init__(self, place: Place, stay: Stay) -> None:
        self.key: Key = (place.question.tag, place.hash)
        self.stay = stay
        self.half = place.seconds * SECOND // HALF
        self.refresh = self.until = 0
        self.names: list[str] = []
        self.clients: set[Client] | frozenset[Client] = frozenset()
        """Connections that have used it of late and are open."""

    def live(self, now: int) -> None:
        """It is in use: it holds for its whole time from now."""
        self.refresh, self.until = now + self.half, now + self.half * HALF

    def forgotten(self) -> bool:
        """Whether nobody is sent there any more because of it."""
        return not self.until or self.stay.over

    def lingers(self) -> bool:
        """Whether it is what some connection used last."""
        return any(client.exchange.assigned is self for client in self.clients)

    def keep(self, client: "Client") -> None:
        """This connection uses it."""
        if isinstance(self.clients, frozenset):
            self.clients = set()
        self.clients.add(client)

    def let_go(self, client: "Client") -> None:
        """This connection uses it no more."""
        if isinstance(self.clients, set):
            self.clients.discard(client)


class Director:
    """One upstream's."""

    __slots__ = (
        "_cookie", "_field", "_hashes", "_leaving", "_many_leaving", "_nameless", "_names", "_source", "_stays",
        "_sweep", "by_token", "drain", "expire", "upstream", "used",
    )  # fmt: skip

    def __init__(self, upstream: str, definition: Definition) -> None:
        self.upstream = upstream
        self._source, _, name = definition.user_from.partition(" ")
        self._field = b"cookie" if self._source == "cookie" else name.lower().encode()
        self._cookie = name
        self.by_token = self._source == "token"
        """Whether users are named by their tokens, so that each has a session."""
        self.expire = definition.user_expire * 1000
        self.drain = definition.drain * 1000
        self._names: dict[str, dict[str, Assigned]] = {}
        self._hashes: dict[Key, Assigned] = {}
        self._nameless: dict[Question, Backend] = {}
        self._stays: dict[str, Stay] = {}
        self._leaving: dict[Key, list[Assigned]] = {}
        """What was forgotten and may still flow."""
        self._many_leaving = FEW
        self._sweep: Iterator[Assigned] = iter(())
        self.used: list[tuple[str, str, int]] = []
        """What control is to be told of."""

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, tag: str, name: str, now: int) -> Assigned | None:
        """What is remembered of a user."""
        names = self._names.get(tag)
        found = names.get(name) if names is not None else None
        if found is None or found.until < now or found.stay.over:
            return None
        if found.refresh < now:
            self._touch(found, now)
        return found

    def connections(self, name: str) -> "set[Client]":
        """Those whose last exchange was this user's."""
        found = [each for names in self._names.values() if (each := names.get(name)) is not None]
        return {client for each in found for client in each.clients if client.exchange.assigned is each}

    def nameless(self, question: Question) -> "Backend | None":
        """Where somebody without a name goes."""
        return self._nameless.get(question)

    def _touch(self, assigned: Assigned, now: int) -> None:
        assigned.live(now)
        self.used.append((self.upstream, *assigned.key))

    def take_in(self, place: Place, backend: "Backend", now: int) -> Assigned | None:
        """Remember what control has said; None for somebody without a name."""
        question = place.question
        if not question.kept:
            if len(self._nameless) >= MOST_NAMELESS:
                self._nameless.clear()
            self._nameless[question] = backend
            return None
        assigned = self._at(place, backend)
        assigned.live(now)
        names = self._names.setdefault(question.tag, {})
        if names.get(question.name) is not assigned:
            names[question.name] = assigned
            assigned.names.append(question.name)
        return assigned

    def _at(self, place: Place, backend: "Backend") -> Assigned:
        """What is remembered of this hash, if it is at this backend; else a new one."""
        key = (place.question.tag, place.hash)
        found = self._hashes.get(key)
        if found is not None and not found.forgotten() and found.stay.backend is backend:
            return found
        if found is not None:
            self._drop(found)
        stay = self._stays.get(place.host)
        if stay is None or stay.backend is not backend:
            self.forget(Unsteer(self.upstream, hosts=[place.host]))
            stay = self._stays[place.host] = Stay(place.host, backend)
        assigned = self._hashes[key] = Assigned(place, stay)
        return assigned

    def forget(self, unsteer: Unsteer) -> None:
        """Forget what is named; what still flows is remembered until it is drained."""
        self._nameless.clear()
        for key in unsteer.hashes:
            if found := self._hashes.get((key[0], key[1])):
                self._drop(found)
        for host in unsteer.hosts or ([] if unsteer.hashes else list(self._stays)):
            if stay := self._stays.pop(host, None):
                stay.over = True

    def doubt(self, key: Key) -> None:
        """Who comes next is asked about anew, because control may not know that this is in use. It need not change."""
        if (found := self._hashes.get(key)) is not None:
            self._unname(found)

    def begin_anew(self) -> None:
        """Another control is heard. Where those without a name go it does not tell of by itself."""
        self._nameless.clear()

    def leaving(self, keys: Iterable[Key]) -> "set[Client]":
        """The connections of users that were forgotten."""
        gone = [each for key in keys for each in (*self._leaving.get(key, ()), self._hashes.get(key)) if each]
        return {client for each in gone if each.forgotten() for client in each.clients}

    def still(self, unsteer: Unsteer) -> bool:
        """Whether nothing flows for those who were forgotten; of others than single users that is not known."""
        if unsteer.hosts or not unsteer.hashes:
            return False
        return not any(client.busy() or client.exchange.flowing() for client in self.leaving(unsteer.hashes))

    def tick(self, now: int, share: float) -> None:
        """Look at a share of all: those with an open connection live on, those that are over go."""
        many = max(100, int(len(self._hashes) * share))
        some = list(islice(self._sweep, many))
        for each in some:
            if each.until < now or each.stay.over:
                self._drop(each)
            elif each.clients and each.refresh < now:
                self._touch(each, now)
        if len(some) < many:
            self._sweep = iter(list(self._hashes.values()))

    def _drop(self, each: Assigned) -> None:
        each.until = 0
        if self._hashes.get(each.key) is each:
            del self._hashes[each.key]
        self._unname(each)
        if each.names and each.lingers():
            self._let_leave(each)
        each.names = []

    def _unname(self, each: Assigned) -> None:
        names = self._names.get(each.key[0], {})
        for name in each.names:
            if names.get(name) is each:
                del names[name]
        if not names:
            self._names.pop(each.key[0], None)

    def _let_leave(self, each: Assigned) -> None:
        """It may still flow. There are not many such: a connection has used one of them last."""
        before = [old for old in self._leaving.get(each.key, ()) if old.lingers()]
        self._leaving[each.key] = [*before, each]
        if len(self._leaving) > self._many_leaving:
            self._leaving = {key: some for key, some in self._leaving.items() if any(old.lingers() for old in some)}
            self._many_leaving = max(FEW, 2 * len(self._leaving))

    def inherit(self, other: "Director") -> None:
        """Take over from the upstream's former definition who is still to be drained, should that be asked."""
        other.forget(Unsteer(self.upstream))
        for each in list(other._hashes.values()):
            other._drop(each)
        self._leaving = other._leaving

    def name(self, exchange: "Exchange") -> str:
        """The user's name where this upstream looks for it; empty: nobody is named there."""
        if self.by_token:
            return _bounded(exchange.admitted.user) if exchange.admitted is not None else ""
        fields = exchange.fields
        if fields.named is None or fields.named[0] is not self:
            fields.named = (self, _bounded(self._read(fields)))
        return fields.named[1]

    def _read(self, fields: "RequestFields") -> str:
        """The name in these fields; remembered with them, because on a kept connection they mostly repeat."""
        values = [value for field, value in fields.pairs if field == self._field]
        name = values[0].decode("utf-8", "replace") if len(values) == 1 else ""
        return _cookie(name, self._cookie) if self._source == "cookie" else name


def _bounded(name: str) -> str:
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
