"""Compilation: the snapshot that comes of settings and mapping files, and all that can be wrong with them."""

from typing import Any

import pytest

from ostiary.core.configuration.binding import Binder, path_text
from ostiary.core.configuration.catalogue import CLASSES, Kind
from ostiary.core.configuration.checks import UNSEEN
from ostiary.core.configuration.compile import Compiled, Compiler
from ostiary.core.configuration.mapping import GlobalErrors, Merger
from ostiary.core.configuration.mapping_file import read_mapping
from ostiary.core.configuration.own import PUBLIC
from ostiary.core.limit import Limit
from ostiary.core.oauth import Rules
from ostiary.core.people import PeopleRules
from ostiary.core.snapshot import Fixed, Plugin, Policy, Route, RouteLimit, Tls, Upstream, UpstreamTls, Variable
from ostiary.gateway.fields import HOP_BY_HOP, OURS

UPSTREAMS = {"u": {"servers": ["127.0.0.1:5000"]}}


class Catalogue:
    """Three actions, one filter; `sign` wants a key; `own` can be declared."""

    def __init__(self) -> None:
        self.names = {
            ("action", "replace_user_id"),
            ("action", "set_json_field"),
            ("action", "sign"),
            ("filter", "remove_json_field"),
        }

    def declare(self, name: str, source: str, directory: str) -> str:
        if source != "own.py:own":
            return f"plug-in {name} cannot be loaded"
        self.names.add(("action", name))
        return ""

    def check(self, kind: Kind, plugin: Plugin) -> str:
        if (kind, plugin.name) not in self.names:
            return f"no {kind} is named {plugin.name}"
        return "sign: key is missing" if plugin.name == "sign" and "key" not in plugin.arguments else ""


class Result:
    """One compilation, its faults and mistakes as text."""

    def __init__(self, data: dict[str, Any], *mappings: str, errors: GlobalErrors | None = None) -> None:
        binder = Binder(lambda source, name: "x")
        settings = binder.settings(data)
        assert [fault for fault in binder.faults if fault.where[:1] != ("broken",)] == binder.faults
        read = [read_mapping(text.encode(), f"{chr(97 + at)}.xml") for at, text in enumerate(mappings)]
        assert [mistakes for _, mistakes in read if mistakes] == []
        merger = Merger()
        merger.merge([mapping for mapping, _ in read if mapping])
        compiler = Compiler(settings, merger, errors, Catalogue(), "/run/public.sock", [f.where for f in binder.faults])
        self.compiled: Compiled = compiler.run(7)
        self.faults = [f"{path_text(fault.where)}: {fault.message}" for fault in compiler.faults]
        self.mistakes = [str(each) for each in compiler.mistakes]
        self.warnings = [str(each) for each in compiler.warnings]

    @property
    def clean(self) -> Compiled:
        """What was compiled without a mistake."""
        assert (self.faults, self.mistakes) == ([], [])
        return self.compiled

    def policy(self, index: int = 0) -> Policy:
        """The policy of a route."""
        return self.clean.snapshot.policies[self.clean.routes[index].policy]


def route(match: str = "GET /a", **more: Any) -> dict[str, Any]:
    """A route to u."""
    return {"match": match, "upstream": "u", **more}


def routed(*routes: dict[str, Any], **more: Any) -> Result:
    """These routes, compiled."""
    return Result({"upstreams": UPSTREAMS, "routes": list(routes), **more})


def mapped(*endpoints: str, more: str = "", **data: Any) -> Result:
    """One mapping file, compiled."""
    head = '<mappings version="v1"><backend host="::1" port="5000"/>'
    lines = "\n".join(endpoints)
    return Result({**data}, f"{head}{more}<endpoints>\n{lines}</endpoints></mappings>")


def test_without_anything_only_our_own_routes_serve() -> None:
    compiled = Result({}).clean
    assert compiled.routes == [Route(f"{method} {path}", method, (Fixed(path),), path, 0, 0) for method, path in PUBLIC]
    assert compiled.configured == []
    assert compiled.snapshot.upstreams == (Upstream("ostiary", ("unix:/run/public.sock",), preserve_host=True),)
    assert (compiled.snapshot.revision, compiled.snapshot.routes) == (7, len(PUBLIC))
    assert compiled.rules == Rules()


def test_every_method_of_our_own_paths_is_answered_by_control() -> None:
    assert {path for method, path in PUBLIC if method == "*"} == {path for _, path in PUBLIC}


def test_a_route_becomes_one_for_each_method() -> None:
    compiled = routed(route("GET,POST /a/{b:[0-9]+}", to="/x/{b}?y={b}")).clean
    pieces = (Fixed("/a/"), Variable("b", "[0-9]+"))
    assert compiled.configured == [
        Route("GET /a/{b:[0-9]+}", "GET", pieces, "/x/{b}?y={b}", 1, 0),
        Route("POST /a/{b:[0-9]+}", "POST", pieces, "/x/{b}?y={b}", 1, 0),
    ]


def test_a_route_without_to_goes_to_the_same_path() -> None:
    assert routed(route("GET /a/{b:[0-9]+}/c")).clean.routes[0].to == "/a/{b}/c"


def test_a_policy_has_everything_that_the_route_says() -> None:
    found = routed(
        route(
            require={"token": "user", "scope": ["a", "b"]},
            limit={"requests": 5, "per": "1m", "by": "user"},
            actions=["replace_user_id", {"sign": {"key": "k"}}],
            filters=[{"remove_json_field": {"field": "x"}}],
            errors={"404": {"error": "none"}, "503": "later"},
            keep_authorization=True,
            max_body="1KiB",
            timeout="5s",
        )
    ).policy()
    assert found == Policy(
        token="user",
        scopes=("a", "b"),
        limit=RouteLimit("GET /a", Limit(5, 60_000_000), "user"),
        actions=(Plugin("replace_user_id"), Plugin("sign", {"key": "k"})),
        filters=(Plugin("remove_json_field", {"field": "x"}),),
        errors={404: '{"error":"none"}', 503: "later"},
        keep_authorization=True,
        max_body=1024,
        timeout=5_000_000,
    )


def test_routes_that_say_the_same_share_a_policy() -> None:
    compiled = routed(route("GET /a"), route("GET /b"), route("GET /c", require={}), route("GET /d", require={})).clean
    assert [each.policy for each in compiled.configured] == [0, 0, 1, 1]


def test_a_named_limit_is_shared_and_an_inline_one_is_not() -> None:
    inline = {"requests": 5, "by": "address"}
    limits = {"busy": {"requests": 9, "by": "route"}}
    compiled = routed(
        route("GET /a", limit="busy"), route("GET /b", limit="busy"), route("GET /c", limit=inline),
        route("GET /d", limit=inline), limits=limits,
    ).clean  # fmt: skip
    names = [found.limit.name for found in compiled.snapshot.policies if found.limit]
    assert names == ["busy", "GET /c", "GET /d"]


def test_scopes_are_a_list_or_text() -> None:
    assert routed(route(require={"scope": "a  b"})).policy().scopes == ("a", "b")
    assert routed(route(require={})).policy() == Policy(token="client-app")


def test_upstreams_are_taken_over() -> None:
    data = {
        "servers": ["[::1]:1", "unix:/s"], "balance": "least_connections", "timeout": "2s", "preserve_host": True,
        "tls": {"ca": "ca.pem", "name": "n"},
    }  # fmt: skip
    found = Result({"upstreams": {"a": data}}).clean.snapshot.upstreams[1]
    assert found == Upstream(
        "a", ("[::1]:1", "unix:/s"), "least_connections", True, timeout=2_000_000, tls=UpstreamTls("ca.pem", "n")
    )


def test_the_gateway_has_its_limits_errors_log_and_plugins() -> None:
    found = Result(
        {
            "gateway": {"max_head": "1KiB", "idle_timeout": "1m",
                        "trusted_proxies": ["10.0.0.0/8"], "tls": {"certificate": "c", "key": "k"}},
            "errors": {"404": {"error": "none"}},
            "log": {"level": "DEBUG", "access": ""},
            "plugins": {"directory": "d", "names": {"own": "own.py:own"}},
        },
        errors=GlobalErrors("g.xml", ((500, "x", 3), (404, '{"error":"none"}', 4))),
    ).clean.snapshot.gateway  # fmt: skip
    assert (found.max_head, found.idle_timeout, found.trusted_proxies) == (1024, 60_000_000, ("10.0.0.0/8",))
    assert found.tls == Tls("c", "k")
    assert found.errors == {404: '{"error":"none"}', 500: "x"}
    assert (found.log_level, found.access_log) == ("DEBUG", "")
    assert (found.plugins, found.plugin_directory) == ({"own": "own.py:own"}, "d")


def test_control_takes_its_rules() -> None:
    data = {
        "limits": {"default": {"requests": 5}}, "passwords": {"min_length": 12}, "oauth": {"grants": {"sms": "acme"}},
        "dialects": {"apifest": {"default_grant_types": ["sms", "password"]}},
    }  # fmt: skip
    assert Result(data).clean.rules == Rules(
        ("sms", "password"), {"sms": "acme"}, Limit(5, 1_000_000), people=PeopleRules(min_password=12)
    )


def test_names_of_routes_do_not_depend_on_the_revision() -> None:
    compiled = routed(route()).clean
    assert compiled.revised(9).snapshot.revision == 9
    assert compiled.revised(9).routes == compiled.routes


@pytest.mark.parametrize(
    ("data", "faults"),
    [
        ({"routes": [{"match": "GET /a", "upstream": "uu"}]},
         ["routes[0].upstream: no upstream is named uu; did you mean u?"]),
        ({"routes": [{"match": "GET /a", "upstream": "ostiary"}]},
         ["routes[0].upstream: no upstream is named ostiary; there are u"]),
        ({"upstreams": {"ostiary": {"servers": ["h:1"]}}},
         ["upstreams.ostiary: the name ostiary is taken: it is Ostiary itself"]),
        ({"routes": [route("GET a")]},
         ["routes[0].match: expected methods, one blank and a path: `GET /v1/countries` or `GET,POST /v1/{name}`"]),
        ({"routes": [route(to="b")]}, ["routes[0].to: a backend path begins with a slash"]),
        ({"routes": [route(to="/{x}")]},
         ["routes[0].to: nothing fills in {x}: `match` has no such variable, and there is no action"]),
        ({"routes": [route(to="/{x}", actions=["replace_user_id"])]}, []),
        ({"routes": [route(limit="fast")]}, ["routes[0].limit: no limit is named fast; none is declared"]),
        ({"routes": [route(limit={"requests": 5})]},
         ["routes[0].limit: a limit by client needs `require`; a public route takes by: address or route"]),
        ({"routes": [route(require={"scope": "-x"})]},
         ["routes[0].require.scope: '-x' is no scope name: letters and digits, joined by - or _"]),
        ({"routes": [route(actions=["nope", {"sign": {}}, {}, {"a": {}, "b": {}}])]}, [
            "routes[0].actions[0]: no action is named nope",
            "routes[0].actions[1]: sign: key is missing",
            "routes[0].actions[2]: expected one plug-in: a name, or {name: {its arguments}}",
            "routes[0].actions[3]: expected one plug-in: a name, or {name: {its arguments}}",
        ]),
        ({"routes": [route(filters=["replace_user_id"])]},
         ["routes[0].filters[0]: no filter is named replace_user_id"]),
        ({"routes": [route("GET /a", filters=["x"]), route("GET /b", filters=["x"])]},
         ["routes[0].filters[0]: no filter is named x", "routes[1].filters[0]: no filter is named x"]),
        ({"routes": [route("GET /a"), route("GET /b"), route("GET,PUT /a")]},
         ["routes[2].match: GET /a is taken: both routes[0] and this one match /a"]),
        ({"routes": [route("GET /{a:[a-m]+}"), route("GET /{b:[k-z]+}")]},
         ["routes[1].match: GET /{a:[a-m]+} is taken: both routes[0] and this one match /k"]),
        ({"routes": [route("GET /{a}"), route("GET /{b}")]},
         ["routes[1].match: GET /{a} is taken: both routes[0] and this one match /a"]),
        ({"routes": [route("POST /oauth20/tokens")]}, ["routes[0].match: POST /oauth20/tokens is Ostiary's own"]),
        ({"routes": [route("GET /{rest:.*}")]}, []),
        ({"plugins": {"names": {"x": "y.py:z"}}}, ["plugins.names.x: plug-in x cannot be loaded"]),
        ({"session": {"ttl": "25h"}}, ["session.ttl: a session lives at most 24h"]),
        ({"limits": {"default": {"requests": 5, "by": "route"}}},
         ["limits.default.by: the default limit is counted for each client application"]),
        ({"dialects": {"apifest": {"default_grant_types": ["pasword"]}}},
         ["dialects.apifest.default_grant_types[0]: no grant type is named pasword; did you mean password?"]),
        ({"dialects": {"apifest": {"classes": {"c.A": "nope"}}}},
         ["dialects.apifest.classes.c.A: no action is named nope"]),
        ({"bootstrap": {"owner": {"name": "a b", "email": "x", "password": "short"}}}, [
            "bootstrap.owner.name: no user name: letters, digits and _.@+- (first a letter, digit or _)",
            "bootstrap.owner.email: no e-mail address",
            "bootstrap.owner.password: The password must have at least 8 characters",
        ]),
    ],
)  # fmt: skip
def test_each_fault_says_where_and_what_to_do(data: dict[str, Any], faults: list[str]) -> None:
    assert Result({"upstreams": UPSTREAMS, **data}).faults == faults


def test_every_fault_of_every_route_is_told_at_once() -> None:
    found = routed(*[route(f"GET /{n}//x", limit="none", to="x") for n in range(100)])
    assert len(found.faults) == 300


def test_what_could_not_be_read_is_not_complained_of_twice() -> None:
    data = {
        "upstreams": {"bad": {"servers": 5}}, "limits": {"low": {"requests": 0}},
        "routes": [{"match": 5}, {"match": "GET /a", "upstream": "bad", "limit": "low"}],
    }  # fmt: skip
    assert Result(data).faults == []


ENDPOINT = '<endpoint external="{}" internal="{}" method="GET" {}>{}</endpoint>'


def endpoint(external: str, internal: str = "/b", attributes: str = "", inner: str = "") -> str:
    """An endpoint in XML."""
    return ENDPOINT.format(external, internal, attributes, inner)


def test_mapping_files_become_routes_in_order_with_their_own_backends() -> None:
    found = mapped(
        endpoint("/v1.0/a"),
        endpoint("/v1.0/{x}", "/c/{x}", 'varName="x" varExpression="[a-z]+" backendHost="h" backendPort="81"'),
    ).clean
    assert found.configured == [
        Route("GET /v1.0/a", "GET", (Fixed("/v1.0/a"),), "/b", 1, 0, 1),
        Route("GET /v1.0/{x:[a-z]+}", "GET", (Fixed("/v1.0/"), Variable("x", "[a-z]+")), "/c/{x}", 2, 0, 2),
    ]
    assert [each.backends for each in found.snapshot.upstreams[1:]] == [("[::1]:5000",), ("h:81",)]


def test_a_policy_has_everything_that_the_endpoint_says() -> None:
    java = "com.apifest.example."
    inner = f'<action class="{java}AddSenderIdInBodyAction"/><filter class="{java}RemoveBalanceFilter"/>'
    entry = "<customProperties><entry><key>k</key><value>v</value></entry></customProperties>"
    errors = '<errors><error status="404" message="m"/></errors>'
    found = mapped(endpoint("/a", "/b", 'authType="user" scope="x y"', inner + entry), more=errors).policy()
    assert found == Policy(
        token="user",
        scopes=("x", "y"),
        actions=(CLASSES[f"{java}AddSenderIdInBodyAction"][1],),
        filters=(CLASSES[f"{java}RemoveBalanceFilter"][1],),
        errors={404: "m"},
        compat=True,
        properties={"k": "v"},
    )


@pytest.mark.parametrize(
    ("attributes", "token"),
    [("", ""), ('authType="client-app"', "client-app"), ('authType="x"', "x"), ('authType=""', "none")],
)
def test_an_odd_auth_type_never_passes_and_none_is_public(attributes: str, token: str) -> None:
    assert mapped(endpoint("/a", "/b", attributes)).policy().token == token


def test_statuses_of_mapping_files_are_a_setting() -> None:
    assert mapped(endpoint("/a")).policy().compat is True
    assert mapped(endpoint("/a"), dialects={"apifest": {"gateway_status": "standard"}}).policy().compat is False


def test_classes_are_looked_up_in_the_settings_first_then_among_plugins() -> None:
    classes = {"c.A": {"sign": {"key": "k"}}, "sign": "replace_user_id"}
    named = [endpoint(f"/{at}", "/b", "", f'<action class="{name}"/>') for at, name in enumerate(("c.A", "sign"))]
    found = mapped(*named, dialects={"apifest": {"classes": classes}}).clean
    assert [each.actions for each in found.snapshot.policies[:2]] == [
        (Plugin("sign", {"key": "k"}),),
        (Plugin("replace_user_id"),),
    ]
    assert mapped(endpoint("/a", "/b", "", '<filter class="remove_json_field"/>')).policy().filters == (
        Plugin("remove_json_field"),
    )


@pytest.mark.parametrize(
    ("endpoints", "mistakes"),
    [
        ([endpoint("/a", "/b", "", '<action class="c.A"/>')],
         ["a.xml:2: endpoints.endpoint[0].action[0]: no action has this class or name; see dialects.apifest.classes: "
          "cannot load custom class c.A"]),
        ([endpoint("/a", "/b", "", '<filter class="com.apifest.example.ReplaceCustomerIdAction"/>')],
         ["a.xml:2: endpoints.endpoint[0].filter[0]: no filter has this class or name; see dialects.apifest.classes: "
          "cannot load custom class com.apifest.example.ReplaceCustomerIdAction"]),
        ([endpoint("/{x}")],
         ["a.xml:2: endpoints.endpoint[0].external: external path GET /{x}: "
          "{x} has no expression in varName and varExpression"]),
        ([endpoint("/a", "/{x}")],
         ["a.xml:2: endpoints.endpoint[0].external: external path GET /a: nothing fills in {x} of internal /{x}"]),
        ([endpoint("/oauth20/tokens")],
         ["a.xml:2: endpoints.endpoint[0].external: external path GET /oauth20/tokens: "
          "/oauth20/tokens is Ostiary's own"]),
        ([endpoint("/oauth20/{x}", "/{x}", 'varName="x" varExpression=".*"')],
         ["a.xml:2: endpoints.endpoint[0].external: external path GET /oauth20/{x}: /oauth20/tokens is Ostiary's own"]),
        ([endpoint("/oauth20/{x}", "/{x}", 'varName="x" varExpression="[0-9]+"')], []),
        ([endpoint("/a%41", "/b"), endpoint("/aA", "/b")],
         ["a.xml:3: endpoints.endpoint[1].external: external path GET /aA: "
          "it is taken: both a.xml:2 and this one match /aA"]),
    ],
)  # fmt: skip
def test_each_mistake_in_a_mapping_file_has_its_line(endpoints: list[str], mistakes: list[str]) -> None:
    assert mapped(*endpoints).mistakes == mistakes


@pytest.mark.parametrize("inner", ["", '<action name="A"/>'])
def test_a_class_in_a_table_that_nothing_stands_for_is_one_mistake_used_or_not(inner: str) -> None:
    table = '<actions><action name="A" class="c.A"/></actions>'
    assert mapped(endpoint("/a", "/b", "", inner), more=table).mistakes == [
        "a.xml:1: actions.action[0]: no action has this class or name; see dialects.apifest.classes: "
        "cannot load custom class c.A"
    ]


def test_endpoints_of_one_shape_are_warned_of_and_keep_their_order() -> None:
    pair = 'varName="x" varExpression="{}"'
    found = mapped(endpoint("/{x}", "/{x}", pair.format("[a-m]+")), endpoint("/{x}", "/{x}", pair.format("[k-z]+")))
    assert [each.order for each in found.clean.configured] == [1, 2]
    assert found.warnings == [
        "a.xml:3: endpoints.endpoint[1]: has the shape of a.xml:2; where both match, the earlier one goes"
    ]


def test_a_route_and_an_endpoint_of_one_path_are_a_mistake() -> None:
    text = f'<mappings version="v1"><backend host="h" port="1"/><endpoints>{endpoint("/a")}</endpoints></mappings>'
    found = Result({"upstreams": UPSTREAMS, "routes": [route("GET /a")]}, text)
    assert found.mistakes == [
        "a.xml:1: endpoints.endpoint[0].external: external path GET /a: "
        "it is taken: both routes[0] and this one match /a"
    ]


def test_one_status_with_two_bodies_is_a_mistake() -> None:
    errors = GlobalErrors("g.xml", ((404, "x", 3), (500, "y", 4), (500, "z", 5)))
    assert Result({"errors": {"404": "other"}}, errors=errors).mistakes == [
        "g.xml:3: error: the error 404 has another message in errors of the settings",
        "g.xml:5: error: the error 500 has another message in line 4",
    ]


@pytest.mark.parametrize(
    ("source", "faults"),
    [
        ("header X-User", []),
        ("header X-Forwarded-For", []),
        ("cookie host", []),
        (
            "header X-User-Id",
            ["upstreams.d.user_from: nobody is named by X-User-Id: the gateway takes that header off"],
        ),
        (
            "header x_user_id",
            ["upstreams.d.user_from: nobody is named by x_user_id: the gateway takes that header off"],
        ),
    ],
)
def test_a_directors_users_are_named_by_a_header_that_is_passed_on(source: str, faults: list[str]) -> None:
    definition = {"balance": "director", "servers": ["127.0.0.1:80"], "user_from": source}
    assert Result({"upstreams": {**UPSTREAMS, "d": definition}}).faults == faults


@pytest.mark.parametrize(
    ("source", "drain"), [({"template": "web"}, 3_000_000), ({"app": "shop"}, 20_000_000), (None, 0)]
)
def test_a_directors_users_may_wait_as_long_as_its_droplets_drain(source: object, drain: int) -> None:
    templates = {
        "web": {"default": True, "command": ["true"], "ports": [80], "stop": {"drain": "3s"}},
        "job": {"command": ["true"], "ports": [80], "stop": {"drain": "20s"}},
    }
    definition = {"balance": "director", **({"droplets": source} if source else {})}
    made = Result({"droplets": {"templates": templates}, "upstreams": {**UPSTREAMS, "d": definition}}).clean
    [director] = [each.director for each in made.snapshot.upstreams if each.director is not None]
    assert director.drain == drain


def test_headers_that_name_nobody_are_those_that_the_gateway_takes_off() -> None:
    said_by_us = {"via", "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"}
    assert {name.decode() for name in HOP_BY_HOP | OURS} - said_by_us == UNSEEN
