"""The small types of settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.configuration.measure import (
    LONGEST,
    MEASURES,
    SIZES,
    UNITS,
    Address,
    Backend,
    Duration,
    Host,
    Issuer,
    Network,
    Secret,
    Size,
    Timeout,
    Url,
    shown,
)


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [("0s", 0), ("1us", 1), ("250ms", 250_000), ("1s", 10**6), ("5m", 300 * 10**6), ("30d", 30 * 86_400 * 10**6)],
)
def test_a_duration_is_a_whole_number_and_its_unit(text: str, microseconds: int) -> None:
    assert Duration.parse(text) == microseconds


@pytest.mark.parametrize(
    "text", ["", "5", "1.5s", "-1s", "1 s", "1S", "s", "1s2", "١s", 5, 5.0, None, True, [], "3651d", "9" * 99]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        Duration.parse(text)


def test_a_timeout_is_not_zero() -> None:
    with pytest.raises(ValueError, match="longer than 0s"):
        Timeout.parse("0ms")


@given(st.integers(0, LONGEST))
def test_a_duration_is_written_as_it_is_read(value: int) -> None:
    assert Duration.parse(str(Duration(value))) == value


@given(st.integers(0, 1 << 50))
def test_a_size_is_written_as_it_is_read(value: int) -> None:
    assert Size.parse(str(Size(value))) == value


def test_units_are_those_of_the_documentation() -> None:
    assert [*UNITS] == ["us", "ms", "s", "m", "h", "d"]
    assert [*SIZES] == ["B", "KiB", "MiB", "GiB", "TiB"]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:8080", "127.0.0.1", 8080), ("[::1]:0", "::1", 0), ("localhost:65535", "localhost", 65535)],
)
def test_an_address_has_a_host_and_a_port(text: str, host: str, port: int) -> None:
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)


@pytest.mark.parametrize(
    "text", ["", "8080", ":8080", "::1:80", "[::1]", "[x::]:80", "a b:80", "a:65536", "a:80 ", "a:8x", 80, None]
)
def test_what_is_no_address_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        Address.parse(text)


@pytest.mark.parametrize("text", ["127.0.0.1:5000", "[::1]:5000", "backend.internal:80", "unix:/run/app.sock"])
def test_a_backend_is_an_address_or_a_socket(text: str) -> None:
    assert Backend.parse(text) == text


@pytest.mark.parametrize("text", ["127.0.0.1:0", "unix:app.sock", "unix:/" + "a" * 120, "http://a:80", "", None])
def test_what_is_no_backend_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"expected|Unix socket"):
        Backend.parse(text)


def test_a_network_is_a_prefix_or_one_address() -> None:
    assert Network.parse("10.0.0.0/8") == "10.0.0.0/8"
    assert Network.parse("::1") == "::1/128"
    with pytest.raises(ValueError, match="bits set after its prefix"):
        Network.parse("10.0.0.1/8")
    with pytest.raises(ValueError, match="not a network"):
        Network.parse("localhost")


def test_a_host_has_no_port_and_no_capitals() -> None:
    assert Host.parse("Ops.Internal") == "ops.internal"
    with pytest.raises(ValueError, match="host name"):
        Host.parse("ops:80")


@pytest.mark.parametrize(
    "text", ["https://a.example/", "https://a.example?x", "https://a.example#x", "ftp://a", "a.example", 3]
)
def test_an_issuer_is_a_plain_url(text: object) -> None:
    with pytest.raises(ValueError, match="URL"):
        Issuer.parse(text)
    assert Issuer.parse("https://a.example/b") == "https://a.example/b"


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("sqlite:///var/a.db", "sqlite:///var/a.db"),
        ("postgresql://me:pa:ss@db/x", "postgresql://me:[redacted]@db/x"),
        ("postgresql://db/x?user=me&password=pa%20ss&a=b", "postgresql://db/x?user=me&password=[redacted]&a=b"),
        ("postgresql://db/x?sslpassword=pa%20ss", "postgresql://db/x?sslpassword=[redacted]"),
    ],
)
def test_a_password_in_a_url_is_not_shown(url: str, redacted: str) -> None:
    assert shown(Url.parse(url)) == redacted
    assert repr(Url(url)) == f"Url({redacted!r})"


def test_a_secret_is_never_shown() -> None:
    secret = Secret("open sesame")
    assert f"{secret} {secret!r} {[secret]} {shown(secret)}" == "[redacted] [redacted] [[redacted]] [redacted]"
    assert secret.reveal() == "open sesame"
    assert secret == Secret("open sesame")
    assert secret != Secret("other")


@given(st.one_of(st.text(), st.integers(), st.none(), st.lists(st.text()), st.floats()))
def test_every_measure_takes_or_refuses_whatever_comes(value: object) -> None:
    for kind in MEASURES.values():
        try:
            kind.parse(value)
        except ValueError as problem:
            assert str(problem)
