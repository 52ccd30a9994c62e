"""What people hold: ended singly for good, cut off all at once, issued anew; personal tokens.

A cut-off refuses every token issued before it, of every kind, until it is lifted; what was ended stays ended.
"""

from typing import Annotated

from msgspec import Meta, Struct

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.login import LoggedIn, Nothing, new_personal
from ostiary.control.registry import operation
from ostiary.control.users import OwnUser, Status, named
from ostiary.core.digest import handle
from ostiary.core.oauth import text_ok
from ostiary.core.people import Credential, Kind
from ostiary.core.permission import USER
from ostiary.core.refusal import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from ostiary.core.snapshot import SECOND
from ostiary.link.messages import Change

MOST_LABEL = 255
LONGEST = 10 * 366 * 86_400
"""Seconds: the longest life that may be asked for."""


class CreatePersonal(Struct, frozen=True):
    """A personal token."""

    label: Annotated[str, Meta(description="what it is called, for people")]
    expires_in: Annotated[
        Annotated[int, Meta(ge=1, le=LONGEST)] | None,
        Meta(description="seconds; absent: until it is not used for long"),
    ] = None


class ListHeld(Struct, frozen=True):
    """Whose credentials."""

    user: Annotated[str, Meta(description="name of the user; empty: oneself")] = ""
    live: Annotated[bool, Meta(description="only those that were not ended")] = True
    limit: Annotated[int, Meta(ge=1, le=10_000, description="at most so many")] = 1000
    after: Annotated[int, Meta(ge=0, description="those issued after the one of this number")] = 0


class EndHeld(Struct, frozen=True):
    """Which credential is ended: by its handle, or the one that asks."""

    handle: Annotated[str, Meta(description="sha256:... as listed; empty: the credential that asks")] = ""


class Held(Struct, frozen=True):
    """A credential as its owner sees it."""

    number: int
    handle: str
    kind: str
    label: str
    issued: int
    """Unix time in microseconds, as are the others."""
    expires: int
    """0: it has no end of its own."""
    used: int
    ended: bool


class Ended(Struct, frozen=True):
    """How many credentials were ended, of how many users."""

    ended: int
    users: int = 1


@operation("tokens.create_personal", permission="")
async def create_personal(control: Control, call: Call, params: CreatePersonal) -> LoggedIn:
    """Make a personal token for oneself and show it, once."""
    _signed_in(call)
    if not params.label or not text_ok(params.label, MOST_LABEL):
        raise Invalid("token.label", f"A label has 1 to {MOST_LABEL} characters")
    expires = control.clock() + params.expires_in * SECOND if params.expires_in else 0
    made = new_personal(control, params.label, expires)
    record = call.done(control.clock(), call.principal.name)
    await control.credentials.create(call.principal.number, made.kept, record)
    return LoggedIn(call.principal.name, made.text, params.expires_in)


@operation("tokens.held", reads=True, permission="tokens:manage", own="user")
async def held(control: Control, call: Call, params: ListHeld) -> list[Held]:
    """List the credentials of a user, oldest first."""
    user = await named(control, call, params.user)
    found = await control.credentials.page(user.number, params.after, params.limit, live=params.live)
    return [_held(each) for each in found]


def _held(credential: Credential) -> Held:
    return Held(
        credential.number, handle(credential.digest), credential.kind.value, credential.label, credential.issued,
        credential.expires, credential.used, credential.ended or credential.spent,
    )  # fmt: skip


@operation("tokens.end", permission="")
async def end(control: Control, call: Call, params: EndHeld) -> Ended:
    """End one credential for good: the one that asks, or another of one's own."""
    if not params.handle:
        return await _end(control, call, call.principal.digest)
    holder = await control.credentials.find(_digest(params.handle))
    own = holder is not None and holder.user.number == call.principal.number
    if holder is None or not (own or call.principal.may("tokens:manage")):
        raise NotFound("credential.unknown", "There is no such credential")
    return await _end(control, call, holder.credential.digest)


def _digest(text: str) -> bytes:
    digits = text.removeprefix("sha256:")
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise NotFound("credential.unknown", "There is no such credential") from None


async def _end(control: Control, call: Call, digest: bytes) -> Ended:
    """End a person's credential with its family, or an OAuth token with its."""
    if not digest:
        _signed_in(call)
        raise Conflict("credential.fixed", "This credential cannot be invalidated")
    now = control.clock()
    record = call.done(now, handle(digest))
    if call.principal.kind == USER:
        changed = await control.credentials.end(digest, record)
        return Ended(len(changed.value))
    ending = await control.tokens.revoke(digest, "", now, record, refresh=True)
    call.trail.receipt = await control.workers.apply(Change(ending.seq, digests=[digest, *ending.digests]))
    return Ended(ending.tokens)


def _signed_in(call: Call) -> None:
    if call.principal.kind == "nobody":
        raise Unauthenticated("authentication.required", "Authentication is required")
    if call.principal.kind != USER:
        raise Forbidden("credential.no_user", "This is for users")


@operation("tokens.revoke_all", permission="tokens:manage", own="user", target="user")
async def revoke_all(control: Control, call: Call, params: OwnUser) -> Status:
    """Refuse every token that was issued to a user before; log-ins after this work."""
    user = await named(control, call, params.user)
    changed = await control.users.cut_off(user.number, call.done(control.clock(), user.name))
    call.trail.receipt = await control.workers.apply(Change(changed.seq, users=[user.name]))
    return Status(user.name, changed.value.active, True)


@operation("tokens.unrevoke_all", permission="tokens:manage", target="user")
async def unrevoke_all(control: Control, call: Call, params: OwnUser) -> Status:
    """Lift the cut-off of a user: what has not expired or ended by itself passes again."""
    user = await named(control, call, params.user)
    changed = await control.users.lift(user.number, call.done(control.clock(), user.name))
    # Refused tokens are remembered under no user's name.
    call.trail.receipt = await control.workers.apply(Change(changed.seq, everything=True, streams=False))
    return Status(user.name, changed.value.active, False)


@operation("tokens.reissue", permission="tokens:manage", own="user", target="user")
async def reissue(control: Control, call: Call, params: OwnUser) -> LoggedIn:
    """End all personal tokens of a user; one's own are followed by a new one, others' by their next log-in's."""
    user = await named(control, call, params.user)
    changed = await control.credentials.end_all(user.number, [Kind.PERSONAL], call.done(control.clock(), user.name))
    if user.number != call.principal.number:
        return LoggedIn(user.name, "", ended=len(changed.value))
    made = new_personal(control, "re-issued")
    await control.credentials.create(user.number, made.kept, call.done(control.clock(), user.name))
    return LoggedIn(user.name, made.text, ended=len(changed.value))


@operation("tokens.reissue_all", permission="tokens:manage")
async def reissue_all(control: Control, call: Call, params: Nothing) -> Ended:
    """End the personal tokens of all users, the caller's too."""
    ended = (await control.credentials.end_all(None, [Kind.PERSONAL], call.done(control.clock()))).value
    return Ended(len(ended), len(set(ended)))
