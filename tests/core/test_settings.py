"""The declarations of settings, and what is read off them."""

from pathlib import Path

from msgspec.structs import replace

from ostiary.core.configuration.keys import KEYS, kept, value_of, values
from ostiary.core.configuration.measure import Address, Secret, Url
from ostiary.core.configuration.reference import reference
from ostiary.core.configuration.settings import (
    BootstrapSettings,
    GatewaySettings,
    OwnerSettings,
    Settings,
    StoreSettings,
    TlsSettings,
)

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_documentation_is_written_from_the_declarations() -> None:
    """Write it anew with `python -m tests.core.test_settings`."""
    assert DOCS.read_text() == reference()


def test_a_key_is_the_path_in_capitals() -> None:
    assert KEYS["LOG_LEVEL"].path == ("log", "level")
    assert KEYS["DIALECTS_APIFEST_TRUSTED_NETWORKS"].path == ("dialects", "apifest", "trusted_networks")


def test_what_the_runbook_names_is_there_and_reloadable_or_not() -> None:
    reloadable = {key: not each.restart for key, each in KEYS.items()}
    for key in ("LOG_LEVEL", "LOG_FORMAT", "SESSION_TTL", "LOGIN_LIMIT"):
        assert reloadable[key] is True
    for key in ("ADMIN_LISTEN", "GATEWAY_LISTEN", "GATEWAY_WORKERS", "STORE_URL", "STATE_DIR"):
        assert reloadable[key] is False


def test_every_setting_says_what_it_means() -> None:
    assert [key for key, each in KEYS.items() if not each.description] == []


def test_every_default_is_reached_by_its_key() -> None:
    for each in KEYS.values():
        assert value_of(Settings(), each.path) == (None if each.optional else each.default)


def test_secrets_are_redacted_in_values() -> None:
    settings = Settings(
        store=StoreSettings(Url("postgresql://me:hunter2@db/x")),
        bootstrap=BootstrapSettings(OwnerSettings("admin", Secret("hunter2"), totp_secret=Secret("hunter2"))),
    )
    shown = values(settings)
    assert "hunter2" not in str(shown)
    assert shown["BOOTSTRAP_OWNER_PASSWORD"] == "[redacted]"
    assert shown["STORE_URL"] == "postgresql://me:[redacted]@db/x"


def test_what_needs_a_restart_is_kept_and_the_rest_is_new() -> None:
    old = Settings(gateway=GatewaySettings(tls=TlsSettings("a.pem", "a.key")))
    new = Settings(
        state_dir="elsewhere",
        gateway=GatewaySettings(Address("127.0.0.1:1"), max_headers=5, tls=TlsSettings("b.pem", "b.key")),
    )
    gateway = GatewaySettings(max_headers=5, tls=TlsSettings("b.pem", "b.key"))
    assert kept(old, new) == Settings(gateway=gateway)


def test_tls_is_switched_by_a_restart_only() -> None:
    plain, secure = Settings(), Settings(gateway=GatewaySettings(tls=TlsSettings("a.pem", "a.key")))
    assert kept(plain, secure) == plain
    assert kept(secure, plain) == replace(plain, gateway=secure.gateway)


if __name__ == "__main__":
    DOCS.write_text(reference())
