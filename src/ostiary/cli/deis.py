"""`ostiary deis`: what the Deis client says and prints, for people who have it in their fingers and in their scripts.

Unlike the client it follows `next` and keeps a token that it had made anew for oneself.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import msgspec
import typer
from msgspec import Struct

from ostiary.cli.files import directory, replace
from ostiary.cli.output import printable

if TYPE_CHECKING:
    import httpx2

TIMEOUT = 60.0
"""Seconds."""
VERSION = "1"
"""Of the protocol."""
NOBODY = "Could not find token. Use `deis login` or `deis register` to get started."
app = typer.Typer(no_args_is_help=True, add_completion=False)
Username = Annotated[str, typer.Option("--username", help="as whom; else a prompt")]
Password = Annotated[str, typer.Option("--password", help="else a prompt, which nobody else on the machine sees")]
Admin = Annotated[bool, typer.Option("--admin", help="administrators of the system, not collaborators of an app")]
OfApp = Annotated[str, typer.Option("-a", "--app", help="the app; else that of this directory's name")]
Controller = Annotated[str, typer.Argument(help="URL of the controller")]


class State(Struct):
    """Where somebody is logged in, as whom, and by which token."""

    controller: str | None = None
    username: str | None = None
    token: str | None = None
    ssl_verify: bool | None = None


def path() -> Path:
    """The file of the state."""
    return directory("XDG_CONFIG_HOME", ".config") / "deis.json"


def load() -> State:
    """The state; empty where there is none that can be read."""
    try:
        return msgspec.json.decode(path().read_bytes(), type=State)
    except (OSError, msgspec.MsgspecError):
        return State()


def save(state: State) -> None:
    """Keep the state, for its owner only."""
    try:
        path().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace(path(), msgspec.json.encode(state))
    except OSError as error:
        fail(f"Could not write to settings file at {path()}: {error.strerror}")


def fail(*lines: str) -> NoReturn:
    """Say what went wrong, where the client says it."""
    for line in lines:
        say(line)
    raise typer.Exit(1)


def say(line: str) -> None:
    """A line of the result, without what would steer a terminal."""
    typer.echo(printable(line, keep="\n"))


def _send(state: State, method: str, place: str, timeout: float = TIMEOUT, **content: Any) -> "httpx2.Response":
    """One request. Fails where nobody answers."""
    import httpx2

    try:
        with httpx2.Client(
            base_url=state.controller or "", verify=state.ssl_verify is not False, timeout=timeout
        ) as client:
            return client.request(method, place, **content)
    except (httpx2.TransportError, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as problem:
        advice = "Make sure that the Controller URI is correct and the server is running."
        fail("Couldn't connect to the Deis Controller:", str(problem), advice)


def dispatch(
    method: str, place: str, body: dict[str, Any] | None = None, timeout: float = TIMEOUT
) -> "httpx2.Response":
    """A request by who is logged in."""
    state = load()
    if not state.token:
        fail(NOBODY)
    headers = {
        "content-type": "application/json", "X-Deis-Version": VERSION, "Authorization": f"token {state.token}",
    }  # fmt: skip
    content = None if body is None else msgspec.json.encode(body)
    return _send(state, method, place, timeout=timeout, headers=headers, content=content)


def expect(response: "httpx2.Response", status: int) -> "httpx2.Response":
    """The response, if it is that; else its status and what it says."""
    if response.status_code == status:
        return response
    said = decoded(response)
    lines = ["Detail:", str(said["detail"])] if isinstance(said, dict) and "detail" in said else [response.text]
    fail(f"{response.status_code} {response.reason_phrase}", *lines)


def decoded(response: "httpx2.Response") -> Any:
    """What is in a response; None for what is no JSON."""
    try:
        return msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        return None


def pages(place: str) -> Iterator[dict[str, Any]]:
    """A list, page by page."""
    url: str | None = place
    while url:
        page = decoded(expect(dispatch("GET", url), 200))
        yield page
        url = _below(page.get("next"))


def _below(url: str | None) -> str | None:
    """The next page at the controller that is asked, whatever it calls itself: the token goes nowhere else."""
    if not url:
        return None
    rest = url.partition("://")[2]
    return rest[rest.find("/") :] if "/" in rest else None


def _prompted(name: str, given: str) -> str:
    return given or str(typer.prompt(name))


def _secret(name: str, given: str, mismatch: str = "") -> str:
    """A secret; where `mismatch` says what becomes of two that differ, it is asked for twice."""
    if given:
        return given
    first = str(typer.prompt(name, hide_input=True))
    if mismatch and first != typer.prompt(f"{name} (confirm)", hide_input=True):
        fail(mismatch)
    return first


def _controller(text: str) -> str:
    return text if "://" in text else f"http://{text}"


@app.callback()
def deis() -> None:
    """Apps and people, as the Deis client does it."""


@app.command("register")
@app.command("auth:register", hidden=True)
def register(
    controller: Controller, username: Username = "", password: Password = "",
    email: Annotated[str, typer.Option("--email", help="address; else a prompt")] = "",
) -> None:  # fmt: skip
    """Make an account and log in."""
    name = _prompted("username", username)
    password = _secret("password", password, "Password mismatch, aborting registration.")
    email = email or str(typer.prompt("email", default="", show_default=False))
    state = State(_controller(controller))
    response = _send(state, "POST", "/v1/auth/register", data={"username": name, "password": password, "email": email})
    if response.status_code != 201:
        fail(f"Registration failed: {response.text}")
    say(f"Registered {name}")
    _log_in(state, name, password)


@app.command("login")
@app.command("auth:login", hidden=True)
def login(
    controller: Controller, username: Username = "", password: Password = "",
    ssl_verify: Annotated[str, typer.Option("--ssl-verify", help="false: do not look at certificates")] = "",
) -> None:  # fmt: skip
    """Log in."""
    name = _prompted("username", username)
    state = State(_controller(controller), ssl_verify=ssl_verify != "false")
    _log_in(state, name, _secret("password", password))


def _log_in(state: State, name: str, password: str) -> None:
    response = _send(state, "POST", "/v1/auth/login/", data={"username": name, "password": password})
    token = decoded(expect(response, 200))["token"]
    save(State(state.controller, name, token, state.ssl_verify is not False))
    say(f"Logged in as {name}")


@app.command("logout")
@app.command("auth:logout", hidden=True)
def logout() -> None:
    """Forget the token here."""
    save(State())
    say("Logged out")


@app.command("whoami")
@app.command("auth:whoami", hidden=True)
def whoami() -> None:
    """Say who is logged in."""
    state = load()
    if state.username:
        say(f"You are {state.username} at {state.controller}")
    else:
        say("Not logged in. Use `deis login` or `deis register` to get started.")


@app.command("passwd")
@app.command("auth:passwd", hidden=True)
def passwd(
    password: Annotated[str, typer.Option("--password", help="the present one; else a prompt")] = "",
    new_password: Annotated[str, typer.Option("--new-password", help="the new one; else a prompt")] = "",
) -> None:
    """Change one's password."""
    if not load().token:
        fail(NOBODY)
    current = _secret("current password", password)
    new = _secret("new password", new_password, "Password mismatch, not changing.")
    response = dispatch("POST", "/v1/auth/passwd", {"password": current, "new_password": new})
    if response.status_code != 200:
        fail(f"Password change failed: {response.text}")
    say("Password change succeeded.")


@app.command("auth:regenerate")
def regenerate(
    username: Annotated[str, typer.Option("-u", "--username", help="of that user instead of oneself")] = "",
    everybody: Annotated[bool, typer.Option("--all", help="of all users")] = False,
) -> None:
    """Replace tokens by new ones."""
    body: dict[str, Any] = {"all": True} if everybody else {"username": username} if username else {}
    given = decoded(expect(dispatch("POST", "/v1/auth/tokens/", body), 200))
    if isinstance(given, dict) and given.get("token"):
        save(msgspec.structs.replace(load(), token=given["token"]))
    say("Token regenerated.")


@app.command("users")
@app.command("users:list", hidden=True)
def users() -> None:
    """List the users."""
    listed("Users", "/v1/users", "username")


def listed(title: str, place: str, member: str) -> None:
    """A list, one member a line."""
    for number, page in enumerate(pages(place)):
        if not number:
            say(f"=== {title}")
        for each in page["results"]:
            say(str(each[member]))
