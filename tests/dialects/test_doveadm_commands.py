"""The original's commands: what each takes, what it shows, and its exit codes where it fails."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.dialects.house import House, build

from ostiary.control.penalties import Listed
from ostiary.control.services import Service
from ostiary.control.sessions import Session
from ostiary.control.stats import StatRow
from ostiary.core.configuration.measure import Secret
from ostiary.core.configuration.settings import DialectSettings, DoveadmSettings, Settings
from ostiary.core.director import DirectorRules
from ostiary.core.snapshot import SECOND
from ostiary.dialects.doveadm import rows
from ostiary.link.messages import Kick, SessionRow, Who

KEY = {"authorization": "X-Dovecot-API a2V5"}
AT = 1_483_109_576_000_000
"""2016-12-30 14:52:56 UTC, microseconds."""


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The node's zone, in which rows show times."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    built = await build(tmp_path)
    directors(built, "mail")
    built.settings = surface()
    yield built
    built.control.passwords.close()
    await built.close()


def directors(house: House, *names: str) -> None:
    """Have these upstreams with balance: director."""
    rules = {name: DirectorRules(name) for name in names}
    house.control.rules = msgspec.structs.replace(house.control.rules, directors=rules)


def surface(**more: Any) -> Settings:
    """Settings with a key and `more`."""
    return Settings(dialects=DialectSettings(doveadm=DoveadmSettings(api_key=Secret("key"), **more)))


async def run(house: House, *commands: tuple[str, Any]) -> Any:
    """The entries of a batch, without their tags."""
    batch = [[name, values, str(number)] for number, (name, values) in enumerate(commands)]
    answer = await house.ask("POST", "/doveadm/v1", msgspec.json.encode(batch), owner=False, headers=KEY)
    entries = msgspec.json.decode(answer.body)
    assert [each[2] for each in entries] == [str(number) for number in range(len(commands))]
    return [each[1] if each[0] == "doveadmResponse" else each[1]["exitCode"] or each[1]["type"] for each in entries]


async def one(house: House, name: str, **values: object) -> Any:
    """Rows, or the exit code."""
    return (await run(house, (name, values)))[0]


# Rows


def test_sessions_are_one_row_a_user_and_service() -> None:
    found = [
        Session("a", "testuser001", "http", 5001, "127.0.0.5", 0, 0),
        Session("b", "testuser001", "http", 999, "127.0.0.1", 0, 0),
        Session("c", "testuser001", "ws", 5001, "::1", 0, 0),
        Session("d", "testuser001", "ws", 5001, "10.0.0.9", 0, 0),
    ]
    assert [tuple(row.items()) for row in rows.sessions(found)] == [
        (
            ("username", "testuser001"), ("connections", "2"), ("service", "http"), ("pids", "(999 5001)"),
            ("ips", "(127.0.0.1 127.0.0.5)"),
        ),
        (
            ("username", "testuser001"), ("connections", "2"), ("service", "ws"), ("pids", "(5001)"),
            ("ips", "(10.0.0.9 ::1)"),
        ),
    ]  # fmt: skip
    assert tuple(rows.separate_sessions(found)[0].items()) == (
        ("username", "testuser001"), ("service", "http"), ("pid", "5001"), ("ip", "127.0.0.5"),
    )  # fmt: skip


def test_penalties_are_rows_oldest_update_first() -> None:
    found = [
        Listed("address", "10.0.0.1", 1, 0, AT, False, 2, AT - SECOND, AT),
        Listed("address", "2001:db8:1:2::/64", 1, 0, AT, False, 4, AT - 5 * SECOND, AT - 2 * SECOND),
        Listed("address", "10.0.0.2", 1, 0, AT),
    ]
    assert [list(row.items()) for row in rows.penalties(found)] == [
        [
            ("IP", "2001:db8:1:2::"), ("penalty", "4"), ("last_penalty", "2016-12-30 14:52:51"),
            ("last_update", "14:52:54"),
        ],
        [("IP", "10.0.0.1"), ("penalty", "2"), ("last_penalty", "2016-12-30 14:52:55"), ("last_update", "14:52:56")],
    ]  # fmt: skip


def test_statistics_are_forty_eight_texts_behind_the_items_own() -> None:
    row = rows.stats([StatRow({"user": "a"}, 1, 1.5, num_logins=2, user_cpu=12.25, clock_time=0.00001)])[0]
    assert list(row)[:5] == ["user", "reset_timestamp", "last_update", "num_logins", "num_cmds"]
    assert len(row) == 49
    assert (row["last_update"], row["user_cpu"], row["sys_cpu"], row["clock_time"]) == (
        "1.500000", "12.25", "0.0", "0.00001",
    )  # fmt: skip
    assert rows.stats([StatRow({})])[0]["last_update"] == "0.000000"
    assert {type(each) for each in row.values()} == {str}


def test_a_service_says_y_and_n() -> None:
    names = [
        "name", "process_count", "process_avail", "process_limit", "client_limit", "throttle_secs",
        "exit_failure_last", "exit_failures_in_sec", "last_drop_warning", "listen_pending", "listening",
        "doveadm_stop", "process_total",
    ]  # fmt: skip
    (row,) = rows.services([Service("http", 2, 2, 2, 20_000, 0, 0, 0, 0, False, True, False, 2)])
    assert list(row) == names
    assert list(row.values()) == ["http", "2", "2", "2", "20000", "0", "0", "0", "0", "n", "y", "n", "2"]


# who and kick


def present(house: House, *sessions: SessionRow) -> None:
    """These sessions on one worker."""
    house.workers.says[Who] = {4999: list(sessions)}


async def test_who_shows_users_by_masks(house: House) -> None:
    present(
        house,
        SessionRow("1", "alice", "http", "10.0.0.1", AT, AT),
        SessionRow("2", "alice", "http", "192.0.2.7", AT, AT),
        SessionRow("3", "bob", "ws", "127.0.0.1", AT, AT),
    )
    alice = {
        "username": "alice", "connections": "2", "service": "http", "pids": "(4999)", "ips": "(10.0.0.1 192.0.2.7)",
    }  # fmt: skip
    bob = {"username": "bob", "connections": "1", "service": "ws", "pids": "(4999)", "ips": "(127.0.0.1)"}
    assert await one(house, "who") == [alice, bob]
    assert await one(house, "who", mask="") == [alice, bob]
    assert await one(house, "who", mask=[]) == [alice, bob]
    assert await one(house, "who", mask="*" * 3000) == [alice, bob]
    assert await one(house, "who", mask="A*") == [alice]
    assert await one(house, "who", mask=["10.0.0.0/8"]) == [alice]
    assert await one(house, "who", mask=["b?b", "10.0.0.0/8"]) == []
    assert await one(house, "who", mask="127.0.0.1/99") == []
    assert await one(house, "who", **{"separate connections": "yes"}, mask="bob") == [
        {"username": "bob", "service": "ws", "pid": "4999", "ip": "127.0.0.1"}
    ]


async def test_kick_ends_whom_it_names_and_lists_them(house: House) -> None:
    present(house, SessionRow("1", "bob", "http", "10.0.0.1", AT, AT), SessionRow("2", "al", "http", "::1", AT, AT))
    house.workers.says[Kick] = {4999: ["bob", "al"], 5000: ["al"]}
    assert await one(house, "kick", mask="*", force="y") == [{"result": "al"}, {"result": "bob"}]
    order = house.workers.orders[-1]
    assert isinstance(order, Kick)
    assert (sorted(order.users), order.force) == (["al", "bob"], True)
    assert await one(house, "kick", mask="nobody") == 68


@pytest.mark.parametrize(
    ("command", "values", "code"),
    [
        ("who", {"mask": ["a", "b"]}, 64),
        ("who", {"mask": ["10.0.0.1", "10.0.0.0/8"]}, 64),
        ("kick", {}, 64),
        ("kick", {"mask": []}, 64),
        ("kick", {"mask": ["a", "b"]}, 64),
        ("kick", {"mask": ["10.0.0.1", "10.0.0.0/8"]}, 64),
        ("kick", {"mask": ["10.0.0.1", "/0", "a"]}, 64),
        ("kick", {"mask": "/0"}, 64),
        ("kick", {"mask": "0.0.0.0/0"}, 64),
        ("kick", {"mask": "::/0"}, 64),
        ("kick", {"mask": ["/0", "nobody"]}, 68),
        ("kick", {"mask": ""}, 68),
        ("kick", {"mask": ["", "10.0.0.0/8"]}, 68),
        ("who", {"mask": "x" * 3000}, []),
        ("kick", {"mask": "x" * 3000}, 68),
        ("kick", {"mask": "*" + "?*" * 3000}, 68),
        ("kick", {"mask": "*", "force": "maybe"}, "invalidRequest"),
        ("kick", {"mask": "*", "force": None}, "invalidRequest"),
        ("penalty", {"netmask": ""}, 64),
        ("penalty", {"netmask": "nonsense"}, 64),
        ("penalty", {"netmask": "10.0.0.0/33"}, 64),
        ("penalty", {"netmask": "10"}, []),
        ("penalty", {"netmask": "::1/128"}, []),
        ("penalty", {"netmask": 10.5}, []),
        ("statsDump", {}, 64),
        ("statsDump", {"type": ""}, 64),
        ("statsDump", {"type": "users"}, 64),
        ("statsDump", {"type": "user", "filter": "ip=x"}, 64),
        ("statsDump", {"fields": "x", "type": "global"}, "invalidRequest"),
        ("oldstatsDump", {"type": "user", "filter": "1451606400 nonsense"}, []),
        ("statsReset", {"socketPath": "/nowhere"}, []),
        ("oldstatsReset", {}, []),
        ("serviceStop", {}, 64),
        ("serviceStop", {"service": "admin"}, 64),
        ("serviceStop", {"service": ["http", "imap"]}, 68),
        ("serviceStop", {"service": "x" * 3000}, 68),
        ("serviceStop", {"service": []}, []),
        ("serviceStatus", {"service": ["x" * 3000, "imap"]}, []),
        ("serviceStatus", {"service": []}, []),
    ],
)
async def test_exit_codes_of_sessions_and_services(house: House, command: str, values: Any, code: object) -> None:
    assert await one(house, command, **values) == code


async def test_a_service_is_stopped_shown_and_comes_back_by_a_reload(house: House) -> None:
    assert await run(house, ("serviceStop", {"service": ["ws"]}), ("serviceStop", {"service": "ws"})) == [[], []]
    (row,) = await one(house, "serviceStatus", service=["nope", "ws"])
    assert (row["name"], row["listening"], row["doveadm_stop"]) == ("ws", "n", "y")
    dry = await house.ask("POST", "/doveadm/v1?dry_run=1", b'[["reload",{},"t"]]', owner=False, headers=KEY)
    (entry,) = msgspec.json.decode(dry.body)
    assert [each["change"] for each in entry[1]] == ["ws starts again"]
    assert await one(house, "reload") == []
    (row,) = await one(house, "serviceStatus", service="ws")
    assert (row["listening"], row["doveadm_stop"]) == ("y", "n")
    assert [each["name"] for each in await one(house, "service status")] == ["http", "ws", "oauth", "admin"]


# Stop


async def test_nothing_after_stop_is_run_and_the_node_ends_after_the_answer(house: House) -> None:
    stopped: list[bool] = []
    house.control.stop = lambda: stopped.append(True)
    batch = b'[["stop",{},"a"],["who",{},"b"],["nosuch",{},"c"]]'
    answer = await house.ask("POST", "/doveadm/v1", batch, owner=False, headers=KEY)
    assert answer.body == (
        b'[["doveadmResponse",[],"a"],["error",{"type":"exitCode", "exitCode":75},"b"],'
        b'["error",{"type":"unknownMethod", "exitCode":0},"c"]]'
    )
    assert (stopped, answer.after is not None) == ([], True)
    if answer.after is not None:
        answer.after()
    assert stopped == [True]


# The director


HOSTS = (("directorAdd", {"host": "127.0.0.11"}), ("directorAdd", {"host": " 127.12 ", "vhostCount": 50}))


def host(address: str, vhosts: str = "100", users: str = "0", **more: str) -> dict[str, str]:
    return {
        "mail server ip": address, "tag": "", "vhosts": vhosts, "state": "up", "state-changed": "-", "users": users,
    } | more  # fmt: skip


async def test_hosts_are_added_shown_and_dumped(house: House) -> None:
    assert await run(house, *HOSTS, ("directorAdd", {"host": "::1@eu"})) == [[], [], []]
    tagged = host("::1", tag="eu")
    assert await one(house, "directorStatus") == [host("127.0.0.11"), host("127.0.0.12", "50"), tagged]
    house.now = AT
    assert await one(house, "directorDown", user="127.0.0.11", tag="") == []
    down = {"state": "down", "state-changed": "2016-12-30 14:52:56"}
    assert (await one(house, "directorStatus"))[0] == host("127.0.0.11", **down)
    path = {"socket-path": "/var/run/dovecot/director-admin"}
    dumped = [
        {"command": "add", **path, "host": "127.0.0.11", "vhost_count": "100"},
        {"command": "add", **path, "host": "127.0.0.12", "vhost_count": "50"},
        {"command": "add", **path, "host": "::1@eu", "vhost_count": "100"},
    ]
    assert await one(house, "directorDump") == dumped
    states = ["down", "up", "up"]
    assert await one(house, "directorDump", state=True) == [
        *({**row, "state": state} for row, state in zip(dumped, states, strict=True)),
        {"command": "down", **path, "host": "127.0.0.11", "vhost_count": ""},
    ]


async def test_a_user_is_moved_mapped_and_shown(house: House) -> None:
    house.now = AT - 900 * SECOND
    await run(house, *HOSTS, ("directorMove", {"user": "samik", "host": "127.11"}))
    samik = {
        "user": "samik", "hash": "3853430566", "mail server ip": "127.0.0.11", "expire time": "2016-12-30 14:52:56",
    }  # fmt: skip
    unknown = {**samik, "user": "<unknown>"}
    assert await run(
        house,
        ("directorMap", {}),
        ("directorMap", {"host": "127.11"}),
        ("directorMap", {"host": "127.0.0.12"}),
        ("directorMap", {"host": "10.9.9.9"}),
        ("directorMap", {"usersFile": "/etc/passwd"}),
        ("directorMap", {"usersFile": "user1\r\nsamik\n"}),
        ("directorMap", {"userMap": True, "host": "neverseen"}),
        ("directorMap", {"hashMap": "t", "host": "3853430566"}),
        ("directorMap", {"hashMap": "t", "host": "1"}),
        ("directorMap", {"hashMap": "t", "host": 617210206, "usersFile": "samik\nuser1"}),
    ) == [
        [samik], [samik], [], [], [unknown], [samik], [{"hash": "4018969814"}], [{"user": "samik"}], [],
        [{"user": "user1"}],
    ]  # fmt: skip
    shown = {"status": "127.0.0.11", "expires": "2016-12-30 14:52:56", "hashed": "127.0.0.12", "initial-config": ""}
    assert await one(house, "directorStatus", user="samik") == [shown]
    nowhere = {"status": "n/a", "expires": "-1", "hashed": "", "initial-config": ""}
    assert await one(house, "directorStatus", user="samik", tag="eu") == [nowhere]
    assert len(await one(house, "directorStatus", user="", tag="eu")) == 2


@pytest.mark.parametrize(
    ("command", "values", "code"),
    [
        ("directorMap", {"userMap": True}, 64),
        ("directorMap", {"userMap": True, "hashMap": True, "host": "1"}, 64),
        ("directorMap", {"hashMap": True, "host": "x"}, 64),
        ("directorMap", {"hashMap": True, "host": "-1"}, 64),
        ("directorMap", {"hashMap": True, "host": "4294967296"}, 64),
        ("directorMap", {"hashMap": "maybe", "host": "1"}, "invalidRequest"),
        ("directorMap", {"host": "no.such.name.invalid"}, 75),
        ("directorAdd", {}, 64),
        ("directorAdd", {"host": None}, "invalidRequest"),
        ("directorAdd", {"host": 10}, 64),
        ("directorAdd", {"host": ""}, 75),
        ("directorAdd", {"host": " "}, 75),
        ("directorAdd", {"host": "no.such.name.invalid"}, 75),
        ("directorAdd", {"host": "0.0.0.0"}, 64),
        ("directorAdd", {"host": "224.0.0.1"}, 64),
        ("directorAdd", {"host": "127.0.0.9", "vhostCount": "-1"}, 64),
        ("directorAdd", {"host": "127.0.0.9", "vhostCount": ""}, 64),
        ("directorAdd", {"host": "127.0.0.9", "vhostCount": "1.5"}, 64),
        ("directorAdd", {"host": "127.0.0.9", "vhostCount": "1001"}, 75),
        ("directorAdd", {"host": "127.0.0.9", "vhostCount": "9" * 5000}, 75),
        ("directorAdd", {"host": "127.0.0.9", "vhostCount": "0001000"}, []),
        ("directorAdd", {"host": "127.0.0.9", "tag": "a b"}, 64),
        ("directorAdd", {"host": "127.0.0.9@a", "tag": "b"}, 75),
        ("directorAdd", {"host": "127.0.0.11", "tag": "eu"}, 75),
        ("directorUpdate", {"host": "127.0.0.11"}, 64),
        ("directorUpdate", {"vhostCount": 5}, 64),
        ("directorUpdate", {"host": "127.0.0.99", "vhostCount": 5}, 75),
        ("directorUpdate", {"host": "127.0.0.11@eu", "vhostCount": 5}, 75),
        ("directorUpdate", {"host": "127.0.0.11", "vhostCount": 5}, []),
        ("directorUp", {}, 64),
        ("directorUp", {"host": "127.0.0.11"}, []),
        ("directorUp", {"host": "127.0.0.11", "user": "127.0.0.11"}, "invalidRequest"),
        ("directorDown", {"host": "127.0.0.77"}, 68),
        ("directorDown", {"host": "127.0.0.11", "tag": "eu"}, 68),
        ("directorUp", {"host": "127.0.0.11", "tag": "a b"}, 64),
        ("directorDown", {"host": "127.0.0.77", "tag": "a@b"}, 64),
        ("directorStatus", {"user": "u", "tag": "x" * 256}, 64),
        ("directorDown", {"host": "no.such.name.invalid"}, 75),
        ("directorRemove", {}, 64),
        ("directorRemove", {"host": "127.0.0.77"}, 68),
        ("directorRemove", {"host": "127.0.0.11@"}, 75),
        ("directorMove", {"host": "127.0.0.11"}, 64),
        ("directorMove", {"user": "u"}, 64),
        ("directorMove", {"user": "", "host": "127.0.0.11"}, 64),
        ("directorMove", {"user": "u", "host": "10.0.234"}, 68),
        ("directorKick", {}, 64),
        ("directorKick", {"user": "nobody"}, []),
        ("directorKick", {"user": "v", "passdbField": "group"}, []),
        ("directorFlush", {}, 64),
        ("directorFlush", {"host": ""}, 75),
        ("directorFlush", {"host": "127.0.0.77"}, 68),
        ("directorFlush", {"host": "all", "maxParallel": "x"}, "invalidRequest"),
        ("directorFlush", {"host": "all", "maxParallel": -5}, []),
        ("directorFlush", {"host": "all", "maxParallel": 10**30}, []),
        ("directorFlush", {"host": "all", "maxParallel": "-" + "9" * 5000}, []),
        ("directorFlush", {"host": "127.0.0.11", "forceFlush": "1"}, []),
        ("directorRingAdd", {}, 64),
        ("directorRingAdd", {"ip": "name"}, 64),
        ("directorRingAdd", {"ip": "127.0.0.9", "port": "65536"}, 64),
        ("directorRingAdd", {"ip": "127.0.0.9", "port": ""}, 64),
        ("directorRingRemove", {"ip": "127.0.0.9"}, 68),
        ("directorRingRemove", {"ip": "127.0.0.1"}, []),
    ],
)
async def test_exit_codes_of_the_director(house: House, command: str, values: Any, code: object) -> None:
    await run(house, *HOSTS)
    assert await one(house, command, **values) == code


@pytest.mark.parametrize(
    ("command", "values", "parameter"),
    [
        ("directorAdd", {"tag": "a", "host": "5"}, "host"),
        ("directorUp", {"user": "127.0.0.77"}, "user"),
        ("directorDown", {"host": "127.0.0.11", "tag": "a b"}, "tag"),
        ("directorUpdate", {"host": "127.0.0.11", "vhostCount": "1001"}, "vhostCount"),
        ("directorRingAdd", {"ip": "name"}, "ip"),
        ("penalty", {"netmask": "x"}, "netmask"),
        ("kick", {"mask": "nobody"}, "mask"),
        ("serviceStop", {"service": "imap"}, "service"),
        ("statsDump", {"type": "user", "filter": "ip=x"}, "filter"),
        ("services.start", {"services": ["imap"]}, "services"),
        ("users.get", {"user": "nobody"}, "user"),
        ("reload", {}, None),
    ],
)
async def test_explain_names_the_parameter_to_blame(
    house: House, command: str, values: Any, parameter: str | None
) -> None:
    await run(house, *HOSTS)
    (house.path / "ostiary.yaml").write_text("nonsense: 1\n")
    batch = msgspec.json.encode([[command, values, "t"]])
    answer = await house.ask("POST", "/doveadm/v1?explain=1", batch, owner=False, headers=KEY)
    ((kind, told, _),) = msgspec.json.decode(answer.body)
    assert (kind, told.get("parameter")) == ("error", parameter)
    assert told["message"]


async def test_without_a_director_or_with_several_and_no_setting_commands_are_78(house: House) -> None:
    for names in ((), ("mail", "web")):
        directors(house, *names)
        assert await run(house, ("directorStatus", {}), ("directorMove", {"user": "u", "host": "127.0.0.1"})) == [
            78,
            78,
        ]


async def test_the_setting_and_the_sockets_say_which_director_is_meant(house: House) -> None:
    directors(house, "mail", "web")
    house.settings = surface(director="mail", sockets={"/run/web": "web"}, socket_path="/run/mail")
    await run(house, ("directorAdd", {"host": "127.0.0.1"}), ("directorAdd", {"host": "::1", "socketPath": "/run/web"}))
    mail, web, other = await run(
        house,
        ("directorDump", {"socketPath": ""}),
        ("directorDump", {"socketPath": "/run/web"}),
        ("directorDump", {"socketPath": "/etc/passwd"}),
    )
    assert [(each["socket-path"], each["host"]) for each in (*mail, *web)] == [
        ("/run/mail", "127.0.0.1"), ("/run/web", "::1"),
    ]  # fmt: skip
    assert other == mail


async def test_of_many_moves_in_a_batch_the_last_of_a_user_holds(house: House) -> None:
    hosts = ("127.0.0.11", "127.0.0.12")
    moves = [
        ("directorMove", {"user": f"U{number % 50}@{number % 2}", "host": hosts[number // 50]}) for number in range(100)
    ]
    moves.insert(70, ("directorMove", {"user": "u1", "host": "127.0.0.99"}))
    done = await run(house, *HOSTS, *moves, ("directorMap", {}))
    assert done[2:-1] == [[]] * 70 + [68] + [[]] * 30
    assert {each["mail server ip"] for each in done[-1]} == {"127.0.0.12"}
    assert len(done[-1]) == 50


async def test_nodes_come_go_and_are_shown(house: House) -> None:
    dashes = dict.fromkeys(["ping ms", "input", "output", "buffered", "buffered peak", "last read", "last write"], "-")
    own = {
        "director ip": "127.0.0.1", "port": "9090", "type": "self", "last failed": "never", "status": "ring synced",
        **dashes,
    }  # fmt: skip
    other = {**own, "director ip": "127.0.0.9", "port": "9091", "type": "", "status": ""}
    ring: tuple[str, dict[str, object]] = ("directorRingStatus", {})
    given = {"ip": "127.0.0.9", "port": 9091}
    assert await run(house, ring, ("directorRingAdd", given), ("director ring add", given), ring) == [
        [own], [], [], [own, other],
    ]  # fmt: skip
    gone = ("directorRingRemove", {"ip": "127.0.0.9"})
    assert await run(house, gone, gone, ring) == [[], 68, [own]]
