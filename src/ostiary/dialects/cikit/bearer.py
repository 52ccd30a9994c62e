"""The access token: `Authorization: Bearer T`, the published `Bearer: T`, or `access_token` in the body."""

import re

from ostiary.core.digest import equal
from ostiary.core.permission import Principal
from ostiary.core.refusal import Invalid, Unauthenticated
from ostiary.dialects.cikit.bodies import Fields
from ostiary.dialects.credentials import by_token
from ostiary.dialects.desk import Desk
from ostiary.dialects.message import Request

_WORDS = re.compile(r"[^ \t]+")
SCHEMES = ("bearer", "bearer:")


async def bearer(desk: Desk, request: Request, fields: Fields, *, refresh: bool = False) -> Principal:
    """Whom the token stands for; `refresh`: a refresh token will do, and gives no permission.

    The token leaves `fields`. Refuses Invalid `credential.ambiguous`, Unauthenticated `authentication.required`,
    and as `by_token` does.
    """
    token = _token(request, fields)
    if token is None:
        raise Unauthenticated("authentication.required", "Unauthorized")
    return await by_token(desk, request, token, refresh=refresh)


def _token(request: Request, fields: Fields) -> str | None:
    """The one token that was presented (RFC 6750 section 2: in one place; here also twice the same)."""
    header = _header(request)
    if "access_token" not in fields:
        return header
    body = fields.pop("access_token")
    if not isinstance(body, str) or (header is not None and not equal(header, body)):
        raise _ambiguous()
    return body


def _header(request: Request) -> str | None:
    """The token of the header; None where there is none, or another scheme's."""
    values = request.headers.get("authorization", [])
    words = _WORDS.findall(" ".join(values))
    if len(values) > 1 or len(words) not in (0, 2):
        raise _ambiguous()
    return words[1] if words and words[0].lower() in SCHEMES else None


def _ambiguous() -> Invalid:
    return Invalid("credential.ambiguous", "Bad Request")
