"""Log-ins of browsers, in which users allow things to client applications. They are no credential anywhere else.

The browser holds a secret of 256 random bits, the store its digest. A log-in ends when it expires, when the user signs
out, is disabled or gone, and with everything else of the user that is revoked.
"""

from msgspec import Struct
from msgspec.structs import replace

from ostiary.control.authenticators import ours, person
from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import RECORDED
from ostiary.core.digest import digest
from ostiary.core.oauth.applications import SECOND
from ostiary.core.oauth.people import Asking
from ostiary.core.permission import Principal
from ostiary.core.refusal import Unauthenticated
from ostiary.store.ports import BrowserLogin


class SignIn(Struct, frozen=True):
    """A form with name and password, filled in for a client application."""

    name: str
    password: str
    client_id: str
    scope: str = ""


async def sign_in(control: Control, call: Call, shown: SignIn, instead: str) -> str:
    """The secret of a new log-in; the one of the secret `instead` (empty: none) ends.

    Refuses Unauthenticated, Forbidden and Limited as the authenticator does; they stand in the audit.
    """
    call = replace(call, operation="login.browser", target=shown.client_id)
    asking = Asking(shown.client_id, "authorization_code", shown.scope, {}, call.address)
    secret, now = control.entropy(32).hex(), control.clock()
    try:
        user = await person(control, shown.name, shown.password, asking)
        if not user.id:
            raise Unauthenticated("user.refused", "The user could not be authenticated")
        expires = now + control.rules.login_lifetime * SECOND
        login = BrowserLogin(user.id, dict(user.details), now, expires, ours(control))
        record = call.done(now, "", principal(login, digest(secret)))
        await control.consents.sign_in(digest(secret), login, digest(instead), record)
    except RECORDED as refusal:
        await control.audit.append(call.record(now, refusal.code))
        raise
    return secret


async def signed_in(control: Control, secret: str) -> BrowserLogin | None:
    """The log-in of that secret, while it lives."""
    return await control.consents.login(digest(secret), control.clock()) if secret else None


async def sign_out(control: Control, call: Call, secret: str) -> None:
    """End a log-in."""
    login = await signed_in(control, secret)
    if login is not None:
        kept = digest(secret)
        record = replace(call, operation="login.sign_out").done(control.clock(), "", principal(login, kept))
        await control.consents.sign_out(kept, record)


def principal(login: BrowserLogin, kept: bytes) -> Principal:
    """The user of a log-in, who may do nothing else by it."""
    return Principal("user", login.user, frozenset(), f"browser {kept.hex()[:12]}")
