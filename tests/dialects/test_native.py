"""The native operations API, its OpenAPI document and the metrics."""

from pathlib import Path
from typing import Any

import pytest
from tests.dialects.house import House, basic, build, subject
from tests.dialects.test_apifest import SCOPE, read, said

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation, parse
from ostiary.control.scopes import OneScope
from ostiary.core.refusal import Refusal
from ostiary.dialects.native import STATUS


def code(status: int, answer: Any) -> Any:
    assert answer.status == status
    return read(answer)["error"]


async def test_an_operation_runs_by_post_and_a_reading_one_also_by_get(house: House) -> None:
    made = await house.ask("POST", "/operations/scopes.create", SCOPE)
    assert read(made) == SCOPE | {"refresh_expires_in": 900}
    assert read(await house.ask("POST", "/operations/scopes.list")) == [read(made)]
    assert read(await house.ask("GET", "/operations/scopes.list?limit=1&after=a")) == [read(made)]
    assert read(await house.ask("GET", "/operations/scopes.get?scope=basic")) == read(made)
    assert dict(made.headers)["Cache-Control"] == "no-store"


async def test_a_change_says_where_it_is_in_force(house: House) -> None:
    answer = await house.ask("POST", "/operations/tokens.revoke_subject", {"user": "bob"})
    assert read(answer) == {"revoked": False, "tokens": 0, "foreign": False}
    assert dict(answer.headers)["X-Ostiary-Applied"].startswith("epoch ")


@pytest.mark.parametrize(
    ("method", "path", "body", "media", "expected"),
    [
        ("GET", "/nothing", b"", "", (404, "path.unknown")),
        ("GET", "/operations/", b"", "", (404, "operation.unknown")),
        ("POST", "/operations/scopes.nosuch", b"", "", (404, "operation.unknown")),
        ("GET", "/operations/scopes.create", b"", "", (405, "method.not_allowed")),
        ("PUT", "/operations/scopes.list", b"", "", (405, "method.not_allowed")),
        ("POST", "/operations", b"", "", (405, "method.not_allowed")),
        ("POST", "/operations/scopes.get", b"{", "application/json", (400, "body.malformed")),
        ("POST", "/operations/scopes.get", b"[" * 50_000, "application/json", (400, "body.malformed")),
        ("POST", "/operations/scopes.get", b'{"scope":"\xff"}', "application/json", (400, "body.malformed")),
        ("POST", "/operations/scopes.get", b"[]", "application/json", (400, "body.not_object")),
        ("POST", "/operations/scopes.get", b"null", "application/json", (400, "body.not_object")),
        ("POST", "/operations/scopes.get", b"{}", "application/json", (400, "params.invalid")),
        ("POST", "/operations/scopes.get", b'{"scope":1}', "application/json", (400, "params.invalid")),
        ("POST", "/operations/scopes.get", b"{}", "text/plain", (415, "body.media_type")),
        ("POST", "/operations/scopes.get", b" " * 1_048_577, "application/json", (413, "body.too_large")),
        ("GET", "/operations/scopes.get", b"", "", (400, "params.invalid")),
        ("GET", "/operations/scopes.get?scope=a&scope=b", b"", "", (400, "params.repeated")),
        ("GET", "/operations/scopes.list?limit=x", b"", "", (400, "params.invalid")),
        ("GET", "/operations/scopes.list?limit=0", b"", "", (400, "params.invalid")),
        ("GET", "/operations/scopes.get?scope=nosuch", b"", "", (404, "scope.unknown")),
        ("GET", "/operations/scopes.get?scope=%00", b"", "", (404, "scope.unknown")),
    ],
)
async def test_what_cannot_be_done_says_why(
    house: House, method: str, path: str, body: bytes, media: str, expected: tuple[int, str]
) -> None:
    answer = await house.ask(method, path, body, media=media)
    assert (answer.status, read(answer)["error"]) == expected


async def test_a_mistake_names_its_place_and_repeats_no_value(house: House) -> None:
    answer = await house.ask("POST", "/operations/scopes.get", {"scope": 12345})
    (mistake,) = read(answer)["mistakes"]
    assert mistake["path"] == "$.scope"
    assert b"12345" not in answer.body


@pytest.mark.parametrize("headers", [{}, {"authorization": basic("admin", "wrong")}, {"authorization": "Digest x"}])
async def test_without_a_valid_credential_nothing_runs(house: House, headers: dict[str, str]) -> None:
    answer = await house.ask("POST", "/operations/scopes.create", b"[", owner=False, headers=headers)
    assert answer.status == 401
    assert dict(answer.headers)["WWW-Authenticate"] == 'Bearer realm="ostiary", Basic realm="ostiary"'
    (record,) = await house.audit()
    assert (record.operation, record.surface) == ("scopes.create", "native")
    assert code(401, await house.ask("GET", "/metrics", owner=False, headers=headers))


async def test_a_client_gets_its_token_with_its_own_secret(house: House) -> None:
    await house.ask("POST", "/operations/scopes.create", SCOPE)
    wanted = {"name": "a", "scope": "basic", "redirect_uri": "https://a.example/"}
    made = read(await house.ask("POST", "/operations/applications.create", wanted))
    await house.ask("POST", "/operations/applications.update", {"client_id": made["client_id"], "active": True})
    issued = await house.ask(
        "POST", "/operations/tokens.issue", made | {"grant_type": "client_credentials"}, owner=False
    )
    assert (issued.status, read(issued)["expires_in"]) == (200, 1800)


async def test_options_and_head_are_answered(house: House) -> None:
    answer = await house.ask("OPTIONS", "/operations/scopes.list", owner=False)
    assert (answer.status, dict(answer.headers)["Allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    assert (await house.ask("HEAD", "/operations/scopes.list")).status == 200


async def test_the_listing_and_the_document_name_every_operation(house: House) -> None:
    names = list(house.registry.operations)
    listed = read(await house.ask("GET", "/operations", owner=False))["operations"]
    assert [each["name"] for each in listed] == names
    document = read(await house.ask("GET", "/openapi.json", owner=False))
    assert document["openapi"] == "3.1.0"
    followed = [name for name, each in house.registry.operations.items() if each.follow is not None]
    paths = [f"/operations/{name}" for name in names] + [f"/operations/{name}/follow" for name in followed]
    assert list(document["paths"]) == paths
    for name, each in house.registry.operations.items():
        path = document["paths"][f"/operations/{name}"]
        assert ("get" in path) is each.reads
        assert path["post"]["summary"] == each.summary
    assert _dangling(document) == []


async def test_the_document_says_who_may_what_comes_back_and_shows_an_example(house: House) -> None:
    document = read(await house.ask("GET", "/openapi.json", owner=False))
    assert list(document["components"]["securitySchemes"]) == ["basic", "bearer"]
    assert [each["name"] for each in document["tags"]] == sorted(
        {name.split(".")[0] for name in house.registry.operations}
    )
    statuses = {status for status in document["paths"]["/operations/scopes.get"]["get"]["responses"] if status != "200"}
    assert statuses == {str(status) for meaning, status in STATUS.items() if meaning is not Refusal}
    for name, declared in house.registry.operations.items():
        asked = document["paths"][f"/operations/{name}"]["post"]
        content = asked["requestBody"]["content"]["application/json"]
        parse(declared, content.get("example", {}))
        assert ("example" in content) is asked["requestBody"]["required"]
        assert declared.permission in asked["description"]
        assert ("headers" in asked["responses"]["200"]) is not declared.reads
    for status, response in ((each[7:], found) for each, found in document["components"]["responses"].items()):
        assert ("Retry-After" in response.get("headers", {})) is (status in ("429", "503"))


def _dangling(document: Any) -> list[str]:
    found, waiting = [], [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            reference = value.get("$ref")
            if isinstance(reference, str) and not _resolves(document, reference):
                found.append(reference)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return found


def _resolves(document: Any, reference: str) -> bool:
    for part in reference.removeprefix("#/").split("/"):
        if part not in document:
            return False
        document = document[part]
    return True


async def test_a_node_that_is_stopped_ends_after_the_answer(house: House) -> None:
    ended: list[bool] = []
    house.control.stop = lambda: ended.append(True)
    answer = await house.ask("POST", "/operations/node.stop", {})
    assert (answer.status, answer.body, ended) == (200, b"{}", [])
    assert answer.after is not None
    answer.after()
    assert ended == [True]
    assert (await house.ask("POST", "/operations/stats.reset", {})).after is None


async def test_metrics_tell_of_failed_log_ins_and_stopped_services(house: House) -> None:
    await house.ask("POST", "/operations/services.stop", {"services": ["oauth"]})
    house.control.penalties.failed("192.0.2.1", "", "a token that never was")
    house.now += 1
    lines = (await house.ask("GET", "/metrics")).body.decode().splitlines()
    for line in (
        'ostiary_penalties{kind="account"} 0.0',
        'ostiary_penalties{kind="address"} 1.0',
        'ostiary_service_up{service="http"} 1.0',
        'ostiary_service_up{service="oauth"} 0.0',
    ):
        assert line in lines


async def test_metrics_are_sums_of_what_workers_report(house: House) -> None:
    await house.ask("GET", "/metrics")
    answer = await house.ask("GET", "/metrics")
    assert dict(answer.headers)["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.body.decode().splitlines()
    for line in (
        'ostiary_requests_total{route="GET /v1.0/x",status="200"} 8.0',
        'ostiary_requests_total{route="GET /v1.0/x",status="404"} 4.0',
        'ostiary_request_seconds_bucket{le="0.000512",route="GET /v1.0/x"} 8.0',
        'ostiary_request_seconds_bucket{le="+Inf",route="GET /v1.0/x"} 12.0',
        'ostiary_request_seconds_count{route="GET /v1.0/x"} 12.0',
        'ostiary_events_total{event="refused.bad_request"} 16.0',
        'ostiary_level{level="connections"} 14.0',
        'ostiary_worker_up{worker="1"} 1.0',
        'ostiary_worker_revision{worker="2"} 5.0',
    ):
        assert line in lines


@operation("doors.break", permission="gateway:manage", reads=False)
async def break_(control: Control, call: Call, params: OneScope) -> None:
    """A defect."""
    raise ZeroDivisionError(params.scope)


async def test_a_defect_is_no_refusal(tmp_path: Path) -> None:
    house = await build(tmp_path, subject(break_))
    with pytest.raises(ZeroDivisionError):
        await house.ask("POST", "/operations/doors.break", {"scope": "x"})
    await house.close()


async def test_the_words_of_a_refusal_are_stable(house: House) -> None:
    answer = await house.ask("POST", "/operations/scopes.delete", {"scope": "nosuch"})
    assert said(answer) == (404, '{"error":"scope.unknown","message":"There is no such scope"}')
