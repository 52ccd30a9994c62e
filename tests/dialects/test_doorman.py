"""The Doorman surface: frame, order of checks, flush, probes."""

import re

import msgspec
import pytest
from tests.dialects.house import House, basic
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
async def test_every_answer_has_the_headers_that_keep_browsers_out(house: House, path: str) -> None:
    assert dict((await house.ask("GET", path)).headers) | FRAME == dict((await house.ask("GET", path)).headers)


async def test_the_probes_ask_for_nothing(house: House) -> None:
    wrong = {"authorization": basic("admin", "wrong")}
    for headers in ({}, wrong):
        assert said(await house.ask("GET", "/api/health", owner=False, headers=headers)) == (200, '{"status":"online"}')
    alive = await house.ask("GET", "/platform/monitor/liveness", owner=False)
    assert said(alive) == (200, '{"status":"alive"}')
    ready = await house.ask("GET", "/platform/monitor/readiness", owner=False)
    assert said(ready) == (200, '{"status":"ready"}')


async def test_readiness_tells_more_to_whoever_manages_the_gateway(house: House) -> None:
    assert read(await house.ask("GET", "/platform/monitor/readiness")) == {
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


async def test_a_flush_says_what_went(house: House) -> None:
    answer = await house.ask("DELETE", "/api/caches", b"whatever")
    assert said(answer) == (200, '{"message":"All caches cleared"}')
    assert header(answer, "X-Ostiary-Flushed") == "admissions=3, users=0, roles=0, limits=1, workers=2, nodes=1"
    assert re.fullmatch(r"epoch 0; workers 2/2; nodes 1/1; 2 ms", header(answer, "X-Ostiary-Applied"))
    change = house.workers.changes[-1]
    assert (change.everything, change.limits, change.streams) == (True, True, False)


async def test_a_flush_forgets_penalties_on_demand_only(house: House) -> None:
    await house.ask("GET", "/oauth20/scopes", owner=False, headers={"authorization": basic("stranger", "wrong")})
    assert "penalties" not in header(await house.ask("DELETE", "/api/caches?penalties=false"), "X-Ostiary-Flushed")
    flushed = header(await house.ask("DELETE", "/api/caches?penalties=true"), "X-Ostiary-Flushed")
    assert flushed.endswith("nodes=1, penalties=1")
    for query in ("penalties=yes", "penalties=", "penalties=true&penalties=true"):
        answer = await house.ask("DELETE", f"/api/caches?{query}")
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
        ({"authorization": basic("admin", "wrong")}, 'Bearer realm="ostiary", error="invalid_token"'),
        ({"authorization": "Bearer x"}, 'Bearer realm="ostiary", error="invalid_token"'),
        ({"authorization": ""}, 'Bearer realm="ostiary", error="invalid_token"'),
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


async def test_a_foreign_page_cannot_use_the_password_that_a_browser_remembers(house: House) -> None:
    answer = await house.ask("DELETE", "/api/caches", headers={"origin": "http://evil.example"})
    assert said(answer) == UNAUTHORIZED
    assert house.workers.changes == []


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
async def test_paths_are_exact(house: House, path: str) -> None:
    assert said(await house.ask("GET", path)) == (404, '{"error_code":"GTW003","error_message":"Not Found"}')


async def test_a_body_over_a_mebibyte_is_refused_before_the_credential(house: House) -> None:
    body = '{"error_code":"REQ001","error_message":"Request entity too large (max: 1048576 bytes)"}'
    answer = await house.ask("DELETE", "/api/caches", b"x" * 1_048_577, owner=False)
    assert said(answer) == (413, body)
    assert (await house.ask("DELETE", "/api/caches", b"x" * 1_048_576)).status == 200


async def test_a_throttled_log_in_says_how_long(house: House) -> None:
    for _ in range(5):
        await house.ask("DELETE", "/api/caches", owner=False, headers={"authorization": basic("admin", "wrong")})
    answer = await house.ask("DELETE", "/api/caches")
    assert answer.status == 429
    assert read(answer)["error_code"] == "IP_RATE_LIMIT"
    assert header(answer, "Retry-After") == "30"


async def test_a_reload_says_what_changed(house: House) -> None:
    answer = await house.ask("POST", "/platform/config/reload", b"ignored")
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
    data = read(await house.ask("POST", "/platform/config/reload"))["data"]
    assert (data["revision"], data["changed"]) == (2, [{"key": "LOG_LEVEL", "old": "WARNING", "new": "ERROR"}])


async def test_a_configuration_with_mistakes_is_not_loaded_and_says_where_they_are(house: House) -> None:
    (house.path / "ostiary.yaml").write_text("log: {level: LOUD}\nroutes: 5\n")
    answer = await house.ask("POST", "/platform/config/reload")
    body = read(answer)
    assert answer.status == 422
    assert list(body) == ["error_code", "error_message", "errors", "revision"]
    message = "Configuration not reloaded: 2 mistakes, revision 1 keeps serving"
    assert (body["error_code"], body["error_message"], body["revision"]) == ("CFG008", message, 1)
    places = [(each["file"], each["line"], each["path"]) for each in body["errors"]]
    assert places == [("ostiary.yaml", 1, "log.level"), ("ostiary.yaml", 2, "routes")]


async def test_the_current_configuration_names_the_command_in_both_places(house: House) -> None:
    body = read(await house.ask("GET", "/platform/config/current"))
    assert list(body) == ["data", "reload_command"]
    assert body["data"]["reload_command"] == body["reload_command"]
    assert body["reload_command"].startswith("kill -HUP $(cat /")
    assert list(body["data"]) == ["config", "sources", "revision", "collections", "reload_command"]
    source = {"from": "file", "reloadable": True, "file": "ostiary.yaml", "line": 1}
    assert body["data"]["sources"]["LOG_LEVEL"] == source
    assert body["data"]["collections"] == {"routes": 1, "upstreams": 0, "mappings": 1, "errors": 1, "limits": 0}


async def test_the_reloadable_keys_are_listed_to_whoever_is_signed_in(house: House) -> None:
    data = read(await house.ask("GET", "/platform/config/reloadable-keys"))["data"]
    assert data["total"] == len(data["reloadable_keys"])
    keys = {each["key"] for each in data["reloadable_keys"]}
    assert keys >= {"LOG_LEVEL", "LOG_FORMAT", "SESSION_TTL", "LOGIN_LIMIT"}
    assert not keys & {"ADMIN_LISTEN", "GATEWAY_LISTEN", "GATEWAY_WORKERS", "STORE_URL", "STATE_DIR"}
    assert (await house.ask("GET", "/platform/config/reloadable-keys", owner=False)).status == 401


async def test_what_is_no_request_is_refused_in_doormans_words(house: House) -> None:
    refused = house.router.refuse(Request("", "/platform/config/current"), 400, "malformed header field")
    assert said(refused) == (400, '{"error_code":"REQ400","error_message":"malformed header field"}')
    defect = house.router.refuse(Request("GET", "/api/health"), 500, "an unexpected error occurred")
    assert said(defect) == (500, '{"error_code":"GTW999","error_message":"An unexpected error occurred"}')
    other = house.router.refuse(Request("", "/oauth20/tokens"), 400, "malformed header field")
    assert said(other) == (400, '{"error":"malformed header field"}')
    assert msgspec.json.decode(house.router.refuse(Request("", ""), 400, "x").body) == {
        "error": "http.400",
        "message": "x",
    }
