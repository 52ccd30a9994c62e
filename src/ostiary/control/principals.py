"""Principals: what a credential that is shown stands for, on every surface alike."""

import re

from ostiary.control.control import Control
from ostiary.core.digest import digest
from ostiary.core.people import Credential, Kind, Role, State, User, end, state
from ostiary.core.permission import Principal
from ostiary.core.refusal import Forbidden, Unauthenticated
from ostiary.core.snapshot import SECOND
from ostiary.store.people import Holder

MOST_TOKEN = 4096
"""Bytes of a token that are looked at."""
TOUCHED = SECOND
"""A personal token's last use is kept as exactly as this: one token too many ends the one not used for longest."""
SESSION_KEYS, SESSION_TYPE = "session", "session+jwt"
"""Purpose of the keys that sign session tokens, and the `typ` of those (RFC 8725 section 3.11)."""
REMEMBERED = 86_400 * SECOND
"""So long a credential that has expired is told so."""
_OPAQUE = re.compile(r"[0-9a-f]{64}", re.ASCII)
SIGNED_IN = frozenset({Kind.SESSION, Kind.PERSONAL, Kind.ACCESS})
"""Kinds that stand for their user; a refresh token does not."""


def principal_of(user: User, role: Role | None, credential: str, held: bytes = b"") -> Principal:
    """A user as a principal, with what the role holds now. Refuses Forbidden `login.inactive`."""
    if not user.active:
        raise Forbidden("login.inactive", "The user is not active")
    permissions = role.permissions if role is not None else frozenset()
    return Principal("user", user.name, permissions, credential, user.number, user.role, held)


async def presented(control: Control, text: str, *, refresh: bool = False) -> Principal:
    """Whom a token stands for: a session token, a personal token, one of a log-in by code, or an OAuth access token.

    With `refresh` a live refresh token stands for its user too, without any permission. Refuses Unauthenticated:
    `credential.unknown`, `credential.expired` (within the last day), `credential.inactive` (its user is disabled),
    `credential.refused` for everything else (ended, cut off, a refresh token).
    """
    if len(text) > MOST_TOKEN:
        raise _unknown()
    if _OPAQUE.fullmatch(text) is None:
        return await _session(control, text)
    holder = await control.credentials.find(digest(text))
    if holder is None:
        return await _application(control, text)
    if refresh and holder.credential.kind is Kind.REFRESH:
        return _refreshing(control, holder)
    if holder.credential.kind not in SIGNED_IN or holder.credential.kind is Kind.SESSION:
        raise refused()
    await _check(control, holder)
    return _holder(holder)


def _refreshing(control: Control, holder: Holder) -> Principal:
    if state(holder.credential, holder.user, control.clock()) is not State.LIVE:
        raise refused()
    return principal_of(holder.user, None, named(holder.credential), holder.credential.digest)


async def _session(control: Control, text: str) -> Principal:
    """A session token: its signature, and the store's word on its `jti`."""
    try:
        claims = await control.keys.verify(SESSION_KEYS, SESSION_TYPE, text)
    except Unauthenticated:
        raise _unknown() from None
    holder = await control.credentials.find(digest(str(claims.get("jti"))))
    if holder is None or holder.credential.kind is not Kind.SESSION or holder.user.name != claims.get("sub"):
        raise refused()
    await _check(control, holder)
    return _holder(holder)


async def _application(control: Control, text: str) -> Principal:
    """An OAuth access token: its client application or user, without any permission."""
    kept = digest(text)
    token = (await control.tokens.live([kept], control.clock())).get(kept)
    if token is None:
        raise await _why(control, kept)
    return Principal("application", token.client_id, frozenset(), f"access token {kept.hex()[:8]}", digest=kept)


async def _check(control: Control, holder: Holder) -> None:
    """Refuse what is not live; remember that it was used."""
    now, credential, idle = control.clock(), holder.credential, control.rules.people.personal_idle
    match state(credential, holder.user, now, idle):
        case State.LIVE:
            if credential.kind is Kind.PERSONAL and now - credential.used >= TOUCHED:
                await control.credentials.touch({credential.digest: now})
        case State.EXPIRED if now < end(credential, idle) + REMEMBERED:
            raise Unauthenticated("credential.expired", "The credential has expired")
        case State.INACTIVE:
            raise Unauthenticated("credential.inactive", "The user is not active")
        case _:
            raise refused()


def _holder(holder: Holder) -> Principal:
    return principal_of(holder.user, holder.role, named(holder.credential), holder.credential.digest)


def named(credential: Credential) -> str:
    """A credential for the audit: its kind and the beginning of its digest."""
    return f"{credential.kind.value} {credential.digest.hex()[:8]}"


async def _why(control: Control, kept: bytes) -> Unauthenticated:
    """A token that was ours once is no guess."""
    return _unknown() if await control.tokens.get(kept) is None else refused()


def _unknown() -> Unauthenticated:
    return Unauthenticated("credential.unknown", "The credential is not valid")


def refused() -> Unauthenticated:
    """What a credential that does not hold is told."""
    return Unauthenticated("credential.refused", "The credential is not valid")
