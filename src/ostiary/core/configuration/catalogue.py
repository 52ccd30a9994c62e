"""The plug-ins that a configuration may use, how one is asked for, and those that stand for ApiFest's own classes."""

from typing import Final, Literal, Protocol

from ostiary.core.configuration.settings.section import PluginUse
from ostiary.core.snapshot import Plugin

Kind = Literal["action", "filter"]
KINDS: Final[tuple[Kind, Kind]] = ("action", "filter")
CLASSES: Final[dict[str, tuple[Kind, Plugin]]] = {
    "com.apifest.example.ReplaceCustomerIdAction": ("action", Plugin("replace_user_id")),
    "com.apifest.example.AddSenderIdInBodyAction": (
        "action",
        Plugin("set_json_field", {"field": "senderId", "value": "1232", "otherwise": "fail"}),
    ),
    "com.apifest.example.RemoveBalanceFilter": ("filter", Plugin("remove_json_field", {"field": "balance"})),
}


class Catalogue(Protocol):
    """The plug-ins that there are."""

    def declare(self, name: str, source: str, directory: str) -> str:
        """Load a further one; "" or why it cannot be had."""

    def check(self, kind: Kind, plugin: Plugin) -> str:
        """ "" if it exists and takes its arguments, else the reason."""


def plugin(use: PluginUse) -> Plugin:
    """The plug-in that is asked for. ValueError where that is not just one."""
    if isinstance(use, str):
        return Plugin(use)
    if len(use) != 1:
        raise ValueError("expected one plug-in: a name, or {name: {its arguments}}")
    name, arguments = next(iter(use.items()))
    return Plugin(name, arguments)
