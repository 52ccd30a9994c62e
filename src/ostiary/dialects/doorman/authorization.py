"""Log-in, registration, refresh, status, invalidate: the session token and its two cookies."""

from msgspec import UNSET

from ostiary.control import users as accounts
from ostiary.control.login import ByPassword, LoggedIn
from ostiary.control.users import RegisterUser
from ostiary.core.refusal import Invalid
from ostiary.dialects.doorman.asked import Asked, Row, signed_in, stranger
from ostiary.dialects.doorman.bodies import LoginBody, RegisterBody, bind, members
from ostiary.dialects.doorman.cookies import no_cookies, session_cookies
from ostiary.dialects.doorman.users import check_name
from ostiary.dialects.doorman.words import Headers, Said, Words, done, limits, message
from ostiary.dialects.message import Answer

_WRONG = Said(401, "AUTH002", "Invalid email or password")
_FORMS: Words = {
    "body.malformed": Said(400, "AUTH004", "Invalid JSON payload"),
    "login.incomplete": Said(400, "AUTH001", "Missing email or password"),
}
_LOGIN: Words = {
    **_FORMS,
    "login.refused": _WRONG,
    "login.stale": _WRONG,
    "login.second_factor": _WRONG,
    "login.inactive": Said(403, "AUTH007", "User is not active"),
}
_FIXED = Said(400, "AUTH009", "This credential cannot be invalidated")
_INVALIDATE: Words = {"credential.fixed": _FIXED, "credential.no_user": _FIXED}
_REFRESH = ("AUTH003", "Unable to validate credentials")


async def log_in(asked: Asked) -> Answer:
    """A session token, as payload and as cookie, with what is left of the address's log-ins."""
    room = asked.desk.control.penalties.admit(asked.call.address)
    body = bind(_members(asked), LoginBody)
    given: LoggedIn = await asked.run("login.password", ByPassword(body.email, body.password))
    headers = limits(room.allowed, room.remaining, room.reset)
    return done({"access_token": given.access_token}, *_cookies(asked, given), *headers)


async def register(asked: Asked) -> Answer:
    """An account; nobody is signed in by it."""
    await accounts.check_switch(asked.desk.control, asked.call)
    body = bind(_members(asked), RegisterBody)
    name = body.email.partition("@")[0] if body.username is UNSET else body.username
    check_name(name)
    await asked.run("users.register", RegisterUser(name, body.password, body.email))
    return message("User created successfully", status=201)


def _members(asked: Asked) -> dict[str, object]:
    """The body of both. Refuses Invalid `body.malformed`, `login.incomplete`."""
    values = members(asked.request.body)
    if values is None:
        raise Invalid("body.malformed", "The body is no JSON object")
    if values.get("email", "") == "" or values.get("password", "") == "":
        raise Invalid("login.incomplete", "An address and a password are needed")
    return values


async def refresh(asked: Asked) -> Answer:
    """Another session token in the place of the one that asks."""
    given: LoggedIn = await asked.run("login.renew")
    shown = {"access_token": given.access_token, "refresh_token": given.access_token}
    return done(shown, *_cookies(asked, given))


async def status(asked: Asked) -> Answer:
    """That the credential holds."""
    await asked.run("login.check")
    return message("Token is valid")


async def invalidate(asked: Asked) -> Answer:
    """End the credential that asks, for good."""
    await asked.run("tokens.end")
    return message("Your token has been invalidated", *no_cookies(asked), *asked.receipt())


def _cookies(asked: Asked, given: LoggedIn) -> Headers:
    return session_cookies(asked, given.access_token, given.csrf_token or "", given.expires_in or 0)


_PATH = "/platform/authorization"
LOG_IN = Row("POST", _PATH, "login.password", log_in, gate=stranger, words=_LOGIN)
ROWS = (
    LOG_IN,
    Row("POST", f"{_PATH}/register", "users.register", register, gate=stranger, words=_FORMS),
    Row("POST", f"{_PATH}/refresh", "login.renew", refresh, gate=signed_in, unauthorized=_REFRESH),
    Row("GET", f"{_PATH}/status", "login.check", status, gate=signed_in),
    Row("POST", f"{_PATH}/invalidate", "tokens.end", invalidate, gate=signed_in, words=_INVALIDATE),
)
