"""Documents: what is read, what is refused, and where everything stands."""

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.core.configuration.binding import Where
from ostiary.core.configuration.document import read


def told(text: str | bytes, name: str = "a.yaml") -> list[str]:
    """All mistakes of a document."""
    return [str(each) for each in read(text if isinstance(text, bytes) else text.encode(), name).mistakes]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("0777", 777), ("0o17", 15), ("0x1F", 31), ("1_000", "1_000"), ("1:30", "1:30"),
        ("true", True), ("False", False), ("~", None), ("null", None), ("-5", -5), ("1.5", 1.5), (".inf", ".inf"),
        ("2026-01-01", "2026-01-01"), ("'5'", "5"), ('"true"', "true"), ("5s", "5s"), ("''", ""), ("9" * 41, "9" * 41),
    ],
)  # fmt: skip
def test_plain_scalars_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    found = read(f"a: {text}".encode(), "a.yaml").data["a"]
    assert found == value
    assert type(found) is type(value)


YAML = """\
log: {level: INFO}
routes:
  - match: GET /a
    to: /b

  - {match: GET /c,
     to: /d}
limits:
  default:
    requests: 5
"""
TOML = """\
state_dir = "x"
[gateway]
listen = '''a
b'''
"head.x".y = 1
[[routes]]
match = "a" # [[not.this]]
require = { token = "x", scope = [
  "a",
  "b" ] }
[[routes]]
match = "b"
[routes.limit]
requests = 5
"""
JSON = """\
{"log": {"level": "INFO"},
 "routes": [
  {"match": "a", "to": "}],"},
  {"match": "b",
   "to": ["x",
          "y"]}]}
"""


@pytest.mark.parametrize(
    ("name", "text", "where", "line"),
    [
        ("a.yaml", YAML, (), 0),
        ("a.yaml", YAML, ("log", "level"), 1),
        ("a.yaml", YAML, ("routes", 0), 3),
        ("a.yaml", YAML, ("routes", 0, "to"), 4),
        ("a.yaml", YAML, ("routes", 1, "to"), 7),
        ("a.yaml", YAML, ("routes", 1, "upstream"), 6),
        ("a.yaml", YAML, ("limits", "default", "requests"), 10),
        ("a.toml", TOML, ("state_dir",), 1),
        ("a.toml", TOML, ("gateway",), 2),
        ("a.toml", TOML, ("gateway", "head.x", "y"), 5),
        ("a.toml", TOML, ("routes", 0, "match"), 7),
        ("a.toml", TOML, ("routes", 0, "require", "scope", 1), 10),
        ("a.toml", TOML, ("routes", 1), 11),
        ("a.toml", TOML, ("routes", 1, "limit", "requests"), 14),
        ("a.json", JSON, ("log", "level"), 1),
        ("a.json", JSON, ("routes", 0, "to"), 3),
        ("a.json", JSON, ("routes", 1, "to", 1), 6),
        ("a.json", JSON, ("routes", 1, "nothing"), 4),
    ],
)
def test_each_place_has_its_line(name: str, text: str, where: Where, line: int) -> None:
    document = read(text.encode(), name)
    assert document.mistakes == []
    assert document.line(where) == line


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("a: b: c", "a.yaml:1: not YAML: mapping values are not allowed in this context"),
        ("a:\n\t- b", "a.yaml:2: not YAML: a tab indents this line; use blanks"),
        ("a: 'x", "a.yaml:1: not YAML: found unexpected end of stream"),
        ("\x01", "a.yaml:1: not YAML: control characters are not allowed"),
        ("- a", "a.yaml:1: expected settings (`name: value`) at the top of the file"),
        ("just text", "a.yaml:1: expected settings (`name: value`) at the top of the file"),
        ("a: 1\n---\nb: 1", "a.yaml:2: a second document (`---`) begins here; a file holds one"),
        ("a: &x [*x]", "a.yaml:1: alias *x stands inside itself or names nothing"),
        ("a: *x", "a.yaml:1: alias *x stands inside itself or names nothing"),
        ("? [a]\n: b", "a.yaml:1: a name must be text, not a list or mapping"),
        ("a: &x b\n*x : c", "a.yaml:2: a name must be text, not an alias"),
        ("a:\n  <<: text", "a.yaml:2: `<<` takes a mapping, or a list of mappings"),
        ("a: " + "[" * 100, "a.yaml:1: nested deeper than 64 levels"),
        ("- " * 100_000, "a.yaml:1: nested deeper than 64 levels"),
        ("{a: " * 100_000, "a.yaml:1: nested deeper than 64 levels"),
        ("? " * 100_000, "a.yaml:1: a name must be text, not a list or mapping"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(text: str, mistake: str) -> None:
    assert told(text) == [mistake]


def test_every_doubled_key_and_tag_is_told() -> None:
    text = "a: 1\nb: !!python/object:os.system x\na: 2\nc: {d: 1, d: 2}\n"
    assert told(text) == [
        "a.yaml:2: the tag 'tag:yaml.org,2002:python/object:os.system' is not accepted; write the plain value",
        "a.yaml:3: 'a' stands twice here, first in line 1",
        "a.yaml:4: 'd' stands twice here, first in line 4",
    ]


def test_anchors_and_merge_keys_work() -> None:
    text = "x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: *x\n"
    assert read(text.encode(), "a.yaml").data == {"x": {"a": 1, "b": 2}, "y": {"b": 3, "a": 1}, "z": {"a": 1, "b": 2}}


def test_aliases_do_not_multiply_without_end() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert told("\n".join(lines)) == ["a.yaml:6: aliases repeat more than 1000000 values; write less with them"]


@pytest.mark.parametrize(
    ("name", "text", "mistake"),
    [
        ("a.json", "{", "a.json:1: not JSON: Expecting property name enclosed in double quotes"),
        ("a.json", '{"a":\n NaN}', "a.json:0: not JSON: NaN is no JSON number"),
        ("a.json", "[" * 100_000, "a.json:0: nested too deep"),
        ("a.json", '{"a":1\n,"a":{"b":1,\n"b":2}}', "a.json:2: 'a' stands twice here"),
        ("a.json", '{"a": 1' + "0" * 5000 + "}", "a.json:0: not JSON: a number has too many digits"),
        ("a.json", '{"a":\n"\\ud800"}', "a.json:2: a lone surrogate is no text"),
        ("a.toml", "a = 1\na = 2", "a.toml:2: not TOML: Cannot overwrite a value"),
        ("a.toml", "a = ", "a.toml:1: not TOML: Invalid value"),
        ("a.toml", "a = " + "[" * 100_000, "a.toml:0: not TOML: nested too deep, or a number too long"),
        ("a.json", '{"a":\n"\\u0000"}', "a.json:2: a NUL character is no text"),
        ("a.toml", 'a = "\\u0000"', "a.toml:1: a NUL character is no text"),
        ("a.yaml", 'a:\n  b: "\\0"', "a.yaml:2: a NUL character is no text"),
        ("a.yaml", b"a: 1\nb: \xff", "a.yaml:2: the file is not UTF-8 text"),
    ],
)
def test_what_is_no_json_or_toml_is_told(name: str, text: str | bytes, mistake: str) -> None:
    assert told(text, name)[0] == mistake


def test_an_empty_file_is_a_configuration() -> None:
    assert read(b"# nothing yet\n", "a.yaml")[:2] == ({}, [])
    assert read(b"", "a.toml")[:2] == ({}, [])


def test_a_byte_order_mark_is_no_text() -> None:
    assert read(b"\xef\xbb\xbfa: 1", "a.yaml").data == {"a": 1}


TEXT = st.text("abc.é '\"#\\n{", max_size=5)
KEYS = TEXT.filter(bool)
DATA = st.dictionaries(
    KEYS,
    st.recursive(
        st.one_of(st.integers(-(2**31), 2**31), TEXT, st.booleans()),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def places(data: Any, where: Where = ()) -> list[Where]:
    """Every place in a tree."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [where, *(place for key, value in items for place in places(value, (*where, key)))]


@given(DATA)
def test_json_and_yaml_read_alike_and_know_the_same_lines(data: dict[str, Any]) -> None:
    text = json.dumps(data, indent=1, ensure_ascii=False).encode()
    one, other = read(text, "a.json"), read(text, "a.yaml")
    assert one.data == other.data == data
    for place in places(data)[1:]:
        assert one.line(place) == other.line(place)


@settings(max_examples=300)
@given(st.text("abc=[]{}.,\"'#\n 1\\-:", max_size=40))
def test_toml_lines_are_found_in_whatever_toml_takes(text: str) -> None:
    try:
        data = tomllib.loads(text)
    except ValueError:
        assert len(told(text, "a.toml")) == 1
        return
    document = read(text.encode(), "a.toml")
    for place in places(data)[1:]:
        assert 1 <= document.line(place) <= text.count("\n") + 1


@settings(max_examples=500)
@given(st.text("abc:-[]{}&*!|>'\"#%@` \n\t,?<1~\\", max_size=60), st.sampled_from(["a.yaml", "a.json", "a.toml"]))
def test_whatever_comes_is_read_or_told(text: str, name: str) -> None:
    document = read(text.encode(), name)
    assert isinstance(document.data, dict)
    for mistake in document.mistakes:
        assert mistake.file == name
        assert mistake.message


@settings(max_examples=300)
@given(st.binary(max_size=60), st.sampled_from(["a.yaml", "a.json", "a.toml"]))
def test_whatever_bytes_come_are_read_or_told(text: bytes, name: str) -> None:
    assert isinstance(read(text, name).data, dict)
