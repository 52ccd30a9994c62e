"""The settings: every one declared once, with what it means, an example, and whether a reload can change it.

The keys (`log.level` is LOG_LEVEL), the environment variables, `config.current`, `config.reloadable_keys` and
docs/configuration.md are all read off these declarations.
"""

from typing import Annotated

from ostiary.core.configuration.settings.dialects import (
    ApifestSettings,
    CikitSettings,
    DeisSettings,
    DialectSettings,
    DoveadmSettings,
    ServiceKeySettings,
)
from ostiary.core.configuration.settings.droplets import DropletHealthSettings, DropletSettings, TemplateSettings
from ostiary.core.configuration.settings.gateway import GatewaySettings, TlsSettings
from ostiary.core.configuration.settings.node import AdminSettings, ClusterSettings, LogSettings, StoreSettings
from ostiary.core.configuration.settings.oauth import OauthSettings
from ostiary.core.configuration.settings.people import (
    BootstrapSettings,
    LoginSettings,
    OwnerSettings,
    PasswordSettings,
    RegistrationSettings,
    SessionSettings,
    TokenSettings,
    TotpSettings,
)
from ostiary.core.configuration.settings.routes import (
    LimitSettings,
    MappingFiles,
    PluginSettings,
    RequireSettings,
    RouteSettings,
)
from ostiary.core.configuration.settings.section import Body, Name, OwnStatus, Section, about
from ostiary.core.configuration.settings.upstreams import UpstreamDropletSettings, UpstreamSettings

__all__ = [
    "AdminSettings", "ApifestSettings", "BootstrapSettings", "CikitSettings", "ClusterSettings", "DeisSettings",
    "DialectSettings", "DoveadmSettings", "DropletHealthSettings", "DropletSettings", "GatewaySettings",
    "LimitSettings", "LogSettings", "LoginSettings", "MappingFiles", "OauthSettings", "OwnerSettings",
    "PasswordSettings", "PluginSettings", "RegistrationSettings", "RequireSettings", "RouteSettings",
    "ServiceKeySettings", "SessionSettings", "Settings", "StoreSettings", "TemplateSettings", "TlsSettings",
    "TokenSettings", "TotpSettings", "UpstreamDropletSettings", "UpstreamSettings",
]  # fmt: skip


class Settings(Section, frozen=True):
    """The whole configuration."""

    gateway: Annotated[GatewaySettings, about("the data plane")] = GatewaySettings()
    admin: Annotated[AdminSettings, about("the admin listener")] = AdminSettings()
    store: Annotated[StoreSettings, about("what must last")] = StoreSettings()
    state_dir: Annotated[
        str, about("directory of all that Ostiary keeps; relative to the configuration file", "var", restart=True)
    ] = "var"
    pid_file: Annotated[
        str, about("empty: ostiary.pid in the state directory", "/run/ostiary/ostiary.pid", restart=True)
    ] = ""
    log: Annotated[LogSettings, about("what is written down")] = LogSettings()
    upstreams: Annotated[dict[Name, UpstreamSettings], about("upstreams by name")] = {}
    routes: Annotated[list[RouteSettings], about("routes")] = []
    mappings: Annotated[list[str | MappingFiles], about("ApiFest mapping files", '["mappings/*.xml"]')] = []
    errors: Annotated[
        dict[OwnStatus, Body],
        about("bodies of the answers that the gateway makes itself", '{404: {"error": "resource not found"}}'),
    ] = {}
    limits: Annotated[
        dict[Name, LimitSettings],
        about("limits by name; `default` holds for each client application without its own"),
    ] = {}
    session: Annotated[SessionSettings, about("log-ins of people")] = SessionSettings()
    login: Annotated[LoginSettings, about("protection of log-ins")] = LoginSettings()
    passwords: Annotated[PasswordSettings, about("what passwords must be")] = PasswordSettings()
    totp: Annotated[TotpSettings, about("log-ins by code")] = TotpSettings()
    tokens: Annotated[TokenSettings, about("tokens of people")] = TokenSettings()
    registration: Annotated[RegistrationSettings, about("who may make an account")] = RegistrationSettings()
    bootstrap: Annotated[BootstrapSettings, about("the first account", restart=True)] = BootstrapSettings()
    oauth: Annotated[OauthSettings, about("the OAuth 2.0 server")] = OauthSettings()
    dialects: Annotated[DialectSettings, about("the outside surfaces")] = DialectSettings()
    cluster: Annotated[ClusterSettings, about("this node among others")] = ClusterSettings()
    droplets: Annotated[DropletSettings, about("managed workloads")] = DropletSettings()
    cikit: Annotated[CikitSettings, about("the CIKit surface")] = CikitSettings()
    deis: Annotated[DeisSettings, about("the Deis surface")] = DeisSettings()
    plugins: Annotated[PluginSettings, about("plug-ins beside the bundled ones")] = PluginSettings()
