"""Client applications as they come in: by their own id and secret."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec.structs import replace

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.core.digest import digest
from ostiary.core.oauth import Application, Proof, TokenRequest, Unproven, authenticate, hex_ok
from ostiary.core.refusal import Unauthenticated

T = TypeVar("T")


def asked_proof(call: Call, secret: str | None) -> Proof | None:
    """What a request shows of its client; None where nothing is shown and the caller may vouch."""
    if secret is None and call.principal.may("tokens:issue"):
        return None
    return Proof(digest(secret).hex() if secret else "")


async def authenticated(control: Control, call: Call, client_id: str, secret: str) -> Application:
    """The application that shows its id and secret (empty: it shows none).

    Refuses Unauthenticated `client.invalid`, Limited `login.throttled` to an address that has failed too often.
    """
    client = await control.applications.client(client_id) if hex_ok(client_id) else None
    proof = Proof(digest(secret).hex() if secret else "")

    async def act(verified: str) -> Application:
        return authenticate(client, replace(proof, verified=verified)).application

    return await _guarded(control, call, client_id, secret, act)


async def proven(
    control: Control, call: Call, request: TokenRequest, secret: str, act: Callable[[TokenRequest], Awaitable[T]]
) -> T:
    """What `act` gives; where the secret is kept as argon2id, it is verified first, off the event loop.

    Refuses what `act` does and what `authenticated` does.
    """

    async def again(verified: str) -> T:
        proof = replace(request.proof, verified=verified) if request.proof and verified else request.proof
        return await act(replace(request, proof=proof) if verified else request)

    return await _guarded(control, call, request.client_id, secret, again)


async def _guarded(
    control: Control, call: Call, client_id: str, secret: str, act: Callable[[str], Awaitable[T]]
) -> T:  # fmt: skip
    """Do `act`, with the argon2id text that the secret was verified against; a failure counts against the address."""
    control.penalties.check(call.address)
    try:
        done = await _verified(control, secret, control.penalties.failures(call.address), act)
    except Unauthenticated as refusal:
        if refusal.code == "client.invalid":
            control.penalties.failed(call.address, client_id, secret)
        raise
    if secret:
        control.penalties.succeeded(call.address)
    return done


async def _verified(control: Control, secret: str, doubt: int, act: Callable[[str], Awaitable[T]]) -> T:
    try:
        return await act("")
    except Unproven as unproven:
        if not await control.passwords.verify(unproven.kept, secret, doubt=doubt):
            raise _stranger() from None
        return await act(unproven.kept)


def _stranger() -> Unauthenticated:
    return Unauthenticated("client.invalid", "Unknown client, or its secret is wrong")
