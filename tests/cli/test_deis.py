"""`ostiary deis`, `ostiary deisctl config` and `ostiary tokens reissue`: what they print, to the byte."""

import asyncio
import json
import re
import stat
from itertools import count
from pathlib import Path

import httpx2
import pytest
from tests.cli.conftest import Served
from tests.dialects.house import OWNER, PASSWORD
from typer.testing import CliRunner, Result

from ostiary.cli import app
from ostiary.core.people import User
from ostiary.store.store import open_store

SECRET, NEW = "correct-horse-7", "battery-staple-8"
NOT_LOGGED_IN = "Could not find token. Use `deis login` or `deis register` to get started.\n"
NUMBERS = count()


def run(*words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, words, input=stdin)


def deis(*words: str, stdin: str | None = None) -> tuple[int, str]:
    """Exit status and output."""
    result = run("deis", *words, stdin=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


@pytest.fixture
def owner(served: Served) -> str:
    """The owner is logged in; the URL."""
    assert deis("login", served.url, f"--username={OWNER}", f"--password={PASSWORD}") == (0, "Logged in as admin\n")
    return served.url


@pytest.fixture
def bob(served: Served) -> str:
    """A member, logged in; the name."""
    name = f"bob{next(NUMBERS)}"
    said = deis("register", served.url, f"--username={name}", f"--password={SECRET}", f"--email={name}@example.com")
    assert said == (0, f"Registered {name}\nLogged in as {name}\n")
    return name


def kept(home: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((home / "deis.json").read_text())
    return found


@pytest.mark.parametrize(
    "words",
    [
        ["apps"], ["users"], ["perms:list", "--admin"], ["auth:regenerate"],
        ["passwd", "--password=x", "--new-password=y"],
    ],
)  # fmt: skip
def test_without_a_token_there_is_nothing(words: list[str]) -> None:
    assert deis(*words) == (1, NOT_LOGGED_IN)


def test_the_state_is_its_owners(bob: str, served: Served, home: Path) -> None:
    assert stat.S_IMODE((home / "deis.json").stat().st_mode) == 0o600
    state = kept(home)
    assert (state["controller"], state["username"], state["ssl_verify"]) == (served.url, bob, True)
    assert re.fullmatch(r"[0-9a-f]{64}", str(state["token"]))
    assert deis("whoami") == (0, f"You are {bob} at {served.url}\n")
    assert deis("apps") == (0, "=== Apps\n")
    assert deis("logout") == (0, "Logged out\n")
    assert kept(home) == {"controller": None, "username": None, "token": None, "ssl_verify": None}
    assert deis("whoami") == (0, "Not logged in. Use `deis login` or `deis register` to get started.\n")


def test_prompts(served: Served) -> None:
    url = served.url.removeprefix("http://")
    asked = f"prompt{next(NUMBERS)}\n{SECRET}\n{SECRET}\n\n"
    status, said = deis("register", url, stdin=asked)
    assert status == 0
    assert [prompt in said for prompt in ("username: ", "password: ", "password (confirm): ", "email: ")] == [True] * 4
    assert SECRET not in said
    status, said = deis("register", url, stdin="x\none-password\nother-password\n")
    assert (status, said.splitlines()[-1]) == (1, "Password mismatch, aborting registration.")
    status, said = deis("passwd", stdin=f"{SECRET}\n{NEW}\nother-password\n")
    assert (status, said.splitlines()[-1]) == (1, "Password mismatch, not changing.")


def test_a_refused_registration(bob: str, served: Served) -> None:
    words = ["register", served.url, f"--username={bob}", f"--password={SECRET}", "--email=a@example.com"]
    assert deis(*words) == (1, 'Registration failed: {"username":["This field must be unique."]}\n')


def test_a_refused_log_in(served: Served) -> None:
    said = '400 BAD REQUEST\n{"non_field_errors":["Unable to log in with provided credentials."]}\n'
    assert deis("login", served.url, "--username=nobody", "--password=wrong") == (1, said)


def test_nobody_answers() -> None:
    status, said = deis("login", "http://127.0.0.1:1", "--username=a", "--password=b")
    assert (status, said.splitlines()[0]) == (1, "Couldn't connect to the Deis Controller:")


def test_a_new_password(bob: str, served: Served) -> None:
    wrong = 'Password change failed: {"detail":"Current password does not match"}\n'
    assert deis("passwd", "--password=wrong", f"--new-password={NEW}") == (1, wrong)
    assert deis("passwd", f"--password={SECRET}", f"--new-password={NEW}") == (0, "Password change succeeded.\n")
    assert deis("apps") == (0, "=== Apps\n")
    assert deis("login", served.url, f"--username={bob}", f"--password={NEW}") == (0, f"Logged in as {bob}\n")


def test_new_tokens(bob: str, owner: str, home: Path) -> None:
    before = kept(home)["token"]
    assert deis("auth:regenerate") == (0, "Token regenerated.\n")
    assert kept(home)["token"] != before
    assert deis("auth:regenerate", "-u", bob) == (0, "Token regenerated.\n")
    assert deis("auth:regenerate", "-u", "zed") == (1, "404 NOT FOUND\nDetail:\nNot found\n")
    assert deis("users")[0] == 0
    assert deis("auth:regenerate", "--all") == (0, "Token regenerated.\n")
    assert deis("users") == (1, "401 UNAUTHORIZED\nDetail:\nInvalid token\n")


def test_administrators(bob: str, owner: str) -> None:
    words = "system administrators... "
    assert deis("perms:create", bob, "--admin") == (0, f"Adding {bob} to {words}done\n")
    status, said = deis("perms:list", "--admin")
    assert status == 0
    assert said.startswith('{\n  "count": 2,\n  "next": null,\n  "previous": null,\n  "results": [\n    {\n')
    assert [each["username"] for each in json.loads(said)["results"]] == [OWNER, bob]
    assert deis("perms:delete", bob, "--admin") == (0, f"Remove {bob} from {words}done\n")
    assert deis("perms:create", "zed", "--admin") == (1, f"Adding zed to {words}404 NOT FOUND\nDetail:\nNot found\n")
    owner_stays = "409 CONFLICT\nDetail:\nThe owner cannot be demoted. Hand the ownership over first.\n"
    assert deis("perms:delete", OWNER, "--admin") == (1, f"Remove admin from {words}{owner_stays}")


def test_collaborators_of_an_app(bob: str) -> None:
    missing = "404 NOT FOUND\nDetail:\nNot found\n"
    assert deis("perms:create", "al", "-a", "shop") == (1, f"Adding al to shop collaborators... {missing}")
    assert deis("perms:delete", "al", "--app", "Shop") == (1, f"Removing al from shop collaborators... {missing}")
    assert deis("perms:list") == (1, missing)


def test_lists_go_on_to_their_end(owner: str) -> None:
    with httpx2.Client(base_url=owner, trust_env=False) as client:
        for _ in range(101):
            body = {"username": f"many{next(NUMBERS)}", "password": SECRET, "email": "-@x"}
            assert client.post("/v1/auth/register", json=body).status_code == 201
    status, said = deis("users")
    title, *names = said.splitlines()
    assert (status, title, names[0]) == (0, "=== Users", OWNER)
    assert len(set(names)) == len(names) > 101


# -- deisctl


@pytest.fixture
def operator(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTIARY_URL", served.url)
    monkeypatch.setenv("OSTIARY_PASSWORD", PASSWORD)


def config(*words: str) -> tuple[int, str]:
    result = run("deisctl", "config", "controller", *words)
    return result.exit_code, result.stdout


VIEWS = [
    ("registrationEnabled=0", "0", "disabled"), ("registrationEnabled=TRUE", "1", "enabled"),
    ("registrationEnabled=off", "0", "disabled"), ("registrationMode=admin_only", "admin_only", "admin_only"),
    ("registrationEnabled=Enabled", "1", "enabled"), ("registrationMode=enabled", "enabled", "enabled"),
]  # fmt: skip


FROM_THE_FILE = {"name": "registration.mode", "value": "enabled", "source": "file"}


@pytest.mark.usefixtures("operator")
def test_the_registration_switch(served: Served) -> None:
    for word, shown, mode in VIEWS:
        assert config("set", word) == (0, f"{shown}\n")
        assert config("get", "registrationMode") == (0, f"{mode}\n")
    assert config("set", "registrationEnabled=1", "registrationMode=admin_only") == (0, "0\nadmin_only\n")
    assert config("get", "registrationEnabled", "registrationMode") == (0, "0\nadmin_only\n")
    status, said = deis("register", served.url, "--username=x", f"--password={SECRET}", "--email=a@example.com")
    refused = 'Registration failed: {"detail":"Authentication credentials were not provided."}\n'
    assert (status, said) == (1, refused)
    reset = run("settings", "reset", "registration.mode", "--json")
    assert (reset.exit_code, json.loads(reset.stdout)) == (0, [FROM_THE_FILE])
    assert config("get", "registrationEnabled") == (0, "1\n")
    unknown = run("settings", "reset", "registration.role")
    assert (unknown.exit_code, unknown.stdout) == (5, "")
    assert "There are the settings registration.mode" in unknown.stderr


MISTAKES = [
    (["controller", "set", "registrationEnabled=maybe"],
     "registrationEnabled is one of 1, true, yes, on, enabled, 0, false, no, off, disabled"),
    (["controller", "set", "registrationMode=1"], "registrationMode is one of enabled, disabled, admin_only"),
    (["controller", "set", "registrationEnabled=0", "other=1"],
     "there are the keys registrationEnabled, registrationMode"),
    (["controller", "get", "other"], "there are the keys registrationEnabled, registrationMode"),
    (["controller", "set", "registrationEnabled"],
     "set takes KEY=VALUE, with a KEY of registrationEnabled, registrationMode"),
    (["router", "set", "registrationEnabled=0"], "there is the target controller"),
]  # fmt: skip


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_a_mistake_changes_nothing(words: list[str], message: str) -> None:
    result = run("deisctl", "config", *words)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"ostiary: {message}\n")
    assert config("get", "registrationEnabled") == (0, "1\n")


def test_who_may_not_set_it(served: Served, bob: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTIARY_PASSWORD", SECRET)
    result = run("deisctl", "config", "controller", "set", "registrationEnabled=0", "--url", served.url, "--user", bob)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "settings:manage" in result.stderr


# -- re-issue


@pytest.mark.usefixtures("operator")
def test_tokens_are_reissued(bob: str, served: Served) -> None:
    deis("login", served.url, f"--username={bob}", f"--password={SECRET}")
    result = run("tokens", "reissue", bob)
    said = f"Tokens of {bob} revoked: 2. {bob} gets a new one at the next login.\n"
    assert (result.exit_code, result.stdout) == (0, said)
    assert deis("apps") == (1, "401 UNAUTHORIZED\nDetail:\nInvalid token\n")
    unknown = run("tokens", "reissue", "zed")
    assert (unknown.exit_code, unknown.stdout, unknown.stderr) == (1, "", "User not found: zed\n")
    assert run("tokens", "reissue").exit_code == 2
    assert run("tokens", "reissue", "zed", "--all").exit_code == 2


@pytest.mark.usefixtures("operator")
def test_those_of_all(bob: str) -> None:
    run("tokens", "reissue", "--all")
    assert run("tokens", "reissue", "--all").stdout == "Tokens of 0 users revoked.\n"
    assert run("tokens", "reissue", OWNER).stdout.startswith(f"Tokens of {OWNER} revoked: 0. ")
    assert run("tokens", "reissue", "--all").stdout == "Tokens of 0 users revoked.\n"


# -- on the server's machine


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a configuration, whose server does not run; nobody is registered."""
    (tmp_path / "ostiary.yaml").write_text(f"state_dir: {tmp_path}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_no_password_is_asked_for_beside_the_store(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config("get", "registrationEnabled") == (0, "1\n")
    assert config("set", "registrationMode=admin_only", "registrationEnabled=no") == (0, "disabled\n0\n")
    assert run("tokens", "reissue", "--all").stdout == "Tokens of 0 users revoked.\n"
    unknown = run("tokens", "reissue", "zed")
    assert (unknown.exit_code, unknown.stdout, unknown.stderr) == (1, "", "User not found: zed\n")
    monkeypatch.chdir("/")
    file = str(machine / "ostiary.yaml")
    assert config("get", "registrationMode", "-c", file) == (0, "disabled\n")
    assert json.loads(run("settings", "reset", "registration.mode", "--json", "-c", file).stdout) == [FROM_THE_FILE]
    assert config("get", "registrationMode", "-c", file) == (0, "enabled\n")


async def account(machine: Path, name: str) -> User:
    store = await open_store(f"sqlite:///{machine}/ostiary.db", alone=False)
    found = await store.users.get(name)
    await store.close()
    assert found is not None
    return found


def test_whoever_has_no_password_gets_one_beside_the_store(machine: Path) -> None:
    assert run("create-user", "-u", "root", "-g", "owner").exit_code == 0
    given = run("users", "set-password", "root", "--new-password", "-", "--json", stdin=f"{SECRET}\n")
    assert (given.exit_code, json.loads(given.stdout)) == (0, {"user": "root"})
    kept = asyncio.run(account(machine, "root"))
    assert (kept.role, kept.has_password, kept.has_totp) == ("owner", True, True)
    unknown = run("users", "set-password", "zed", "--new-password", "-", stdin=f"{SECRET}\n")
    assert (unknown.exit_code, unknown.stdout) == (5, "")


def test_a_configuration_with_mistakes(machine: Path) -> None:
    (machine / "ostiary.yaml").write_text("nothing: of the kind\n")
    result = run("tokens", "reissue", "--all")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "ostiary.yaml has mistakes" in result.stderr


def test_whoever_names_a_server_means_it(machine: Path) -> None:
    result = run("tokens", "reissue", "--all", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 3
