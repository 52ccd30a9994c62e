"""`ostiary doveadm`: every command, in every format, to the byte; its exit statuses; whom it asks."""

import shlex
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote, unquote

import msgspec
import pytest
from tests.cli.conftest import Served
from tests.dialects.house import OWNER, PASSWORD
from typer.testing import CliRunner

from ostiary.cli import app
from ostiary.cli.doveadm.commands import SERVICES, Item
from ostiary.cli.doveadm.layout import Format, laid_out
from ostiary.control.services import Service
from ostiary.control.stats import Kind, StatRow
from ostiary.core.configuration.measure import Secret
from ostiary.core.configuration.settings import DialectSettings, DoveadmSettings, ServiceKeySettings, Settings
from ostiary.core.director import DirectorRules
from ostiary.core.snapshot import SECOND
from ostiary.link.messages import Counted, Dump, Kick, SessionRow, Sums, Who

AT = 1_483_109_576_000_000
"""2016-12-30 14:52:56 UTC, microseconds."""
Said = tuple[int, str, str]
Run = Callable[..., Said]
NUMBERS = count()
STATISTICS = " ".join(name for name in StatRow.__struct_fields__ if name != "keys").split()


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The node's zone, in which rows show times."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(autouse=True)
def nowhere_near(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A director without hosts, keys of an administrator and of a viewer, no sessions; a key in the environment."""
    keys = (ServiceKeySettings("monitor", Secret("viewer-key"), "viewer"),)
    more = DoveadmSettings(api_key=Secret("the-key"), password=Secret("the:password"), keys=list(keys))
    house = served.house
    house.settings = Settings(dialects=DialectSettings(doveadm=more))
    name = f"mail{next(NUMBERS)}"
    house.control.rules = msgspec.structs.replace(house.control.rules, directors={name: DirectorRules(name)})
    house.now = AT - 900 * SECOND
    house.workers.says.clear()
    monkeypatch.setenv("OSTIARY_DOVEADM_KEY", "the-key")
    for each in ("OSTIARY_DOVEADM_PASSWORD", "OSTIARY_PASSWORD"):
        monkeypatch.delenv(each, raising=False)


def ostiary(*words: str, stdin: str | None = None) -> Said:
    result = CliRunner().invoke(app, words, input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def run(served: Served) -> Run:
    """`ostiary doveadm`, asking the house: status, output, errors."""

    def run(*words: str, stdin: str | None = None) -> Said:
        return ostiary("doveadm", "--url", served.url, *words, stdin=stdin)

    return run


def lines(*each: str) -> str:
    return "".join(f"{line}\n" for line in each)


def all_of(run: Run, *words: str) -> list[str]:
    """What it prints as table, tab, json, flow, pager."""
    said = [run("-f", form.value, *words) for form in Format]
    assert [(status, errors) for status, _, errors in said] == [(0, "")] * 5
    return [output for _, output, _ in said]


# -- formats


def test_a_column_is_as_wide_as_its_widest_cell_and_a_wide_character_takes_two() -> None:
    rows = [{"a": "日本", "b": "", "c": "x"}, {"a": "é", "c": "", "b": "long cell"}]
    assert laid_out(rows, {"a": "a", "b": "B", "c": "c"}, Format.TABLE) == lines(
        "a    B         c", "日本           x", "é    long cell"
    )


def test_without_rows_there_is_the_heading_alone() -> None:
    said = [laid_out([], {"a": "a", "b-c": "b c"}, form) for form in Format]
    assert said == ["a b c\n", "a\tb c\n", "[]\n", "", ""]


def test_what_steers_a_terminal_is_not_written() -> None:
    rows = [{"a": "x\x1b[2J\ty\n"}]
    said = [laid_out(rows, {"a": "a"}, form) for form in Format]
    clean = "x\ufffd[2J\ufffdy\ufffd"
    assert said == [
        f"a\n{clean}\n", f"a\n{clean}\n", '[{"a":"x\\u001b[2J\\ty\\n"}]\n', f"a={clean}\n", f"a: {clean}\n",
    ]  # fmt: skip


# -- sessions


def present(served: Served) -> None:
    rows = [
        SessionRow("1", "testuser001", "http", "127.0.0.1", AT, AT), SessionRow("2", "bob", "ws", "::1", AT, AT),
        SessionRow("3", "testuser001", "http", "127.0.0.5", AT, AT),
    ]  # fmt: skip
    served.house.workers.says[Who] = {4999: rows}


def test_who(run: Run, served: Served) -> None:
    present(served)
    assert all_of(run, "who") == [
        lines(
            "username    # proto (pids) (ips)", "bob         1 ws    (4999) (::1)",
            "testuser001 2 http  (4999) (127.0.0.1 127.0.0.5)",
        ),
        lines(
            "username\t#\tproto\t(pids)\t(ips)", "bob\t1\tws\t(4999)\t(::1)",
            "testuser001\t2\thttp\t(4999)\t(127.0.0.1 127.0.0.5)",
        ),
        '[{"username":"bob","connections":"1","service":"ws","pids":"(4999)","ips":"(::1)"},{"username":"testuser001",'
        '"connections":"2","service":"http","pids":"(4999)","ips":"(127.0.0.1 127.0.0.5)"}]\n',
        lines(
            "username=bob #=1 proto=ws (pids)=(4999) (ips)=(::1)",
            "username=testuser001 #=2 proto=http (pids)=(4999) (ips)=(127.0.0.1 127.0.0.5)",
        ),
        lines(
            "username: bob", "#: 1", "proto: ws", "(pids): (4999)", "(ips): (::1)", "",
            "username: testuser001", "#: 2", "proto: http", "(pids): (4999)", "(ips): (127.0.0.1 127.0.0.5)",
        ),
    ]  # fmt: skip
    assert run("who", "B*") == (0, lines("username # proto (pids) (ips)", "bob      1 ws    (4999) (::1)"), "")
    assert run("who", "", "::1") == run("who", "::1") == run("who", "b?b")
    assert run("who", "bob", "127.0.0.0/8") == (0, "username # proto (pids) (ips)\n", "")


def test_who_one_line_a_session(run: Run, served: Served) -> None:
    present(served)
    assert all_of(run, "who", "-1", "testuser*", "127.0.0.0/8") == [
        lines(
            "username    proto pid  ip", "testuser001 http  4999 127.0.0.1", "testuser001 http  4999 127.0.0.5",
        ),
        lines("username\tproto\tpid\tip", "testuser001\thttp\t4999\t127.0.0.1", "testuser001\thttp\t4999\t127.0.0.5"),
        '[{"username":"testuser001","service":"http","pid":"4999","ip":"127.0.0.1"},'
        '{"username":"testuser001","service":"http","pid":"4999","ip":"127.0.0.5"}]\n',
        lines(
            "username=testuser001 proto=http pid=4999 ip=127.0.0.1",
            "username=testuser001 proto=http pid=4999 ip=127.0.0.5",
        ),
        lines(
            "username: testuser001", "proto: http", "pid: 4999", "ip: 127.0.0.1", "",
            "username: testuser001", "proto: http", "pid: 4999", "ip: 127.0.0.5",
        ),
    ]  # fmt: skip


def test_kick(run: Run, served: Served) -> None:
    present(served)
    served.house.workers.says[Kick] = {4999: ["testuser001", "bob"]}
    heading = "kicked connections from the following users:"
    assert all_of(run, "kick", "*") == [
        lines(heading, "bob", "testuser001"),
        lines(heading, "bob", "testuser001"),
        '[{"result":"bob"},{"result":"testuser001"}]\n',
        lines(f"{heading}=bob", f"{heading}=testuser001"),
        lines(f"{heading}: bob", "", f"{heading}: testuser001"),
    ]
    order = served.house.workers.orders[-1]
    assert isinstance(order, Kick)
    assert not order.force
    assert run("kick", "-f", "bob", "::1")[0] == 0
    order = served.house.workers.orders[-1]
    assert isinstance(order, Kick)
    assert order.force


def test_nobody_is_kicked(run: Run, served: Served) -> None:
    for form in Format:
        assert run("-f", form.value, "kick", "nobody") == (68, "", "no users kicked\n")
    assert run("kick", "") == (68, "", "no users kicked\n")
    assert run("kick", "/0") == (64, "", "Error: mask: It means everybody: say whose sessions end\n")


# -- services, penalties, statistics


def test_services_stop_and_start_again(run: Run) -> None:
    silent = (0, "", "")
    for form in Format:
        assert run("-f", form.value, "service", "stop", "ws", "oauth") == silent
    status, said, _ = run("-f", "flow", "service", "status", "ws")
    assert (status, said.split()[0], said.split()[-3]) == (0, "name=ws", "listening=n")
    assert run("reload") == silent
    status, said, _ = run("service", "status")
    heading, *rows = said.splitlines()
    assert (status, heading.split()) == (0, list(SERVICES))
    assert [row.split()[0] for row in rows] == ["http", "ws", "oauth", "admin"]
    assert {row.split()[10] for row in rows} == {"y"}
    assert run("service", "stop", "http", "imap")[0] == 68
    assert run("service", "stop", "admin")[0] == 64


def test_the_columns_of_a_service_are_those_of_the_surface() -> None:
    assert tuple(SERVICES) == Service.__struct_fields__


def test_stop_says_nothing(run: Run, served: Served) -> None:
    stopped = threading.Event()
    served.house.control.stop = stopped.set
    assert run("stop") == (0, "", "")
    assert stopped.wait(20)


def test_penalties(run: Run, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("penalty") == (0, "IP penalty last_penalty last_update\n", "")
    served.house.now = AT
    monkeypatch.setenv("OSTIARY_DOVEADM_KEY", "wrong")
    assert run("penalty")[0] == 77
    monkeypatch.setenv("OSTIARY_DOVEADM_KEY", "the-key")
    assert all_of(run, "penalty", "127.0.0.0/8") == [
        lines("IP        penalty last_penalty        last_update", "127.0.0.1 1       2016-12-30 14:52:56 14:52:56"),
        lines("IP\tpenalty\tlast_penalty\tlast_update", "127.0.0.1\t1\t2016-12-30 14:52:56\t14:52:56"),
        '[{"IP":"127.0.0.1","penalty":"1","last_penalty":"2016-12-30 14:52:56","last_update":"14:52:56"}]\n',
        lines("IP=127.0.0.1 penalty=1 last_penalty=2016-12-30 14:52:56 last_update=14:52:56"),
        lines("IP: 127.0.0.1", "penalty: 1", "last_penalty: 2016-12-30 14:52:56", "last_update: 14:52:56"),
    ]
    assert run("penalty", "10.0.0.0/8") == (0, "IP penalty last_penalty last_update\n", "")
    assert run("penalty", "nonsense")[0] == 64


def test_statistics_of_everything_are_tab_unless_told_otherwise(run: Run, served: Served) -> None:
    heading, row = run("stats", "dump", "global")[1].splitlines()
    assert heading.split("\t") == STATISTICS
    assert len(row.split("\t")) == 48
    assert run("-f", "tab", "stats", "dump", "global") == run("stats", "dump", "global")
    (shown,) = msgspec.json.decode(run("-f", "json", "stats", "dump", "global")[1])
    assert list(shown) == STATISTICS
    assert list(shown.values()) == row.split("\t")
    assert run("-f", "table", "stats", "dump", "global")[1].split("\n")[0].split() == STATISTICS
    assert run("-f", "flow", "stats", "dump", "global")[1].count("=") == 48
    assert run("-f", "pager", "stats", "dump", "global")[1].count("\n") == 48


@pytest.mark.parametrize(
    ("item", "leads"),
    [
        ("user", "user"), ("domain", "domain"), ("ip", "ip"), ("session", "session user ip service pid connected"),
        ("command", "cmd session user ip"),
    ],
)  # fmt: skip
def test_the_heading_of_items_is_there_without_items(run: Run, item: str, leads: str) -> None:
    assert run("stats", "dump", item) == (0, "\t".join([*leads.split(), *STATISTICS]) + "\n", "")
    assert run("-f", "json", "stats", "dump", item) == (0, "[]\n", "")


def test_the_heading_of_items_is_the_same_with_items(run: Run, served: Served) -> None:
    users = {"alice@example.com": Sums(exchanges=2, last=AT), "bob": Sums(exchanges=1, last=AT)}
    counted = Counted(AT, Sums(), users, {}, [], [], {})
    served.house.workers.says[Dump] = {4999: counted}
    heading, row = run("stats", "dump", "user", "user=b*", "since=1")[1].splitlines()
    assert heading.split("\t") == ["user", *STATISTICS]
    assert row.split("\t")[2:5] == ["1483109576.000000", "0", "1"]
    assert row.startswith("bob\t")
    assert run("stats", "dump", "user", "ip=x")[0] == 64


def test_what_is_counted_apart_is_what_the_operation_knows() -> None:
    assert tuple(each.value for each in Item) == get_args(get_args(Kind)[0])


def test_statistics_are_reset_without_a_word(run: Run) -> None:
    assert run("stats", "reset") == (0, "", "")


# -- the director


def test_hosts(run: Run) -> None:
    silent = (0, "", "")
    assert run("director", "status") == (0, "mail server ip tag vhosts state state changed users\n", "")
    assert run("director", "add", "127.0.0.11") == silent
    assert run("director", "add", "-t", "e;u", "127.12", "50") == silent
    assert run("director", "down", "127.0.0.12") == silent
    assert all_of(run, "director", "status") == [
        lines(
            "mail server ip tag vhosts state state changed       users",
            "127.0.0.11         100    up    -                   0",
            "127.0.0.12     e;u 50     down  2016-12-30 14:37:56 0",
        ),
        lines(
            "mail server ip\ttag\tvhosts\tstate\tstate changed\tusers", "127.0.0.11\t\t100\tup\t-\t0",
            "127.0.0.12\te;u\t50\tdown\t2016-12-30 14:37:56\t0",
        ),
        '[{"mail server ip":"127.0.0.11","tag":"","vhosts":"100","state":"up","state-changed":"-","users":"0"},'
        '{"mail server ip":"127.0.0.12","tag":"e;u","vhosts":"50","state":"down",'
        '"state-changed":"2016-12-30 14:37:56","users":"0"}]\n',
        lines(
            "mail server ip=127.0.0.11 tag= vhosts=100 state=up state changed=- users=0",
            "mail server ip=127.0.0.12 tag=e;u vhosts=50 state=down state changed=2016-12-30 14:37:56 users=0",
        ),
        lines(
            "mail server ip: 127.0.0.11", "tag: ", "vhosts: 100", "state: up", "state changed: -", "users: 0", "",
            "mail server ip: 127.0.0.12", "tag: e;u", "vhosts: 50", "state: down",
            "state changed: 2016-12-30 14:37:56", "users: 0",
        ),
    ]  # fmt: skip
    assert all_of(run, "director", "dump") == [
        lines(
            "ostiary doveadm director add 127.0.0.11 100", "ostiary doveadm director add -t 'e;u' 127.0.0.12 50",
            "ostiary doveadm director down 127.0.0.12",
        ),
        lines(
            "command\tsocket-path\thost\tvhost_count\tstate",
            "add\t/var/run/dovecot/director-admin\t127.0.0.11\t100\tup",
            "add\t/var/run/dovecot/director-admin\t127.0.0.12@e;u\t50\tdown",
            "down\t/var/run/dovecot/director-admin\t127.0.0.12\t\t",
        ),
        '[{"command":"add","socket-path":"/var/run/dovecot/director-admin","host":"127.0.0.11","vhost_count":"100",'
        '"state":"up"},{"command":"add","socket-path":"/var/run/dovecot/director-admin","host":"127.0.0.12@e;u",'
        '"vhost_count":"50","state":"down"},{"command":"down","socket-path":"/var/run/dovecot/director-admin",'
        '"host":"127.0.0.12","vhost_count":""}]\n',
        lines(
            "command=add socket-path=/var/run/dovecot/director-admin host=127.0.0.11 vhost_count=100 state=up",
            "command=add socket-path=/var/run/dovecot/director-admin host=127.0.0.12@e;u vhost_count=50 state=down",
            "command=down socket-path=/var/run/dovecot/director-admin host=127.0.0.12 vhost_count= state=",
        ),
        lines(
            "command: add", "socket-path: /var/run/dovecot/director-admin", "host: 127.0.0.11", "vhost_count: 100",
            "state: up", "", "command: add", "socket-path: /var/run/dovecot/director-admin", "host: 127.0.0.12@e;u",
            "vhost_count: 50", "state: down", "", "command: down", "socket-path: /var/run/dovecot/director-admin",
            "host: 127.0.0.12", "vhost_count: ", "state: ",
        ),
    ]  # fmt: skip
    assert run("director", "up", "127.0.0.12") == silent
    assert run("director", "remove", "127.0.0.12") == silent
    assert run("director", "dump") == (0, "ostiary doveadm director add 127.0.0.11 100\n", "")
    assert run("director", "remove", "127.0.0.12")[0] == 68


def test_a_dump_sent_back_restores_what_it_shows(run: Run, served: Served) -> None:
    for words in (["add", "127.0.0.11", "7"], ["add", "-t", "a'b$c", "::7"], ["down", "::7"]):
        assert run("director", *words) == (0, "", "")
    dumped = run("director", "dump")[1]
    control = served.house.control
    control.rules = msgspec.structs.replace(control.rules, directors={"other": DirectorRules("other")})
    for line in dumped.splitlines():
        program, *words = shlex.split(line)
        assert (program, run(*words[1:])) == ("ostiary", (0, "", ""))
    assert run("director", "dump") == (0, dumped, "")


def test_a_user_of_the_director(run: Run, tmp_path: Path) -> None:
    run("director", "add", "127.0.0.11")
    run("director", "add", "127.0.0.12")
    assert run("director", "status", "samik") == (
        0, "Current: n/a (expires -1)\nHashed: 127.0.0.12\nInitial config:\n", "",
    )  # fmt: skip
    assert run("director", "move", "samik", "127.0.0.11") == (0, "", "")
    assert all_of(run, "director", "status", "samik") == [
        lines("Current: 127.0.0.11 (expires 2016-12-30 14:52:56)", "Hashed: 127.0.0.12", "Initial config:"),
        lines("status\texpires\thashed\tinitial-config", "127.0.0.11\t2016-12-30 14:52:56\t127.0.0.12\t"),
        '[{"status":"127.0.0.11","expires":"2016-12-30 14:52:56","hashed":"127.0.0.12","initial-config":""}]\n',
        lines("status=127.0.0.11 expires=2016-12-30 14:52:56 hashed=127.0.0.12 initial-config="),
        lines("status: 127.0.0.11", "expires: 2016-12-30 14:52:56", "hashed: 127.0.0.12", "initial-config: "),
    ]
    assert run("director", "status", "samik", "eu")[1].splitlines() == [
        "Current: n/a (expires -1)", "Hashed:", "Initial config:",
    ]  # fmt: skip
    assert all_of(run, "director", "map") == [
        lines(
            "user  hash       mail server ip expire time", "samik 3853430566 127.0.0.11     2016-12-30 14:52:56",
        ),
        lines("user\thash\tmail server ip\texpire time", "samik\t3853430566\t127.0.0.11\t2016-12-30 14:52:56"),
        '[{"user":"samik","hash":"3853430566","mail server ip":"127.0.0.11","expire time":"2016-12-30 14:52:56"}]\n',
        lines("user=samik hash=3853430566 mail server ip=127.0.0.11 expire time=2016-12-30 14:52:56"),
        lines("user: samik", "hash: 3853430566", "mail server ip: 127.0.0.11", "expire time: 2016-12-30 14:52:56"),
    ]  # fmt: skip
    nobody = (0, "user hash mail server ip expire time\n", "")
    assert run("director", "map", "127.0.0.12") == nobody
    assert run("director", "map", "127.0.0.11") == run("director", "map")
    assert all_of(run, "director", "map", "-u", "neverseen") == [
        "4018969814\n", "4018969814\n", '[{"hash":"4018969814"}]\n', "hash=4018969814\n", "hash: 4018969814\n",
    ]  # fmt: skip
    assert all_of(run, "director", "map", "-h", "3853430566") == [
        "samik\n", "samik\n", '[{"user":"samik"}]\n', "user=samik\n", "user: samik\n",
    ]  # fmt: skip
    assert run("director", "map", "-h", "1") == (0, "", "")
    (tmp_path / "names").write_bytes(b"user1\r\n\xff\n")
    names = str(tmp_path / "names")
    assert run("director", "map", "-f", names)[1].splitlines()[1].split()[0] == "<unknown>"
    assert run("director", "map", "-f", names, "-h", "617210206") == (0, "user1\n", "")
    assert run("director", "map", "-f", "-", stdin="samik\n") == run("director", "map")
    assert run("director", "kick", "samik") == (0, "", "")
    assert run("director", "flush", "-F", "all") == (0, "", "")
    assert run("director", "map") == nobody
    assert run("director", "flush", "127.0.0.11") == (0, "", "")


def test_nodes(run: Run) -> None:
    keys = "director ip|port|type|last failed|status|ping ms|input|output|buffered|buffered peak|last read|last write"
    heading = f"director ip port type last failed status      {keys.partition('status|')[2].replace('|', ' ')}"
    itself = "127.0.0.1|9090|self|never|ring synced|-|-|-|-|-|-|-"
    other = "10.1.1.1|9091||never||-|-|-|-|-|-|-"
    assert run("director", "ring", "add", "10.1.1.1", "9091") == (0, "", "")
    assert run("director", "ring", "add", "10.1.1.2") == (0, "", "")
    assert run("director", "ring", "remove", "10.1.1.2", "9090") == (0, "", "")
    table, tab, shown, flow, pager = all_of(run, "director", "ring", "status")
    assert tab == lines(*(row.replace("|", "\t") for row in (keys, other, itself)))
    assert table == lines(
        heading,
        "10.1.1.1    9091      never                   -       -     -      -        -             -         -",
        "127.0.0.1   9090 self never       ring synced -       -     -      -        -             -         -",
    )
    pairs = [list(zip(keys.split("|"), row.split("|"), strict=True)) for row in (other, itself)]
    assert shown == msgspec.json.encode([dict(each) for each in pairs]).decode() + "\n"
    assert flow == lines(*(" ".join(f"{key}={value}" for key, value in each) for each in pairs))
    assert pager == "\n".join(lines(*(f"{key}: {value}" for key, value in each)) for each in pairs)
    assert run("director", "ring", "remove", "10.1.1.1") == (0, "", "")
    assert run("director", "ring", "remove", "10.1.1.1")[0] == 68
    assert run("director", "ring", "add", "10.1.1.1", "65536")[0] == 64


# -- dry runs


def test_a_dry_run_says_what_would_change_and_changes_nothing(run: Run, served: Served) -> None:
    run("director", "add", "127.0.0.11")
    before = run("director", "status")
    assert all_of(run, "--dry-run", "director", "remove", "127.0.0.11") == [
        lines("dry_run operation       target     change", "1       director.remove 127.0.0.11 127.0.0.11 removed"),
        lines("dry_run\toperation\ttarget\tchange", "1\tdirector.remove\t127.0.0.11\t127.0.0.11 removed"),
        '[{"dry_run":"1","operation":"director.remove","target":"127.0.0.11","change":"127.0.0.11 removed"}]\n',
        lines("dry_run=1 operation=director.remove target=127.0.0.11 change=127.0.0.11 removed"),
        lines("dry_run: 1", "operation: director.remove", "target: 127.0.0.11", "change: 127.0.0.11 removed"),
    ]
    assert run("--dry-run", "director", "up", "127.0.0.11") == (0, "dry_run operation target change\n", "")
    assert run("director", "status") == before
    present(served)
    assert run("--dry-run", "-f", "json", "kick", "bob")[1].startswith('[{"dry_run":"1","operation":"sessions.kick"')
    assert run("--dry-run", "who") == run("who")
    assert run("--dry-run", "director", "remove", "127.0.0.99")[0] == 68


# -- what goes wrong


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mailbox", "list"], "Error: No such command 'mailbox'."),
        (["director", "statsu"], "Error: No such command 'statsu'. Did you mean 'status'?"),
        (["who", "a", "b", "c"], "Error: Got unexpected extra argument(s) (c)"),
        (["kick"], "Error: Missing argument 'MASK'."),
        (["service", "stop"], "Error: Missing argument 'NAME'."),
        (["director", "add"], "Error: Missing argument 'HOST'."),
        (["stats", "dump"], "Error: Missing argument 'TYPE'."),
        (["-f", "xml", "who"], "Error: Invalid value for '-f' / '--format'"),
        (["--fast", "who"], "Error: No such option: --fast"),
        (["who", "--fast"], "Error: No such option: --fast"),
        (
            ["director", "flush", "all", "--dry-run"],
            "Error: No such option: --dry-run here: it stands before the command, right after doveadm",
        ),
        (["stats", "dump", "users"], "Error: Invalid value for 'TYPE'"),
        (["director", "ring", "add", "10.0.0.1", "many"], "Error: Invalid value for 'PORT'"),
        (["director", "map", "-h", "1", "-u", "a"], "Error: Invalid value: give one of HOST, -h HASH and -u USER"),
        (["director", "map", "-f", "/nowhere/at/all"], "Error: Invalid value for '-f' / '--users-file'"),
        (["--api-key", "the-key", "who"], "Error: Invalid value: api_key is a secret"),
        (["--password", "@/nowhere/at/all", "who"], "Error: Invalid value: cannot read password"),
        (["--api-key", "-", "--password", "-", "who"], "Error: Invalid value: give --api-key or --password, not both"),
        (["who", "\udc80"], "Error: Invalid value: a word of the command is no UTF-8"),
        (["who", "a", "b"], "Error: mask: There is at most one mask of users and one network"),
        (["director", "add", "10"], "Error: "),
        (["director", "add", "127.0.0.1", "-5"], "Error: No such option: -5"),
        (["director", "map", "-h", "x"], "Error: host: It must be a number from 0 to 4294967295"),
    ],
)
def test_words_that_make_no_sense_are_64_and_one_line(run: Run, words: list[str], said: str) -> None:
    status, output, errors = run(*words)
    assert (status, output, errors.count("\n")) == (64, "", 1)
    assert errors.startswith(said)


def test_no_words_show_the_help(run: Run) -> None:
    for words in ([], ["director"], ["director", "ring"], ["stats"], ["service"]):
        status, output, errors = ostiary("doveadm", *words)
        assert (status, errors) == (64, "")
        assert "Usage:" in output
        assert run(*words, "--help")[0] == 0


def test_exit_statuses_are_exit_codes(run: Run, served: Served) -> None:
    assert run("director", "add", "no.such.name.invalid")[0] == 75
    assert run("director", "up", "127.0.0.99")[0] == 68
    control = served.house.control
    control.rules = msgspec.structs.replace(control.rules, directors={})
    status, output, errors = run("director", "status")
    assert (status, output, errors.count("\n"), errors[:7]) == (78, "", 1, "Error: ")


def test_nobody_answers_75() -> None:
    status, output, errors = ostiary("doveadm", "--url", "http://127.0.0.1:1", "who")
    assert (status, output, errors.count("\n")) == (75, "", 1)
    assert errors.startswith("Error: cannot reach http://127.0.0.1:1: ")
    for url in ("http://[", "nonsense", "ftp://127.0.0.1"):
        assert ostiary("doveadm", "--url", url, "who")[0] == 75


def test_what_is_no_admin_listener_is_75(served: Served) -> None:
    status, _, errors = ostiary("doveadm", "--url", f"{served.url}/api", "who")
    assert (status, errors.count("\n")) == (75, 1)
    assert "is the admin listener there?" in errors


class Canned(BaseHTTPRequestHandler):
    """Answers what its path says: `/STATUS/BODY`."""

    def do_POST(self) -> None:
        _, status, body, *_ = self.path.split("/")
        self.send_response(int(status))
        self.end_headers()
        self.wfile.write(unquote(body).encode())

    def log_message(self, format: str, *words: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def canned() -> Iterator[str]:
    """URL of a server that is no Ostiary."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Canned) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(20)


STRANGE = "gave no answer of doveadm: is the admin listener there?"
DENIED = "The credential was refused: sign in with `ostiary login`, or give --api-key or --password"
LATER = "Too many wrong credentials came from here: try again later"


@pytest.mark.parametrize(
    ("status", "body", "code", "said"),
    [
        (200, "<html>", 75, STRANGE), (200, "[]", 75, STRANGE), (200, "null", 75, STRANGE), (200, "", 75, STRANGE),
        (200, '[["doveadmResponse",[1],"1"]]', 75, STRANGE), (200, '[["error",{"type":"exitCode"},"1"]]', 75, STRANGE),
        (200, '[["error",{"type":"exitCode", "exitCode":70},"1"]]', 70, "exitCode"),
        (200, '[["error",{"type":"unknownMethod", "exitCode":0},"1"]]', 64, "unknownMethod"),
        (200, '[["error",{"type":"invalidRequest", "exitCode":0,"message":"A\\nB","parameter":"p"},"1"]]', 64, "p: A"),
        (401, "", 77, DENIED), (429, "", 75, LATER), (500, "", 75, "is the admin listener there?"),
        (503, "", 75, "The server cannot tell who is asking just now: try again"), (302, "", 75, "answered 302"),
    ],
)  # fmt: skip
def test_whatever_answers_there_is_one_line_and_a_status(
    canned: str, status: int, body: str, code: int, said: str
) -> None:
    found, output, errors = ostiary("doveadm", "--url", f"{canned}/{status}/{quote(body, safe='')}", "who")
    assert (found, output, errors.count("\n")) == (code, "", 1)
    assert errors.startswith("Error: ")
    assert said in errors


def test_a_list_of_users_beyond_what_a_request_holds_is_64(run: Run, tmp_path: Path) -> None:
    (tmp_path / "names").write_bytes(b"x" * (1 << 20))
    assert run("director", "map", "-f", str(tmp_path / "names")) == (
        64, "", "Error: That is more than a request may hold (1 MiB)\n",
    )  # fmt: skip
    (tmp_path / "names").write_bytes(b"x" * (1 << 20) + b"y")
    assert run("director", "map", "-f", str(tmp_path / "names"))[0] == 64


# -- as whom


@pytest.fixture
def anonymous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OSTIARY_DOVEADM_KEY")


@pytest.mark.usefixtures("anonymous")
def test_secrets_come_from_files_input_and_the_environment(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("the:password\n")
    assert run("--password", f"@{tmp_path / 'secret'}", "who")[0] == 0
    assert run("--password", "-", "who", stdin="the:password\n")[0] == 0
    assert run("--api-key", "-", "who", stdin="the-key\n")[0] == 0
    monkeypatch.setenv("OSTIARY_DOVEADM_PASSWORD", "the:password")
    assert run("who")[0] == 0
    monkeypatch.setenv("OSTIARY_DOVEADM_PASSWORD", "other")
    assert run("who")[0] == 77


@pytest.mark.usefixtures("anonymous")
def test_nobody_is_refused_with_what_to_do(run: Run) -> None:
    said = "Error: The credential was refused: sign in with `ostiary login`, or give --api-key or --password\n"
    assert run("who") == (77, "", said)
    assert run("--api-key", "-", "who", stdin="wrong\n") == (77, "", said)


@pytest.mark.usefixtures("anonymous")
def test_who_may_only_read_is_77(run: Run) -> None:
    assert run("--api-key", "-", "who", stdin="viewer-key\n")[0] == 0
    status, output, errors = run("--api-key", "-", "reload", stdin="viewer-key\n")
    assert (status, output) == (77, "")
    assert errors.startswith("Error: ")


@pytest.mark.usefixtures("anonymous")
def test_who_is_signed_in_needs_no_more(run: Run, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    status, _, errors = ostiary("login", served.url, "--user", OWNER, stdin=f"{PASSWORD}\n")
    assert status == 0, errors
    heading = (0, "username # proto (pids) (ips)\n", "")
    assert ostiary("doveadm", "who") == heading
    assert run("who") == heading
    monkeypatch.setenv("OSTIARY_PASSWORD", "wrong")
    monkeypatch.setenv("OSTIARY_DOVEADM_KEY", "wrong")
    assert ostiary("doveadm", "--profile", served.url.removeprefix("http://"), "who") == heading
    assert ostiary("doveadm", "who")[0] == 77


@pytest.mark.usefixtures("anonymous")
def test_an_account_by_its_password(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text(PASSWORD)
    monkeypatch.setenv("OSTIARY_DOVEADM_KEY", "wrong")
    assert run("--user", OWNER, "--password-file", str(tmp_path / "secret"), "who")[0] == 0


def test_help_asks_for_no_secret(run: Run) -> None:
    assert run("--api-key", "-", "who", "--help", stdin="")[0] == 0


def test_no_secret_is_repeated(run: Run) -> None:
    answer: Any = run("--api-key", "swordfish", "who")
    assert "swordfish" not in "".join(map(str, answer))
