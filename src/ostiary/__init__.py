"""Ostiary, an API gateway whose operations are part of the product. These are the names that a plug-in author needs.

They are looked up on first use, so that a process that runs no plug-ins (the supervisor) imports nothing for them.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ostiary.core.admission import Admission
    from ostiary.core.oauth.people import Asking, AuthenticationFailed, User
    from ostiary.gateway.plugins import Headers, NoArguments, Refuse, Request, Response, action, filter

PEOPLE = ("Asking", "AuthenticationFailed", "User")
"""Of plug-ins that authenticate people."""
__all__ = [
    "Admission", "Asking", "AuthenticationFailed", "Headers", "NoArguments", "Refuse", "Request", "Response", "User",
    "action", "filter",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'ostiary' has no attribute {name!r}")
    if name in PEOPLE:
        from ostiary.core.oauth import people

        return getattr(people, name)
    from ostiary.gateway import plugins

    return getattr(plugins, name)
