"""The grammar of a payload: each text where it belongs, and any bytes get a result or one of the texts."""

import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.dialects.doveadm import grammar
from ostiary.dialects.doveadm.grammar import BadPayload, Command, Number, Shape, normal, read

SHAPES = {
    "who": Shape({"socketPath": False, "separateConnections": False, "mask": True}),
    "reload": Shape({}),
    "serviceStop": Shape({"service": True}),
}
PARSE = "JSON parse error: "


def commands(payload: str | bytes) -> list[Command]:
    return read(payload if isinstance(payload, bytes) else payload.encode(), SHAPES.get)


def refused(payload: str | bytes) -> str:
    with pytest.raises(BadPayload) as caught:
        commands(payload)
    return str(caught.value)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        *[(root, "Request must be a JSON array") for root in ('{"a":1}', "{", '"who"', "1", "0", "true", "null", "7 ")],
        *[(item, "Command must be a JSON array") for item in ('["who",{},"t"]', "[{}]", "[1,2]", "[null]", '["a",]')],
        *[
            (name, "Command name must be a string")
            for name in ("[[]]", '[[["who",{},"t"]]]', "[[1]]", "[[null,{}]]", "[[{}]]", "[[[[")
        ],
        *[
            (f"[{command}]", "Parameters must be contained in a JSON object")
            for command in ('["who","t"]', '["who",[],"t"]', '["who",null,"t"]', '["who"]', '["who",true', '["who",[[[')
        ],
        *[
            (f'[["who",{{"mask":{value}}},"t"]]', "Parameter `mask' must be string or array")
            for value in ("1", "true", "null", "{}")
        ],
        ('[["service-stop",{"service":1},"t"]]', "Parameter `service' must be string or array"),
        *[
            (f'[["who",{{"mask":{value}}},"t"]]', "Command parameter array can only containstring values")
            for value in ("[1]", '["a",null]', '["a",["b"]]', "[{}]")
        ],
        ('[["who",{"mask":"a","mask":"b"},"t"]]', "Parameter `mask' is duplicated"),
        (
            '[["who",{"separateConnections":1,"separate-connections":1},"t"]]',
            "Parameter `separate-connections' is duplicated",
        ),
        *[
            (f'[["who",{{}}{tag}]]', "Command ID must be a string")
            for tag in ("", ",1", ",true", ",null", ",[]", ",{}", r',"a\u0000b"')
        ],
        ('[["nosuch"]]', "Command ID must be a string"),
        ('[["nosuch",1]]', "Command ID must be a string"),
        ('[["nosuch",[{"a":[]}],7]]', "Command ID must be a string"),
        *[
            (f'[["who",{{}},"t",{more}]]', "Unexpected JSON element at end of command")
            for more in ("3", "[", "{}", '"u"')
        ],
        *[
            (cut, f"{PARSE}Missing '}}'")
            for cut in (
                "", " \n", "[", '[["who",{},"t1"]', '[["who",{},"t', '[["wh', "[[", '[["who",{"x"', '[["who",{"mask":',
                '[["who",{"x":tru', '[["who",{"x":1', '[["who",{"x":1.', '[["who",{"x":-', '[["who",{},', r'[["who\u12',
                '[["who\\', r'[["\ud83d', r'[["\ud83d\u', "tru", "-", '[["who",{},"t"],', "[n",
            )
        ],
        *[
            (bad, f"{PARSE}Invalid data as value")
            for bad in (
                "[,]", "[[,", "NaN", "[NaN]", "['a']", "[who]", "/* */[]", "// x", "\ufeff[]", '[["who",{},"t"],]',
                '[["who",{},"t",]]', '[["who",]]', '[["who",{"mask":["a",]},"t"]]', '[["who",{"x":.5},"t"]]', "[+1]",
                '[["who",{"x":1.x},"t"]]', '[["who",{"x":-a},"t"]]', '[["who",{"x":1e+},"t"]]', '[["who",{"x":},"t"]]',
                "[trux]", "[nulL]", "]", "}", ",", "\0", "Infinity", "[undefined]",
            )
        ],
        *[
            (f'[["who",{{{key}}},"t"]]', f"{PARSE}Expected string as object key")
            for key in ("mask:1", '"a":1,', ",", "1:2", "'a':1", '"a":1,,"b":2')
        ],
        ('[["who",{"mask" 1},"t"]]', f"{PARSE}Expected ':' after key"),
        ('[["who",{"mask"},"t"]]', f"{PARSE}Expected ':' after key"),
        ('[["who",{"x":1 "y":2},"t"]]', f"{PARSE}Expected ',' or '}}' after object value"),
        ('[["who",{"x":01},"t"]]', f"{PARSE}Expected ',' or '}}' after object value"),
        ('[["who",{"x":1],"t"]]', f"{PARSE}Expected ',' or '}}' after object value"),
        ('[["who" {},"t"]]', f"{PARSE}Expected ',' or '}}' after array value"),
        ('[["who",{},"t"}', f"{PARSE}Expected ',' or '}}' after array value"),
        ('[["who",{"x":[01]},"t"]]', f"{PARSE}Expected ',' or '}}' after array value"),
        ('[["who",{},"t"]}', f"{PARSE}Expected ',' or '}}' after array value"),
        *[(f"[]{more}", f"{PARSE}Unexpected data at the end") for more in ("]", "[]", "x", "\0", "//", ",")],
        *[
            (f'[["who",{{}},"{escape}"]]', f"{PARSE}Invalid escape string")
            for escape in (r"\x", r"\u12g4", r"\u", r"\ud83d\uzzzz", "\\'", r"\U0041", r"\u١٢٣٤")
        ],
        (r'["\q"]', f"{PARSE}Invalid escape string"),
        *[
            (
                f'[["who",{{}},"{pair}"]]',
                f"{PARSE}High surrogate 0xd800 seen, but not followed by low surrogate",
            )
            for pair in (r"\ud800", r"\ud800\ud800", r"\ud800a", r"\ud800\n", r"\uD800A")
        ],
        (r'[["who",{},"\uD83D!"]]', f"{PARSE}High surrogate 0xd83d seen, but not followed by low surrogate"),
        (r'[["who",{},"\udc00"]]', f"{PARSE}Invalid unicode character U+dc00"),
        (r'[["who",{},"\uDFFF\ud800"]]', f"{PARSE}Invalid unicode character U+dfff"),
    ],
)  # fmt: skip
def test_the_first_mistake_in_reading_order_is_told(payload: str, text: str) -> None:
    assert refused(payload) == text


def test_a_payload_is_read_with_white_space_anywhere() -> None:
    read = commands(
        '\r\n[ [ "who" , { "mask" : [ "a" , "b" ] , "separate connections" : 1 } ,\t"t" ] , ["x",null,""] ] \n'
    )
    assert read == [
        Command("who", "t", {"mask": ["a", "b"], "separateConnections": Number("1")}),
        Command("x", "", known=False),
    ]


def test_one_string_is_an_array_and_numbers_stay_as_they_were_written() -> None:
    (command,) = commands('[["who",{"mask":"","socketPath":1.50e2,"separateConnections":null},"t"]]')
    assert command.values == {"mask": [""], "socketPath": "1.50e2", "separateConnections": None}
    assert isinstance(command.values["socketPath"], Number)


def test_unknown_parameters_are_passed_over_and_the_first_is_named() -> None:
    (command,) = commands('[["who",{"a":{"b":[{}]},"Mask":1,"a":2,"mask":[]},"t"]]')
    assert command.unknown == "a"
    assert command.values == {"mask": []}


@pytest.mark.parametrize("name", ["service stop", "service-stop", "serviceStop", "service Stop"])
def test_names_are_compared_after_one_normalisation(name: str) -> None:
    assert normal(name) == "serviceStop"


@pytest.mark.parametrize(
    "name", ["Who", "who ", " who", "service_stop", "service  stop", "servicestop", "service--stop"]
)
def test_other_spellings_are_other_names(name: str) -> None:
    assert normal(name) not in SHAPES


def test_escapes_mean_their_characters_and_raw_control_characters_pass() -> None:
    (command,) = commands(b'[["x",0,"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\ude00\x01\n\xff\xc3"]]')
    assert command.tag == '"\\/\b\f\n\r\t\u00e9\U0001f600\x01\n\ufffd\ufffd'


def test_thirty_two_levels_are_read_and_one_more_is_too_deep() -> None:
    def nested(levels: int) -> str:
        inner = "[" * levels + "]" * levels
        return f'[["x",{inner},"t"]]'

    assert len(commands(nested(30))) == 1
    assert refused(nested(31)) == "JSON parse error: Nesting too deep"
    assert refused('[["who",' + '{"a":' * 100_000) == "JSON parse error: Nesting too deep"


def test_ten_thousand_commands_are_read_and_one_more_is_too_many() -> None:
    def payload(count: int) -> str:
        return "[" + ",".join(['["who",{},"t"]'] * count) + "]"

    assert len(commands(payload(10_000))) == 10_000
    assert refused(payload(10_001)) == "Too many commands"


@pytest.mark.parametrize(
    "unit", ['["who",{"a":"b"},"t"],', '["x",[[],{}],"' + "\\n" * 30 + '"],', " " * 40, '["x",' + "1" * 40 + ',""],']
)
def test_time_is_linear(unit: str) -> None:
    def cost(count: int) -> float:
        payload = ("[" + unit * count).encode()
        began = time.process_time()
        with pytest.raises(BadPayload):
            read(payload, SHAPES.get)
        return time.process_time() - began

    cost(100)
    small, large = min(cost(500) for _ in range(3)), min(cost(4000) for _ in range(3))
    assert large < 40 * small + 0.01


PIECES = st.sampled_from([
    "[", "]", "{", "}", ",", ":", '"', "who", '"who"', '"mask"', '"t"', "true", "fals", "null", "1", "-0.5e", "01", " ",
    "\\", "\\u", "d800", "\udc00", "\0", "\xe9", "nosuch", '["who",{},"t"]', "{}", "[]", "separate-connections",
])  # fmt: skip
KNOWN = {text.partition("%")[0] for name, text in vars(grammar).items() if name.isupper() and isinstance(text, str)}


def judged(body: bytes) -> None:
    try:
        found = read(body, SHAPES.get)
    except BadPayload as bad:
        assert any(str(bad).startswith(text) for text in KNOWN)
    else:
        assert all(isinstance(each, Command) for each in found)


@given(st.lists(PIECES, max_size=40))
@settings(max_examples=600, deadline=None)
def test_any_pieces_get_a_result_or_one_of_the_texts(pieces: list[str]) -> None:
    judged("".join(pieces).encode("utf-8", "surrogatepass"))


@given(st.binary(max_size=64))
@settings(max_examples=400, deadline=None)
def test_any_bytes_get_a_result_or_one_of_the_texts(body: bytes) -> None:
    judged(b'[["who",{"mask":' + body)
    judged(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(
    st.lists(
        st.tuples(st.text(max_size=8), JSON, st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8))
    )
)
@settings(max_examples=200, deadline=None)
def test_what_is_well_formed_is_read_with_its_tags(sent: list[tuple[str, object, str]]) -> None:
    found = read(msgspec.json.encode([(f"no.{name}", value, tag) for name, value, tag in sent]), SHAPES.get)
    assert [each.tag for each in found] == [tag for _, _, tag in sent]


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_what_is_cut_short_misses_its_end(data: st.DataObject) -> None:
    payload = r'[["who",{"mask":["a","\ud83d\ude00"],"socketPath":true,"x":-1.5e+3},"t\n"],["x",null,""]]'
    cut = data.draw(st.integers(0, len(payload) - 1))
    assert refused(payload[:cut]) == "JSON parse error: Missing '}'"
