"""Binding: every mistake in the data, each at its place, in words that say what to do."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.core.configuration.binding import Binder, path_text
from ostiary.core.configuration.keys import KEYS
from ostiary.core.configuration.measure import Secret
from ostiary.core.configuration.settings import Settings


def resolve(source: str, name: str) -> str:
    """One variable exists, and no file."""
    if (source, name) != ("env", "KNOWN"):
        raise ValueError(f"there is no {source} {name}")
    return "open sesame"


def bound(data: dict[str, Any]) -> tuple[Settings, list[tuple[str, str]]]:
    """The settings, and the faults with their places as text."""
    binder = Binder(resolve)
    return binder.settings(data), [(path_text(fault.where), fault.message) for fault in binder.faults]


def test_nothing_said_is_every_default() -> None:
    assert bound({}) == (Settings(), [])


@pytest.mark.parametrize(
    ("data", "place", "message"),
    [
        ({"log": {"level": "DEBG"}},
         "log.level", "expected one of DEBUG, INFO, WARNING, ERROR, got text; did you mean DEBUG?"),
        ({"log": {"level": 3}}, "log.level", "expected one of DEBUG, INFO, WARNING, ERROR, got a whole number"),
        ({"log": "INFO"}, "log", "expected a mapping, got text"),
        ({"lgo": {}}, "lgo", "unknown setting; did you mean log?"),
        ({"gateway": {"listen": 8080}}, "gateway.listen",
         "expected HOST:PORT to listen on, such as 127.0.0.1:8080 or [::1]:8080"),
        ({"gateway": {"workers": 999}}, "gateway.workers", "expected a whole number of at most 256"),
        ({"gateway": {"workers": "Auto"}}, "gateway.workers",
         "expected a whole number or one of auto, got text; did you mean auto?"),
        ({"gateway": {"max_headers": 0}}, "gateway.max_headers", "expected a whole number of at least 1"),
        ({"gateway": {"max_headers": 1.5}}, "gateway.max_headers",
         "expected a whole number, got a number with a fraction"),
        ({"gateway": {"max_headers": True}}, "gateway.max_headers", "expected a whole number, got true or false"),
        ({"gateway": {"head_timeout": "0s"}}, "gateway.head_timeout", "expected a duration longer than 0s"),
        ({"gateway": {"tls": {"key": "k"}}}, "gateway.tls",
         "certificate is missing: PEM file: the certificate and its chain"),
        ({"state_dir": 5}, "state_dir", "expected text, got a whole number; put it in quotes"),
        ({"state_dir": ["a"]}, "state_dir", "expected text, got a list"),
        ({"routes": {}}, "routes", "expected a list, got a mapping"),
        ({"routes": [5]}, "routes[0]", "expected a mapping, got a whole number"),
        ({"upstreams": {"a b": {"servers": ["h:1"]}}}, "upstreams.a b",
         "the name: expected a name: letters, digits, _ . - and at most 64 of them, the first a letter or digit"),
        ({"upstreams": {"a": {"servers": ["h:1", "h"]}}}, "upstreams.a.servers[1]",
         "expected HOST:PORT, [IPV6]:PORT or unix:/PATH of a backend, such as 127.0.0.1:5000"),
        ({"errors": {"200": "x"}}, "errors.200", "the name: expected a whole number of at least 400"),
        ({"errors": {"never": "x"}}, "errors.never", "the name: expected a whole number, got text"),
        ({"errors": {"404": 5}}, "errors.404",
         "expected text or a mapping or a list, got a whole number; put it in quotes"),
        ({"mappings": [{"file": "a"}]}, "mappings[0].file", "unknown setting; did you mean files?"),
        ({"limits": {"a": {"requests": 5, "per": 1}}}, "limits.a.per",
         "expected a duration: a whole number and its unit (us, ms, s, m, h, d), such as 30s"),
        ({"bootstrap": {"owner": {"name": "a", "password": 5}}}, "bootstrap.owner.password",
         "expected a secret: text in quotes, {env: NAME} or {file: PATH}"),
        ({"bootstrap": {"owner": {"name": "a", "password": {"env": "LOST"}}}}, "bootstrap.owner.password",
         "there is no env LOST"),
    ],
)  # fmt: skip
def test_a_mistake_says_where_and_what_to_do(data: dict[str, Any], place: str, message: str) -> None:
    assert (place, message) in bound(data)[1]


def test_every_mistake_is_told_at_once() -> None:
    data = {
        "log": {"level": "X", "format": 5},
        "routes": [
            {"match": "GET /a", "upstream": "u"},
            {"match": 5, "require": {"token": "x", "scop": "y"}, "limit": {"requests": 0}},
            {"match": "GET /b", "upstream": "u", "errors": {"200": "x"}, "max_body": 5},
        ],
        "nonsense": 1,
    }
    assert [place for place, _ in bound(data)[1]] == [
        "nonsense", "log.level", "log.format", "routes[1].match", "routes[1]", "routes[1].require.scop",
        "routes[1].require.token", "routes[1].limit.requests", "routes[2].errors.200", "routes[2].max_body",
    ]  # fmt: skip


def test_a_secret_comes_from_text_or_from_elsewhere() -> None:
    owner = {"name": "a", "password": {"env": "KNOWN"}, "totp_secret": "abc"}
    found = bound({"bootstrap": {"owner": owner}})[0].bootstrap.owner
    assert found is not None
    assert (found.password, found.totp_secret) == (Secret("open sesame"), Secret("abc"))


def test_no_mistake_shows_a_secret() -> None:
    data = {"bootstrap": {"owner": {"name": 5, "password": ["hunter2"], "totp_secret": {"hunter2": "hunter2"}}}}
    settings, faults = bound(data)
    assert "hunter2" not in f"{settings}{faults}"


def test_null_is_nothing_said() -> None:
    data = {"gateway": None, "log": {"level": None}, "routes": [{"match": "GET /a", "upstream": "u", "limit": None}]}
    settings, faults = bound(data)
    assert faults == []
    assert (settings.gateway, settings.log) == (Settings().gateway, Settings().log)


WORDS = ["GET /a", "u", "1s", "auto", "[::1]:80", "127.0.0.1:0", "", "404", "env", "default", "a" * 70]
ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(WORDS), st.text(max_size=3)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*WORDS, "match", "by"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def nested(path: tuple[str, ...], value: object) -> dict[str, Any]:
    """`value` at its place."""
    for name in reversed(path):
        value = {name: value}
    assert isinstance(value, dict)
    return value


COLLECTIONS = [
    ("upstreams",), ("routes",), ("mappings",), ("errors",), ("limits",), ("upstreams", "a"), ("limits", "a"),
    ("dialects", "apifest", "classes"), ("plugins", "names"), ("gateway",), ("bootstrap",), ("bootstrap", "owner"),
]  # fmt: skip


@settings(max_examples=400)
@given(st.sampled_from([*[each.path for each in KEYS.values()], *COLLECTIONS]), ANY)
def test_wrong_types_everywhere_are_told_and_nothing_breaks(path: tuple[str, ...], value: object) -> None:
    found, faults = bound(nested(path, value))
    assert isinstance(found, Settings)
    assert all(message for _, message in faults)


@settings(max_examples=200)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                ["match", "upstream", "to", "require", "limit", "actions", "filters", "errors", "max_body", "x"]
            ),
            ANY,
        ),
        max_size=3,
    )
)
def test_wrong_routes_are_told_and_nothing_breaks(routes: list[dict[str, Any]]) -> None:
    found, faults = bound({"routes": routes})
    assert len(found.routes) == len(routes)
    assert all(place.startswith("routes") for place, _ in faults)
