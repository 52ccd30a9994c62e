"""Ostiary as it is shipped: `ostiary serve --config FILE`, seeded and steered over its own HTTP surfaces."""

import http.client
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bench.machine import free_port
from bench.measure import command_line, tree
from bench.peers import Running
from bench.process import Failed, Process

COMMAND = os.environ.get("OSTIARY") or str(Path(sys.executable).with_name("ostiary"))
"""What is measured: the command beside this Python, or the one that OSTIARY names (another build to compare)."""
SCOPE = "basic"
_drafts = itertools.count()
Settings = dict[str, Any]


class Ostiary:
    """A gateway in a directory of its own. `settings` joins what every comparison needs."""

    def __init__(
        self, directory: Path, core: int, settings: Settings, routes: list[Settings] | None = None, workers: int = 1
    ) -> None:
        self.home = directory
        self.home.mkdir()
        self.store = self.home / "ostiary.db"
        self._core = core
        self.gateway, self.admin = free_port(), free_port()
        self.configuration = self.home / "ostiary.yaml"
        base: Settings = {
            "gateway": {"listen": f"127.0.0.1:{self.gateway}", "workers": workers},
            "admin": {"listen": f"127.0.0.1:{self.admin}"},
            "store": {"url": f"sqlite:///{self.store}"},
            "log": {"access": "", "level": "WARNING"},
            "bootstrap": {"owner": {"name": "admin", "password": "only for this comparison"}},
            "dialects": {"apifest": {"trusted_networks": ["127.0.0.0/8"]}},
        }
        if routes is not None:
            base["include"] = ["routes.json"]
            self.take(self.draft(routes))
        self.configuration.write_text(json.dumps({**base, **settings}))  # JSON is YAML
        self.receipt = ""
        """Which workers had applied the last change when its answer came."""
        self.start()

    def start(self) -> float:
        """Start it, on the same files when it was there before: seconds until it was ready."""
        began = time.monotonic()
        words = [COMMAND, "serve", "--config", str(self.configuration)]
        self.process = Process(words, self._core, self.home / "output.log", {"OSTIARY_LOG_FORMAT": "json"})
        self.process.wait_until(self._is_ready, "Ostiary")
        self._connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=120)
        return time.monotonic() - began

    def running(self, token: str = "") -> Running:
        """It as one of the programs that are compared."""
        headers = (f"Authorization: Bearer {token or 'tok123'}",)
        return Running("Ostiary", self.process, self.gateway, headers)

    def worker(self) -> int:
        """The pid of its only worker."""
        return self._only("worker")

    def control(self) -> int:
        """The pid of control."""
        return self._only("control")

    def _only(self, kind: str) -> int:
        found = [pid for pid in tree(self.process.pid) if f" {kind} " in f"{command_line(pid)} "]
        if len(found) != 1:
            raise Failed(f"{len(found)} processes are a {kind} where one was expected")
        return found[0]

    def draft(self, routes: list[Settings]) -> Path:
        """A file of routes that `take` can make the included one."""
        draft = self.home / f"draft{next(_drafts)}"
        draft.write_text(json.dumps({"routes": routes}))
        return draft

    def take(self, draft: Path) -> None:
        """Replace the included file of routes, whole."""
        draft.rename(self.home / "routes.json")

    def write_routes_as_yaml(self, routes: list[Settings]) -> None:
        """The same as YAML, one route a line, included instead of the JSON."""
        lines = "".join(f"  - {_flow(route)}\n" for route in routes)
        (self.home / "routes.yaml").write_text(f"routes:\n{lines}")
        text = self.configuration.read_text().replace("routes.json", "routes.yaml")
        self.configuration.write_text(text)

    def reload(self) -> float:
        """Have it read its files again: seconds until it answered that every worker serves them."""
        began = time.monotonic()
        self.call("POST", "/apifest-reload")
        return time.monotonic() - began

    def application(self) -> tuple[str, str]:
        """Register an active application with one scope: its id and secret."""
        scope = {"scope": SCOPE, "description": "", "cc_expires_in": 86_400, "pass_expires_in": 86_400}
        self.call("POST", "/oauth20/scopes", scope)
        asked = {"name": "bench", "scope": SCOPE, "redirect_uri": "http://127.0.0.1/"}
        given = self.call("POST", "/oauth20/applications", asked)
        self.call("PUT", f"/oauth20/applications/{given['client_id']}", {"status": 1})
        return given["client_id"], given["client_secret"]

    def token(self, application: tuple[str, str]) -> str:
        """An access token of the application."""
        form = {"grant_type": "client_credentials", "client_id": application[0], "client_secret": application[1]}
        token = self.call("POST", "/oauth20/tokens", urlencode(form))["access_token"]
        return str(token)

    def revoke(self, token: str) -> float:
        """Revoke a token: seconds until it answered that no worker admits it."""
        began = time.monotonic()
        answer = self.call("POST", "/oauth20/tokens/revoke", {"access_token": token})
        took = time.monotonic() - began
        if answer != {"revoked": "true"}:
            raise Failed(f"revoke answered {answer}")
        return took

    def call(self, method: str, path: str, body: str | Settings = "") -> Any:
        """One request to the admin listener; Failed where the answer is not 200."""
        kind = "application/x-www-form-urlencoded" if isinstance(body, str) else "application/json"
        text = body if isinstance(body, str) else json.dumps(body)
        self._connection.request(method, path, text, {"Content-Type": kind})
        answer = self._connection.getresponse()
        content = answer.read()
        self.receipt = answer.getheader("X-Ostiary-Applied", "")
        if answer.status != 200:
            raise Failed(f"{method} {path}: {answer.status} {content.decode(errors='replace')[:500]}")
        return json.loads(content) if content else None

    def stop(self) -> None:
        """Stop it."""
        self._connection.close()
        self.process.stop()

    def _is_ready(self) -> bool:
        probe = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        try:
            probe.request("GET", "/platform/monitor/readiness")
            return probe.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            probe.close()


def _flow(route: Settings) -> str:
    return "{" + ", ".join(f"{name}: {json.dumps(value)}" for name, value in route.items()) + "}"
