"""The messages of the link. Each direction is one ordered stream: that order is what the guarantees rest on.

A frame is a 4-byte big-endian length and one msgpack message. A worker may use its cached admissions only while its
lease is fresh; a Lease that control sends after a Change cannot be read before that Change.
"""

import msgspec
from msgspec import Struct

from ostiary.core.admission import Admission
from ostiary.core.director import Unsteer
from ostiary.core.limit import Limit
from ostiary.core.marks import Mark
from ostiary.core.snapshot import Piece, Snapshot

NEVER = -1
"""In the place of a number of the change log: before its beginning."""


class Lease(Struct, array_like=True, tag="lease", frozen=True):
    """What is cached may be used until `until` (nanoseconds of the machine's monotonic clock)."""

    until: int
    told: int = 0
    """The number of the change log up to which all changes of directors stand before this in the stream."""


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
    steering: list[Unsteer] = []
    members: dict[str, list[str]] = {}
    """Upstream -> the backends that it has besides its own (droplets), all of them, each `HOST:PORT`."""
    stopped: list[str] | None = None
    """The services that are stopped from now on (`http`, `ws`), if that changes."""

    def touches(self, digest: bytes, admission: Admission | None) -> bool:
        """Whether it may have changed what is said of a token: that it passes as `admission`, or (None) does not."""
        if self.everything or digest in self.digests:
            return True
        if admission is None:
            return bool(self.clients or self.users)
        return admission.client in self.clients or (bool(admission.user) and admission.user in self.users)


class Question(Struct, array_like=True, frozen=True):
    """Which backend of `upstream` has the user `name`? `kept` false: nobody who is to be remembered is asked for."""

    upstream: str
    tag: str
    name: str
    kept: bool = True


class Steer(Struct, array_like=True, tag="steer", frozen=True):
    """Where do these go?"""

    questions: list[Question]


class Place(Struct, array_like=True, frozen=True):
    """An answer to a Question: `host` (its name, `""`: none is up) at `backend` (HOST:PORT)."""

    question: Question
    host: str
    backend: str
    hash: int
    seconds: int
    """For which it holds without a further use."""


class Steered(Struct, array_like=True, tag="steered", frozen=True):
    """Answers to a Steer, in any order and grouping; what waits for a move is answered later."""

    places: list[Place]


class Touch(Struct, array_like=True, tag="touch", frozen=True):
    """These assignments are in use (upstream, tag, hash): they live on for their whole time from now."""

    number: int
    used: list[tuple[str, str, int]]


class Touched(Struct, array_like=True, tag="touched", frozen=True):
    """The store has the uses of the Touch of this number."""

    number: int


class Who(Struct, array_like=True, tag="who", frozen=True):
    """Order: list the sessions. Done has list[SessionRow]."""


class Kick(Struct, array_like=True, tag="kick", frozen=True):
    """Order: end sessions. Done has list[str]: the names whose sessions were ended, bystanders of `force` among them.

    Without `force` an exchange in flight is finished, at most `grace` microseconds long, and connections that other
    users share stay open.
    """

    users: list[str]
    """Exactly these (letter case counts); control has found out who they are."""
    force: bool = False
    grace: int = 5_000_000
    upstream: str = ""
    """Only what flows to this upstream; empty: all."""
    detail: tuple[str, str] | None = None
    """Instead of `users`: those whose token has this detail with this value."""


class Drain(Struct, array_like=True, tag="drain", frozen=True):
    """Order: let what flows to a backend end (at most `grace` microseconds), then cut it. Done has list[str]: of whom.

    Of `upstream`, for the users of `hashes` (tag, hash) and whatever flows to `hosts` (a director's names of them, or
    HOST:PORT). Tunnels end at once. `close`: the clients' connections end too, idle ones of these users at once.
    """

    upstream: str
    hashes: list[tuple[str, int]] = []
    hosts: list[str] = []
    grace: int = 5_000_000
    close: bool = False
    mark: Mark | None = None
    """And for all users who left a host by this: nobody has to name them, however many they are."""


class FindStrays(Struct, array_like=True, tag="strays", frozen=True):
    """Order: say what flows although its user was forgotten. Done has list[Stray]."""


class Stray(Struct, array_like=True, frozen=True):
    """Something flows to `host` for the users of a hash, of whom the worker no longer knows where they go."""

    upstream: str
    tag: str
    hash: int
    host: str


class Dump(Struct, array_like=True, tag="dump", frozen=True):
    """Order: say what was counted. Done has Counted."""


class ResetStats(Struct, array_like=True, tag="reset-stats", frozen=True):
    """Order: begin counting anew. Done has list[str], empty."""


Order = Who | Kick | Drain | FindStrays | Dump | ResetStats


class Do(Struct, array_like=True, tag="do", frozen=True):
    """Carry out an order, then say Done with the same number."""

    seq: int
    order: Order


class SessionRow(Struct, array_like=True, frozen=True, gc=False):
    """A session: a user on an open client connection. Times are Unix microseconds."""

    id: str
    user: str
    service: str
    """`http`, or `ws` while a tunnel is open on the connection."""
    address: str
    since: int
    last: int
    """When its last exchange ended, or `since`."""


class Sums(Struct, array_like=True):
    """What was counted of somebody or something since the last reset. Times in microseconds."""

    logins: int = 0
    exchanges: int = 0
    micros: int = 0
    reads: int = 0
    read_bytes: int = 0
    writes: int = 0
    write_bytes: int = 0
    admitted: int = 0
    refused: int = 0
    """401 and 403."""
    undecided: int = 0
    cached: int = 0
    asked: int = 0
    last: int = 0
    """Unix microseconds of the end of the last exchange; 0: none."""
    connected: int = 0
    """Sessions open now."""


class SessionSums(Struct, array_like=True, frozen=True):
    """One session's sums; `open` until its connection ends."""

    session: SessionRow
    open: bool
    sums: Sums


class Slow(Struct, array_like=True, frozen=True):
    """An exchange of more than a second, or one that failed (5xx)."""

    route: str
    session: str
    user: str
    address: str
    sums: Sums


class Counted(Struct, array_like=True, frozen=True):
    """What a worker counted since the last reset; bounded by 10,000 items a kind, the least recent go first."""

    since: int
    """Of the reset, or of the worker's start: Unix microseconds."""
    total: Sums
    users: dict[str, Sums]
    addresses: dict[str, Sums]
    sessions: list[SessionSums]
    slow: list[Slow]
    """The last 1,000."""
    usage: dict[str, float]
    """Of the process: user_cpu, sys_cpu (seconds), min_faults, maj_faults, vol_cs, invol_cs, disk_input, disk_output
    (bytes)."""


class Done(Struct, array_like=True, tag="done", frozen=True):
    """An order is carried out; `result` is msgpack of what the order says."""

    seq: int
    result: msgspec.Raw


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
    told: int = NEVER
    """As the last Lease had it: what it knows of directors may be older than later changes, and than no other."""


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
    """The change is in force in this worker; `dropped` counts what went, by kind (`admissions`, `limits`, ...).

    `still` is 1 there if the change was to forget users one by one, and for none of them anything flows any more.
    """

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


ToWorker = Lease | Answers | Granted | Change | Prepare | Routes | Swap | Collect | Barred | Steered | Touched | Do
ToControl = Hello | Ask | Draw | Applied | Prepared | Swapped | Report | Guesses | Steer | Touch | Done

encode = msgspec.msgpack.Encoder().encode
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_to_control = msgspec.msgpack.Decoder(ToControl).decode
