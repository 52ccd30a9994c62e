"""How much is measured: the whole comparison, or the short one that takes under a minute."""

from typing import NamedTuple

MIB = 1 << 20


class Scale(NamedTuple):
    """The sizes of one run."""

    quick: bool
    rounds: int
    """Programs take turns this many times."""
    long_rounds: int
    """The same where a turn takes long."""
    seconds: int
    """Of load, a program and round; whole, as wrk counts."""
    turn_seconds: float
    """The same where our own generator is the load."""
    latency_seconds: float
    quiet_seconds: float
    """Of load before the first reload, whose latency is the quiet one."""
    routes: int
    """Of the large configuration."""
    large_reloads: int
    """Of the large configuration under load."""
    reloads: int
    """One after the other, under load."""
    changing: int
    """Routes that change with each of them."""
    body: int
    """Bytes of a large body."""
    revokes: int
    admissions: int
    """Tokens that a worker sees for the first time, a round."""
    tokens: int
    """Of the store with many."""
    assignments: int
    """Of a director with many users; a tenth of them at one host."""
    sessions: int
    """Open connections, each of a user of its own."""
    users: int
    """Active users of a director under load."""
    regular: int
    """Of these, who ask all the time."""
    visits: int
    """Requests a second of all of them."""
    droplets: int
    """Of a node, all idle."""
    parts: tuple[str, ...]


FULL = Scale(
    quick=False,
    rounds=5,
    long_rounds=5,
    seconds=4,
    turn_seconds=4,
    latency_seconds=6,
    quiet_seconds=5,
    routes=100_000,
    large_reloads=3,
    reloads=50,
    changing=10_000,
    body=1024 * MIB,
    revokes=200,
    admissions=30_000,
    tokens=1_000_000,
    assignments=1_000_000,
    sessions=10_000,
    users=100_000,
    regular=2_000,
    visits=1_500,
    droplets=500,
    parts=(
        "policy",
        "plain",
        "latency",
        "routes",
        "reloads",
        "bodies",
        "oauth",
        "revocation",
        "admission",
        "million",
        "attack",
        "director",
        "director_load",
        "droplets",
    ),
)
QUICK = Scale(
    quick=True,
    rounds=2,
    long_rounds=1,
    seconds=1,
    turn_seconds=0.5,
    latency_seconds=0.7,
    quiet_seconds=1.0,
    routes=10_000,
    large_reloads=1,
    reloads=5,
    changing=2_000,
    body=64 * MIB,
    revokes=20,
    admissions=3_000,
    tokens=20_000,
    assignments=20_000,
    sessions=500,
    users=5_000,
    regular=200,
    visits=500,
    droplets=50,
    parts=("policy", "plain", "latency", "routes", "bodies", "oauth", "revocation"),
)
