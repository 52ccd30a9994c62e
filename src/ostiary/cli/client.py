"""The command line as a client of the native operations API."""

from typing import Any, NamedTuple

import httpx2
import msgspec
from msgspec import Struct

TIMEOUT = 60.0
"""Seconds. A change waits for workers, a reload for a whole new snapshot."""


class Target(Struct, frozen=True):
    """Where Ostiary listens for operators, and as whom to ask; without a password, as nobody."""

    url: str
    name: str = ""
    password: str | None = None


class Done(NamedTuple):
    """What an operation gave, and where it is in force (empty for what changes nothing there)."""

    result: Any
    applied: str


class Problem(Exception):
    """No result: `status` is HTTP's, 0 when nobody answered; `mistakes` are lines for a person."""

    def __init__(self, status: int, code: str, message: str, mistakes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.mistakes = mistakes


def run(target: Target, operation: str, params: dict[str, Any], transport: httpx2.BaseTransport | None = None) -> Done:
    """Run an operation and return what it gave. Raises Problem."""
    auth = None if target.password is None else httpx2.BasicAuth(target.name, target.password)
    try:
        with httpx2.Client(base_url=target.url, auth=auth, timeout=TIMEOUT, transport=transport) as client:
            response = client.post(f"/operations/{operation}", json=params)
    except (httpx2.TransportError, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as problem:
        raise Problem(0, "unreachable", f"cannot reach {target.url}: {problem}") from problem
    if response.status_code != 200:
        raise _problem(response)
    return Done(msgspec.json.decode(response.content), response.headers.get("x-ostiary-applied", ""))


def _problem(response: httpx2.Response) -> Problem:
    try:
        said = msgspec.json.decode(response.content)
    except ValueError:
        said = None
    if not isinstance(said, dict) or "error" not in said:
        return Problem(response.status_code, "unknown", f"{response.url} answered {response.status_code}")
    mistakes = tuple(_line(each) for each in said.get("mistakes", []))
    return Problem(response.status_code, str(said["error"]), str(said.get("message", "")), mistakes)


def _line(mistake: dict[str, Any]) -> str:
    place = f"{mistake['file']}:{mistake.get('line', 0)}: " if mistake.get("file") else ""
    path = f"{mistake['path']}: " if mistake.get("path") else ""
    return f"{place}{path}{mistake.get('message', '')}"
