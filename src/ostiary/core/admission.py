"""Admission: the answer to "may this token pass here", as control gives it and a worker caches it."""

from msgspec import Struct

from ostiary.core.limit import Limit


class Admission(Struct, frozen=True, array_like=True):
    """What a live token stands for. `user` is empty for a token without one; `expires` is Unix time in microseconds."""

    client: str
    user: str
    scopes: tuple[str, ...]
    expires: int
    limit: Limit | None = None
    """The client application's own limit, or the default one."""
    details: dict[str, str] = {}
