"""Who is asking: `Authorization: token T`. Cookies are no credential here, so no other site can use one."""

from ostiary.core.permission import Principal
from ostiary.dialects import credentials
from ostiary.dialects.deis.words import CHALLENGE, EMPTY, NO_CREDENTIALS, SPACES, Said, error
from ostiary.dialects.desk import Desk
from ostiary.dialects.message import Request

SCHEMES = ("token", "bearer")


def token(request: Request) -> str:
    """The token of the request; empty where there is none, or another scheme. Said: one that is malformed."""
    value = ", ".join(request.headers.get("authorization", []))
    scheme, *words = [word for word in value.replace("\t", " ").split(" ") if word] or [""]
    if scheme.lower() not in SCHEMES:
        return ""
    if len(words) != 1:
        raise Said(error(401, SPACES if words else EMPTY, CHALLENGE))
    return words[0]


async def principal(desk: Desk, request: Request) -> Principal:
    """Whom the token stands for. Refuses Unauthenticated as `credentials.by_token`, Limited; Said: there is none."""
    found = token(request)
    if not found:
        raise Said(error(401, NO_CREDENTIALS, CHALLENGE))
    return await credentials.by_token(desk, request, found)
