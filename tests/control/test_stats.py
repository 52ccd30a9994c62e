"""Statistics: the workers' counts, summed, chosen and shown."""

import msgspec
import pytest
from tests.control.house import NOW, House

from ostiary.control.call import Call
from ostiary.control.counted import add, read_filter
from ostiary.control.stats import DumpStats, Emptied, Kind, NoParameters, StatRow
from ostiary.core.permission import OWNER, Principal
from ostiary.core.refusal import Invalid
from ostiary.core.snapshot import SECOND
from ostiary.link.messages import Counted, Dump, ResetStats, SessionRow, SessionSums, Slow, Sums

FIELDS = [
    "reset_timestamp", "last_update", "num_logins", "num_cmds", "num_connected_sessions", "user_cpu", "sys_cpu",
    "clock_time", "min_faults", "maj_faults", "vol_cs", "invol_cs", "disk_input", "disk_output", "read_count",
    "read_bytes", "write_count", "write_bytes", "mail_lookup_path", "mail_lookup_attr", "mail_read_count",
    "mail_read_bytes", "mail_cache_hits", "auth_successes", "auth_master_successes", "auth_failures",
    "auth_db_tempfails", "auth_cache_hits", "auth_cache_misses", "fscache_read", "fscache_stat", "fscache_write",
    "idx_del", "idx_iter", "idx_read", "idx_read_usecs", "idx_wbytes", "idx_write", "idx_write_usecs", "obox_copy",
    "obox_del", "obox_iter", "obox_read", "obox_read_usecs", "obox_stat", "obox_wbytes", "obox_write",
    "obox_write_usecs",
]  # fmt: skip
USAGE = {"user_cpu": 0.1, "sys_cpu": 0.25, "min_faults": 3, "vol_cs": 2, "disk_output": 512}
HERE, THERE = "192.0.2.1", "2001:db8::1"


def sums(last: int, exchanges: int = 1, **more: int) -> Sums:
    return Sums(exchanges=exchanges, last=last, **more)


def session(name: str, user: str, address: str, last: int, *, is_open: bool = True) -> SessionSums:
    row = SessionRow(name, user, "http", address, 1, last)
    return SessionSums(row, is_open, sums(last, connected=int(is_open)))


FIRST = Counted(
    NOW + 5 * SECOND,
    Sums(2, 5, 2_500_000, 5, 100, 5, 200, 4, 1, 1, 3, 2, NOW + 20, 1),
    {"ann@example.org": sums(NOW + 20, 3), "Bob": sums(NOW + 10)},
    {HERE: sums(NOW + 20, 4), "": sums(NOW + 1)},
    [session("a1", "ann@example.org", HERE, NOW + 20), session("a2", "Bob", HERE, NOW + 10, is_open=False)],
    [Slow("GET /slow", "a1", "ann@example.org", HERE, sums(NOW + 4)), Slow("GET /bad", "", "", HERE, sums(NOW + 2))],
    USAGE,
)
SECOND_WORKER = Counted(
    NOW + 6 * SECOND,
    Sums(1, 1, 9_750_000, last=NOW + 30, connected=1),
    {"ann@example.org": sums(NOW + 30, 2), "carol@example.org": sums(NOW + 15)},
    {THERE: sums(NOW + 30, 2)},
    [session("b1", "ann@example.org", THERE, NOW + 30)],
    [],
    {**USAGE, "user_cpu": 0.2},
)


@pytest.fixture
def counted(house: House) -> House:
    house.workers.says[Dump] = {11: FIRST, 22: SECOND_WORKER}
    return house


async def dumped(house: House, kind: Kind, text: str = "") -> list[StatRow]:
    rows: list[StatRow] = await house.run("stats.dump", DumpStats(kind, text))
    return rows


async def names(house: House, kind: Kind, text: str = "") -> list[str]:
    """The first key of each row."""
    return [next(iter(row.keys.values())) for row in await dumped(house, kind, text)]


def test_a_row_has_the_48_fields_in_order() -> None:
    assert list(StatRow.__struct_fields__) == ["keys", *FIELDS]
    assert len(FIELDS) == 48


def test_every_sum_is_added_up_and_the_later_moment_counts() -> None:
    one, other = Sums(*range(1, 15)), Sums(*range(101, 115))
    add(one, other)
    fields = [field for field in Sums.__struct_fields__ if field != "last"]
    assert [getattr(one, field) for field in fields] == [getattr(other, field) * 2 - 100 for field in fields]
    assert one.last == other.last


async def test_everything_is_one_row_of_sums(counted: House) -> None:
    (row,) = await dumped(counted, "global", "user=nobody")
    assert row == StatRow(
        {}, NOW // SECOND, (NOW + 30) / SECOND, 3, 6, 2, 0.3, 0.5, 12.25, 6, 0, 4, 0, 0, 1024, 5, 100, 5, 200,
        auth_successes=4, auth_failures=1, auth_db_tempfails=1, auth_cache_hits=3, auth_cache_misses=2,
    )  # fmt: skip
    assert f"{row.last_update:.6f}" == "1800000000.000030"


async def test_without_workers_everything_is_nothing(house: House) -> None:
    (row,) = await dumped(house, "global")
    assert msgspec.structs.replace(row, reset_timestamp=0) == StatRow({})
    assert await dumped(house, "user") == []


async def test_users_are_summed_over_the_workers_the_latest_first(counted: House) -> None:
    rows = await dumped(counted, "user")
    assert [(row.keys, row.num_cmds) for row in rows] == [
        ({"user": "ann@example.org"}, 5),
        ({"user": "carol@example.org"}, 1),
        ({"user": "Bob"}, 1),
    ]


async def test_domains_are_what_follows_the_last_at_sign(counted: House) -> None:
    rows = await dumped(counted, "domain")
    assert [(row.keys, row.num_cmds) for row in rows] == [({"domain": "example.org"}, 6), ({"domain": ""}, 1)]


async def test_sessions_and_commands_say_whose_they_are(counted: House) -> None:
    rows = await dumped(counted, "session")
    assert [row.keys for row in rows[::2]] == [
        {"session": "b1", "user": "ann@example.org", "ip": THERE, "service": "http", "pid": "22", "connected": "1"},
        {"session": "a2", "user": "Bob", "ip": HERE, "service": "http", "pid": "11", "connected": "0"},
    ]
    assert [row.keys for row in await dumped(counted, "command")] == [
        {"cmd": "GET /slow", "session": "a1", "user": "ann@example.org", "ip": HERE},
        {"cmd": "GET /bad", "session": "", "user": "", "ip": HERE},
    ]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("user", "user=BO?", ["Bob"]),
        ("user", "user=*@* domain=EXAMPLE.org", ["ann@example.org", "carol@example.org"]),
        ("user", "domain=", ["Bob"]),
        ("user", f"ip={HERE}/24", ["ann@example.org", "Bob"]),
        ("user", f"ip={HERE} ip={THERE}", []),
        ("user", "session=b1", ["ann@example.org"]),
        ("user", "connected", ["ann@example.org"]),
        ("user", "session=a2 connected", []),
        ("user", f"since={(NOW + 15) / SECOND:.6f}", ["ann@example.org", "carol@example.org"]),
        ("user", f"{(NOW + SECOND) // SECOND}", []),
        ("user", "nonsense other=1 connected=1 -5", ["ann@example.org", "carol@example.org", "Bob"]),
        ("domain", "user=carol*", ["example.org"]),
        ("domain", "domain= user=b*", [""]),
        ("domain", "connected", ["example.org"]),
        ("ip", "ip=2001:db8::/32", [THERE]),
        ("ip", "user=Bob", [HERE]),
        ("ip", "", [THERE, HERE, ""]),
        ("session", "connected ip=192.0.2.0/24", ["a1"]),
        ("session", "session=a2", ["a2"]),
        ("command", "user=ann*", ["GET /slow"]),
        ("command", "connected", ["GET /slow"]),
        ("command", "user=", ["GET /bad"]),
    ],
)
async def test_a_filter_chooses_items(counted: House, kind: Kind, text: str, expected: list[str]) -> None:
    assert await names(counted, kind, text) == expected


@pytest.mark.parametrize(
    "text", ["ip=nonsense", "ip=", "ip=10.0.0.0/33", "since=", "since=x", "since=-1", "since=1.", "user=" + "*" * 1025]
)
@pytest.mark.parametrize("kind", ["global", "user"])
async def test_an_ill_formed_filter_is_refused_whatever_is_shown(counted: House, kind: Kind, text: str) -> None:
    with pytest.raises(Invalid) as refused:
        await dumped(counted, kind, text)
    assert refused.value.code == "filter.invalid"


def test_a_moment_of_any_length_is_read() -> None:
    assert read_filter("9" * 30).since == int("9" * 30) * SECOND
    assert read_filter("since=1.5 since=1.0000019").since == 1_500_000


async def test_a_reset_reaches_the_workers_and_its_moment_is_shown(counted: House) -> None:
    counted.now += 7 * SECOND
    assert await counted.run("stats.reset", NoParameters()) == Emptied(NOW // SECOND + 7)
    assert counted.workers.orders == [ResetStats()]
    later = msgspec.structs.replace(FIRST, since=NOW + 8 * SECOND)
    counted.workers.says[Dump] = {11: later}
    assert [row.reset_timestamp for row in await dumped(counted, "user")] == [NOW // SECOND + 7] * 2


async def test_a_control_that_began_later_knows_the_reset_from_the_workers(counted: House) -> None:
    counted.control.counting_since = NOW + 100 * SECOND
    assert [row.reset_timestamp for row in await dumped(counted, "global")] == [NOW // SECOND + 5]


async def test_ten_thousand_items_are_shown_at_most_and_the_latest(house: House) -> None:
    many = {f"user{each}": sums(each + 1) for each in range(10_000)}
    other = {f"other{each}": sums(20_000 + each) for each in range(10)}
    house.workers.says[Dump] = {
        pid: Counted(NOW, Sums(), users, {}, [], [], {}) for pid, users in ((1, many), (2, other))
    }
    found = await names(house, "user")
    assert (len(found), found[0], found[10], found[-1]) == (10_000, "other9", "user9999", "user10")


async def test_a_dry_reset_resets_nothing(counted: House) -> None:
    call = Call(Principal("user", "admin", OWNER), "test", dry=True)
    assert await counted.run("stats.reset", NoParameters(), call=call) == ["would begin counting anew"]
    assert counted.workers.orders == []
