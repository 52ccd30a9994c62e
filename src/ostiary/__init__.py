"""Ostiary, an API gateway whose operations are part of the product. These are the names that a plug-in author needs.

They are looked up on first use, so that a process that runs no plug-ins (the supervisor) imports nothing for them.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ostiary.core.admission import Admission
    from ostiary.gateway.plugins import Headers, NoArguments, Refuse, Request, Response, action, filter

__all__ = ["Admission", "Headers", "NoArguments", "Refuse", "Request", "Response", "action", "filter"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'ostiary' has no attribute {name!r}")
    from ostiary.gateway import plugins

    return getattr(plugins, name)
