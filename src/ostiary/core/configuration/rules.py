"""What the operations take from the settings."""

from ostiary.core.configuration.settings import HOUR, Settings, UpstreamSettings
from ostiary.core.director import DirectorRules, Health
from ostiary.core.limit import Limit
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
        kick_grace=int(settings.gateway.kick_grace),
        directors={
            name: director_rules(name, each) for name, each in settings.upstreams.items() if each.balance == "director"
        },
    )


def director_rules(name: str, settings: UpstreamSettings) -> DirectorRules:
    """What the operations on a director take from its upstream."""
    pairs = (each.rpartition(":") for each in settings.servers)
    health = settings.health
    return DirectorRules(
        name,
        {host.strip("[]"): int(port) for host, _, port in pairs},
        settings.director_port,
        settings.user_hash,
        int(settings.user_expire),
        Health(int(health.every), int(health.timeout), health.fall, health.rise) if health else None,
    )


def people_rules(settings: Settings) -> PeopleRules:
    """What the operations on people take from the settings."""
    session, login, tokens = settings.session, settings.login, settings.tokens
    return PeopleRules(
        min_password=settings.passwords.min_length,
        session_ttl=min(session.ttl, 24 * HOUR),
        session_keys=tuple(OwnKey(each.kid, each.alg, each.secret.reveal()) for each in session.keys),
        session_max_age=session.max_age,
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
