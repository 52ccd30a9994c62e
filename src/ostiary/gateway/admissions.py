"""The worker's cache of admissions: who a token stands for, as control said it, until control says otherwise.

Two generations (young and old) bound it at O(1): when the young one is full it becomes the old one, and what is still
used moves over. Refused tokens are kept apart, so that guesses cannot push real tokens out.
"""

from collections.abc import Callable

import msgspec

from ostiary.core.admission import Admission
from ostiary.gateway.cells import Cell, Cells
from ostiary.link.messages import Change

REFUSED_FOR = 60_000_000_000
"""Nanoseconds that a negative answer is kept at most (a change of a client or user drops it sooner)."""
MOST_REFUSED = 20_000


class Admitted:
    """An admission in the form that the hot path needs; `client` is None for a token that does not pass."""

    __slots__ = ("admission", "cell", "expires", "ident", "log", "scopes", "tag", "user")

    def __init__(self, admission: Admission, expires: int, cell: Cell | None) -> None:
        self.admission = admission
        self.expires = expires
        self.scopes = frozenset(admission.scopes)
        self.user = admission.user
        self.cell = cell
        self.tag = admission.details.get("director_tag", "") if admission.details else ""
        """Of the director's hosts that serve this user."""
        self.ident = _ident(admission)
        self.log = b'"client":%s,"user":%s,' % (_quoted(admission.client), _quoted(admission.user))


def _ident(admission: Admission) -> bytes:
    client, scope = _field(admission.client), _field(" ".join(admission.scopes))
    user = b"x-user-id: %s\r\n" % _field(admission.user) if admission.user else b""
    return b"x-client-id: %s\r\n%sx-scope: %s\r\n" % (client, user, scope)


def _field(text: str) -> bytes:
    """`text` as a field value: UTF-8, with controls (which names may not have anyway) left out."""
    return bytes(byte for byte in text.encode() if byte >= 32 and byte != 127)


_quoted: Callable[[str], bytes] = msgspec.json.encode


class Admissions:
    """Digest of a token -> Admitted, or None where control said that the token does not pass."""

    __slots__ = ("_cells", "_most", "_old", "_refused", "young")

    def __init__(self, most: int, cells: Cells) -> None:
        self._most = most
        self._cells = cells
        self.young: dict[bytes, Admitted] = {}
        self._old: dict[bytes, Admitted] = {}
        self._refused: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self.young) + len(self._old)

    def resize(self, most: int) -> None:
        """Hold at most about `most` entries from now on."""
        self._most = most

    def find(self, digest: bytes) -> Admitted | None:
        """What is cached of the token, in either generation."""
        found = self.young.get(digest)
        if found is None and (found := self._old.pop(digest, None)) is not None:
            self._keep(digest, found)
        return found

    def refused(self, digest: bytes, now: int) -> bool:
        """Whether control said lately that this token does not pass."""
        return self._refused.get(digest, 0) > now

    def take_in(self, digest: bytes, admission: Admission | None, now: int, wall: int) -> Admitted | None:
        """Keep control's answer; `now` is monotonic nanoseconds, `wall` Unix microseconds of the same moment."""
        if admission is None:
            if len(self._refused) >= MOST_REFUSED:
                self._refused.clear()
            self._refused[digest] = now + REFUSED_FOR
            return None
        key, limit = b"client " + admission.client.encode(), admission.limit
        cell = self._cells.of(key, limit, "client") if limit else None
        admitted = Admitted(admission, now + (admission.expires - wall) * 1000, cell)
        self._keep(digest, admitted)
        return admitted

    def _keep(self, digest: bytes, admitted: Admitted) -> None:
        if len(self.young) >= max(1, self._most // 2):
            self._old, self.young = self.young, {}
        self.young[digest] = admitted

    def drop(self, change: Change) -> int:
        """Forget what the change touches; gives how many admissions (and refused tokens) went."""
        if change.everything:
            count = len(self) + len(self._refused)
            self.young, self._old, self._refused = {}, {}, {}
            return count
        count = 0
        for digest in change.digests:
            count += (self.young.pop(digest, None) or self._old.pop(digest, None)) is not None
            self._old.pop(digest, None)
        if change.clients or change.users:
            count += self._drop_named(frozenset(change.clients), frozenset(change.users))
            self._refused = {}
        return count

    def _drop_named(self, clients: frozenset[str], users: frozenset[str]) -> int:
        gone = {
            digest
            for cache in (self.young, self._old)
            for digest, a in cache.items()
            if a.admission.client in clients or (a.user and a.user in users)
        }
        for digest in gone:
            self.young.pop(digest, None)
            self._old.pop(digest, None)
        return len(gone)
