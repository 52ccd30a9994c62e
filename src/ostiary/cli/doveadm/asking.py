"""A command of the doveadm surface: whom it is asked of, as whom, and what came of it."""

import os
from base64 import b64encode
from typing import TYPE_CHECKING, Literal

import msgspec
import typer
from msgspec import Struct

from ostiary.cli import target as targets
from ostiary.cli.client import Target
from ostiary.cli.doveadm.layout import Format, Row
from ostiary.cli.secret import HOW, secret

if TYPE_CHECKING:
    import httpx2

PATH = "/doveadm/v1"
TIMEOUT = 300.0
"""Seconds. The server ends a command before, at `command_timeout`."""
TAG = "1"
SERVICE = "doveadm"
"""The name that the configuration's password belongs to."""
KEY, PASSWORD = "OSTIARY_DOVEADM_KEY", "OSTIARY_DOVEADM_PASSWORD"
USAGE, NOT_FOUND, TEMPORARY, DENIED = 64, 68, 75, 77
"""Exit codes (sysexits.h, as the original has them)."""
STATUSES = {400: USAGE, 401: DENIED, 403: DENIED, 413: USAGE}
"""What else the server answers, by its status; everything unknown may be otherwise later."""
REASONS = {
    401: "The credential was refused: sign in with `ostiary login`, or give --api-key or --password",
    413: "That is more than a request may hold (1 MiB)",
    429: "Too many wrong credentials came from here: try again later",
    503: "The server cannot tell who is asking just now: try again",
}
Parameters = dict[str, object]
Key = typer.Option("--api-key", metavar="SECRET", help=f"an API key of the configuration: {HOW}; else {KEY}")
Password = typer.Option("--password", metavar="SECRET", help=f"the password of `{SERVICE}`: {HOW}; else {PASSWORD}")


class Asked(Struct, frozen=True):
    """What the words before the command say."""

    format: Format | None = None
    dry_run: bool = False
    key: str | None = None
    """`-` or `@FILE`, never the key."""
    password: str | None = None
    target: targets.Asked = targets.Asked()


class Failed(Exception):
    """There are no rows; with `code` the command line ends."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Error(Struct, frozen=True, rename="camel"):
    type: str
    exit_code: int
    message: str = ""
    parameter: str = ""


_Entry = tuple[Literal["doveadmResponse", "error"], list[Row] | _Error, str]


def ask(asked: Asked, command: str, parameters: Parameters) -> list[Row]:
    """The rows of a command's answer. Raises Failed; refuses usage."""
    url, authorization = _caller(asked)
    query = {"explain": "1"} | ({"dry_run": "1"} if asked.dry_run else {})
    response = _post(url, authorization, query, _body(command, parameters))
    if response.status_code != 200:
        reason = REASONS.get(
            response.status_code, f"{url} answered {response.status_code}: is the admin listener there?"
        )
        raise Failed(STATUSES.get(response.status_code, TEMPORARY), reason)
    try:
        ((_, said, _),) = msgspec.json.decode(response.content, type=tuple[_Entry])
    except msgspec.MsgspecError as problem:
        raise Failed(TEMPORARY, f"{url} gave no answer of doveadm: is the admin listener there?") from problem
    if isinstance(said, _Error):
        raise Failed(said.exit_code or USAGE, _sentence(said))
    return said


def _body(command: str, parameters: Parameters) -> bytes:
    try:
        return msgspec.json.encode([[command, parameters, TAG]])
    except UnicodeEncodeError as problem:
        raise typer.BadParameter("a word of the command is no UTF-8") from problem


def _post(url: str, authorization: str, query: dict[str, str], body: bytes) -> "httpx2.Response":
    import httpx2  # here: help, completion and usage need none of it

    headers = {"Content-Type": "application/json"} | ({"Authorization": authorization} if authorization else {})
    try:
        return httpx2.post(f"{url}{PATH}", params=query, content=body, headers=headers, timeout=TIMEOUT)
    except (httpx2.TransportError, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as problem:
        raise Failed(TEMPORARY, f"cannot reach {url}: {problem}") from problem


def _sentence(error: _Error) -> str:
    message = error.message or error.type
    return f"{error.parameter}: {message}" if error.parameter else message


def _caller(asked: Asked) -> tuple[str, str]:
    """The server's URL, and the value of `Authorization`; empty: nobody's. Refuses usage."""
    key, password = _secrets(asked)
    if key is not None:
        return _url(asked), "X-Dovecot-API " + _base64(key)
    if password is not None:
        return _url(asked), "Basic " + _base64(f"{SERVICE}:{password}")
    whom = targets.target(asked.target)
    return whom.url, _authorization(whom)


def _secrets(asked: Asked) -> tuple[str | None, str | None]:
    """The API key, or the password of the service. The environment's, where nothing says as whom to ask."""
    if asked.key is not None and asked.password is not None:
        raise typer.BadParameter("give --api-key or --password, not both")
    if asked.key is not None:
        return secret("api_key", asked.key), None
    if asked.password is not None:
        return None, secret("password", asked.password)
    if asked.target != targets.Asked(asked.target.url):
        return None, None
    return os.environ.get(KEY), os.environ.get(PASSWORD)


def _url(asked: Asked) -> str:
    _, profile = targets.chosen(asked.target.profile)
    return (asked.target.url or (profile.url if profile else targets.URL)).rstrip("/")


def _authorization(whom: Target) -> str:
    if whom.token:
        return f"Bearer {whom.token}"
    return "" if whom.password is None else "Basic " + _base64(f"{whom.name}:{whom.password}")


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()
