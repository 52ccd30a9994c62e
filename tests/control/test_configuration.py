"""Loading: files and environment together, with every mistake at its place; what is shown and what has changed."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostiary.control.configuration import Built, Origin, build, changes, current, load, reloadable_keys
from ostiary.control.sources import Disk, Kept
from ostiary.core.configuration.keys import KEYS, kept
from ostiary.core.configuration.mapping import told
from ostiary.gateway.bundled import BUNDLED
from ostiary.gateway.plugins import Plugins

EXAMPLES = Path(__file__).parents[2] / "examples"
UPSTREAM = 'upstreams: {u: {servers: ["127.0.0.1:5000"]}}\n'


def written(root: Path, files: dict[str, str]) -> Path:
    """The files below `root`; the path of the main one, which is the first."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / next(iter(files))


def loaded(path: Path, **environ: str) -> Built | list[str]:
    """What is built of a configuration, or its mistakes as text."""
    built = build(load(path, environ, Disk(path.parent)), Plugins(BUNDLED), "/run/public.sock")
    return built if isinstance(built, Built) else [str(each) for each in built]


def clean(path: Path, **environ: str) -> Built:
    """What is built of a configuration without mistakes."""
    built = loaded(path, **environ)
    assert isinstance(built, Built), built
    return built


@pytest.mark.parametrize("name", ["ostiary.yaml", "conformance/ostiary.yaml"])
def test_our_own_examples_are_right_and_trust_this_machine(name: str) -> None:
    (warning,) = clean(EXAMPLES / name).warnings
    assert warning.path == "dialects.apifest.trusted_networks"
    assert warning.message == (
        "peers of the admin listener in 127.0.0.0/8, ::1/128 need no credentials on ApiFest's paths"
    )


def test_yaml_json_and_toml_say_the_same(tmp_path: Path) -> None:
    yaml = UPSTREAM + "log: {level: DEBUG}\nroutes: [{match: GET /a, upstream: u}]\nerrors: {404: {error: x}}\n"
    json = (
        '{"upstreams": {"u": {"servers": ["127.0.0.1:5000"]}}, "log": {"level": "DEBUG"},'
        ' "routes": [{"match": "GET /a", "upstream": "u"}], "errors": {"404": {"error": "x"}}}'
    )
    toml = (
        'routes = [{match = "GET /a", upstream = "u"}]\n[log]\nlevel = "DEBUG"\n'
        '[upstreams.u]\nservers = ["127.0.0.1:5000"]\n[errors.404]\nerror = "x"\n'
    )
    built = [
        clean(written(tmp_path, {f"a.{kind}": text})) for kind, text in (("yaml", yaml), ("json", json), ("toml", toml))
    ]
    assert built[0].settings == built[1].settings == built[2].settings
    assert built[0].compiled == built[1].compiled == built[2].compiled


def test_every_mistake_of_every_file_is_told_in_file_order(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {
            "main.yaml": (
                "include: [more.yaml, lost.yaml]\nlog: {level: LOUD}\nmappings: [maps, gone, 'm/*.xml']\n"
                "routes:\n- {match: GET /a, upstream: nowhere}\nstate_dir: {}\n"
                "store: {url: 'mysql://me:hunter2@db'}\n"
                "dialects: {apifest: {global_errors: lost.xml}}\nnonsense: 1\nadmin: {listen: x}\nadmin: {}\n"
            ),
            "more.yaml": "routes:\n\n- {match: GET /b//c, upstream: nowhere}\n- {match: 5}\nlog: {level: INFO}\n",
            "maps/a.xml": "<mappings>\n<wrong/></mappings>",
            "m/b.xml": '<mappings version="v"><backend host="h" port="1"/><endpoints>\n'
            '<endpoint external="/{x}" internal="/" method="GET"/></endpoints></mappings>',
        },
    )  # fmt: skip
    assert loaded(path, OSTIARY_GATEWAY_WORKERS="many") == [
        "main.yaml:1: include[1]: lost.yaml cannot be included: No such file or directory",
        "main.yaml:2: log.level: expected one of DEBUG, INFO, WARNING, ERROR, got text",
        "main.yaml:3: mappings[1]: Cannot load mapping configuration from directory gone",
        "main.yaml:5: routes[0].upstream: no upstream is named nowhere; none is declared",
        "main.yaml:6: state_dir: expected text, got a mapping",
        "main.yaml:7: store.url: expected sqlite:///PATH or postgresql://USER@HOST:PORT/DATABASE",
        "main.yaml:8: dialects.apifest.global_errors: Cannot load global errors configuration from directory lost.xml",
        "main.yaml:9: nonsense: unknown setting; there are admin, bootstrap, cikit, cluster, deis, dialects, "
        "droplets, errors, gateway, limits, log, login, mappings, oauth, passwords, pid_file, plugins, registration, "
        "routes, session, state_dir, store, tokens, totp, upstreams",
        "main.yaml:11: 'admin' stands twice here, first in line 10",
        "more.yaml:3: routes[0].upstream: no upstream is named nowhere; none is declared",
        "more.yaml:3: routes[0].match: no request has such a path: it is always read as /b/c",
        "more.yaml:4: routes[1].match: expected text, got a whole number; put it in quotes",
        "more.yaml:4: routes[1]: upstream is missing: name of the upstream",
        "more.yaml:5: log.level: stands in main.yaml:2 too",
        "m/b.xml:2: endpoints.endpoint[0].external: external path GET /{x}: "
        "{x} has no expression in varName and varExpression",
        "maps/a.xml:1: <mappings> needs the attribute version",
        "maps/a.xml:1: <mappings> needs a <backend>",
        "maps/a.xml:1: <mappings> needs a <endpoints>",
        "maps/a.xml:2: wrong[0]: <mappings> takes no <wrong>",
        "gateway.workers: OSTIARY_GATEWAY_WORKERS in the environment: expected a whole number or one of auto, got text",
    ]


def test_a_flood_of_mistakes_is_cut_short(tmp_path: Path) -> None:
    text = "routes:\n" + "".join(f"- {{match: GET /{n}, upstream: u}}\n" for n in range(1200))
    found = loaded(written(tmp_path, {"a.yaml": text}))
    assert isinstance(found, list)
    assert found[999:] == [
        "a.yaml:1001: routes[999].upstream: no upstream is named u",
        "a.yaml:0: 200 more mistakes are not listed",
    ]


def test_a_main_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    assert loaded(tmp_path / "a.yaml") == ["a.yaml:0: cannot be read: No such file or directory"]


def test_an_empty_file_is_every_default_below_its_directory(tmp_path: Path) -> None:
    shown = current(clean(written(tmp_path, {"a.yaml": ""}))).config
    assert shown["STATE_DIR"] == f"{tmp_path}/var"
    assert shown["PID_FILE"] == f"{tmp_path}/var/ostiary.pid"
    assert shown["STORE_URL"] == f"sqlite:///{tmp_path}/var/ostiary.db"


def test_paths_start_at_the_directory_of_the_main_file(tmp_path: Path) -> None:
    text = "state_dir: ../s\nstore: {url: 'sqlite:///x.db'}\nlog: {access: a.log}\nplugins: {directory: p}\n"
    found = clean(written(tmp_path, {"d/a.yaml": text})).settings
    assert (found.state_dir, found.pid_file) == (f"{tmp_path}/s", f"{tmp_path}/s/ostiary.pid")
    assert (found.store.url, found.log.access) == (f"sqlite:///{tmp_path}/d/x.db", f"{tmp_path}/d/a.log")
    assert found.plugins.directory == f"{tmp_path}/d/p"


def test_included_files_are_united_with_the_main_one(tmp_path: Path) -> None:
    route = "routes: [{{match: GET /{}, upstream: u}}]\n"
    files = {
        "a.yaml": "include: [conf/*.yaml]\nlimits: {x: {requests: 1}}\n" + route.format("a"),
        "conf/b.yaml": UPSTREAM + "limits: {y: {requests: 2}}\n" + route.format("b"),
        "conf/c.json": "{}",
        "conf/d.yaml": route.format("d"),
    }
    built = clean(written(tmp_path, files))
    assert [each.name for each in built.compiled.configured] == ["GET /a", "GET /b", "GET /d"]
    assert [*built.settings.limits] == ["x", "y"]
    assert [*built.sources.files] == ["a.yaml", "conf/b.yaml", "conf/d.yaml"]


def test_only_the_main_file_includes(tmp_path: Path) -> None:
    files = {"a.yaml": "include: b.yaml\n", "b.yaml": "include: a.yaml\n"}
    assert loaded(written(tmp_path, files)) == ["b.yaml:1: include: only the main file includes others"]


def test_the_environment_stands_above_the_files(tmp_path: Path) -> None:
    path = written(tmp_path, {"a.yaml": "log: {level: INFO, format: text}\n"})
    built = clean(
        path, OSTIARY_LOG_LEVEL="DEBUG", OSTIARY_GATEWAY_WORKERS="3", OSTIARY_ADMIN_HOSTS="a.example, b.example",
        OSTIARY_DIALECTS_APIFEST_STRICT_STATUS="yes", OSTIARY_LOG_FORMAT="", OSTIARY_LOG_LEVLE="x", OSTIARY_URL="x",
    )  # fmt: skip
    shown = current(built)
    assert shown.config["LOG_LEVEL"] == "DEBUG"
    assert shown.config["LOG_FORMAT"] == "text"
    assert shown.config["GATEWAY_WORKERS"] == 3
    assert shown.config["ADMIN_HOSTS"] == ["a.example", "b.example"]
    assert shown.config["DIALECTS_APIFEST_STRICT_STATUS"] is True
    assert shown.sources["LOG_LEVEL"] == Origin("environment", True, name="OSTIARY_LOG_LEVEL")
    assert shown.sources["LOG_FORMAT"] == Origin("file", True, file="a.yaml", line=1)
    assert shown.sources["LOGIN_LIMIT"] == Origin("default", True)
    assert [str(each) for each in built.warnings] == [
        "OSTIARY_LOG_LEVLE in the environment is no setting; did you mean OSTIARY_LOG_LEVEL?"
    ]


def test_secrets_come_from_the_environment_or_from_files_and_are_not_shown(tmp_path: Path) -> None:
    text = "bootstrap: {owner: {name: me, password: {env: PASS}, totp_secret: {file: totp}}}\n"
    path = written(tmp_path, {"a.yaml": text, "totp": "JBSWY3DPEHPK3PXP\n"})
    built = clean(path, PASS="correct horse")
    owner = built.settings.bootstrap.owner
    assert owner is not None
    assert owner.totp_secret is not None
    assert (owner.password.reveal(), owner.totp_secret.reveal()) == ("correct horse", "JBSWY3DPEHPK3PXP")
    assert "hunter2" not in f"{current(built)}{built}".replace(repr(built.sources), "")
    assert loaded(path) == ["a.yaml:1: bootstrap.owner.password: the environment has no variable PASS"]


def test_the_stores_url_may_come_from_the_environment_and_its_password_is_not_shown(tmp_path: Path) -> None:
    path = written(tmp_path, {"a.yaml": "store: {url: {env: DATABASE}}\n"})
    built = clean(path, DATABASE="postgresql://me:hunter2@db/x")
    assert built.settings.store.url == "postgresql://me:hunter2@db/x"
    assert current(built).config["STORE_URL"] == "postgresql://me:[redacted]@db/x"
    assert loaded(path) == ["a.yaml:1: store.url: the environment has no variable DATABASE"]


def test_a_secret_file_that_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    path = written(tmp_path, {"a.yaml": "bootstrap: {owner: {name: me, password: {file: lost}}}\n"})
    assert loaded(path) == ["a.yaml:1: bootstrap.owner.password: lost cannot be read: No such file or directory"]


def test_certificates_that_cannot_be_used_are_mistakes(tmp_path: Path) -> None:
    tls = "{ca: none.pem, certificate: wrong.pem, key: none.key}"
    text = (
        "gateway:\n  tls:\n    certificate: wrong.pem\n    key: wrong.pem\n    client_ca: wrong.pem\n"
        f"upstreams:\n  u:\n    servers: ['h:1']\n    tls: {tls}\n  v: {{servers: ['h:1'], tls: {{key: k}}}}\n"
    )
    assert loaded(written(tmp_path, {"a.yaml": text, "wrong.pem": "no certificate"})) == [
        "a.yaml:4: gateway.tls.key: cannot be used: no certificate or key in it "
        "(keys must be PEM, without a passphrase)",
        "a.yaml:5: gateway.tls.client_ca: cannot be used: no certificate or crl found "
        "(keys must be PEM, without a passphrase)",
        "a.yaml:9: upstreams.u.tls.ca: cannot be read: No such file or directory",
        "a.yaml:9: upstreams.u.tls.key: cannot be read: No such file or directory",
        "a.yaml:10: upstreams.v.tls: certificate and key stand together or not at all",
    ]


PLUGGED = """\
from ostiary import action

@action("late")
def late(arguments):
    raise SystemExit(3)
"""


def test_a_plug_in_that_wants_to_end_the_process_is_a_mistake(tmp_path: Path) -> None:
    text = (
        "plugins: {directory: ., names: {early: 'early.py:x', late: 'late.py:late'}}\n"
        "upstreams: {u: {servers: ['h:1']}}\nroutes: [{match: GET /, upstream: u, actions: [late]}]\n"
    )
    assert loaded(written(tmp_path, {"a.yaml": text, "early.py": "raise SystemExit(3)\n", "late.py": PLUGGED})) == [
        "a.yaml:1: plugins.names.early: plug-in early cannot be loaded: SystemExit: 3",
        "a.yaml:3: routes[0].actions[0]: action late cannot be made: SystemExit: 3",
    ]


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("folder", "Is a directory"),
        ("a.yaml/x/access.log", "Not a directory"),
        ("pipe", "No such device or address"),
        ("x" * 300, "File name too long"),
    ],
)
def test_an_access_log_that_cannot_be_written_is_a_mistake(tmp_path: Path, file: str, why: str) -> None:
    path = written(tmp_path, {"a.yaml": f"log: {{access: {file}}}\n", "folder/x": ""})
    os.mkfifo(tmp_path / "pipe")
    assert loaded(path) == [f"a.yaml:1: log.access: {str(tmp_path / file)[:200]} cannot be written: {why}"]


def test_an_access_log_is_not_made_before_it_is_needed(tmp_path: Path) -> None:
    clean(written(tmp_path, {"a.yaml": "log: {access: logs/access.log}\n"}))
    assert not (tmp_path / "logs").exists()


def test_mapping_files_are_read_in_byte_order_and_once(tmp_path: Path) -> None:
    mapping = (
        '<mappings version="v"><backend host="h" port="1"/><endpoints>'
        '<endpoint external="/{}" internal="/" method="GET"/></endpoints></mappings>'
    )
    files = {
        "a.yaml": "mappings: [m, 'm/*.xml', {files: m/b.xml}]\n",
        "m/b.xml": mapping.format("b"),
        "m/a.xml": mapping.format("a"),
    }
    built = clean(written(tmp_path, files))
    assert [each.name for each in built.compiled.configured] == ["GET /a", "GET /b"]
    assert current(built).collections == {"routes": 2, "upstreams": 0, "mappings": 2, "errors": 0, "limits": 0}


def test_a_file_is_legacy_or_not(tmp_path: Path) -> None:
    mapping = (
        '<mappings version="v"><backend host="h" port="1"/><endpoints>'
        '<endpoint external="/a.b" internal="/" method="GET"/></endpoints></mappings>'
    )
    path = written(tmp_path, {"a.yaml": "mappings: [{files: m, legacy_regex: true}]\n", "m/a.xml": mapping})
    assert [each.name for each in clean(path).compiled.configured] == ["GET /{:a.b}"]
    written(tmp_path, {"a.yaml": "mappings: [{files: m, legacy_regex: true}, m/a.xml]\n"})
    assert loaded(path) == [
        "a.yaml:1: mappings[1]: m/a.xml is read with legacy_regex by one entry and without by another"
    ]


def test_what_was_read_is_enough_to_load_it_again(tmp_path: Path) -> None:
    files = {
        "a.yaml": UPSTREAM + "include: [c/*.yaml]\nmappings: [m]\ndialects: {apifest: {global_errors: g.xml}}\n"
        "bootstrap: {owner: {name: me, password: {file: secret}}}\n",
        "c/b.yaml": "routes: [{match: GET /b, upstream: u}]\n",
        "m/a.xml": '<mappings version="v"><backend host="h" port="1"/><endpoints>'
        '<endpoint external="/m" internal="/" method="GET"/></endpoints></mappings>',
        "g.xml": '<global-errors><error status="404" message="x"/></global-errors>',
        "secret": "correct horse",
    }
    path = written(tmp_path, files)
    built = clean(path)
    for name in files:
        (tmp_path / name).unlink()
    again = build(load(path, {}, Kept(built.sources, Disk(tmp_path))), Plugins(BUNDLED), "/run/public.sock")
    assert isinstance(again, Built)
    assert (again.settings, again.compiled, again.sources) == (built.settings, built.compiled, built.sources)


def test_current_says_how_to_reload(tmp_path: Path) -> None:
    path = written(tmp_path, {"my dir/a.yaml": ""})
    assert current(clean(path)).reload_command == f"kill -HUP $(cat '{tmp_path}/my dir/var/ostiary.pid')"


def test_reloadable_keys_are_those_that_current_says_are(tmp_path: Path) -> None:
    listed = reloadable_keys()
    sources = current(clean(written(tmp_path, {"a.yaml": ""}))).sources
    assert [each.key for each in listed.reloadable_keys] == [key for key, each in sources.items() if each.reloadable]
    assert listed.total == len(listed.reloadable_keys)
    assert set(sources) == set(KEYS)


def difference(tmp_path: Path, old: str, new: str) -> Any:
    """The changes from one text to another, with what needs a restart kept."""
    before = clean(written(tmp_path, {"a.yaml": old}))
    read = load(written(tmp_path, {"a.yaml": new}), {}, Disk(tmp_path))
    after = build(read, Plugins(BUNDLED), "/run/public.sock", lambda asked: kept(before.settings, asked))
    assert isinstance(after, Built)
    return changes(before, after, read.settings)


def test_changes_name_keys_routes_and_what_waits_for_a_restart(tmp_path: Path) -> None:
    old = (
        UPSTREAM
        + "admin: {listen: '127.0.0.1:1'}\nroutes:\n- {match: GET /a, upstream: u}\n- {match: GET /b, upstream: u}\n"
    )
    new = (
        UPSTREAM + "admin: {listen: '127.0.0.1:2'}\nlog: {level: DEBUG}\nstore: {url: 'sqlite:///x'}\nroutes:\n"
        "- {match: GET /c, upstream: u}\n- {match: GET /b, upstream: u, timeout: 1s}\n"
    )
    found = difference(tmp_path, old, new)
    assert [(each.key, each.old, each.new) for each in found.changed] == [("LOG_LEVEL", "INFO", "DEBUG")]
    assert found.restart_needed == ["ADMIN_LISTEN", "STORE_URL"]
    routes = found.routes
    assert (routes.added, routes.removed, routes.changed, routes.total) == (["GET /c"], ["GET /a"], ["GET /b"], 2)


def test_nothing_changed_is_empty_lists(tmp_path: Path) -> None:
    found = difference(tmp_path, UPSTREAM, "# another comment\n" + UPSTREAM)
    assert (found.changed, found.restart_needed, found.routes.added) == ([], [], [])


def test_long_lists_of_changes_are_cut_and_the_total_is_not(tmp_path: Path) -> None:
    routes = UPSTREAM + "routes:\n" + "".join(f"- {{match: GET /{n}, upstream: u}}\n" for n in range(1200))
    found = difference(tmp_path, "", routes)
    assert (len(found.routes.added), found.routes.total) == (1000, 1200)


def test_a_mistake_is_told_to_apifest_with_its_place(tmp_path: Path) -> None:
    path = written(tmp_path, {"a.yaml": "mappings: [gone]\n"})
    built = build(load(path, {}, Disk(tmp_path)), Plugins(BUNDLED), "")
    assert isinstance(built, list)
    assert [told(each) for each in built] == [
        "Cannot load mapping configuration from directory gone (a.yaml:1: mappings[0])"
    ]


TEXTS = st.text("abc:-[]{}&*\"' \n/GETroutesupmachlimgwy0159,.", max_size=120)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    TEXTS,
    st.sampled_from(
        ["", UPSTREAM, "routes: ", "gateway: ", "include: ", "mappings: ", "upstreams: ", "errors: ", "limits: "]
    ),
)
def test_whatever_the_file_says_it_is_built_or_told(tmp_path: Path, text: str, head: str) -> None:
    found = loaded(written(tmp_path, {"a.yaml": head + text}))
    assert isinstance(found, Built) or found
