"""What a client sends: a form, and its own id and secret in one of two ways (RFC 6749 section 2.3.1)."""

import base64
import binascii
import re
from urllib.parse import unquote_plus

from msgspec import Struct

from ostiary.core.refusal import Invalid, TooLarge, Unauthenticated
from ostiary.dialects.message import FORM, Request, parse_pairs, repeated

_BASIC = re.compile(r"basic +([A-Za-z0-9+/]+={0,2}) *", re.IGNORECASE)


class Shown(Struct, frozen=True):
    """What a client shows of itself; both empty: nothing."""

    client_id: str = ""
    secret: str = ""


def read(request: Request) -> dict[str, str]:
    """The parameters; those without a value count as absent (RFC 6749 section 3.2).

    Refuses Invalid `form.media`, `form.text`, `form.repeated`, TooLarge `form.large`.
    """
    if request.oversized:
        raise TooLarge("form.large", "The request body is too large")
    if request.media_type() != FORM:
        raise Invalid("form.media", f"The media type must be {FORM}")
    pairs = parse_pairs(request.body.decode(errors="replace"))
    name = repeated(pairs)
    if name is not None:
        raise Invalid("form.repeated", "A parameter is given more than once")
    return {name: value for name, value in pairs if value}


def shown(request: Request, form: dict[str, str]) -> Shown:
    """What the client shows. Refuses Invalid `client.twice`; Unauthenticated `client.invalid` for what is malformed."""
    values = request.headers.get("authorization", [])
    if not any(value.lower().startswith("basic") for value in values):
        return Shown(form.get("client_id", ""), form.get("client_secret", ""))
    if "client_secret" in form:
        raise Invalid("client.twice", "The client authenticates itself in more than one way")
    found = _basic(request.one("authorization"))
    if found is None:
        raise Unauthenticated("client.invalid", "The Authorization header is malformed")
    if form.get("client_id", found.client_id) != found.client_id:
        raise Invalid("client.twice", "The client_id is not that of the Authorization header")
    return found


def _basic(value: str) -> Shown | None:
    """Id and secret, each form-encoded before they were joined."""
    match = _BASIC.fullmatch(value)
    if match is None:
        return None
    try:
        name, colon, secret = base64.b64decode(match[1], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return Shown(unquote_plus(name), unquote_plus(secret)) if colon and name and secret else None
