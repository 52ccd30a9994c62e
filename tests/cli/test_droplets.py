"""`ostiary droplets`, against a node whose droplets run in memory."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Served
from tests.dialects.fleet import fleet
from tests.dialects.house import PASSWORD
from typer.testing import CliRunner, Result

from ostiary.cli import app

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("fleet"), fleet) as served:
        yield served


@pytest.fixture
def run(served: Served) -> Iterator[Run]:
    """`ostiary droplets` as the owner. In the end there is no droplet."""

    def run(*words: str) -> Result:
        environment = {"OSTIARY_URL": served.url, "OSTIARY_PASSWORD": PASSWORD}
        return CliRunner().invoke(app, ["droplets", *words], env=environment)

    yield run
    left = [each["name"] for each in json.loads(run("ls", "--json").stdout)]
    assert not left or run("rm", *left).exit_code == 0


def rows(result: Result) -> dict[str, list[str]]:
    """Name -> the other words of its row."""
    assert result.exit_code == 0, result.output
    _, _, *lines = result.stdout.splitlines()
    return {name: more for name, *more in (line.split() for line in lines)}


def test_a_droplet_is_made_changed_and_removed(run: Run) -> None:
    made = rows(run("add", "one"))
    assert made["one"][0] == "running"
    assert made["one"][4].startswith("22=")
    assert rows(run("ls"))["one"][0] == "running"
    assert rows(run("stop", "one"))["one"][0] == "exited"
    assert rows(run("start", "one"))["one"][0] == "running"
    assert rows(run("restart", "one"))["one"][0] == "running"
    removed = run("rm", "one")
    assert (removed.exit_code, removed.stdout, removed.stderr) == (0, "", "")
    assert run("ls").stdout == "nothing\n"


def test_several_are_changed_at_once(run: Run) -> None:
    for name in ("one", "two", "three"):
        run("add", name)
    assert {name: more[0] for name, more in rows(run("stop", "one", "two", "one")).items()} == {
        "one": "exited",
        "two": "exited",
    }
    assert list(rows(run("ls", "--state", "running"))) == ["three"]


def test_one_that_does_not_exist_is_5_and_the_others_are_changed(run: Run) -> None:
    run("add", "one")
    result = run("stop", "nobody", "one")
    assert result.exit_code == 5
    assert result.stderr == "Error response from daemon: No such container: nobody (droplet.unknown)\n"
    assert result.stdout.splitlines()[2].split()[:2] == ["one", "exited"]


def test_one_that_does_not_start_is_1_and_says_where_to_look(run: Run) -> None:
    result = run("add", "bad", "--template", "crash")
    assert result.exit_code == 1
    assert result.stderr == "Droplet bad exited with code 3 (droplet.failed); see: ostiary droplets logs bad\n"
    assert result.stdout.splitlines()[2].split()[:2] == ["bad", "exited"]


def test_one_that_ended_for_want_of_memory_is_shown_so(run: Run) -> None:
    run("add", "big", "--template", "starve")
    assert "ago (out of memory)" in run("ls").stdout


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["add", "--template", "nothing"], 1, "template.unknown"),
        (["add", "x;id"], 1, "droplet.name"),
        (["add", "--env", "PATH=/x"], 1, "env.invalid"),
        (["add", "--env", "A"], 2, "NAME=VALUE"),
        (["add", "--env-file", "/nothing"], 2, "--env-file"),
        (["stop"], 2, "NAME"),
        (["logs", "nobody"], 5, "droplet.unknown"),
        (["logs", "nobody", "--follow"], 5, "droplet.unknown"),
        (["logs", "nobody", "--tail", "10001"], 2, "--tail"),
    ],
)
def test_what_is_refused_says_why(run: Run, words: list[str], status: int, said: str) -> None:
    result = run(*words)
    assert result.exit_code == status
    assert said in result.stderr


def test_nobody_has_to_wait(run: Run) -> None:
    begun = json.loads(run("add", "one", "--no-wait", "--json").stdout)
    assert [each["droplet"] for each in begun] == ["one"]
    assert rows(run("start", "one"))["one"][0] == "running"


def test_the_environment_may_come_from_a_file(run: Run, served: Served, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# secrets\nKEY=a=b c\n\nOTHER=x\n")
    (made,) = json.loads(run("add", "--env-file", str(file), "--env", "OTHER=y", "--json").stdout)
    engine = served.house.control.reconciler.driver
    spec = vars(engine)["lives"][made["id"]].spec
    assert (spec.env["KEY"], spec.env["OTHER"]) == ("a=b c", "y")


@pytest.mark.parametrize("more", [[], ["--follow"]])
def test_logs_are_printed_byte_for_byte_and_followed_to_their_end(run: Run, served: Served, more: list[str]) -> None:
    (made,) = json.loads(run("add", "one", "--json").stdout)
    engine = served.house.control.reconciler.driver
    vars(engine)["lives"][made["id"]].lines.extend([b"first", "zw\xf6lf".encode(), b"\x1b[31mred"])
    result = run("logs", "one", "--tail", "2", *more)
    assert result.exit_code == 0, result.output
    assert result.stdout_bytes == b"zw\xc3\xb6lf\n\x1b[31mred\n"


def test_every_operation_on_droplets_is_a_command_too(run: Run) -> None:
    run("add", "one")
    assert json.loads(run("get", "one", "--json").stdout)["state"] == "running"
    assert json.loads(run("stats", "one", "--json").stdout)["pids"] == 2
    assert run("images").stdout == "nothing\n"
    assert json.loads(run("logs", "one", "--json").stdout) == {"lines": []}
