"""Revoke, unrevoke, disable, enable: what a user holds, and whether they may come in."""

from ostiary.control.users import OneUser, OwnUser, Status
from ostiary.dialects.doorman.asked import Asked, Handler, Row
from ostiary.dialects.doorman.users import sought
from ostiary.dialects.doorman.words import NO_AUTH, done, message
from ostiary.dialects.message import Answer


async def status(asked: Asked) -> Answer:
    """Whether the user may come in, and whether there is a cut-off."""
    user = await sought(asked)
    found: Status = await asked.run("users.status", OneUser(user.name))
    return done({"active": found.active, "revoked": found.revoked})


def _change(operation: str, kind: type[OneUser] | type[OwnUser], text: str) -> Handler:
    """The handler of a change, which answers when it is in force everywhere."""

    async def change(asked: Asked) -> Answer:
        user = await sought(asked)
        await asked.run(operation, kind(user.name))
        return message(text.format(user.name), *asked.receipt())

    return change


def _row(verb: str, operation: str, text: str, kind: type[OneUser] | type[OwnUser] = OneUser) -> Row:
    path = f"/platform/authorization/admin/{verb}/{{username}}"
    return Row("POST", path, operation, _change(operation, kind, text), NO_AUTH, permissions=_NEEDED[operation])


_AUTH = ("auth:manage",)
_NEEDED = {
    "tokens.revoke_all": ("tokens:manage",), "tokens.unrevoke_all": ("tokens:manage",),
    "users.disable": _AUTH, "users.enable": _AUTH,
}  # fmt: skip
ROWS = (
    Row("GET", "/platform/authorization/admin/status/{username}", "users.status", status, NO_AUTH, permissions=_AUTH),
    _row("revoke", "tokens.revoke_all", "All tokens revoked for {}", OwnUser),
    _row("unrevoke", "tokens.unrevoke_all", "Token revocation cleared for {}", OwnUser),
    _row("disable", "users.disable", "User {} disabled and tokens revoked"),
    _row("enable", "users.enable", "User {} enabled"),
)
