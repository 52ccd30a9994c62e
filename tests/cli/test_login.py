"""Signing in and out, profiles, and with what a command then asks."""

import json
import os
import pty
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pyotp
import pytest
from tests.cli.conftest import Served
from tests.dialects.house import OWNER, PASSWORD
from typer.testing import CliRunner, Result

from ostiary.cli import app
from ostiary.core.snapshot import SECOND

Run = Callable[..., Result]


def run(*words: str, stdin: str | None = None, **environment: str) -> Result:
    """The command line of a person who has said nothing in the environment."""
    return CliRunner().invoke(app, words, input=stdin, env=environment)


@pytest.fixture
def signed_in(served: Served) -> str:
    """The name of the profile of a log-in by password."""
    result = run("login", served.url, "--user", OWNER, stdin=f"{PASSWORD}\n")
    assert result.exit_code == 0, result.output
    return urlsplit(served.url).netloc


def kept(home: Path) -> dict[str, dict[str, str]]:
    """The profiles in the file."""
    profiles: dict[str, dict[str, str]] = json.loads((home / "credentials.json").read_text()).get("profiles", {})
    return profiles


def test_a_log_in_leaves_a_token_that_only_its_owner_can_read(signed_in: str, home: Path, served: Served) -> None:
    assert stat.S_IMODE((home / "credentials.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert sorted(each.name for each in home.iterdir()) == ["credentials.json", "credentials.lock"]
    profile = kept(home)[signed_in]
    assert (profile["url"], profile["user"], len(profile["token"])) == (served.url, OWNER, 64)
    assert PASSWORD not in (home / "credentials.json").read_text()


def test_commands_then_ask_with_it(signed_in: str, served: Served) -> None:
    assert run("scopes", "list").exit_code == 0
    who = json.loads(run("whoami", "--json").stdout)
    assert (who["name"], who["url"], who["profile"], who["role"]) == (OWNER, served.url, signed_in, "owner")
    assert who["credential"].startswith("personal ")
    (held,) = [
        each for each in json.loads(run("tokens", "held", "--json").stdout) if each["handle"][7:15] in who["credential"]
    ]
    assert held["label"] == f"ostiary on {os.uname().nodename}"


def test_who_is_not_signed_in_cannot_sign_out() -> None:
    assert run("logout").stderr == "You are not signed in\n"


def test_without_a_profile_one_is_nobody(served: Served) -> None:
    result = run("whoami", "--url", served.url)
    assert result.exit_code == 4
    assert "sign in with `ostiary login`" in result.stderr


def test_signing_out_ends_the_token(signed_in: str, home: Path, served: Served) -> None:
    token = kept(home)[signed_in]["token"]
    result = run("logout")
    assert (result.exit_code, result.stderr) == (
        0,
        f"Signed out of {served.url} ({signed_in}); its token was ended\n",
    )
    assert kept(home) == {}
    refused = run("whoami", "--url", served.url, OSTIARY_TOKEN=token)
    assert refused.exit_code == 4
    assert refused.stderr == "The token in OSTIARY_TOKEN was ended (credential.refused)\n"


def test_a_token_that_was_ended_is_4_and_says_what_to_do(signed_in: str, served: Served) -> None:
    assert run("tokens", "end").exit_code == 0
    result = run("scopes", "list")
    assert result.exit_code == 4
    assert result.stderr == (
        f"The token of profile {signed_in} was ended: sign in again with "
        f"`ostiary login --profile {signed_in} {served.url}` (credential.refused)\n"
    )
    assert "its token had ended already" in run("logout").stderr


def test_a_second_log_in_ends_the_token_that_it_replaces(signed_in: str, home: Path, served: Served) -> None:
    before = kept(home)[signed_in]["token"]
    assert run("login", "--user", OWNER, stdin=f"{PASSWORD}\n").exit_code == 0
    assert kept(home)[signed_in]["token"] != before
    assert run("whoami", "--url", served.url, OSTIARY_TOKEN=before).exit_code == 4
    assert run("whoami").exit_code == 0


def test_a_profiles_token_is_sent_to_its_server_only(signed_in: str) -> None:
    elsewhere = run("scopes", "list", "--profile", signed_in, "--url", "http://127.0.0.1:1")
    assert elsewhere.exit_code == 2
    assert run("scopes", "list", "--url", "http://127.0.0.1:1").exit_code == 3


def test_options_go_before_the_environment_and_that_before_the_profile(signed_in: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong\n")
    assert run("whoami", "--password-file", str(wrong)).exit_code == 4
    assert run("whoami", OSTIARY_PASSWORD="wrong").exit_code == 4
    assert run("whoami", "--profile", signed_in, OSTIARY_PASSWORD="wrong").exit_code == 0
    assert run("whoami", OSTIARY_PROFILE=signed_in).exit_code == 0
    assert run("whoami", OSTIARY_PROFILE="none").exit_code == 2


def test_several_servers_are_several_profiles(signed_in: str, served: Served) -> None:
    other = run("login", served.url, "--profile", "other", "--user", OWNER, stdin=f"{PASSWORD}\n")
    assert "profile other" in other.stderr
    listed = json.loads(run("profiles", "list", "--json").stdout)
    assert [(each["profile"], each["current"]) for each in listed] == [(signed_in, False), ("other", True)]
    assert "token" not in listed[0]
    assert run("profiles", "use", signed_in).exit_code == 0
    assert json.loads(run("whoami", "--json").stdout)["profile"] == signed_in
    assert run("profiles", "remove", signed_in).exit_code == 0
    assert run("profiles", "use", signed_in).exit_code == 2
    assert json.loads(run("whoami", "--profile", "other", "--json").stdout)["profile"] == "other"
    assert run("profiles", "list").stdout.split()[:4] == ["profile", "current", "url", "user"]


@pytest.mark.parametrize("content", ["{", "[]", '{"profiles": 3}'])
def test_a_file_of_something_else_is_1(home: Path, content: str) -> None:
    home.mkdir(parents=True)
    (home / "credentials.json").write_text(content)
    (home / "credentials.json").chmod(0o600)
    assert run("profiles", "list").exit_code == 1


def test_a_file_that_others_can_read_is_1(signed_in: str, home: Path) -> None:
    (home / "credentials.json").chmod(0o640)
    result = run("scopes", "list")
    assert result.exit_code == 1
    assert f"chmod 600 {home / 'credentials.json'}" in result.stderr


def test_a_log_in_by_code_keeps_a_personal_token_only(served: Served) -> None:
    run("login", served.url, "--user", OWNER, stdin=f"{PASSWORD}\n")
    made = run("users", "create", "cody", "--role", "member", "--totp", "--json")
    secret = json.loads(made.stdout)["enrolment"]["secret"]
    code = pyotp.TOTP(secret).at(served.house.now // SECOND)
    result = run("login", served.url, "--user", "cody", "--code", "--profile", "cody", stdin=f"{code}\n")
    assert result.exit_code == 0, result.output
    held = json.loads(run("tokens", "held", "--json").stdout)
    assert [each["kind"] for each in held] == ["personal"]
    again = run("login", served.url, "--user", "cody", "--code", stdin=f"{code}\n")
    assert (again.exit_code, "login.code" in again.stderr) == (4, True)


@pytest.mark.parametrize(
    ("words", "stdin", "status", "said"),
    [
        (["nonsense", "--user", "a"], "x\n", 2, "no URL"),
        (["http://127.0.0.1:1", "--user", "a"], "x\n", 3, "cannot reach"),
        (["http://127.0.0.1:1"], "x\n", 2, "--user NAME"),
        (["http://127.0.0.1:1", "--user", "a"], "", 2, "no terminal to ask"),
        (["http://127.0.0.1:1", "--password", "a"], "", 2, "No such option"),
    ],
)
def test_a_log_in_that_cannot_be(words: list[str], stdin: str, status: int, said: str, home: Path) -> None:
    result = run("login", *words, stdin=stdin)
    assert result.exit_code == status
    assert said in " ".join(result.stderr.split())
    assert not (home / "credentials.json").exists()


def test_a_wrong_password_keeps_nothing(served: Served, home: Path) -> None:
    assert run("login", served.url, "--user", OWNER, stdin="wrong\n").exit_code == 4
    assert not (home / "credentials.json").exists()


def test_a_password_is_asked_for_on_a_terminal_and_not_shown(served: Served, home: Path) -> None:
    def seen(master: int, until: bytes) -> bytes:
        text = b""
        while until not in text:
            text += os.read(master, 4096)
        return text

    master, slave = pty.openpty()
    command = [sys.executable, "-m", "ostiary", "login", served.url]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=dict(os.environ))
    os.close(slave)
    shown = seen(master, b"User: ")
    os.write(master, f"{OWNER}\n".encode())
    shown += seen(master, b"Password: ")
    os.write(master, f"{PASSWORD}\n".encode())
    shown += seen(master, b"Signed in")
    assert process.wait(90) == 0
    os.close(master)
    assert PASSWORD.encode() not in shown
    assert list(kept(home)) == [urlsplit(served.url).netloc]
