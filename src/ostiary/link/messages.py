"""The messages of the link. Each direction is one ordered stream: that order is what the guarantees rest on.

A frame is a 4-byte big-endian length and one msgpack message. A worker may use its cached admissions only while its
lease is fresh; a Lease that control sends after a Change cannot be read before that Change.
"""

import msgspec
from msgspec import Struct

from ostiary.core.admission import Admission
from ostiary.core.limit import Limit
from ostiary.core.snapshot import Piece, Snapshot


class Lease(Struct, array_like=True, tag="lease", frozen=True):
    """Cached admissions may be used until `until` (nanoseconds of the machine's monotonic clock)."""

    until: int


class Answers(Struct, array_like=True, tag="answers", frozen=True):
    """Answers to an Ask: token digest -> admission, or None where the token does not pass."""

    admissions: dict[bytes, Admission | None]


class Grant(Struct, array_like=True, frozen=True):
    """`cells` requests of `key` may pass; 0: none for `wait` microseconds. `left` more are left for all workers."""

    key: bytes
    cells: int
    wait: int
    left: int = 0


class Granted(Struct, array_like=True, tag="granted", frozen=True):
    """Answers to a Draw, one a Want, in its order."""

    grants: list[Grant]


class Change(Struct, array_like=True, tag="change", frozen=True):
    """Something ended: drop what is cached of it, end its open streams and tunnels, then say Applied(seq)."""

    seq: int
    digests: list[bytes] = []
    clients: list[str] = []
    users: list[str] = []
    everything: bool = False
    """All admissions, positive and negative."""
    limits: bool = False
    """All drawn cells too."""
    streams: bool = True
    """End open streams and tunnels of what was dropped (a flush does not)."""


class Prepare(Struct, array_like=True, tag="prepare", frozen=True):
    """Build this snapshot beside the one that serves; `snapshot.routes` routes follow in Routes messages."""

    snapshot: Snapshot


class Pattern(Struct, array_like=True, frozen=True):
    """A route with variables: where it stands in the table, and the Route in msgpack."""

    method: str
    pieces: tuple[Piece, ...]
    order: int
    route: msgspec.Raw


class Routes(Struct, array_like=True, tag="routes", frozen=True):
    """Some routes of the snapshot being prepared; a Route stays msgpack until it is first used.

    `exact` has `METHOD /public/path` -> Route. A message holds few enough to be taken in within a millisecond or two.
    """

    revision: int
    exact: dict[bytes, msgspec.Raw]
    patterns: list[Pattern] = []


class Swap(Struct, array_like=True, tag="swap", frozen=True):
    """Serve the prepared snapshot from now on, then say Swapped."""

    revision: int


class Collect(Struct, array_like=True, tag="collect", frozen=True):
    """Say Report with everything counted since the last one."""

    seq: int


class Hello(Struct, array_like=True, tag="hello", frozen=True):
    """A worker's first words. `revision` is what it serves, 0 for nothing yet."""

    worker: int
    pid: int
    revision: int


class Ask(Struct, array_like=True, tag="ask", frozen=True):
    """Which of these token digests (SHA-256) pass?"""

    digests: list[bytes]


class Want(Struct, array_like=True, frozen=True):
    """Up to `cells` requests of `key` under `limit`."""

    key: bytes
    limit: Limit
    cells: int


class Draw(Struct, array_like=True, tag="draw", frozen=True):
    """Cells for limits."""

    wants: list[Want]


class Applied(Struct, array_like=True, tag="applied", frozen=True):
    """The change is in force in this worker; `dropped` counts what went, by kind (`admissions`, `limits`, ...)."""

    seq: int
    dropped: dict[str, int]


class Prepared(Struct, array_like=True, tag="prepared", frozen=True):
    """The snapshot is built; or `problem` says why it cannot be."""

    revision: int
    problem: str = ""


class Swapped(Struct, array_like=True, tag="swapped", frozen=True):
    """This worker serves `revision`; every exchange that begins from now on is its."""

    revision: int


class RouteCount(Struct, array_like=True, frozen=True):
    """What one route did since the last report: answers by status, and latencies by bucket.

    Bucket i counts exchanges that took less than 2**i microseconds and not less than 2**(i-1).
    """

    route: str
    statuses: dict[int, int]
    latencies: list[int]
    microseconds: int
    """The sum of the latencies."""


class Report(Struct, array_like=True, tag="report", frozen=True):
    """What a worker counted since its last report, and some levels of now."""

    seq: int
    routes: list[RouteCount]
    counters: dict[str, int]
    """Monotonic since the last report, e.g. `refused.bad_request`, `upstream.countries.connects`."""
    gauges: dict[str, int]
    """Levels, e.g. `connections`, `admissions`."""


class Guesses(Struct, array_like=True, tag="guesses", frozen=True):
    """Tokens that control does not admit: digest -> the address that showed it (core.penalty.neighbourhood)."""

    guesses: dict[bytes, str]


class Barred(Struct, array_like=True, tag="barred", frozen=True):
    """Addresses that have shown too many tokens that never were: until when (the machine's monotonic ns)."""

    until: dict[str, int]


ToWorker = Lease | Answers | Granted | Change | Prepare | Routes | Swap | Collect | Barred
ToControl = Hello | Ask | Draw | Applied | Prepared | Swapped | Report | Guesses

encode = msgspec.msgpack.Encoder().encode
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_to_control = msgspec.msgpack.Decoder(ToControl).decode
