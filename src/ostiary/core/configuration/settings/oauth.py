"""Settings of the OAuth 2.0 server."""

from typing import Annotated, Literal

from ostiary.core.configuration.measure import Issuer, Origin, Timeout
from ostiary.core.configuration.settings.section import DAY, HOUR, Section, about
from ostiary.core.snapshot import SECOND


class OauthSettings(Section, frozen=True):
    """The OAuth 2.0 server."""

    issuer: Annotated[
        Issuer,
        about("its name in metadata and answers; empty: the gateway's URL", "https://api.example.org"),
    ] = Issuer("")
    code_lifetime: Annotated[Timeout, about("life of an authorization code", "60s")] = Timeout(60 * SECOND)
    refresh_absolute_lifetime: Annotated[Timeout, about("refreshing ends so long after the first issue", "30d")] = (
        Timeout(30 * DAY)
    )
    login_lifetime: Annotated[
        Timeout, about("how long the authorization page knows a browser's user after a log-in", "12h")
    ] = Timeout(12 * HOUR)
    resource: Annotated[
        Origin,
        about(
            "names what the gateway protects, in 401s and metadata (RFC 9728); empty: off", "https://api.example.org"
        ),
    ] = Origin("")
    authenticator: Annotated[str, about("who checks names and passwords: Ostiary, or a plug-in", "ostiary")] = "ostiary"
    grants: Annotated[dict[str, str], about("further grant types and the plug-in of each", "{sms: acme_sms}")] = {}
    signing_alg: Annotated[
        Literal["ES256", "EdDSA", "RS256"], about("algorithm of the key that signs; a change makes a new key", "ES256")
    ] = "ES256"
