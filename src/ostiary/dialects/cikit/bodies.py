"""Bodies: flat JSON objects or forms, on every method, because the token may be in them."""

from typing import Any

import msgspec

from ostiary.core.refusal import Invalid, Unsupported
from ostiary.dialects.message import FORM, JSON, Request, parse_pairs, repeated

ROOM = 100_000
Fields = dict[str, Any]


def fields_of(request: Request) -> Fields:
    """The members of the body; none for no body, and for JSON that is no object. Refuses Unsupported, Invalid."""
    if not request.body:
        return {}
    media = request.media_type()
    if media == JSON:
        return _json(request.body)
    if media == FORM:
        return _form(request.body)
    raise Unsupported("body.media_type", "Unsupported content type")


def _json(body: bytes) -> Fields:
    try:
        found = msgspec.json.decode(body)
    except (ValueError, RecursionError) as problem:
        raise Invalid("body.malformed", "The request body is not JSON") from problem
    return found if isinstance(found, dict) else {}


def _form(body: bytes) -> Fields:
    pairs = parse_pairs(body.decode(errors="replace"))
    if repeated(pairs) is not None:
        raise Invalid("body.repeated", "A field of the request body is given more than once")
    return dict(pairs)
