"""`ostiary create-user`: an account with a TOTP secret, or a new secret, on the server's machine (cikit.md 8)."""

import asyncio
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from ostiary.cli.serve import DEFAULT, Config, Json
from ostiary.control.call import Call
from ostiary.control.configuration import load
from ostiary.control.control import Control
from ostiary.control.registry import Registry
from ostiary.control.sources import Disk
from ostiary.control.subjects import registry
from ostiary.control.totp import Enrolment
from ostiary.control.users import Created, CreateUser, OwnUser, ResetTotp, SetRole
from ostiary.core.configuration.settings import Settings
from ostiary.core.people import User, role_name_ok, user_name_ok
from ostiary.core.permission import OWNER, OWNER_ROLE, Principal
from ostiary.core.refusal import Conflict, NotFound, Refusal
from ostiary.node.local import Elsewhere, control_of
from ostiary.node.start import environment
from ostiary.store.people import UserFilter

CLI = Principal("node", "cli", OWNER)
"""Who may write to the state directory may do everything."""
MESSAGE = "Scan the code with an authenticator application, or type the secret into it; then keep neither."

app = typer.Typer(add_completion=False)


@app.command("create-user", context_settings={"help_option_names": ["-h", "--help"]})
def create_user(
    ctx: typer.Context,
    username: Annotated[str, typer.Option("--username", "-u", help="name of the user")],
    group: Annotated[str, typer.Option("--group", "-g", help="role of the user")],
    recreate: Annotated[
        bool, typer.Option("--recreate", "-r", help="give a user who exists a new secret and this role")
    ] = False,
    config: Config = DEFAULT,
    as_json: Json = False,
) -> None:
    """Make a user who logs in by code, or give one a new secret; works whether the server runs or not."""
    settings = _settings(config)
    workers = Elsewhere(settings)
    try:
        made = asyncio.run(_made(config, settings, workers, CreateUser(username, group, totp=True), recreate))
    except NotFound as refusal:
        if refusal.code != "role.unknown":
            _fail(refusal.message)
        raise typer.BadParameter("there is no such role", ctx=ctx, param_hint="--group") from None
    except Refusal as refusal:
        _fail(refusal.message)
    if workers.unconfirmed:
        typer.echo(
            f"The node, pid {workers.unconfirmed}, has not confirmed that its workers refuse tokens that applications "
            f"hold for {username}; what {username} holds is refused",
            err=True,
        )
    _show(made, as_json)


def _settings(config: Path) -> Settings:
    loaded = load(config, environment(None), Disk(config.parent.absolute()))
    for mistake in loaded.mistakes:
        typer.echo(str(mistake), err=True)
    if loaded.mistakes:
        raise typer.Exit(1)
    return loaded.settings


async def _made(config: Path, settings: Settings, workers: Elsewhere, wanted: CreateUser, recreate: bool) -> Enrolment:
    async with control_of(config, settings, workers) as control:
        maker = Maker(control, registry(), wanted)
        return await maker.made(recreate)


class Maker:
    """One run. Operations stand in the audit as the command line's."""

    def __init__(self, control: Control, operations: Registry, wanted: CreateUser) -> None:
        self._control = control
        self._operations = operations
        self._wanted = wanted

    async def made(self, recreate: bool) -> Enrolment:
        """The secret that the user has now. Refuses what keeps it from being so; then nothing has changed."""
        name, role = self._wanted.name, self._wanted.role
        await self._check_role()
        found = await self._control.users.get(name) if user_name_ok(name) else None
        if found is None:
            return await self._created()
        if not recreate:
            raise _exists(name)
        if found.role == OWNER_ROLE != role:
            raise Conflict("owner.role", "The owner cannot change role")
        return await self._renewed(found)

    async def _check_role(self) -> None:
        """Refuse NotFound `role.unknown`, Conflict `owner.exists`."""
        name, role = self._wanted.name, self._wanted.role
        if not role_name_ok(role) or await self._control.roles.get(role) is None:
            raise NotFound("role.unknown", "There is no such role")
        owners = (await self._control.users.page(UserFilter(limit=1, roles=(OWNER_ROLE,)))).users
        if role == OWNER_ROLE and owners and owners[0].name != name:
            raise Conflict("owner.exists", "The system cannot have multiple owners")

    async def _created(self) -> Enrolment:
        try:
            made: Created = await self._run("users.create", self._wanted)
        except Conflict as refusal:
            raise (_exists(self._wanted.name) if refusal.code == "user.exists" else refusal) from None
        if made.enrolment is None:
            raise NotFound("user.unknown", "The user was deleted in the meantime")
        return made.enrolment

    async def _renewed(self, user: User) -> Enrolment:
        """The old secret goes first, so that nothing that it gave outlives the revocation."""
        if user.role != self._wanted.role:
            await self._run("users.set_role", SetRole(user.name, self._wanted.role))
        enrolment: Enrolment = await self._run("users.totp_reset", ResetTotp(user.name))
        await self._run("tokens.revoke_all", OwnUser(user.name))
        return enrolment

    async def _run(self, name: str, params: msgspec.Struct) -> Any:
        return await self._operations.run(self._control, name, params, Call(CLI, "cli"))


def _exists(name: str) -> Conflict:
    return Conflict("user.exists", f"User {name} already exists; use -r to regenerate the secret")


def _show(made: Enrolment, as_json: bool) -> None:
    if as_json:
        said = {"message": MESSAGE, "secret": made.secret, "qrcode": made.text}
        typer.echo(msgspec.json.encode(said).decode())
    else:
        typer.echo(f"{MESSAGE}\n\nsecret: {made.secret}\n\n{made.text.rstrip(chr(10))}")


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
