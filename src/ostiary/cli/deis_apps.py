"""`ostiary deis`, the part about apps: the client's commands; a terminal shows meanwhile what becomes of droplets."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import msgspec
import typer

from ostiary.cli.deis import Admin, OfApp, app, decoded, dispatch, expect, fail, listed, pages, say
from ostiary.cli.output import printable

if TYPE_CHECKING:
    import httpx2

__all__ = ["app"]

LONG = 3600.0
"""Seconds that an app's droplets may take to follow."""
EVERY = 0.5
"""Seconds between two looks at them."""
WIDTH = 100
"""Characters of the line that tells of them."""
Type = Annotated[str, typer.Argument(help="process type, or one of them: web, web.1; else all", show_default=False)]


def _named(of_app: str) -> str:
    return (of_app or Path.cwd().name).lower()


def _at(name: str, rest: str = "") -> str:
    return f"/v1/apps/{quote(name, safe='')}{rest}"


def _work(name: str, method: str, rest: str, body: dict[str, Any] | None = None) -> "httpx2.Response":
    """A request that takes as long as an app's droplets need; a terminal shows how far they are."""
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(dispatch, method, _at(name, rest), body, LONG)
        while sys.stdout.isatty() and not wait([asking], EVERY).done:
            _progress(name)
        if sys.stdout.isatty():
            sys.stdout.write("\r\x1b[K")
        return asking.result()


def _progress(name: str) -> None:
    page = decoded(dispatch("GET", _at(name, "/containers")))
    found = page.get("results", []) if isinstance(page, dict) else []
    line = ", ".join(f"{each['type']}.{each['num']} {each['state']} ({each['release']})" for each in found)
    sys.stdout.write(f"\r\x1b[K{printable(line)[:WIDTH]}")
    sys.stdout.flush()


def _begun(text: str) -> None:
    typer.echo(printable(text), nl=False)
    sys.stdout.flush()


def _seconds(began: float) -> str:
    return f"done in {int(time.monotonic() - began)}s"


# Apps


@app.command("apps")
@app.command("apps:list", hidden=True)
def apps() -> None:
    """List the apps that one may use."""
    listed("Apps", "/v1/apps", "id")


@app.command("apps:create")
@app.command("create", hidden=True)
def apps_create(
    ident: Annotated[
        str, typer.Argument(metavar="[ID]", help="its name; else one is made up", show_default=False)
    ] = "",
    template: Annotated[str, typer.Option("--template", help="what it runs; else what the server is set to")] = "",
) -> None:
    """Make an app."""
    _begun("Creating application... ")
    sent = {"id": ident, "template": template}
    made = expect(dispatch("POST", "/v1/apps", {name: value for name, value in sent.items() if value}), 201)
    say(f"done, created {decoded(made)['id']}")


@app.command("apps:info")
@app.command("info", hidden=True)
def apps_info(of_app: OfApp = "") -> None:
    """Show an app, its processes and its domains."""
    name = _named(of_app)
    found = expect(dispatch("GET", _at(name)), 200)
    say(f"=== {name} Application")
    say(msgspec.json.format(found.content, indent=2).decode() + "\n")
    _processes(name)
    say(f"=== {name} Domains")
    domains = [each for page in pages(_at(name, "/domains")) for each in page["results"]]
    for each in domains or ["No domains"]:
        say(str(each))
    say("")


@app.command("apps:destroy")
@app.command("destroy", hidden=True)
def apps_destroy(
    of_app: OfApp = "",
    confirm: Annotated[str, typer.Option("--confirm", help="the app's name again, instead of a prompt")] = "",
) -> None:
    """Remove an app with all its droplets."""
    name = _named(of_app)
    if confirm != name:
        say("")
        say(" !    WARNING: Potentially Destructive Action")
        say(f" !    This command will destroy the application: {name}")
        say(f' !    To proceed, type "{name}" or re-run this command with --confirm={name}')
        say("")
        if typer.prompt(">", prompt_suffix=" ", default="", show_default=False) != name:
            say("Destroy aborted")
            return
    say(f"Destroying {name}... ")
    began = time.monotonic()
    expect(_work(name, "DELETE", ""), 204)
    say(_seconds(began))


@app.command("apps:transfer")
def apps_transfer(username: str, of_app: OfApp = "") -> None:
    """Give an app to another user."""
    name = _named(of_app)
    _begun(f"Transferring {name} to {username}... ")
    expect(dispatch("POST", _at(name), {"owner": username}), 200)
    say("done")


@app.command("apps:logs")
@app.command("logs", hidden=True)
def apps_logs(
    of_app: OfApp = "",
    lines: Annotated[int | None, typer.Option("-n", "--lines", min=1, help="how many")] = None,
) -> None:
    """Show the last of what an app's droplets have printed, and of what was done to it."""
    name = _named(of_app)
    query = f"?log_lines={lines}" if lines else ""
    text = str(decoded(expect(dispatch("GET", _at(name, f"/logs{query}")), 200)))
    for line in text.split("\n")[:-1]:
        say(line)


# Processes


@app.command("ps")
@app.command("ps:list", hidden=True)
def ps(of_app: OfApp = "") -> None:
    """List the droplets of an app."""
    _processes(_named(of_app))


def _processes(name: str) -> None:
    found = [each for page in pages(_at(name, "/containers")) for each in page["results"]]
    say(f"=== {name} Processes\n")
    for kind in dict.fromkeys(each["type"] for each in found):
        say(f"--- {kind}: ")
        for each in (each for each in found if each["type"] == kind):
            say(f"{kind}.{each['num']} {each['state']} ({each['release']})")
        say("")


@app.command("ps:scale")
@app.command("scale", hidden=True)
def ps_scale(
    wanted: Annotated[list[str], typer.Argument(metavar="TYPE=NUMBER", help="how many of each: web=2")],
    of_app: OfApp = "",
) -> None:
    """Have so many droplets of each type; those of other types stay."""
    pairs = [each.partition("=") for each in wanted]
    if not all(number.isascii() and number.removeprefix("-").isdigit() for _, _, number in pairs):
        fail("Say how many of which type there are to be: TYPE=NUMBER, for example web=2")
    name, began = _named(of_app), time.monotonic()
    say("Scaling processes... but first, coffee!")
    expect(_work(name, "POST", "/scale", {kind: int(number) for kind, _, number in pairs}), 204)
    say(_seconds(began))
    _processes(name)


@app.command("ps:restart")
@app.command("restart", hidden=True)
def ps_restart(kind: Type = "", of_app: OfApp = "") -> None:
    """Restart droplets one by one, without losing a request."""
    name, began = _named(of_app), time.monotonic()
    rest = "".join(f"/{quote(each, safe='')}" for each in kind.split(".", 1) if each)
    say("Restarting processes... but first, coffee!")
    expect(_work(name, "POST", f"/containers{rest}/restart"), 200)
    say(_seconds(began))
    _processes(name)


# Configuration and builds


@app.command("config")
@app.command("config:list", hidden=True)
def config(
    of_app: OfApp = "",
    oneline: Annotated[bool, typer.Option("--oneline", help="all of it on one line")] = False,
) -> None:
    """List the environment of an app."""
    name = _named(of_app)
    values = decoded(expect(dispatch("GET", _at(name, "/config")), 200))["values"]
    if oneline:
        say(" ".join(f"{key}={values[key]}" for key in sorted(values)) or "No configuration")
        return
    say(f"=== {name} Config")
    width = max(map(len, values), default=0) + 5
    for key in sorted(values):
        say(f"{key:<{width}} {values[key]}")
    if not values:
        say("No configuration")


@app.command("config:set")
def config_set(
    variables: Annotated[list[str], typer.Argument(metavar="NAME=VALUE", help="variables")], of_app: OfApp = ""
) -> None:
    """Set variables of an app: a new release, which its droplets follow one by one."""
    pairs = [each.partition("=") for each in variables]
    if not all(sign for _, sign, _ in pairs):
        fail("Say what each variable is to be: NAME=VALUE")
    _configure(of_app, {key: value for key, _, value in pairs})


@app.command("config:unset")
def config_unset(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="variables")], of_app: OfApp = ""
) -> None:
    """Remove variables of an app."""
    _configure(of_app, dict.fromkeys(names))


def _configure(of_app: str, values: dict[str, str | None]) -> None:
    name = _named(of_app)
    _begun("Creating config... ")
    done = expect(_work(name, "POST", "/config", {"values": msgspec.json.encode(values).decode()}), 201)
    say(f"done, v{done.headers['x-deis-release']}\n")
    say(f"=== {name}")
    found = decoded(done)["values"]
    for key, value in found.items():
        say(f"{key}: {value}")
    if not found:
        say("No configuration")


@app.command("builds")
@app.command("builds:list", hidden=True)
def builds(of_app: OfApp = "") -> None:
    """Show what an app was last told to run."""
    name = _named(of_app)
    say(f"=== {name} Builds")
    for page in pages(_at(name, "/builds")):
        for each in page["results"]:
            say(f"{each['uuid']} {each['created']}")


@app.command("pull")
@app.command("builds:create", hidden=True)
def pull(image: Annotated[str, typer.Argument(help="template or image")], of_app: OfApp = "") -> None:
    """Have an app run a template or an image."""
    name = _named(of_app)
    _begun("Creating build... ")
    done = expect(_work(name, "POST", "/builds", {"image": image}), 201)
    say(f"done, v{done.headers['x-deis-release']}")


# Who may


def _perms(of_app: str, admin: bool) -> tuple[str, str]:
    """The app, and the place of its permissions; no app: of the system."""
    name = "" if admin else _named(of_app)
    return name, _at(name, "/perms") if name else "/v1/admin/perms"


@app.command("perms:list")
@app.command("perms", hidden=True)
@app.command("sharing", hidden=True)
@app.command("sharing:list", hidden=True)
def perms_list(of_app: OfApp = "", admin: Admin = False) -> None:
    """List who may use an app, or the administrators."""
    first, *more = pages(_perms(of_app, admin)[1])
    for page in more:
        first = {**first, "next": None, "results": first["results"] + page["results"]}
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(first), indent=2).decode() + "\n")


@app.command("perms:create")
@app.command("sharing:add", hidden=True)
def perms_create(username: str, of_app: OfApp = "", admin: Admin = False) -> None:
    """Let a user use an app, or make an administrator."""
    name, place = _perms(of_app, admin)
    whose = f"{name} collaborators" if name else "system administrators"
    typer.echo(f"Adding {username} to {whose}... ", nl=False)
    expect(dispatch("POST", place, {"username": username}), 201)
    say("done")


@app.command("perms:delete")
@app.command("sharing:remove", hidden=True)
def perms_delete(username: str, of_app: OfApp = "", admin: Admin = False) -> None:
    """Take that away again."""
    name, place = _perms(of_app, admin)
    said = f"Removing {username} from {name} collaborators" if name else f"Remove {username} from system administrators"
    typer.echo(f"{said}... ", nl=False)
    expect(dispatch("DELETE", f"{place}/{quote(username, safe='')}"), 204)
    say("done")
