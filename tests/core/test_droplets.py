"""Droplets: names, environment, placeholders, prose, and what the configuration may say of them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.test_compile import Result

from ostiary.core.apps import AppRules
from ostiary.core.droplets import (
    DropletRules,
    Limits,
    Place,
    Template,
    ago,
    check_env,
    counted_name,
    environment,
    filled,
    name_ok,
    placeholder_fault,
    recipe,
    reserved,
)
from ostiary.core.refusal import Invalid
from ostiary.core.snapshot import SECOND

WEB: dict[str, Any] = {"default": True, "command": ["run", "{port:80}"], "ports": [80]}


def faults(web: dict[str, Any], driver: str = "process", **more: Any) -> list[str]:
    """What is wrong with a template."""
    return Result({"droplets": {"driver": driver, "templates": {"web": {**WEB, **web}}}, **more}).faults


@pytest.mark.parametrize("name", ["abc", "droplet07", "a-b", "a" * 40])
def test_a_droplet_may_be_called(name: str) -> None:
    assert name_ok(name)


@pytest.mark.parametrize(
    "name", ["", "ab", "a" * 41, "1ab", "-ab", "ab-", "Abc", "a.b", "a/b", "../..", "x;id", "$(id)", "abc\n", "äbc"]
)
def test_a_droplet_may_not_be_called(name: str) -> None:
    assert not name_ok(name)


def test_a_counted_name_has_two_digits_or_more() -> None:
    assert [counted_name("droplet", number) for number in (1, 99, 100)] == ["droplet01", "droplet99", "droplet100"]


@pytest.mark.parametrize(
    "key", ["PATH", "HOME", "IFS", "ENV", "BASH_ENV", "PORT", "PORT_80", "DROPLET_NAME", "OSTIARY_X", "LD_PRELOAD",
            "DYLD_X", "PYTHONPATH", "NODE_OPTIONS", "PERL5LIB", "RUBYOPT", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS",
            "GIT_DIR"],
)  # fmt: skip
def test_what_steers_loaders_is_the_configurations(key: str) -> None:
    assert reserved(key)
    with pytest.raises(Invalid, match=rf"^The environment is invalid: {key}$"):
        check_env({key: "x"})


@pytest.mark.parametrize(
    ("key", "value"),
    [("", "x"), ("1A", "x"), ("A B", "x"), ("A=B", "x"), ("A" * 129, "x"), ("A", "a\0b"), ("A", "x" * 32_769),
     ("A", "\ud800")],
)  # fmt: skip
def test_an_environment_that_no_process_can_have_is_refused(key: str, value: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_env({"GOOD": "x", key: value})
    assert (caught.value.code, caught.value.mistakes[0].code) == ("env.invalid", key)


def test_an_environment_has_a_hundred_keys() -> None:
    check_env({f"K{number}": "$(id); \n'\"äöü" for number in range(100)})
    with pytest.raises(Invalid, match="K100"):
        check_env({f"K{number}": "" for number in range(101)})


def test_the_request_stands_above_the_template_and_ostiary_above_both() -> None:
    made = recipe(Template("web", env={"A": "1", "B": "1", "PORT": "9"}), {"B": "2"})
    assert environment(made, {80: 20001, 443: 20002}, "abc", "0" * 12) == {
        "A": "1", "B": "2", "PORT": "20001", "PORT_80": "20001", "PORT_443": "20002", "DROPLET_NAME": "abc",
        "DROPLET_ID": "0" * 12,
    }  # fmt: skip
    assert environment(recipe(Template("job")), {}, "abc", "1" * 12) == {
        "DROPLET_NAME": "abc", "DROPLET_ID": "1" * 12,
    }  # fmt: skip


def test_an_apps_type_has_its_own_command_and_another_does_not_exist() -> None:
    template = Template("web", command=("a",), types={"worker": ("b",)})
    assert recipe(template, type_="worker").command == ("b",)
    assert recipe(Template("web", command=("a",)), type_="web").command == ("a",)
    with pytest.raises(Invalid, match=r"^Container type web does not exist in application$"):
        recipe(template, type_="web")


def test_what_a_droplet_is_made_from_shows_no_secret() -> None:
    made = recipe(Template("web", env={"KEY": "hunter2"}), {"OTHER": "hunter2"})
    assert "hunter2" not in repr(made)


def test_a_place_in_an_app_is_a_name() -> None:
    assert Place("shop", "web", 2, 7).name == "shop.web.2"


@pytest.mark.parametrize(
    ("argument", "text"),
    [("{port}", "20001"), ("{port:443}", "20002"), ("-p{port}:{name}", "-p20001:abc"), ("{python}", "/bin/py"),
     ("{{port}", "{port}"), ("{{{name}", "{abc"), ("}", "}"), ("$(id);{name}", "$(id);abc")],
)  # fmt: skip
def test_placeholders_are_filled_in_within_an_argument(argument: str, text: str) -> None:
    assert placeholder_fault(argument, (80, 443)) == ""
    assert filled(argument, {80: 20001, 443: 20002}, "abc", "/bin/py") == text


@pytest.mark.parametrize("argument", ["{", "{}", "{ports}", "{port:81}", "{port:}", "{name", "a{b}c", "{{{", "{0}"])
def test_another_placeholder_is_a_mistake(argument: str) -> None:
    assert placeholder_fault(argument, (80,)) != ""


@given(st.text(alphabet="{}port:80name ", max_size=30))
def test_what_the_check_passes_can_be_filled_in(argument: str) -> None:
    if not placeholder_fault(argument, (80,)):
        filled(argument, {80: 20001}, "abc", "py")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 seconds"), (1, "1 second"), (59, "59 seconds"), (60, "1 minute"), (3599, "59 minutes"), (3600, "1 hour"),
     (86_400, "1 day"), (10**8, "1157 days"), (-5, "0 seconds")],
)  # fmt: skip
def test_ages_have_a_number_and_a_unit(seconds: int, text: str) -> None:
    assert ago(0, seconds * SECOND) == f"{text} ago"


# What the configuration may say


def test_a_template_is_kept_with_all_its_fields() -> None:
    result = Result(
        {
            "droplets": {
                "templates": {
                    "web": {
                        "default": True, "ports": [80], "env": {"MODE": "prod", "KEY": {"env": "KEY"}},
                        "limits": {"memory": "256M", "cpu": 0.5, "pids": 128}, "user": "nobody",
                        "command": ["{python}", "-m", "http.server", "{port:80}"],
                        "health": {"http": "/", "port": 80, "every": "2s", "timeout": "1s", "healthy_after": 1},
                        "start_timeout": "60s", "stop": {"signal": "TERM", "timeout": "10s", "drain": "10s"},
                        "restart": {"policy": "on_failure", "max": 5, "first_wait": "1s", "max_wait": "60s"},
                        "types": {"web": ["a"], "worker": ["b"]},
                    },
                    "crash": {"command": ["x"], "restart": {"policy": "never"}},
                }
            },
            "upstreams": {"shop": {"droplets": {"template": "web", "port": 80}}, "s2": {"droplets": {"app": "shop"}}},
        }
    )  # fmt: skip
    rules = result.clean.rules.droplets
    web = rules.template("")
    assert (web.name, web.env, web.limits) == ("web", {"MODE": "prod", "KEY": "x"}, Limits(256 << 20, 0.5, 128))
    assert web.health is not None
    assert (web.health.path, web.health.port, web.health.every) == ("/", 80, 2 * SECOND)
    assert rules.template("crash").restart.policy == "never"
    assert [(each.template, each.app, each.type) for each in rules.upstreams.values()] == [
        ("web", "", ""), ("", "shop", "web"),
    ]  # fmt: skip
    with pytest.raises(Invalid, match=r"^The template is unknown; there are: "):
        rules.template("nope")
    with pytest.raises(Invalid):
        DropletRules().template("")


def test_what_apps_are_told_by_the_settings() -> None:
    def told(**more: Any) -> AppRules:
        droplets = {"driver": "docker", "images": ["x/*"], "templates": {"web": {**WEB, "image": "x"}}}
        return Result({"droplets": droplets, "deis": more}).clean.rules.apps

    assert told() == AppRules("ostiary.local", "", 50, 32)
    mine = {"domain": "apps.example", "template": "web", "max_apps": 3, "max_scale": 9}
    assert told(**mine) == AppRules("apps.example", "web", 3, 9)
    [fault] = Result({"deis": {"template": "wob"}, "droplets": {"templates": {"web": WEB}}}).faults
    assert "deis.template: no template is named wob" in fault
    for driver, images in (("docker", ("x/*",)), ("process", ())):
        rules = Result({"droplets": {"driver": driver, "images": ["x/*"]}}).clean.rules.droplets
        assert rules.images == images


def test_containers_live_on_and_processes_do_not_unless_it_is_said() -> None:
    def keeps(**droplets: Any) -> bool:
        return Result({"droplets": droplets}).clean.rules.droplets.keep

    assert [keeps(), keeps(driver="docker"), keeps(on_stop="keep"), keeps(driver="docker", on_stop="stop")] == [
        False, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("web", "fault"),
    [
        ({"default": False}, "droplets.templates: one template has to be the default: give it default: true"),
        ({"command": []}, "droplets.templates.web.command: a process needs a command"),
        ({"command": ["{port:81}"]}, "droplets.templates.web.command[0]: {port:81} is none of the template's ports"),
        ({"command": ["a\0b"]}, "droplets.templates.web.command[0]: an argument cannot hold a NUL"),
        ({"ports": [80, 80]}, "droplets.templates.web.ports[1]: port 80 is there already"),
        ({"types": {"web": []}}, "droplets.templates.web.types.web: a process type needs a command"),
        ({"types": {"worker": ["{nope}"]}},
         "droplets.templates.web.types.worker[0]: {nope} is no placeholder: there are {port}, {port:N}, {name}, "
         "{python}; {{ is a brace"),
        ({"types": {"Web": ["x"]}},
         "droplets.templates.web.types.Web: a process type is lower-case letters, digits and -, a letter first"),
        ({"env": {"A B": "x"}},
         "droplets.templates.web.env.A B: a variable is letters, digits and _, at most 128, no digit first"),
        ({"env": {"A": "x\0"}}, "droplets.templates.web.env.A: a value has no NUL and at most 32768 bytes"),
        ({"health": {}}, "droplets.templates.web.health: expected one of http: PATH and tcp: PORT"),
        ({"health": {"http": "/", "tcp": 80}},
         "droplets.templates.web.health: expected one of http: PATH and tcp: PORT"),
        ({"health": {"http": "x"}},
         "droplets.templates.web.health.http: expected a path that begins with / and has no blanks"),
        ({"health": {"tcp": 81}}, "droplets.templates.web.health.tcp: 81 is none of the template's ports"),
        ({"health": {"http": "/", "port": 81}},
         "droplets.templates.web.health.port: 81 is none of the template's ports"),
        ({"ports": [], "command": ["x"], "health": {"http": "/"}},
         "droplets.templates.web.health: the template has no ports"),
        ({"limits": {"cpu": 0.0}}, "droplets.templates.web.limits.cpu: expected 0.01 to 1024 cores"),
        ({"mounts": ["a:b"]},
         "droplets.templates.web.mounts[0]: expected /HOST/PATH:/INSIDE/PATH, perhaps with :ro behind it"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_template_is_told_at_its_place(web: dict[str, Any], fault: str) -> None:
    assert faults(web) == [fault]


def test_a_container_needs_an_image() -> None:
    assert faults({}, "docker") == ["droplets.templates.web.image: a container needs an image"]


def test_there_is_one_default() -> None:
    templates = {"a": WEB, "b": WEB}
    assert Result({"droplets": {"templates": templates}}).faults == [
        "droplets.templates.b.default: a is the default already: there is one"
    ]


@pytest.mark.parametrize(
    ("droplets", "fault"),
    [
        ({}, "upstreams.u.droplets: expected one of template: NAME and app: NAME"),
        ({"template": "wep"}, "upstreams.u.droplets.template: no template is named wep; did you mean web?"),
        ({"template": "web", "port": 81}, "upstreams.u.droplets.port: the template has no such port"),
    ],
)
def test_an_upstream_draws_on_droplets_that_there_can_be(droplets: dict[str, Any], fault: str) -> None:
    assert faults({}, upstreams={"u": {"droplets": droplets}}) == [fault]
