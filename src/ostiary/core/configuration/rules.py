"""What the operations take from the settings."""

from ostiary.core.apps import AppRules
from ostiary.core.configuration.settings import (
    DropletHealthSettings,
    Settings,
    TemplateSettings,
    UpstreamDropletSettings,
    UpstreamSettings,
)
from ostiary.core.configuration.settings.section import HOUR
from ostiary.core.director import DirectorRules, Health
from ostiary.core.droplets import DropletRules, Limits, Restarts, Source, Stopping, Template
from ostiary.core.droplets import Health as DropletHealth
from ostiary.core.limit import Limit
from ostiary.core.mask import parse_address
from ostiary.core.oauth import Rules
from ostiary.core.people import OwnKey, PeopleRules
from ostiary.core.snapshot import SECOND


def rules(settings: Settings) -> Rules:
    """What the operations on tokens and log-ins take from the settings."""
    limit = settings.limits.get("default")
    apifest, oauth = settings.dialects.apifest, settings.oauth
    return Rules(
        default_grants=tuple(apifest.default_grant_types),
        custom_grants=oauth.grants,
        default_limit=Limit(limit.requests, int(limit.per)) if limit else None,
        authenticator=oauth.authenticator,
        code_lifetime=oauth.code_lifetime // SECOND,
        refresh_absolute=oauth.refresh_absolute_lifetime // SECOND,
        login_lifetime=oauth.login_lifetime // SECOND,
        signing_alg=oauth.signing_alg,
        any_redirect=apifest.legacy_redirects,
        reveal_secrets=apifest.reveal_client_secrets,
        people=people_rules(settings),
        droplets=droplet_rules(settings),
        apps=AppRules(settings.deis.domain, settings.deis.template, settings.deis.max_apps, settings.deis.max_scale),
        kick_grace=int(settings.gateway.kick_grace),
        node=(settings.cluster.address, settings.cluster.port),
        services={name: tuple(each) for name, each in settings.dialects.doveadm.services.items()},
        connections=settings.gateway.max_connections,
        directors={
            name: director_rules(name, each) for name, each in settings.upstreams.items() if each.balance == "director"
        },
    )


def director_rules(name: str, settings: UpstreamSettings) -> DirectorRules:
    """What the operations on a director take from its upstream."""
    pairs = (each.rpartition(":") for each in settings.servers)  # one that is no address is a mistake of its own
    health = settings.health
    return DirectorRules(
        name,
        {short_form(host.strip("[]")): int(port) for host, _, port in pairs},
        settings.director_port,
        settings.user_hash,
        int(settings.user_expire),
        Health(int(health.every), int(health.timeout), health.fall, health.rise) if health else None,
    )


def droplet_rules(settings: Settings) -> DropletRules:
    """What the operations on droplets take from the settings."""
    own = settings.droplets
    sources = {name: each.droplets for name, each in settings.upstreams.items()}
    return DropletRules(
        own.prefix,
        own.max,
        own.concurrency,
        int(own.lock_timeout),
        (own.on_stop or ("keep" if own.driver == "docker" else "stop")) == "keep",
        tuple(own.images) if own.driver == "docker" else (),
        {name: template(name, each) for name, each in own.templates.items()},
        next((name for name, each in own.templates.items() if each.default), ""),
        {name: source(each) for name, each in sources.items() if each is not None},
    )


def source(settings: UpstreamDropletSettings) -> Source:
    """Which droplets an upstream has."""
    return Source(settings.template, settings.app, settings.type if settings.app else "", settings.port or 0)


def template(name: str, settings: TemplateSettings) -> Template:
    """A template as it is kept with what is made from it."""
    limits, stop, restart = settings.limits, settings.stop, settings.restart
    return Template(
        name,
        tuple(settings.command),
        settings.image,
        tuple(settings.ports),
        {key: value.reveal() for key, value in settings.env.items()},
        Limits(int(limits.memory or 0), limits.cpu or 0.0, limits.pids or 0),
        settings.user,
        tuple(settings.mounts),
        droplet_health(settings.health, settings.ports) if settings.health else None,
        int(settings.start_timeout),
        Stopping(stop.signal, int(stop.timeout), int(stop.drain)),
        Restarts(restart.policy, restart.max, int(restart.first_wait), int(restart.max_wait), int(restart.reset_after)),
        {kind: tuple(command) for kind, command in settings.types.items()},
    )


def droplet_health(settings: DropletHealthSettings, ports: list[int]) -> DropletHealth:
    """How a droplet is looked after."""
    return DropletHealth(
        settings.tcp or settings.port or next(iter(ports), 0),
        settings.http,
        int(settings.every),
        int(settings.timeout),
        settings.healthy_after,
        settings.unhealthy_after,
    )


def short_form(host: str) -> str:
    """An address as hosts are known by."""
    address = parse_address(host)
    return host if address is None else str(address)


def people_rules(settings: Settings) -> PeopleRules:
    """What the operations on people take from the settings."""
    session, login, tokens = settings.session, settings.login, settings.tokens
    return PeopleRules(
        min_password=settings.passwords.min_length,
        session_ttl=min(session.ttl, 24 * HOUR),
        session_keys=tuple(OwnKey(each.kid, each.alg, each.secret.reveal()) for each in session.keys),
        session_max_age=session.max_age,
        password_ends=session.end_on_password_change,
        access_lifetime=tokens.access_lifetime,
        refresh_lifetime=tokens.refresh_lifetime,
        refresh_grace=tokens.refresh_grace,
        personal_idle=tokens.personal_idle,
        single_session=settings.cikit.single_session,
        totp_window=settings.totp.window,
        totp_issuer=settings.totp.issuer,
        totp_single_use=settings.totp.single_use,
        second_factor=login.second_factor,
        account_failures=login.account_failures,
        address_failures=login.address_failures,
        penalty_waits=tuple(map(int, login.penalty_waits)),
        trusted_networks=tuple(settings.dialects.apifest.trusted_networks),
        login_limit=login.limit,
        registration_mode=settings.registration.mode,
        registration_role=settings.registration.role,
    )
