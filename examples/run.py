"""`make run`: the sample backend and `ostiary serve` on the sample configuration, and curl commands that work.

Registers a scope and a client application over the admin listener the first time (kept in var/sample.json, readable
by you alone) and gets an access token. Ctrl-C ends everything.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "var" / "sample.json"
BACKEND_PORT = 5000


def main() -> int:
    """Run until Ctrl-C (or SIGTERM); the exit status is the gateway's."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with running([sys.executable, str(ROOT / "examples/backend.py"), str(BACKEND_PORT)]) as backend:
        gateway = [str(Path(sys.executable).with_name("ostiary")), "serve", "--config", "examples/ostiary.yaml"]
        with running(gateway) as serving:
            addresses = wait_until_ready(serving, backend)
            if addresses is None:
                return serving.poll() or 1
            say(addresses, client_of(addresses["admin"]))
            with contextlib.suppress(KeyboardInterrupt):
                serving.wait()
        return serving.returncode


@contextlib.contextmanager
def running(command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A child of its own, ended (SIGTERM, so that it drains) at the end."""
    child = subprocess.Popen(command, cwd=ROOT)
    try:
        yield child
    finally:
        while child.poll() is None:
            child.send_signal(signal.SIGTERM)
            with contextlib.suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
                child.wait(60)


def wait_until_ready(serving: "subprocess.Popen[bytes]", backend: "subprocess.Popen[bytes]") -> dict[str, str] | None:
    """The gateway's addresses once it is ready; None when it has ended instead."""
    file = ROOT / "var" / "run" / "addresses.json"
    while serving.poll() is None:
        if backend.poll() is not None:
            return None
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(file.read_text())
            if (
                found["pid"] == serving.pid
                and ask(f"{found['admin']}/platform/monitor/readiness").get("status") == "ready"
            ):
                return {name: str(url) for name, url in found.items()}
        time.sleep(0.1)
    return None


def ask(url: str, body: object = None, method: str | None = None) -> dict[str, object]:
    """One JSON request; the answer's object. OSError when it fails."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def client_of(admin: str) -> dict[str, str]:
    """The sample's client application, registered the first time."""
    if KEPT.exists():
        kept: dict[str, str] = json.loads(KEPT.read_text())
        return kept
    with contextlib.suppress(urllib.error.HTTPError):
        scope = {"scope": "basic", "description": "sample", "cc_expires_in": 3600, "pass_expires_in": 3600}
        ask(f"{admin}/oauth20/scopes", scope)
    sample = {"name": "sample", "scope": "basic", "redirect_uri": "http://127.0.0.1:8000/"}
    client = {name: str(text) for name, text in ask(f"{admin}/oauth20/applications", sample).items()}
    ask(f"{admin}/oauth20/applications/{client['client_id']}", {"status": 1}, "PUT")
    with os.fdopen(os.open(KEPT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(client, file)
    return client


def say(addresses: dict[str, str], client: dict[str, str]) -> None:
    """Print what to try."""
    gateway, admin = addresses["gateway"], addresses["admin"]
    form = urlencode({"grant_type": "client_credentials"} | client).encode()
    with urllib.request.urlopen(f"{gateway}/oauth20/tokens", form, timeout=10) as answer:
        token = json.load(answer)["access_token"]
    bearer = f"-H 'Authorization: Bearer {token}'"
    revoke = json.dumps({"access_token": token})
    print(f"""
Ostiary is ready.   gateway {gateway}   admin {admin}   (Ctrl-C ends it)

Try these in another terminal:
  curl -i {gateway}/v1.0/hello
  curl -i {bearer} {gateway}/v1.0/countries/FRA
  curl -i {bearer} {gateway}/v1.0/me
  curl -i -H 'Content-Type: application/json' -d '{revoke}' {admin}/oauth20/tokens/revoke
  curl -i {bearer} {gateway}/v1.0/countries/FRA

That is: a public route; one that needs the scope `basic`; one that needs a user (this token has none, so it says no);
the token revoked; and the same route again, refused from that moment on.
""", flush=True)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
