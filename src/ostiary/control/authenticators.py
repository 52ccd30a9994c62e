"""Who is behind a name and a password: as Ostiary's own users say, or the plug-in that the settings name."""

from ostiary.control import plugged
from ostiary.control.control import Control
from ostiary.core.oauth.people import Asking, User


async def person(control: Control, name: str, password: str, asking: Asking) -> User:
    """The user. Refuses what `Login.password` or a plug-in refuses (`plugged.ask`)."""
    if not ours(control):
        return await plugged.ask("authenticators", control.rules.authenticator, name, password, asking)
    return User((await control.login.password(name, password, asking.address)).name)


def ours(control: Control) -> bool:
    """Whether users are Ostiary's own."""
    return control.rules.authenticator == "ostiary"
