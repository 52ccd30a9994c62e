"""`ostiary create-user`: what a person types, what is said, and with which exit status."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from typer.testing import CliRunner, Result

from ostiary.cli import app
from ostiary.core.people import Kind
from ostiary.store.people import NewCredential, Proof, UserFilter
from ostiary.store.ports import Record, RecordFilter
from ostiary.store.store import Store, open_store

Run = Callable[..., Result]
T = TypeVar("T")
MESSAGE = "Scan the code with an authenticator application, or type the secret into it; then keep neither."
OWNERS = "The system cannot have multiple owners\n"


@pytest.fixture
def run(directory: Path) -> Run:
    """`ostiary create-user` in that directory, where the owner is `boss`."""

    def run(*words: str) -> Result:
        return CliRunner().invoke(app, ["create-user", *words])

    assert run("-u", "boss", "-g", "owner").exit_code == 0
    return run


def people() -> list[tuple[int, str, str]]:
    """Number, name and role of everybody."""

    async def read(store: Store) -> list[tuple[int, str, str]]:
        page = await store.users.page(UserFilter())
        return [(user.number, user.name, user.role) for user in page.users]

    return asyncio.run(_with(read))


async def _with(work: Callable[[Store], Awaitable[T]]) -> T:
    store = await open_store("sqlite:///var/ostiary.db", alone=False)
    try:
        return await work(store)
    finally:
        await store.close()


def secret(result: Result) -> str:
    assert result.exit_code == 0, result.output
    message, blank, shown, gap, *code = result.stdout.splitlines()
    assert (message, blank, gap) == (MESSAGE, "", "")
    assert len(code) > 20
    assert set("".join(code)) <= set("█▀▄ ")
    found = re.fullmatch("secret: ([A-Z2-7]{32})", shown)
    assert found
    return found[1]


def test_a_new_user_is_made_and_the_secret_shown(run: Run) -> None:
    result = run("-u", "ann", "-g", "viewer")
    assert secret(result)
    assert result.stderr == ""
    assert people() == [(1, "boss", "owner"), (2, "ann", "viewer")]


def test_json_holds_the_same(run: Run) -> None:
    said = json.loads(run("--username", "ann", "--group", "manager", "--json").stdout)
    assert list(said) == ["message", "secret", "qrcode"]
    assert said["message"] == MESSAGE
    assert re.fullmatch("[A-Z2-7]{32}", said["secret"])
    assert "█" in said["qrcode"]


def test_who_exists_stays_as_they_are_without_r(run: Run) -> None:
    run("-u", "ann", "-g", "viewer")
    for name in ("ann", "ANN"):
        result = run("-u", name, "-g", "manager")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"User {name} already exists; use -r to regenerate the secret\n"
    assert people()[1:] == [(2, "ann", "viewer")]


def test_r_gives_a_new_secret_and_role_to_the_same_account_and_revokes_everything(run: Run) -> None:
    first = secret(run("-u", "ann", "-g", "viewer"))
    asyncio.run(_with(lambda store: _hold(store, 2)))
    second = secret(run("-u", "ann", "-g", "manager", "-r"))
    assert first != second
    assert people()[1:] == [(2, "ann", "manager")]
    assert asyncio.run(_with(_cut_off))
    assert secret(run("-u", "ann", "-g", "manager", "--recreate")) != second


async def _hold(store: Store, number: int) -> None:
    made = NewCredential(b"d" * 32, Kind.ACCESS, b"f", 1, 2**60, 1)
    await store.credentials.open(Proof(number), [made], Record(1, "user", "ann", "", "", "", "", "", "done", ""), "")


async def _cut_off(store: Store) -> bool:
    holder = await store.credentials.find(b"d" * 32)
    return holder is not None and holder.user.cut_off is not None and holder.credential.seq < holder.user.cut_off


def test_r_makes_who_does_not_exist(run: Run) -> None:
    assert secret(run("-u", "ann", "-g", "viewer", "-r"))


def test_the_owner_may_have_a_new_secret_and_no_other_role(run: Run) -> None:
    assert secret(run("-u", "boss", "-g", "owner", "-r"))
    result = run("-u", "boss", "-g", "admin", "-r")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "The owner cannot change role\n")
    assert people() == [(1, "boss", "owner")]


@pytest.mark.parametrize("recreate", [[], ["-r"]])
@pytest.mark.parametrize("name", ["ann", "bob"])
def test_there_is_one_owner(run: Run, recreate: list[str], name: str) -> None:
    run("-u", "ann", "-g", "viewer")
    before = people()
    result = run("-u", name, "-g", "owner", *recreate)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", OWNERS)
    assert people() == before


@pytest.mark.parametrize("recreate", [[], ["-r"]])
def test_who_exists_becomes_owner_of_a_system_without_one(directory: Path, recreate: list[str]) -> None:
    def run(*words: str) -> Result:
        return CliRunner().invoke(app, ["create-user", *words])

    assert secret(run("-u", "ann", "-g", "viewer"))
    if recreate:
        assert secret(run("-u", "ann", "-g", "owner", "-r"))
        assert people() == [(1, "ann", "owner")]
    else:
        assert secret(run("-u", "bob", "-g", "owner"))
        assert people() == [(1, "ann", "viewer"), (2, "bob", "owner")]


@pytest.mark.parametrize(
    "words",
    [["-u", "ann"], ["-g", "viewer"], [], ["-u", "ann", "-g", "nobody"], ["-u", "ann", "-g", ""],
     ["-u", "ann", "-g", "a b", "-r"], ["-u", "boss", "-g", "Viewer", "-r"], ["-x"], ["ann"]],
)  # fmt: skip
def test_words_that_make_no_sense_are_2_with_the_usage_on_standard_error(run: Run, words: list[str]) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr
    assert people() == [(1, "boss", "owner")]


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_is_on_standard_output(run: Run, word: str) -> None:
    result = run(word, "-u", "x")
    assert (result.exit_code, result.stderr) == (0, "")
    for each in ("--username", "-u", "--group", "-g", "--recreate", "-r", "--config", "--json"):
        assert each in result.stdout


@pytest.mark.parametrize("name", ["a b", "", "-", "a" * 65, "ann\n", "é"])
def test_a_name_that_cannot_be_is_1(run: Run, name: str) -> None:
    result = run("-u", name, "-g", "viewer")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("A user name has 1 to 64")


def test_mistakes_of_the_configuration_are_said(run: Run, directory: Path) -> None:
    (directory / "ostiary.yaml").write_text("totp: {window: many}\n")
    result = run("-u", "ann", "-g", "viewer")
    assert (result.exit_code, "ostiary.yaml:1" in result.stderr) == (1, True)


def test_the_audit_names_the_command_line_and_no_secret(run: Run) -> None:
    made = secret(run("-u", "ann", "-g", "viewer"))
    run("-u", "ann", "-g", "manager", "-r")

    async def read(store: Store) -> list[Record]:
        return await store.audit.page(RecordFilter(limit=100))

    records = asyncio.run(_with(read))
    seen = [(each.surface, each.name, each.operation, each.target, each.outcome) for each in records]
    operations = ("tokens.revoke_all", "users.totp_reset", "users.set_role")
    assert seen[:3] == [("cli", "cli", operation, "ann", "done") for operation in operations]
    assert ("cli", "cli", "users.create", "ann", "done") in seen
    assert made not in repr(records)
