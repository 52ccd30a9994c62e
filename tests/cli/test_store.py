"""`ostiary store`: what a person types, what is said, and with which exit status."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Served
from tests.dialects.house import OWNER, PASSWORD
from typer.testing import CliRunner, Result

from ostiary.cli import app

Run = Callable[..., Result]


@pytest.fixture
def run(directory: Path) -> Run:
    """`ostiary store` in that directory."""

    def run(*words: str, stdin: bytes = b"") -> Result:
        return CliRunner().invoke(app, ["store", *words], input=stdin)

    return run


def test_a_backup_is_restored_elsewhere(run: Run, directory: Path) -> None:
    written = run("backup", "a.backup")
    assert (written.exit_code, written.stdout) == (0, "")
    first, keys = written.stderr.splitlines()
    assert first.endswith(f"rows written to a.backup, {(directory / 'a.backup').stat().st_size:,} bytes")
    assert "revisions.key" in keys
    restored = run("restore", "a.backup", "--url", f"sqlite:///{directory}/moved/ostiary.db")
    assert restored.exit_code == 0
    assert "is again as it was then; 0 tokens are live" in restored.stderr
    assert (directory / "moved" / "ostiary.db").is_file()


def test_a_backup_goes_through_a_pipe(run: Run, directory: Path) -> None:
    content = run("backup", "-").stdout_bytes
    assert content[:2] == b"\x1f\x8b"
    restored = run("restore", "-", "--url", f"sqlite:///{directory}/b.db", stdin=content)
    assert restored.exit_code == 0
    assert run("restore", "-", "--url", f"sqlite:///{directory}/c.db", stdin=content[:-9]).stderr == (
        "ostiary: The backup is cut off or altered; nothing of it was restored\n"
    )
    assert not (directory / "c.db").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["backup", "ostiary.yaml"], "ostiary.yaml exists; --force replaces it"),
        (["backup", "none/a.backup"], "cannot be written to none/a.backup: No such file or directory"),
        (["backup", "a.backup", "--url", "sqlite:///none.db"], "There is no store at none.db"),
        (["backup", "a.backup", "--url", "mysql://a"], "must be sqlite:///PATH or postgresql://"),
        (["restore", "none.backup"], "cannot read none.backup: No such file or directory"),
        (["restore", "ostiary.yaml"], "This is not a backup of Ostiary's store"),
        (["check", "--config", "none.yaml"], "none.yaml"),
        (["check", "--url", "sqlite:///ostiary.yaml"], "file is not a database"),
        (["migrate", "--url", "sqlite:///none.db"], "There is no store at none.db"),
    ],
)
def test_what_cannot_be_done_is_said_with_1(run: Run, words: list[str], said: str) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stdout == ""
    assert not Path("a.backup").exists()


@pytest.mark.parametrize(
    "words",
    [["backup"], ["restore"], ["fly"], ["check", "--url", "postgresql://ann:secret@127.0.0.1/x"]],
)
def test_words_that_make_no_sense_are_2(run: Run, words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert "secret" not in result.output


def test_a_check_is_a_table_or_json(run: Run) -> None:
    shown = run("check")
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[0].split() == ["valid", "yes"]
    found = json.loads(run("check", "--json").stdout)
    assert (found["valid"], found["engine"], found["wrong"]) == (True, "sqlite", [])
    assert found["tables"]["tokens"]["rows"] == 0


def test_a_store_that_is_current_has_nothing_to_migrate(run: Run) -> None:
    for words in (["migrate"], ["migrate", "--dry-run"]):
        result = run(*words)
        assert (result.exit_code, result.stdout.endswith(": up to date\n")) == (0, True)


def test_every_command_says_what_it_takes(run: Run) -> None:
    assert all(name in run("--help").stdout for name in ("backup", "restore", "migrate", "check", "remote"))
    for command, option in (("restore", "--revoke-tokens"), ("backup", "--force"), ("migrate", "--dry-run")):
        result = run(command, "--help")
        assert (result.exit_code, option in result.stdout) == (0, True)


def test_a_running_node_is_asked_as_remote(served: Served) -> None:
    def ask(*words: str) -> Result:
        environment = {"OSTIARY_URL": served.url, "OSTIARY_PASSWORD": PASSWORD}
        return CliRunner().invoke(app, ["store", "remote", *words, "--login", OWNER, "--json"], env=environment)

    assert json.loads(ask("check").stdout)["wrong"] == []
    copied = json.loads(ask("backup").stdout)
    assert Path(copied["path"]).parent == served.path / "backups"
    assert Path(copied["path"]).stat().st_size == copied["bytes"]
    assert ask("backup", "--name", "named.backup").exit_code == 0
    again = ask("backup", "--name", "named.backup")
    assert (again.exit_code, "backup.exists" in again.stderr) == (1, True)
    for name in ("../up", ".hidden", "a/b", "a\n"):
        assert "$.name" in ask("backup", "--name", name).stderr
