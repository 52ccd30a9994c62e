"""What plug-ins that authenticate people work with: an author imports these names from `ostiary`."""

from collections.abc import Mapping

from msgspec import Struct

from ostiary.core.oauth.codes import subject_ok
from ostiary.core.oauth.scopes import MOST_TEXT, text_ok


class User(Struct, frozen=True):
    """Who was authenticated: 1 to 255 characters (empty: nobody in particular), and texts kept with the token."""

    id: str
    details: Mapping[str, str] = {}


class Asking(Struct, frozen=True):
    """The token request that a plug-in answers."""

    client_id: str
    """Of the client application, which has shown that it is itself."""
    grant_type: str
    scope: str
    form: Mapping[str, str]
    """The request's own parameters, without the client's secret."""
    address: str
    """Who asks, as far as that is known."""


class AuthenticationFailed(Exception):
    """Raised by a plug-in: the refusal, as a message or as a whole answer."""

    def __init__(
        self,
        message: str = "",
        *,
        status: int = 401,
        headers: Mapping[str, str] | None = None,
        body: str | bytes | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.headers = dict(headers or {})
        self.body = body.encode() if isinstance(body, str) else body


def user_ok(user: User) -> bool:
    """Whether a plug-in's user can be kept."""
    pairs = dict(user.details).items()
    texts = [each for pair in pairs for each in pair]
    return isinstance(user.id, str) and subject_ok(user.id) and all(text_ok(each, MOST_TEXT) for each in texts)
