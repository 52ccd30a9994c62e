"""The command line as a client of the native operations API."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

import msgspec
import typer
from msgspec import Struct

from ostiary.cli.output import say

if TYPE_CHECKING:
    import httpx2

TIMEOUT = 60.0
"""Seconds. A change waits for workers, a reload for a whole new snapshot."""
REFUSED, USAGE, UNREACHABLE, NOT_PERMITTED, NOT_FOUND = 1, 2, 3, 4, 5
"""Exit statuses, as the help of `ostiary` says them."""
STATUSES = {0: UNREACHABLE, 401: NOT_PERMITTED, 403: NOT_PERMITTED, 404: NOT_FOUND}
NO_OSTIARY = "unknown"
ENDED = {
    "credential.expired": "has expired",
    "credential.inactive": "is of a disabled user",
    "credential.refused": "was ended",
    "credential.unknown": "is unknown there",
}
"""Why a token is refused, by the code of the refusal."""


class Target(Struct, frozen=True):
    """Where Ostiary listens for operators, and as whom to ask; without a password or token, as nobody."""

    url: str
    name: str = ""
    password: str | None = None
    token: str = ""
    profile: str = ""
    """Whose token it is; empty: it came from elsewhere."""


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

    @property
    def exit_status(self) -> int:
        """What the command ends with."""
        return REFUSED if self.code == NO_OSTIARY else STATUSES.get(self.status, REFUSED)


def run(
    target: Target, operation: str, params: dict[str, Any], transport: "httpx2.BaseTransport | None" = None,
    patience: float = TIMEOUT,
) -> Done:  # fmt: skip
    """Run an operation and return what it gave; `patience` is in seconds. Raises Problem."""
    with _client(target, transport, patience) as client:
        response = client.post(f"/operations/{operation}", json=params)
    if response.status_code != 200:
        raise _problem(response, target)
    try:
        return Done(msgspec.json.decode(response.content), response.headers.get("x-ostiary-applied", ""))
    except ValueError as problem:
        raise Problem(200, NO_OSTIARY, f"{target.url} gave no JSON: is the admin listener there?") from problem


def follow(target: Target, operation: str, params: dict[str, Any]) -> Iterator[bytes]:
    """What an operation shows, line by line as it comes, until there is no more. Raises Problem."""
    import httpx2

    patience = httpx2.Timeout(TIMEOUT, read=None)
    with (
        _client(target) as client,
        client.stream("GET", f"/operations/{operation}/follow", params=params, timeout=patience) as response,
    ):
        if response.status_code != 200:
            response.read()
            raise _problem(response, target)
        rest = b""
        for piece in response.iter_raw():
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines


@contextmanager
def _client(
    target: Target, transport: "httpx2.BaseTransport | None" = None, patience: float = TIMEOUT
) -> Iterator["httpx2.Client"]:
    """A client that asks as somebody. Raises Problem where nobody answers."""
    import httpx2  # here: help, completion and usage need none of it

    _check_port(target.url)
    auth = None if target.password is None else httpx2.BasicAuth(target.name, target.password)
    headers = {"Authorization": f"Bearer {target.token}"} if target.token else {}
    try:
        with httpx2.Client(
            base_url=target.url, auth=auth, headers=headers, timeout=patience, transport=transport
        ) as client:
            yield client
    except UnicodeEncodeError as problem:
        raise typer.BadParameter("a word, or what the environment says, is not UTF-8 text") from problem
    except (httpx2.TransportError, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as problem:
        raise Problem(0, "unreachable", f"cannot reach {target.url}: {problem}") from problem


def _check_port(url: str) -> None:
    """Raise Problem for a port that is none: of a greater number the system takes the lower 16 bits, without a word."""
    try:
        urlsplit(url).port  # noqa: B018
    except ValueError as problem:
        raise Problem(0, "unreachable", f"cannot reach {url}: {problem}") from problem


def fail(problem: Problem) -> NoReturn:
    """Say why there is no result, and exit."""
    say(f"{problem.message} ({problem.code})", fg="red")
    for line in problem.mistakes:
        say(f"  {line}")
    raise typer.Exit(problem.exit_status) from problem


def _problem(response: "httpx2.Response", target: Target) -> Problem:
    try:
        said = msgspec.json.decode(response.content)
    except ValueError:
        said = None
    if not isinstance(said, dict) or not {"error", "message"} <= said.keys():
        what = f"{response.url} answered {response.status_code}: is the admin listener there?"
        return Problem(response.status_code, NO_OSTIARY, what)
    mistakes = tuple(_line(each) for each in said.get("mistakes", []))
    code, message = str(said["error"]), str(said["message"])
    if target.token and code in ENDED:
        message = _ended(target, ENDED[code])
    elif code == "authentication.required":
        message += ": sign in with `ostiary login`, or give --user"
    return Problem(response.status_code, code, message, mistakes)


def _ended(target: Target, why: str) -> str:
    if not target.profile:
        return f"The token in OSTIARY_TOKEN {why}"
    return (
        f"The token of profile {target.profile} {why}: sign in again with "
        f"`ostiary login --profile {target.profile} {target.url}`"
    )


def _line(mistake: dict[str, Any]) -> str:
    place = f"{mistake['file']}:{mistake.get('line', 0)}: " if mistake.get("file") else ""
    path = f"{mistake['path']}: " if mistake.get("path") else ""
    return f"{place}{path}{mistake.get('message', '')}"
