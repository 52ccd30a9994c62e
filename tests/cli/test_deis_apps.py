"""`ostiary deis`, the part about apps: what it prints, to the byte; and the generated commands for apps."""

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Served
from tests.cli.test_deis import SECRET, deis, run
from tests.control.drivers import Memory
from tests.dialects.fleet import fleet
from tests.dialects.house import OWNER, PASSWORD

NUMBERS = count()
MISSING = "404 NOT FOUND\nDetail:\nNot found\n"
COFFEE = "processes... but first, coffee!\n"


@pytest.fixture(scope="module")
def droplets(served: Served) -> Iterator[Memory]:
    """The house runs droplets, in memory."""
    context = fleet(served.house)

    def inside(work: Coroutine[Any, Any, object]) -> None:
        done: Future[object] = asyncio.run_coroutine_threadsafe(work, served._loop)
        done.result(20)

    engines: list[Memory] = []

    async def enter() -> None:
        found = await context.__aenter__()
        found.engine.clock = count(served.house.now).__next__
        engines.append(found.engine)

    inside(enter())
    yield engines[0]
    inside(_leave(context))


async def _leave(context: Any) -> None:
    await context.__aexit__(None, None, None)


@pytest.fixture
def shop(served: Served, droplets: Memory) -> str:
    """An app of a member who is logged in."""
    number = next(NUMBERS)
    words = [f"--username=shopper{number}", f"--password={SECRET}", "--email=-@x"]
    assert deis("register", served.url, *words)[0] == 0
    assert deis("apps:create", f"shop{number}") == (0, f"Creating application... done, created shop{number}\n")
    return f"shop{number}"


def listed(name: str, *rows: str) -> str:
    return f"=== {name} Processes\n\n" + ("--- web: \n" + "".join(f"{row}\n" for row in rows) + "\n" if rows else "")


def test_from_create_to_destroy(shop: str) -> None:
    assert deis("apps") == (0, f"=== Apps\n{shop}\n")
    status, said = deis("apps:info", "-a", shop)
    head, body = said.split("\n", 1)
    assert (status, head) == (0, f"=== {shop} Application")
    shown, _, rest = body.partition("\n}\n\n")
    assert json.loads(shown + "}")["id"] == shop
    assert rest == listed(shop) + f"=== {shop} Domains\nNo domains\n\n"
    warning = f'To proceed, type "{shop}" or re-run this command with --confirm={shop}'
    status, said = deis("apps:destroy", "-a", shop, stdin="other\n")
    assert (status, warning in said, said.splitlines()[-1]) == (0, True, "Destroy aborted")
    status, said = deis("destroy", "-a", shop, f"--confirm={shop}")
    assert (status, re.sub(r"\d+s", "0s", said)) == (0, f"Destroying {shop}... \ndone in 0s\n")
    assert deis("apps") == (0, "=== Apps\n")
    assert deis("destroy", "-a", shop, f"--confirm={shop}") == (1, f"Destroying {shop}... \n{MISSING}")


def test_scale_and_restart(shop: str) -> None:
    status, said = deis("ps:scale", "web=2", "-a", shop)
    rows = listed(shop, "web.1 up (v1)", "web.2 up (v1)")
    assert (status, re.sub(r"\d+s", "0s", said)) == (0, f"Scaling {COFFEE}done in 0s\n{rows}")
    for words in (["ps:restart"], ["ps:restart", "web"], ["restart", "web.2"]):
        status, said = deis(*words, "-a", shop)
        assert (status, re.sub(r"\d+s", "0s", said)) == (0, f"Restarting {COFFEE}done in 0s\n{rows}")
    assert deis("ps:restart", "web.7", "-a", shop) == (1, f"Restarting {COFFEE}{MISSING}")
    assert deis("ps", "-a", shop) == (0, rows)
    refused = "400 BAD REQUEST\nDetail:\nContainer type nope does not exist in application\n"
    assert deis("ps:scale", "nope=1", "-a", shop) == (1, f"Scaling {COFFEE}{refused}")
    advice = "Say how many of which type there are to be: TYPE=NUMBER, for example web=2\n"
    for odd in ("web", "web=", "web=x", "web=\u0661"):
        assert deis("ps:scale", odd, "-a", shop) == (1, advice)


def test_config(shop: str) -> None:
    assert deis("config", "-a", shop) == (0, f"=== {shop} Config\nNo configuration\n")
    said = f"Creating config... done, v2\n\n=== {shop}\nA: 1\nLONGER: a=b c\n"
    assert deis("config:set", "A=1", "LONGER=a=b c", "-a", shop) == (0, said)
    assert deis("config:list", "-a", shop) == (0, f"=== {shop} Config\nA           1\nLONGER      a=b c\n")
    assert deis("config", "--oneline", "-a", shop) == (0, "A=1 LONGER=a=b c\n")
    said = f"Creating config... done, v3\n\n=== {shop}\nNo configuration\n"
    assert deis("config:unset", "A", "LONGER", "-a", shop) == (0, said)
    assert deis("config", "--oneline", "-a", shop) == (0, "No configuration\n")
    assert deis("config:set", "A", "-a", shop) == (1, "Say what each variable is to be: NAME=VALUE\n")
    refused = '400 BAD REQUEST\n{"values":["Invalid variable: PATH"]}\n'
    assert deis("config:set", "PATH=x", "-a", shop) == (1, f"Creating config... {refused}")


def test_builds_and_logs(shop: str) -> None:
    assert deis("builds", "-a", shop) == (0, f"=== {shop} Builds\n")
    assert deis("pull", "hello", "-a", shop) == (0, "Creating build... done, v2\n")
    status, said = deis("builds:list", "-a", shop)
    [head, line] = said.splitlines()
    assert (status, head) == (0, f"=== {shop} Builds")
    assert re.fullmatch(r"[0-9a-f-]{36} [0-9T:-]{19}UTC", line)
    status, said = deis("logs", "-a", shop)
    assert status == 0, said
    texts = [line.partition("]: ")[2].partition(" ")[2] for line in said.splitlines()]
    assert texts == ["created initial release", "deployed hello: v2"]
    assert len(deis("apps:logs", "-n", "1", "-a", shop)[1].splitlines()) == 1


def test_collaborators_and_another_owner(shop: str, served: Served) -> None:
    name = f"friend{next(NUMBERS)}"
    before = Path(os.environ["XDG_CONFIG_HOME"], "ostiary", "deis.json").read_bytes()
    assert deis("register", served.url, f"--username={name}", f"--password={SECRET}", "--email=-@x")[0] == 0
    Path(os.environ["XDG_CONFIG_HOME"], "ostiary", "deis.json").write_bytes(before)
    assert deis("perms:create", name, "-a", shop) == (0, f"Adding {name} to {shop} collaborators... done\n")
    assert deis("perms:list", "-a", shop) == (0, f'{{\n  "users": [\n    "{name}"\n  ]\n}}\n')
    for alias in ("perms", "sharing", "sharing:list"):
        assert deis(alias, "-a", shop) == deis("perms:list", "-a", shop)
    assert deis("perms:delete", name, "-a", shop) == (0, f"Removing {name} from {shop} collaborators... done\n")
    assert deis("apps:transfer", name, "-a", shop) == (0, f"Transferring {shop} to {name}... done\n")
    assert deis("apps:info", "-a", shop) == (1, MISSING)


def test_the_app_of_the_directory_is_meant(shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / shop.upper()).mkdir()
    monkeypatch.chdir(tmp_path / shop.upper())
    assert deis("ps") == (0, listed(shop))


def test_every_operation_on_apps_has_its_command(shop: str, served: Served, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    whom = ["--url", served.url, "--user", OWNER, "--password-file", str(secret)]
    whom_not_user = ["--url", served.url, "--login", OWNER, "--password-file", str(secret)]
    for words, member in (
        (["list"], shop), (["get", shop], shop), (["scale", shop, "--structure", "web=1"], "web=1"),
        (["configure", shop, "--values", "A=1", "--values", "B=x"], "A=1 B=x"), (["config", shop], "A=1"),
        (["containers", shop], f"{shop}.web.1"), (["restart", shop, "--type", "web"], f"{shop}.web.1"),
        (["deploy", shop, "--image", "web"], "web"), (["builds", shop], "web"), (["logs", shop], "initial release"),
        (["share", shop, "--user", OWNER], OWNER), (["delete", shop], shop),
    ):  # fmt: skip
        done = run("apps", *words, *(whom_not_user if words[0] == "share" else whom))
        assert (done.exit_code, member in done.stdout) == (0, True), (words, done.output)
    assert run("apps", "scale", "shop", "--structure", "web=x", *whom).exit_code == 2


def shown(words: list[str], stream: str, wanted: str, then: Callable[[], object]) -> str:
    """What a terminal shows on a stream; `then` is called when `wanted` has appeared."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    out, err = (theirs if stream == each else subprocess.DEVNULL for each in ("stdout", "stderr"))
    command = [sys.executable, "-m", "ostiary", *words]
    with subprocess.Popen(command, stdin=theirs, stdout=out, stderr=err, env=environ) as child:
        os.close(theirs)
        said, waiting = "", True
        with suppress(OSError):  # the command has ended
            while data := os.read(ours, 65536):
                said += data.decode()
                if waiting and wanted in said:
                    waiting = False
                    then()
        os.close(ours)
    assert (child.returncode, waiting) == (0, False), said
    return said


def test_a_terminal_shows_how_far_the_droplets_are(shop: str, served: Served, droplets: Memory, tmp_path: Path) -> None:
    assert deis("ps:scale", "web=1", "-a", shop)[0] == 0
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)

    def go_on() -> None:
        served._loop.call_soon_threadsafe(droplets.hold.set)

    served._loop.call_soon_threadsafe(droplets.hold.clear)
    said = shown(["deis", "ps:restart", "-a", shop], "stdout", "web.1 created (v1)", go_on)
    assert said.replace("\r\n", "\n").endswith(listed(shop, "web.1 up (v1)"))
    served._loop.call_soon_threadsafe(droplets.hold.clear)
    words = ["apps", "restart", shop, "--url", served.url, "--user", OWNER, "--password-file", str(secret)]
    shown(words, "stderr", "web.1 starting (v1)", go_on)
