"""What is Ostiary's own: the upstream that is itself, and the paths at which control serves everybody."""

from typing import Final

from ostiary.core.routing.table import Table
from ostiary.core.snapshot import Fixed, Piece

RESERVED: Final = "ostiary"
"""The upstream that is Ostiary itself."""
SERVED: Final = (
    ("POST", "/oauth20/tokens"),
    ("POST", "/oauth20/token"),
    ("POST", "/oauth20/revoke"),
    ("POST", "/oauth20/introspect"),
    ("GET", "/oauth20/authorize"),
    ("POST", "/oauth20/authorize"),
    ("GET", "/oauth20/jwks"),
    ("GET", "/.well-known/oauth-authorization-server"),
    ("GET", "/.well-known/oauth-protected-resource"),
)
"""What control answers there."""
PUBLIC: Final = (*SERVED, *(("*", path) for path in dict.fromkeys(path for _, path in SERVED)))
"""What the gateway forwards to control: other methods too, so that they are refused in the words of those paths."""


def met(parts: tuple[Piece, ...]) -> str:
    """The first of these paths that a route with these pieces matches, under whatever method; empty: none."""
    return next((path for _, path in SERVED if _meets(parts, path)), "")


def _meets(parts: tuple[Piece, ...], path: str) -> bool:
    head = parts[0]
    if not isinstance(head, Fixed) or len(parts) == 1:
        return isinstance(head, Fixed) and head.text == path
    if not path.startswith(head.text):
        return False
    table: Table[bool] = Table()
    table.add("*", parts, 0, True)
    return table.find(b"GET", path.encode()) is not None
