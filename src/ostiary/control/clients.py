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


async def authenticated(control: Control, client_id: str, secret: str) -> Application:
    """The application that shows its id and secret (empty: it shows none). Refuses `client.invalid`."""
    client = await control.applications.client(client_id) if hex_ok(client_id) else None
    proof = Proof(digest(secret).hex() if secret else "")
    try:
        return authenticate(client, proof).application
    except Unproven as unproven:
        if not await control.passwords.verify(unproven.kept, secret):
            raise _stranger() from None
        return authenticate(client, replace(proof, verified=unproven.kept)).application


async def proven(
    control: Control, request: TokenRequest, secret: str, act: Callable[[TokenRequest], Awaitable[T]]
) -> T:
    """What `act` gives; where the secret is kept as argon2id, it is verified first, off the event loop."""
    try:
        return await act(request)
    except Unproven as unproven:
        if not await control.passwords.verify(unproven.kept, secret):
            raise _stranger() from None
        return await act(replace(request, proof=Proof(digest(secret).hex(), unproven.kept)))


def _stranger() -> Unauthenticated:
    return Unauthenticated("client.invalid", "Unknown client, or its secret is wrong")
