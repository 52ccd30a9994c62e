"""Masks of users and of addresses."""

import socket
import time
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.mask import MOST_ADDRESS, MOST_MASK, inet_aton, parse_address, read_network, user_mask

SMALL = st.text("aAb?*[.", max_size=7)
WHOLE, BYTES = st.integers(0, 2**32 + 1), st.integers(0, 300)
NAMES = st.text("aAbB[.\n", max_size=7)


def plainly(mask: str, name: str) -> bool:
    """What a mask means, as one would say it."""
    if not mask:
        return not name
    if mask[0] == "*":
        return plainly(mask[1:], name) or (bool(name) and plainly(mask, name[1:]))
    return bool(name) and mask[0] in ("?", name[0]) and plainly(mask[1:], name[1:])


@given(SMALL, NAMES)
def test_a_mask_matches_what_it_says(mask: str, name: str) -> None:
    assert bool(user_mask(mask).fullmatch(name)) == plainly(mask.lower(), name.lower())


@pytest.mark.parametrize(
    ("mask", "name", "matches"),
    [
        ("*", "", True), ("*", "anybody", True), ("", "", True), ("", "a", False), ("test*", "TestUser001", True),
        ("*@Example.com", "ann@example.COM", True), ("t?st", "test", True), ("t?st", "tst", False),
        ("a*b*c", "a-b-b-c", True), ("a*b*c", "acb", False), ("a[b]", "a[b]", True), ("a[b]", "ab", False),
        ("ÄRGER", "ärger", True), ("?", "ß", True),
    ],
)  # fmt: skip
def test_examples_of_masks(mask: str, name: str, matches: bool) -> None:
    assert bool(user_mask(mask).fullmatch(name)) == matches


@pytest.mark.parametrize("mask", ["*a" * (MOST_MASK // 2), "*?" * (MOST_MASK // 2), "*aaaa?" * (MOST_MASK // 6) + "b"])
def test_a_hostile_mask_costs_no_exponential_time(mask: str) -> None:
    began = time.process_time()
    user_mask(mask).fullmatch("a" * 255)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/24", "10.0.0.0/24"), ("10.0.0.77/24", "10.0.0.0/24"), ("10.0.0.7", "10.0.0.7/32"),
        ("0.0.0.0/0", "0.0.0.0/0"), ("::1", "::1/128"), ("::1/128", "::1/128"),
        ("2001:db8:1:2::3/64", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.7", "10.0.0.7/32"), ("::ffff:10.0.0.7/120", "10.0.0.0/24"), ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::ffff:10.0.0.7/80", "::/80"), ("10.0.0.7/032", "10.0.0.7/32"),
    ],
)  # fmt: skip
def test_networks(text: str, network: str) -> None:
    assert read_network(text) == ip_network(network)


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "/8", "7", "nonsense", "127.0.0.1/99", "127.0.0.1/33", "::1/129", "127.0.0.1/", "127.0.0.1/-1",
        "127.0.0.1/٣", "127.0.0.1/255.0.0.0", "127.0.0.1/8/8", " 127.0.0.1", "127.0.0.1 ", "fe80::1%eth0", "127.24",
        "127.0.0.1.1", "256.1.1.1", "[::1]", "1" * 5000, "::1/" + "0" * 5000 + "1",
    ],
)  # fmt: skip
def test_what_is_no_network(text: str) -> None:
    assert read_network(text) is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10", "0.0.0.10"), ("127.24", "127.0.0.24"), ("10.0.234", "10.0.0.234"), ("10.1.2.3", "10.1.2.3"),
        ("0x7f.1", "127.0.0.1"), ("010", "0.0.0.8"), ("0", "0.0.0.0"), ("4294967295", "255.255.255.255"),
    ],
)  # fmt: skip
def test_short_forms(text: str, address: str) -> None:
    assert inet_aton(text) == IPv4Address(address)
    assert read_network(f"{text}/16", short=True) == ip_network(f"{address}/16", strict=False)


@pytest.mark.parametrize(
    "text", ["", ".", "1.", ".1", "4294967296", "256.1", "1.2.65536", "08", "0x", "1.2.3.4.5", "-1"]
)
def test_what_is_no_short_form(text: str) -> None:
    assert inet_aton(text) is None
    assert read_network(text, short=True) is None


@given(st.lists(st.one_of(WHOLE.map(str), BYTES.map(oct), BYTES.map(hex), BYTES.map("0{:o}".format)), max_size=5))
def test_short_forms_are_those_of_the_c_library(parts: list[str]) -> None:
    text = ".".join(parts)
    try:
        expected: IPv4Address | None = IPv4Address(socket.inet_aton(text))
    except OSError:
        expected = None
    assert inet_aton(text) == expected


@given(st.ip_addresses(), st.integers(0, 128))
def test_a_network_of_an_address_holds_it(address: IPv4Address | IPv6Address, bits: int) -> None:
    network = read_network(f"{address}/{min(bits, address.max_prefixlen)}")
    parsed = parse_address(str(address))
    assert network is not None
    assert parsed is not None
    assert parsed in network or (network.version == 6 and address in network)


def test_an_address_mapped_into_ipv6_is_itself() -> None:
    assert parse_address("::ffff:192.0.2.1") == ip_address("192.0.2.1")
    assert parse_address("192.0.2.1:80") is None


def test_no_address_is_longer_than_the_longest() -> None:
    zone = "fe80::1%"
    assert parse_address(zone + "z" * (MOST_ADDRESS - len(zone))) is not None
    assert parse_address(zone + "z" * MOST_ADDRESS) is None
