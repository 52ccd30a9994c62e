"""ApiFest's files: what they say, what is wrong with them, how they are listed."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.core.configuration.mapping import Endpoint, Merger, Version, listing, pattern_key, pieces, told
from ostiary.core.configuration.mapping_file import read_global_errors, read_mapping
from ostiary.core.refusal import Mistake
from ostiary.core.snapshot import Fixed, Piece, Variable

BACKEND = '<backend host="127.0.0.1" port="5000"/>'


def file(endpoints: str = "", more: str = "", version: str = "v1") -> bytes:
    """A mapping file."""
    endpoints = endpoints or '<endpoint external="/a" internal="/b" method="GET"/>'
    return (
        f'<mappings version="{version}">\n{BACKEND}\n{more}<endpoints>\n{endpoints}\n</endpoints></mappings>'.encode()
    )


def endpoint(external: str, name: str | None = None, expression: str | None = None, legacy: bool = False) -> Endpoint:
    """An endpoint with what matters for its path."""
    return Endpoint(external, "/", "GET", "a.xml", 1, "e", var_name=name, var_expression=expression, legacy=legacy)


@pytest.mark.parametrize(
    ("method", "pattern", "key"),
    [
        ("GET", "/v1.0/me$", "8bc81674"),
        ("GET", "/v1.0/countries/([A-Z]{3})$", "1ba4be4b"),
        ("GET", "/v1.0/countries$", "76aa5efe"),
        ("GET", r"/v0.2/people/(\d+)/info", "2086dab8"),
        ("POST", r"/v0.2/mobile-auth/(\d{6,15}$)", "8c407260"),
    ],
)
def test_keys_are_the_hash_codes_that_apifest_gives(method: str, pattern: str, key: str) -> None:
    assert pattern_key(method, pattern) == f"com.apifest.MappingPattern@{key}"


def test_a_key_counts_utf_16_units() -> None:
    assert pattern_key("GET", "/😀$") == pattern_key("GET", "/\ud83d\ude00$")


@pytest.mark.parametrize(
    ("point", "pattern"),
    [
        (endpoint("/me"), "/me$"),
        (endpoint("/c/{code}", "code", "[A-Z]{3}"), "/c/([A-Z]{3})$"),
        (endpoint("/p/{id}/info", "id", r"\d+"), r"/p/(\d+)/info"),
        (endpoint("/m/{id}", "id", r"\d{6}$"), r"/m/(\d{6}$)"),
        (endpoint("/s/{a}/i/{b}", "a b", r"[a-z]+ \d+"), r"/s/([a-z]+)/i/(\d+)$"),
        (endpoint("/m/{id}"), "/m/{id}$"),
    ],
)
def test_the_pattern_text_is_that_of_the_contract(point: Endpoint, pattern: str) -> None:
    assert point.pattern == pattern


@pytest.mark.parametrize(
    ("point", "parts"),
    [
        (endpoint("/v1.0/me"), (Fixed("/v1.0/me"),)),
        (endpoint("/m/{id}", "id", r"\d{6}$"), (Fixed("/m/"), Variable("id", r"\d{6}"))),
        (endpoint("/p/{id}.json", "id", ".+"), (Fixed("/p/"), Variable("id", ".+"), Fixed(".json"))),
        (endpoint("/p", "id", ".+"), (Fixed("/p"),)),
        (endpoint("/v1.0/{id}", "id", "a", True), (Fixed("/"), Variable("", "v1.0"), Fixed("/"), Variable("id", "a"))),
        (endpoint("/a/(b|c)/d", legacy=True), (Fixed("/a/"), Variable("", "(b|c)"), Fixed("/d"))),
        (endpoint(r"/a\.b/c", legacy=True), (Fixed("/a.b/c"),)),
        (endpoint("/a/?b", legacy=True), (Fixed("/"), Variable("", "a/?b"))),
    ],
)
def test_an_endpoint_has_the_pieces_of_its_path(point: Endpoint, parts: tuple[Piece, ...]) -> None:
    assert pieces(point) == parts


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        (endpoint("a"), "it begins with no slash"),
        (endpoint("/{id}"), "{id} has no expression in varName and varExpression"),
        (endpoint("/{id}", "id"), "varName has 1 names and varExpression 0 expressions"),
        (endpoint("/{id}", None, "a"), "varName has 0 names and varExpression 1 expressions"),
        (endpoint("/{a}/{b}", "a b", "x"), "varName has 2 names and varExpression 1 expressions"),
        (endpoint("/{a}", "a  b", "x y z"), "'' in varName is no name; names are separated by one blank"),
        (endpoint("/{a}", "a a", "x y"), "varName names a twice"),
        (endpoint("/{a}/{a}", "a", "x"), "the variable {a} stands twice"),
        (endpoint("/{a}", "a", ""), "the expression of {a}: it is empty"),
        (endpoint("/{a}", "a", "("), "the expression of {a}: "),
        (endpoint("/{a}", "a", r"(x)\1"), "the expression of {a}: "),
        (endpoint("/a?b"), "a path ends before `?`"),
        (endpoint("/a/../b"), "it is always read as /b"),
        (endpoint("/a|/b", legacy=True), "an alternative (`|`) stands in parentheses"),
        (endpoint("/a(b", legacy=True), "'a(b': "),
    ],
)
def test_a_path_that_cannot_be_says_why(point: Endpoint, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        pieces(point)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (b"", 1, "not well-formed: no element found"),
        (b"<mappings", 1, "not well-formed: unclosed token"),
        (b"<mappings>\n<a></b></mappings>", 2, "not well-formed: mismatched tag"),
        (b"<other/>", 1, "expected <mappings>, got <other>"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]>\n<mappings/>', 1, "DTDs and entities are not accepted (DTDForbidden)"),
        (b"<?xml version='1.0' encoding='nonsense'?><mappings/>", 1, "not well-formed: its encoding cannot be read"),
        (b"<a>" * 100_000, 1, "nested deeper than 32 levels"),
        (b"<mappings/>" + b" " * (17 << 20), 0, "the file is larger than 16 MiB"),
        (file(more="<other/>"), 3, "<mappings> takes no <other>"),
        (file(more="text"), 1, "<mappings> holds no text"),
        (file(more=BACKEND), 1, "<mappings> takes one <backend> only"),
        (file('<endpoint external="/a" internal="/b" method="GET" color="red"/>'), 4,
         "<endpoint> has no attribute color"),
        (file('<endpoint external="/a" method="GET"/>'), 4, "<endpoint> needs the attribute internal"),
        (file('<endpoint external="/a" internal="" method="GET"/>'), 4, "<endpoint> needs the attribute internal"),
        (file('<endpoint external="/a" internal="/b" method="get"/>'), 4,
         "method is not an upper-case token such as GET"),
        (file('<endpoint external="/a" internal="/b" method="GET" backendHost="h"/>'), 4,
         "backendHost and backendPort stand together or not at all"),
        (file('<endpoint external="/a" internal="/b" method="GET" backendHost="a b" backendPort="1"/>'), 4,
         "backendHost is no host name or address"),
        (file('<endpoint external="/a" internal="/b" method="GET" backendHost="h" backendPort="65536"/>'), 4,
         "backendPort is not a whole number from 1 to 65535"),
        (file('<endpoint external="/a" internal="/b" method="GET"><action/></endpoint>'), 4,
         "<action> needs a name or a class"),
        (file('<endpoint external="/a" internal="/b" method="GET"><customProperties><entry><key>k</key></entry>'
              "</customProperties></endpoint>"), 4, "<entry> needs a <value>"),
        (file(more='<errors><error status="200" message="x"/></errors>'), 3,
         "status is not a whole number from 300 to 599"),
        (file(more="<errors></errors>"), 3, "<errors> needs a <error>"),
        (file(more='<actions><action name="a"/></actions>'), 3, "<action> needs the attribute class"),
        (b'<mappings version="v"><endpoints/></mappings>', 1, "<mappings> needs a <backend>"),
    ],
)  # fmt: skip
def test_a_file_of_wrong_form_says_each_thing_with_its_line(text: bytes, line: int, message: str) -> None:
    mapping, mistakes = read_mapping(text, "a.xml")
    assert mapping is None
    assert (line, message) in [(each.line, each.message) for each in mistakes]
    assert {(each.file, each.code) for each in mistakes} == {("a.xml", "mapping.schema")}


def test_global_errors_are_read_alike() -> None:
    text = b"""<global-errors><error status="404" message='{"a":1}'/></global-errors>"""
    found, mistakes = read_global_errors(text, "g.xml")
    assert mistakes == []
    assert found is not None
    assert found.errors == ((404, '{"a":1}', 1),)
    wrong = read_global_errors(b'<global-errors><error status="302" message="x"/></global-errors>', "g.xml")[1]
    assert [told(each) for each in wrong] == [
        "global errors configuration file g.xml is not valid against schema "
        "(g.xml:1: status is not a whole number from 400 to 599)"
    ]


def merged(*files: bytes) -> Merger:
    """Files a.xml, b.xml, ... put together."""
    read = [read_mapping(text, f"{chr(97 + at)}.xml") for at, text in enumerate(files)]
    assert [mistakes for _, mistakes in read if mistakes] == []
    merger = Merger()
    merger.merge([mapping for mapping, _ in read if mapping])
    return merger


def point(external: str = "/a", inner: str = "", attributes: str = "") -> str:
    """An endpoint in XML."""
    return f'<endpoint external="{external}" internal="/b" method="GET" {attributes}>{inner}</endpoint>'


TWICE = "external path GET /a$ is duplicated in mappings"


@pytest.mark.parametrize(
    ("files", "texts"),
    [
        ([file(point() + "\n" + point())], [f"{TWICE} (a.xml:5: endpoints.endpoint[1]: first in a.xml:4)"]),
        ([file(), file()], [f"{TWICE} (b.xml:4: endpoints.endpoint[0]: first in a.xml:4)"]),
        ([file(), file(version="v2")], [f"{TWICE} (b.xml:4: endpoints.endpoint[0]: first in a.xml:4)"]),
        ([file(point("/a", '<action name="N"/>'))],
         ["action N not mapped to class (a.xml:4: endpoints.endpoint[0].action[0])"]),
        ([file(point("/a", '<filter name="N"/>'))],
         ["filter N not mapped to class (a.xml:4: endpoints.endpoint[0].filter[0])"]),
        (
            [file(more='<actions><action name="N" class="c.A"/></actions>'),
             file(point("/c"), '<actions><action name="N" class="c.B"/></actions>', "v2")],
            ["action N is mapped to two classes, c.A and c.B (b.xml:3: actions.action[0])"],
        ),
        (
            [file(more='<errors><error status="404" message="x"/></errors>'),
             file(point("/c"), '<errors><error status="404" message="y"/></errors>')],
            ["the error 404 has another message in a.xml:3 (b.xml:3: errors)"],
        ),
        ([file(), file(point("/c"), '<errors><error status="404" message="y"/></errors>')], []),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_told_as_apifest_does(files: list[bytes], texts: list[str]) -> None:
    assert [told(each) for each in merged(*files).mistakes] == texts


@pytest.mark.parametrize(
    ("endpoints", "warning"),
    [
        (point("/a", "", 'scope="basic"'), "scope without authType is not checked: the endpoint is public"),
        (point("/a", "", 'authType="admin"'), "authType 'admin' is neither user nor client-app: nothing passes"),
        (point("/a", '<action class="x"/><action class="y"/>'), "several actions; only the last one counts"),
    ],
)
def test_what_is_doubtful_is_warned_of(endpoints: str, warning: str) -> None:
    assert [each.message for each in merged(file(endpoints)).warnings] == [warning]


def test_files_of_one_version_share_their_tables() -> None:
    table = '<actions><action name="N" class="c.A"/></actions>'
    found = merged(file(point("/a", '<action name="N"/>')), file(point("/c"), table)).versions["v1"]
    action = found.endpoints[0].action
    assert action is not None
    assert action.type == "c.A"
    assert found.actions == {"N": "c.A"}


def test_the_last_action_counts_and_class_goes_before_name() -> None:
    table = '<actions><action name="N" class="c.A"/></actions>'
    inner = '<action name="N"/><action name="N" class="c.B"/>'
    use = merged(file(point("/a", inner), table)).versions["v1"].endpoints[0]
    assert use.action is not None
    assert use.action.type == "c.B"


def test_a_listing_has_every_member_in_its_order() -> None:
    entry = "<entry><key>team</key><value> retail </value></entry>"
    inner = f'<action class="c.A"/><customProperties>{entry}</customProperties>'
    attributes = 'scope="basic" authType="user" varName="x" varExpression="[a-z]+"'
    versions = merged(
        file(point("/a/{x}", inner, attributes), '<errors><error status="404" message="m"/></errors>')
    ).versions
    found = listing(versions)["v1"]
    assert isinstance(found, dict)
    assert [*found] == ["mappings", "actions", "filters", "errors"]
    assert found["actions"] == {"c.A": "c.A"}
    assert found["errors"] == {"404": "m"}
    (listed,) = found["mappings"].values()
    assert [*listed.items()] == [
        ("backendPort", 5000), ("backendHost", "127.0.0.1"), ("varExpression", "[a-z]+"), ("varName", "x"),
        ("authType", "user"), ("scope", "basic"), ("method", "GET"), ("internalEndpoint", "/b"),
        ("externalEndpoint", "/a/{x}"), ("action", {"actionClassName": "c.A"}),
        ("customProperties", {"team": "retail"}),
    ]  # fmt: skip


def test_keys_that_collide_are_numbered_in_order() -> None:
    # "Aa" and "BB" have one hash code in Java.
    versions = merged(file(point("/BB") + point("/Aa"))).versions
    found = listing(versions)["v1"]
    assert isinstance(found, dict)
    key = pattern_key("GET", "/Aa$")
    assert {name: each["externalEndpoint"] for name, each in found["mappings"].items()} == {
        key: "/Aa",
        f"{key}.2": "/BB",
    }


def test_a_mistake_of_the_settings_is_told_too() -> None:
    assert told(Mistake("routes[0].upstream", "no upstream is named x", "o.yaml", 4)) == (
        "no upstream is named x (o.yaml:4: routes[0].upstream)"
    )


XML = st.text("<>/='\"& abmnopsg-!?[]\n", max_size=60)


@settings(max_examples=300)
@given(XML, st.sampled_from([read_mapping, read_global_errors]))
def test_whatever_comes_as_xml_is_read_or_told(text: str, reader: Callable[..., tuple[object, list[Mistake]]]) -> None:
    for whole in (text, f"<mappings version='1'>{text}</mappings>", f"<global-errors>{text}</global-errors>"):
        found, mistakes = reader(whole.encode(), "a.xml")
        assert (found is None) == bool(mistakes)


@settings(max_examples=300)
@given(
    st.text("/a{}()|[].*+?\\$^1 ", max_size=20),
    st.none() | st.text("ab ", max_size=4),
    st.none() | st.text("[a]+.$( ", max_size=8),
    st.booleans(),
)
def test_whatever_path_comes_has_pieces_or_a_reason(
    external: str, name: str | None, expression: str | None, legacy: bool
) -> None:
    each = endpoint("/" + external, name, expression, legacy)
    assert each.pattern
    try:
        assert pieces(each)
    except ValueError as problem:
        assert str(problem)


def test_an_empty_version_is_listed() -> None:
    assert listing({"v1": Version()}) == {"v1": {"mappings": {}, "actions": {}, "filters": {}, "errors": {}}}
