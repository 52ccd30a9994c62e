"""Settings of the dialects: how closely each follows the system whose surface it speaks."""

from typing import Annotated, Literal

from msgspec import Meta, field

from ostiary.core.configuration.measure import Network, Secret, Timeout
from ostiary.core.configuration.settings.section import Name, PluginUse, Section, about
from ostiary.core.oauth import BUILT_IN_GRANTS
from ostiary.core.snapshot import SECOND


class ApifestSettings(Section, frozen=True):
    """How closely the ApiFest surface follows ApiFest."""

    revoke_as_string: Annotated[bool, about('revoke answers {"revoked":"true"}; false: the boolean', "true")] = True
    strict_status: Annotated[bool, about("failures that ApiFest answers with 200 get their own status", "true")] = False
    legacy_redirects: Annotated[bool, about("auth-codes accepts any URL: an open redirector", "false")] = False
    reload_by_get: Annotated[bool, about("GET /apifest-reload reloads too", "true")] = True
    reveal_client_secrets: Annotated[bool, about("keep new client secrets, encrypted, and list them", "false")] = False
    validate_reveals_refresh: Annotated[bool, about("tokens/validate shows the refresh token", "true")] = True
    gateway_status: Annotated[
        Literal["compat", "standard"],
        about("statuses of mapping files: ApiFest's, or 403, 405, 502, 504 where they fit", "compat"),
    ] = "compat"
    default_grant_types: Annotated[
        list[str],
        about("of applications registered without any", "[authorization_code, client_credentials, refresh_token]"),
    ] = field(default_factory=lambda: list(BUILT_IN_GRANTS[:3]))
    trusted_networks: Annotated[
        list[Network], about("peers of the admin listener that need no credentials there", "[127.0.0.0/8, ::1/128]")
    ] = []
    classes: Annotated[
        dict[str, PluginUse], about("Java class -> plug-in, as in a route", "{com.acme.Sign: {sign: {key: k1}}}")
    ] = {}
    global_errors: Annotated[str, about("global errors file; its bodies join errors", "global-errors.xml")] = ""


class ServiceKeySettings(Section, frozen=True):
    """A further service key."""

    name: Annotated[Name, about("its name, in the audit", "monitor")]
    key: Annotated[Secret, about("the key", "{env: MONITOR_KEY}")]
    role: Annotated[str, about("what it may do", "viewer")] = "viewer"


class DoveadmSettings(Section, frozen=True):
    """The doveadm surface."""

    api_key: Annotated[
        Secret | None,
        about("service key, for X-Dovecot-API and as a token on every surface; absent: none", "{env: DOVEADM_KEY}"),
    ] = None
    password: Annotated[Secret | None, about("of doveadm, for Basic; absent: none", "{file: doveadm.pass}")] = None
    role: Annotated[str, about("what these two may do", "admin")] = "admin"
    keys: Annotated[list[ServiceKeySettings], about("further keys, each with a name and a role")] = []
    director: Annotated[
        str, about("upstream that director commands act on; empty: the only one with balance: director", "mail")
    ] = ""
    sockets: Annotated[
        dict[str, str], about("socketPath -> director upstream", "{/run/dovecot/eu-director: mail-eu}")
    ] = {}
    socket_path: Annotated[str, about("what directorDump calls the default socket")] = "/var/run/dovecot/director-admin"
    services: Annotated[
        dict[str, list[Literal["http", "ws", "oauth"]]], about("further names of services", "{imap: [http]}")
    ] = {}
    command_timeout: Annotated[Timeout, about("for one command", "30s")] = Timeout(30 * SECOND)
    payload_timeout: Annotated[Timeout, about("for all commands of a request", "120s")] = Timeout(120 * SECOND)


class DialectSettings(Section, frozen=True):
    """The outside surfaces."""

    apifest: Annotated[ApifestSettings, about("ApiFest")] = ApifestSettings()
    doveadm: Annotated[DoveadmSettings, about("doveadm")] = DoveadmSettings()


class CikitSettings(Section, frozen=True):
    """How closely the CIKit surface follows CIKit."""

    single_session: Annotated[bool, about("a log-in by code ends the tokens of earlier ones", "false")] = False
    qr: Annotated[Literal["data", "base64"], about("QR codes: a data URL, or its base64 part alone", "data")] = "data"
    strict: Annotated[bool, about("failures that CIKit answers with 400 or 401 get their own status", "false")] = False


class DeisSettings(Section, frozen=True):
    """How closely the Deis surface follows Deis."""

    api_version: Annotated[
        Literal["1.1", "1.5", "none"], about("what the version headers say; none: there are none", "1.1")
    ] = "1.1"
    page_size: Annotated[
        Annotated[int, Meta(ge=1, le=1000)], about("entries of a page that does not say how many", "100")
    ] = 100
    domain: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")],
        about("the URL of an app is its id and this; a label, nothing is routed by it", "apps.example.com"),
    ] = "ostiary.local"
    template: Annotated[str, about("what new apps run; empty: the default template of droplets", "web")] = ""
    max_apps: Annotated[Annotated[int, Meta(ge=0, le=100_000)], about("apps that one user may own", "50")] = 50
    max_scale: Annotated[Annotated[int, Meta(ge=0, le=10_000)], about("droplets that an app may have", "32")] = 32
