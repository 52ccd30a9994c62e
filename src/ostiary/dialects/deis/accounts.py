"""Accounts: register, log in, a new password, cancel, new tokens."""

import re

from msgspec.structs import replace

from ostiary.control.login import ByPassword, LoggedIn, Nothing
from ostiary.control.users import OwnUser, RegisterUser, SetPassword, check_switch, mode
from ostiary.core.oauth import text_ok
from ostiary.core.people import RESERVED_NAME, User, email_ok
from ostiary.core.permission import NOBODY
from ostiary.core.refusal import Conflict, Forbidden, Unauthenticated
from ostiary.dialects.deis.asked import Asked, Fields
from ostiary.dialects.deis.pages import user_object
from ostiary.dialects.deis.tokens import principal, token
from ostiary.dialects.deis.words import (
    NO_CREDENTIALS,
    NO_EMAIL,
    NO_NAME,
    NO_TEXT,
    OWNS_APPS,
    TAKEN,
    Said,
    error,
    longest,
)
from ostiary.dialects.message import Answer, json_answer

MOST = 30
"""Characters of a name."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*", re.ASCII)


async def register(asked: Asked) -> Answer:
    """Make an account of one's own. The switch decides before anything else is looked at."""
    asked = await _through_the_switch(asked)
    fields = asked.fields()
    name = _name(fields)
    password = fields.password("password", name, asked.desk.control.rules.people.min_password)
    new = RegisterUser(
        name, password, _email(fields), _text(fields, "first_name"), _text(fields, "last_name"), spare_email=True
    )
    if fields.wrong:
        await _look_up(asked, fields, name)
    fields.done()
    made: User = await asked.run("users.register", new)
    return json_answer(201, user_object(made))


async def _through_the_switch(asked: Asked) -> Asked:
    """The request, with who asks where the mode is `admin_only`; in the others nobody looks."""
    control = asked.desk.control
    try:
        if await mode(control) == "admin_only" and token(asked.request):
            asked = replace(asked, call=replace(asked.call, principal=await principal(asked.desk, asked.request)))
        await check_switch(control, asked.call)
    except (Forbidden, Unauthenticated) as refusal:
        await asked.desk.registry.refused(control, "users.register", asked.call, refusal)
        if refusal.code == "registration.administrators" and asked.call.principal is NOBODY:
            raise Said(error(403, NO_CREDENTIALS)) from None
        raise
    return asked


def _name(fields: Fields) -> str:
    name = fields.text("username", required=True)
    if name and (_NAME.fullmatch(name) is None or name.casefold() == RESERVED_NAME):
        fields.add("username", NO_NAME)
    if len(name) > MOST:
        fields.add("username", longest(MOST))
    return name


def _email(fields: Fields) -> str:
    email = fields.text("email")
    if email and not email_ok(email):
        fields.add("email", NO_EMAIL)
    return email


def _text(fields: Fields, name: str) -> str:
    text = fields.text(name)
    if len(text) > MOST:
        fields.add(name, longest(MOST))
    if not text.isprintable() or not text_ok(text, len(text)):
        fields.add(name, NO_TEXT)
    return text


async def _look_up(asked: Asked, fields: Fields, name: str) -> None:
    """Beside what is wrong already, say that the name is taken; that counts as a registration."""
    if "username" in fields.wrong:
        return
    asked.desk.control.penalties.admit_registration(asked.call.address)
    if await asked.desk.control.users.taken(name):
        fields.wrong = {"username": [TAKEN], **fields.wrong}


async def login(asked: Asked) -> Answer:
    """A new personal token for a password."""
    fields = asked.fields()
    name, password = fields.text("username", required=True), fields.text("password", required=True)
    fields.done()
    asked.desk.control.penalties.admit(asked.call.address)
    given: LoggedIn = await asked.run("login.password", ByPassword(name, password, personal=True, label="Deis"))
    return json_answer(200, {"token": given.access_token})


async def _whose(asked: Asked, operation: str, fields: Fields) -> str:
    """The account that is meant; empty: one's own. Refuses Forbidden for another's, whether it exists or not."""
    name = fields.chosen("username")
    whose = "" if asked.own(name) else name
    if "username" not in fields.wrong:
        await asked.allow(operation, OwnUser(whose))
    return whose


async def passwd(asked: Asked) -> Answer:
    """A new password: for one's own the present one is needed."""
    fields = asked.fields()
    user = await _whose(asked, "users.set_password", fields)
    current = None if user else fields.text("password", required=True)
    least = asked.desk.control.rules.people.min_password
    new = fields.password("new_password", user or asked.call.principal.name, least)
    fields.done()
    await asked.run("users.set_password", SetPassword(new, user, current))
    return json_answer(200, {"status": "password set"})


async def cancel(asked: Asked) -> Answer:
    """Delete an account."""
    fields = asked.fields()
    user = await _whose(asked, "users.delete", fields)
    fields.done()
    try:
        await asked.run("users.delete", OwnUser(user))
    except Conflict as refusal:
        if refusal.code != "user.owns_apps":
            raise
        raise Said(error(409, f"{user or asked.call.principal.name} {OWNS_APPS}")) from None
    return Answer(204)


async def tokens(asked: Asked) -> Answer:
    """Re-issue: a new token for oneself; others, or all, get one at their next log-in."""
    fields = asked.fields()
    everybody = fields.flag("all")
    if everybody:
        await asked.allow("tokens.reissue_all", Nothing())
    user = await _whose(asked, "tokens.reissue", fields)
    fields.done()
    if everybody:
        await asked.run("tokens.reissue_all", Nothing())
        return json_answer(200, "")
    given: LoggedIn = await asked.run("tokens.reissue", OwnUser(user))
    return json_answer(200, {"token": given.access_token})
