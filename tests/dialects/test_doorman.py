"""The Doorman surface: frame, order of checks, flush, probes."""

import re

import pytest
from tests.dialects.doorman import Visitor
from tests.dialects.house import OWNER, PASSWORD, House, basic
from tests.dialects.test_apifest import read, said

from ostiary.dialects.message import Answer, Request

UNAUTHORIZED = (401, '{"error_code":"AUTH005","error_message":"Unauthorized"}')


def header(answer: Answer, name: str) -> str:
    return dict(answer.headers)[name]


FRAME = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


@pytest.mark.parametrize("path", ["/api/health", "/platform/nothing", "/api/caches"])
async def test_every_answer_has_the_headers_that_keep_browsers_out(admin: Visitor, path: str) -> None:
    assert dict((await admin.ask("GET", path)).headers) | FRAME == dict((await admin.ask("GET", path)).headers)


async def test_the_probes_ask_for_nothing(house: House) -> None:
    wrong = {"authorization": basic("admin", "wrong")}
    for headers in ({}, wrong):
        assert said(await house.ask("GET", "/api/health", owner=False, headers=headers)) == (200, '{"status":"online"}')
    alive = await house.ask("GET", "/platform/monitor/liveness", owner=False)
    assert said(alive) == (200, '{"status":"alive"}')
    ready = await house.ask("GET", "/platform/monitor/readiness", owner=False)
    assert said(ready) == (200, '{"status":"ready"}')


async def test_readiness_tells_more_to_whoever_manages_the_gateway(admin: Visitor) -> None:
    assert read(await admin.ask("GET", "/platform/monitor/readiness")) == {
        "status": "ready",
        "mode": "sqlite",
        "cache_backend": "in-process",
        "store": True,
        "bus": True,
        "workers": {"configured": 2, "serving": 2},
        "revision": 5,
    }


async def test_a_node_without_workers_is_degraded(house: House) -> None:
    house.workers.serving = 0
    answer = await house.ask("GET", "/platform/monitor/readiness", owner=False)
    assert said(answer) == (503, '{"status":"degraded"}')


async def test_a_node_that_ends_is_degraded(house: House) -> None:
    house.desk.draining = True
    answer = await house.ask("GET", "/platform/monitor/readiness", owner=False)
    assert said(answer) == (503, '{"status":"degraded"}')


async def test_a_flush_says_what_went(house: House, admin: Visitor) -> None:
    answer = await admin.ask("DELETE", "/api/caches", b"whatever")
    assert said(answer) == (200, '{"message":"All caches cleared"}')
    assert header(answer, "X-Ostiary-Flushed") == "admissions=3, users=0, roles=0, limits=1, workers=2, nodes=1"
    assert re.fullmatch(r"epoch 0; workers 2/2; nodes 1/1; 2 ms", header(answer, "X-Ostiary-Applied"))
    change = house.workers.changes[-1]
    assert (change.everything, change.limits, change.streams) == (True, True, False)


async def test_a_flush_forgets_penalties_on_demand_only(admin: Visitor) -> None:
    await Visitor(admin.house).log_in("stranger", "wrong")
    assert "penalties" not in header(await admin.ask("DELETE", "/api/caches?penalties=false"), "X-Ostiary-Flushed")
    flushed = header(await admin.ask("DELETE", "/api/caches?penalties=true"), "X-Ostiary-Flushed")
    assert flushed.endswith("nodes=1, penalties=2")  # of the account and of the address
    for query in ("penalties=yes", "penalties=", "penalties=true&penalties=true"):
        answer = await admin.ask("DELETE", f"/api/caches?{query}")
        assert answer.status == 422
        assert read(answer) == {
            "error_code": "VAL001",
            "error_message": "Validation Error",
            "errors": [{"path": "$.penalties", "message": "expected true or false, once"}],
        }


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, 'Bearer realm="ostiary"'),
        ({"authorization": "Bearer x"}, 'Bearer realm="ostiary", error="invalid_token"'),
        ({"authorization": "x"}, 'Bearer realm="ostiary", error="invalid_token"'),
        ({"cookie": "access_token_cookie=x"}, 'Bearer realm="ostiary", error="invalid_token"'),
        # no credentials here
        ({"authorization": ""}, 'Bearer realm="ostiary"'),
        ({"authorization": "Bearer"}, 'Bearer realm="ostiary"'),
        ({"authorization": "token x"}, 'Bearer realm="ostiary"'),
        ({"authorization": basic(OWNER, PASSWORD)}, 'Bearer realm="ostiary"'),
        ({"cookie": "access_token_cookie="}, 'Bearer realm="ostiary"'),
    ],
)
async def test_whatever_is_wrong_with_a_credential_looks_alike(
    house: House, headers: dict[str, str], challenge: str
) -> None:
    answer = await house.ask("DELETE", "/api/caches", owner=False, headers=headers)
    assert said(answer) == UNAUTHORIZED
    assert header(answer, "WWW-Authenticate") == challenge
    (record,) = await house.audit()
    assert (record.operation, record.surface) == ("caches.flush", "doorman")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/api/caches", "DELETE, OPTIONS"),
        ("PUT", "/api/health", "GET, HEAD, OPTIONS"),
        ("FETCH", "/platform/config/reload", "OPTIONS, POST"),
    ],
)
async def test_another_method_is_405_with_those_that_there_are(
    house: House, method: str, path: str, allow: str
) -> None:
    answer = await house.ask(method, path, owner=False)
    assert said(answer) == (405, '{"error_code":"GTW004","error_message":"Method Not Allowed"}')
    assert header(answer, "Allow") == allow


async def test_options_names_the_methods_and_no_more(house: House) -> None:
    answer = await house.ask("OPTIONS", "/api/caches", owner=False)
    assert (answer.status, answer.body, header(answer, "Allow")) == (204, b"", "DELETE, OPTIONS")


@pytest.mark.parametrize(
    "path",
    ["/platform", "/platform/", "/platform/Config/current", "/platform/config/current/", "/platform//config/current",
     "/api/caches/", "/api/caches%2F", "/api", "/platform/config%2Fcurrent"],
)  # fmt: skip
async def test_paths_are_exact(admin: Visitor, path: str) -> None:
    assert said(await admin.ask("GET", path)) == (404, '{"error_code":"GTW003","error_message":"Not Found"}')


async def test_a_body_over_a_mebibyte_is_refused_before_the_credential(house: House, admin: Visitor) -> None:
    body = '{"error_code":"REQ001","error_message":"Request entity too large (max: 1048576 bytes)"}'
    answer = await house.ask("DELETE", "/api/caches", b"x" * 1_048_577, owner=False)
    assert said(answer) == (413, body)
    assert (await admin.ask("DELETE", "/api/caches", b"x" * 1_048_576)).status == 200


async def test_a_reload_says_what_changed(house: House, admin: Visitor) -> None:
    answer = await admin.ask("POST", "/platform/config/reload", b"ignored")
    data = read(answer)["data"]
    assert data.pop("config")["LOG_LEVEL"] == "WARNING"
    assert data == {
        "message": "Configuration reloaded successfully",
        "revision": 1,
        "changed": [],
        "restart_needed": [],
        "routes": {"added": [], "removed": [], "changed": [], "total": 1},
    }
    file = house.path / "ostiary.yaml"
    file.write_text(file.read_text().replace("WARNING", "ERROR"))
    data = read(await admin.ask("POST", "/platform/config/reload"))["data"]
    assert (data["revision"], data["changed"]) == (2, [{"key": "LOG_LEVEL", "old": "WARNING", "new": "ERROR"}])


async def test_a_configuration_with_mistakes_is_not_loaded_and_says_where_they_are(
    house: House, admin: Visitor
) -> None:
    (house.path / "ostiary.yaml").write_text("log: {level: LOUD}\nroutes: 5\n")
    answer = await admin.ask("POST", "/platform/config/reload")
    body = read(answer)
    assert answer.status == 422
    assert list(body) == ["error_code", "error_message", "errors", "revision"]
    message = "Configuration not reloaded: 2 mistakes, revision 1 keeps serving"
    assert (body["error_code"], body["error_message"], body["revision"]) == ("CFG008", message, 1)
    places = [(each["file"], each["line"], each["path"]) for each in body["errors"]]
    assert places == [("ostiary.yaml", 1, "log.level"), ("ostiary.yaml", 2, "routes")]


async def test_the_current_configuration_names_the_command_in_both_places(admin: Visitor) -> None:
    body = read(await admin.ask("GET", "/platform/config/current"))
    assert list(body) == ["data", "reload_command"]
    assert body["data"]["reload_command"] == body["reload_command"]
    assert body["reload_command"].startswith("kill -HUP $(cat /")
    assert list(body["data"]) == ["config", "sources", "revision", "collections", "reload_command"]
    source = {"from": "file", "reloadable": True, "file": "ostiary.yaml", "line": 1}
    assert body["data"]["sources"]["LOG_LEVEL"] == source
    assert body["data"]["collections"] == {"routes": 1, "upstreams": 0, "mappings": 1, "errors": 1, "limits": 0}


async def test_the_reloadable_keys_are_listed_to_whoever_is_signed_in(house: House, admin: Visitor) -> None:
    data = read(await admin.ask("GET", "/platform/config/reloadable-keys"))["data"]
    assert data["total"] == len(data["reloadable_keys"])
    keys = {each["key"] for each in data["reloadable_keys"]}
    assert keys >= {"LOG_LEVEL", "LOG_FORMAT", "SESSION_TTL", "LOGIN_LIMIT"}
    assert not keys & {"ADMIN_LISTEN", "GATEWAY_LISTEN", "GATEWAY_WORKERS", "STORE_URL", "STATE_DIR"}
    assert (await house.ask("GET", "/platform/config/reloadable-keys", owner=False)).status == 401


@pytest.mark.parametrize(
    ("status", "code", "message", "more"),
    [
        (400, "VAL001", "Validation Error", {"errors": [{"path": "$", "message": "malformed header field"}]}),
        (413, "REQ001", "Request entity too large (max: 1048576 bytes)", {}),
        (500, "GTW999", "An unexpected error occurred", {}),
        (503, "GTW998", "Service unavailable", {}),
    ],
)
def test_what_is_no_request_is_refused_in_doormans_words(
    house: House, status: int, code: str, message: str, more: dict[str, object]
) -> None:
    refused = house.router.refuse(Request("", "/platform/config/current"), status, "malformed header field")
    assert refused.status == status
    assert read(refused) == {"error_code": code, "error_message": message, **more}
    assert dict(refused.headers) | FRAME == dict(refused.headers)
