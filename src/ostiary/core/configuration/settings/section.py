"""How a setting is declared: what it means, how it may look, and whether a reload can change it."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from ostiary.core.snapshot import SECOND

MINUTE = 60 * SECOND
HOUR = 3600 * SECOND
DAY = 86_400 * SECOND
KIB = 1 << 10
MIB = 1 << 20


def about(description: str, example: str = "", *, restart: bool = False) -> Meta:
    """What a setting means and how it may look; `restart`: a reload does not change it."""
    return Meta(description=description, examples=[example] if example else [], extra={"restart": restart})


Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Positive = Annotated[int, Meta(ge=1, le=1 << 40)]
Status = Annotated[int, Meta(ge=300, le=599)]
OwnStatus = Annotated[int, Meta(ge=400, le=599)]
PortNumber = Annotated[int, Meta(ge=1, le=65535)]
Body = str | dict[str, Any] | list[Any]
PluginUse = str | dict[str, dict[str, Any]]


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the settings; unknown names in it are mistakes."""
