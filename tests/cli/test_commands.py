"""The generated commands, from the shell's words to the server's answer and back."""

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from subprocess import PIPE

import httpx2
import pytest
from tests.cli.conftest import Served
from tests.dialects.house import PASSWORD
from typer.testing import CliRunner, Result

from ostiary.cli import COMMANDS, app
from ostiary.cli.client import Target, _problem
from ostiary.cli.tables import text_of
from ostiary.control.subjects import registry

Run = Callable[..., Result]


@pytest.fixture
def run(served: Served) -> Run:
    """The command line as the owner, against the served house."""

    def run(*words: str, password: str = PASSWORD, url: str = served.url, stdin: str = "") -> Result:
        environment = {"OSTIARY_URL": url, "OSTIARY_PASSWORD": password}
        return CliRunner().invoke(app, words, env=environment, input=stdin)

    return run


def test_every_operation_is_a_command(run: Run) -> None:
    for operation in registry().operations.values():
        subject, _, verb = operation.name.partition(".")
        result = run("operations", subject, verb.replace("_", "-"), "--help")
        assert result.exit_code == 0, result.output
        assert operation.summary.split()[0] in result.output


def test_the_first_help_names_every_command(run: Run) -> None:
    shown = [line.removeprefix("│").split(maxsplit=1)[0] for line in run("--help").stdout.splitlines() if "│ " in line]
    assert set(COMMANDS) | {"scopes", "droplets", "director"} <= set(shown)


def test_the_version_is_that_of_the_package(run: Run) -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"ostiary {metadata.version('ostiary')}\n")


def test_a_result_is_a_table_or_json(run: Run) -> None:
    created = run("scopes", "create", "basic", "--cc-expires-in", "1800", "--pass-expires-in", "900", "--json")
    assert created.exit_code == 0
    scope = json.loads(created.stdout)
    assert (scope["scope"], scope["cc_expires_in"], scope["refresh_expires_in"]) == ("basic", 1800, 900)
    listed = run("scopes", "list")
    header, _, row = listed.stdout.splitlines()[:3]
    assert header.split()[:2] == ["scope", "description"]
    assert row.split() == ["basic", "30m", "15m", "15m"]


def test_flags_are_typed_by_the_parameters(run: Run) -> None:
    run("scopes", "create", "typed", "--cc-expires-in", "1800", "--pass-expires-in", "900")
    words = ["--name", "app", "--scope", "typed", "--redirect-uri", "https://a.example/"]
    more = ["--application-details", "a=b=c", "--application-details", "d=", "--grant-types", "client_credentials"]
    limit = ["--rate-limit", '{"requests": 5, "per_seconds": 60}']
    made = json.loads(run("applications", "create", *words, *more, *limit, "--json").stdout)
    client_id = made["client_id"]
    updated = run("applications", "update", client_id, "--active")
    assert updated.exit_code == 0
    assert "in force: epoch" in updated.stderr
    shown = json.loads(run("applications", "get", client_id, "--json").stdout)
    assert shown["details"] == {"a": "b=c", "d": ""}
    assert shown["rate_limit"] == {"requests": 5, "per_seconds": 60}
    assert (shown["active"], shown["grant_types"]) == (True, ["client_credentials"])
    assert json.loads(run("applications", "update", client_id, "--no-active", "--json").stdout)["active"] is False
    assert [each["client_id"] for each in json.loads(run("applications", "list", "--no-active", "--json").stdout)] == [
        client_id
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scopes", "create", "x", "--cc-expires-in", "many", "--pass-expires-in", "1"], "--cc-expires-in"),
        (["scopes", "get"], "SCOPE"),
        (["applications", "update", "ab", "--application-details", "novalue"], "NAME=VALUE"),
        (["applications", "update", "ab", "--rate-limit", "{"], "JSON"),
        (["scopes", "list", "--password-file", "/nowhere/at/all"], "password file"),
        (["scopes", "fly"], "fly"),
    ],
)
def test_words_that_make_no_sense_are_2(run: Run, words: list[str], said: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert said in result.output


def test_a_refusal_is_1_or_5_and_says_code_and_mistakes(run: Run) -> None:
    result = run("scopes", "get", "nosuch")
    assert result.exit_code == 5
    assert result.stderr == "There is no such scope (scope.unknown)\n"
    assert result.stdout == ""
    wrong = run("scopes", "list", "--limit", "0")
    assert wrong.exit_code == 1
    assert "$.limit: Expected `int` >= 1" in wrong.stderr


def test_a_wrong_password_is_4(run: Run) -> None:
    result = run("scopes", "list", password="wrong")
    assert (result.exit_code, result.stderr) == (4, "Wrong name or password (login.refused)\n")


@pytest.mark.parametrize(
    ("token", "said"),
    [("hunter2\nx", "OSTIARY_TOKEN holds no token"), ("hunter2é", "OSTIARY_TOKEN holds no token")],
)
def test_a_token_that_is_none_is_not_repeated(served: Served, token: str, said: str) -> None:
    result = CliRunner().invoke(app, ["scopes", "list"], env={"OSTIARY_URL": served.url, "OSTIARY_TOKEN": token})
    assert result.exit_code == 2
    assert said in result.output
    assert "hunter2" not in result.output


@pytest.mark.parametrize("words", [["scopes", "get", "\udcff"], ["sessions", "list", "--user", "\udcff"]])
def test_words_that_are_no_text_are_2(run: Run, words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert "UTF-8" in result.output


def test_who_is_no_admin_listener_is_told_apart() -> None:
    response = httpx2.Response(404, json={"error": "resource not found"}, request=httpx2.Request("POST", "http://g/x"))
    problem = _problem(response, Target("http://g"))
    assert (problem.exit_status, problem.message) == (1, "http://g/x answered 404: is the admin listener there?")


@pytest.mark.parametrize("words", [["--version"], ["profiles", "list"], ["--help"]])
def test_a_result_that_cannot_be_written_is_said_in_a_line(words: list[str], home: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run([sys.executable, "-m", "ostiary", *words], stdout=full, stderr=PIPE, timeout=120)
    assert ran.returncode == 1
    assert ran.stderr.decode() == "ostiary: the result cannot be written: No space left on device\n"


def test_a_page_says_that_there_may_be_more(run: Run) -> None:
    for name in ("page-a", "page-b"):
        run("scopes", "create", name, "--cc-expires-in", "60", "--pass-expires-in", "60")
    assert "there may be more than these 1: --all fetches all of them" in run("scopes", "list", "--limit", "1").stderr
    assert "there may be more" not in run("scopes", "list", "--all", "--limit", "1").stderr
    assert "at most so many; else 1000" in run("scopes", "list", "--help").stdout


@pytest.mark.parametrize("word", ["validate", "serve", "start"])
def test_a_configuration_that_is_not_there_is_asked_for(run: Run, word: str) -> None:
    result = run(word, "--config", "/nowhere/at.yaml")
    said = "ostiary: there is no /nowhere/at.yaml: give the configuration file with --config FILE\n"
    assert (result.exit_code, result.stderr) == (1, said)


def test_a_node_is_sought_where_a_lost_configuration_would_have_it(run: Run, tmp_path: Path) -> None:
    result = run("status", "--config", str(tmp_path / "lost.yaml"))
    assert (result.exit_code, result.stdout) == (3, "ostiary is not running\n")
    assert f"there is no {tmp_path}/lost.yaml (--config names another): looking in {tmp_path}/var" in result.stderr


def test_moments_durations_and_sizes_are_written_for_people() -> None:
    stamp = 1_795_359_602_997_578
    assert text_of("since", stamp) == text_of("changed", stamp) == "2026-11-22T15:00:02Z"
    assert (text_of("changed", True), text_of("updated", 0), text_of("uptime", 90)) == ("yes", "-", "90s")
    assert [text_of("bytes", size) for size in (0, 1023, 1024, 12_900_000)] == ["0 B", "1023 B", "1.0 KiB", "12.3 MiB"]


def test_a_server_that_is_not_there_is_3(run: Run) -> None:
    result = run("scopes", "list", url="http://127.0.0.1:1")
    assert result.exit_code == 3
    assert "cannot reach http://127.0.0.1:1" in result.stderr


@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://a/", "http://127.0.0.1:99999"])
def test_a_url_that_is_none_is_3(run: Run, url: str) -> None:
    assert run("scopes", "list", url=url).exit_code == 3


def test_the_password_may_come_from_a_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    assert run("scopes", "list", "--password-file", str(file), password="wrong").exit_code == 0


def test_a_secret_need_not_stand_in_the_process_list(run: Run) -> None:
    result = run("tokens", "check", "-", "--json", stdin="sometoken\n")
    assert json.loads(result.stdout)["active"] is False


def test_the_user_whose_tokens_are_meant_is_not_the_one_who_asks(run: Run) -> None:
    assert run("tokens", "list", "--user", "bob", "--login", "admin").exit_code == 0
    revoked = run("tokens", "revoke-subject", "bob", "--json")
    assert json.loads(revoked.stdout) == {"revoked": False, "tokens": 0, "foreign": False}


def test_what_others_wrote_steers_no_terminal(run: Run) -> None:
    run("scopes", "create", "evil", "--cc-expires-in", "1", "--pass-expires-in", "1", "--description", "\x1b[2J[red]x")
    result = run("scopes", "get", "evil")
    assert "\N{REPLACEMENT CHARACTER}[2J[red]x" in result.stdout
    assert "\x1b" not in result.stdout


def test_objects_within_a_result_are_tables_below_it(run: Run) -> None:
    lines = run("config", "current").stdout.splitlines()
    assert "LOG_LEVEL" in [line.split()[0] for line in lines[lines.index("config") :] if line]
    (source,) = [line.split() for line in lines[lines.index("sources") :] if line.startswith(" LOG_LEVEL ")]
    assert source == ["LOG_LEVEL", "file", "yes", "ostiary.yaml", "1"]
    assert all(line == line.rstrip() for line in lines)


def test_a_configuration_that_would_not_load_is_1(run: Run, served: Served) -> None:
    assert run("config", "validate").exit_code == 0
    broken = served.path / "broken.xml"
    broken.write_text("<mappings")
    result = run("config", "validate")
    broken.unlink()
    assert result.exit_code == 1
    assert "broken.xml" in result.stdout


def test_an_empty_list_says_so(run: Run) -> None:
    assert run("tokens", "list").stdout == "nothing\n"
    assert json.loads(run("tokens", "list", "--json").stdout) == []


@pytest.mark.parametrize(
    "words",
    [
        ["tokens", "check", "hunter2-secret"],
        ["tokens", "issue", "a", "--grant-type", "client_credentials", "--client-secret", "hunter2-secret"],
        ["tokens", "issue", "a", "--grant-type", "password", "--password", "hunter2-secret"],
        ["users", "set-password", "--new-password", "hunter2-secret"],
        ["users", "create", "ann", "--role", "member", "--password", "hunter2-secret"],
        ["applications", "create", "--name", "a", "--scope", "b", "--redirect-uri", "c", "--client-secret", "@"],
        ["tokens", "check", "@/nowhere/at/all"],
        ["tokens", "check"],
    ],
)
def test_a_secret_among_the_words_is_2_and_is_not_repeated(run: Run, words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert "hunter2-secret" not in result.output


def test_secrets_come_from_files_and_lines(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("wrong horse battery\n")
    made = run("users", "create", "dora", "--role", "member", "--password", f"@{file}", "--json")
    assert made.exit_code == 0, made.output
    changed = run("users", "set-password", "dora", "--new-password", "-", "--json", stdin="correct horse battery\n")
    assert json.loads(changed.stdout) == {"user": "dora"}


def test_a_listing_is_asked_for_page_by_page(run: Run) -> None:
    for number in range(7):
        run("scopes", "create", f"many{number}", "--cc-expires-in", "1", "--pass-expires-in", "1")
    count = len(json.loads(run("scopes", "list", "--json").stdout))
    assert len(json.loads(run("scopes", "list", "--limit", "3", "--json").stdout)) == 3
    paged = [each["scope"] for each in json.loads(run("scopes", "list", "--limit", "3", "--all", "--json").stdout)]
    assert (len(paged), len(set(paged))) == (count, count)
    records = json.loads(run("audit", "list", "--all", "--limit", "2", "--json").stdout)
    assert [each["number"] for each in records] == list(range(len(records), 0, -1))
    assert run("users", "list", "--all", "--limit", "1").exit_code == 0


def test_the_audit_is_exported_oldest_first(run: Run, served: Served) -> None:
    run("scopes", "create", "noted", "--cc-expires-in", "1", "--pass-expires-in", "1")
    records = [json.loads(line) for line in run("audit", "export").stdout.splitlines()]
    assert [each["number"] for each in records] == list(range(1, len(records) + 1))
    only = [json.loads(line) for line in run("audit", "export", "--target", "noted").stdout.splitlines()]
    assert [(each["operation"], each["target"]) for each in only] == [("scopes.create", "noted")]
    assert run("audit", "export", "--since", "2015-11-09T00:00:00Z").stdout == ""
    assert len(run("audit", "export", "--until", "2015-11-09T00:00:00Z").stdout.splitlines()) == len(records)
    assert run("audit", "export", "--since", "yesterday").exit_code == 2


def test_a_broken_chain_is_1(run: Run) -> None:
    whole = run("audit", "verify")
    assert whole.exit_code == 0
    (head,) = [line.split()[1] for line in whole.stdout.splitlines() if line.startswith("head ")]
    assert (len(head), run("audit", "verify", "--head", head).exit_code) == (64, 0)
    missing = run("audit", "verify", "--head", "ab" * 32)
    assert missing.exit_code == 1
    assert "intact" in missing.stdout


def test_an_enrolment_is_a_secret_and_pictures_for_their_owner(run: Run, tmp_path: Path) -> None:
    run("users", "create", "eve", "--role", "member", "--password", "-", stdin="correct horse battery\n")
    png, svg = tmp_path / "eve.png", tmp_path / "eve.svg"
    result = run("users", "totp-setup", "--user", "eve", "--login", "admin", "--png", str(png), "--svg", str(svg))
    assert result.exit_code == 0, result.output
    secret, uri = [line.split()[1] for line in result.stdout.splitlines()]
    assert (len(secret), uri.startswith(f"otpauth://totp/Ostiary:eve?secret={secret}&")) == (32, True)
    assert png.read_bytes().startswith(b"\x89PNG\r\n")
    assert svg.read_text().startswith("<svg")
    assert [stat.S_IMODE(each.stat().st_mode) for each in (png, svg)] == [0o600, 0o600]
    nothing = run("users", "create", "fay", "--role", "member", "--png", str(tmp_path / "fay.png"))
    assert (nothing.exit_code, "no picture" in nothing.stderr) == (1, True)


def test_a_subject_with_another_command_of_its_name_is_under_operations(run: Run) -> None:
    checked = run("operations", "login", "check", "--json")
    assert json.loads(checked.stdout)["name"] == "admin"


def test_what_is_nested_is_read_by_people(run: Run) -> None:
    run("scopes", "create", "nested", "--cc-expires-in", "86400", "--pass-expires-in", "90")
    limit = ["--rate-limit", '{"requests": 5, "per_seconds": 60}']
    words = ["--name", "nested", "--scope", "nested", "--redirect-uri", "https://a.example/", *limit]
    client_id = json.loads(run("applications", "create", *words, "--json").stdout)["client_id"]
    lines = dict(
        line.split(maxsplit=1) for line in run("applications", "get", client_id).stdout.splitlines() if " " in line
    )
    assert lines["rate_limit"] == "5 per 1m"
    assert lines["registered"] == "2015-11-08T16:26:40Z"
    assert "{" not in run("routes", "list").stdout
