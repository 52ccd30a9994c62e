"""The doveadm surface: its frame, credentials, batches and what it adds to the original."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from msgspec import Struct
from tests.dialects.house import OWNER, PASSWORD, House, basic, build, subject

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.credentials import CreatePersonal
from ostiary.control.registry import operation
from ostiary.control.roles import CreateRole
from ostiary.core.configuration.measure import Secret, Timeout
from ostiary.core.configuration.settings import DialectSettings, DoveadmSettings, ServiceKeySettings, Settings
from ostiary.core.permission import OWNER as ALL
from ostiary.core.permission import ROLES, Principal
from ostiary.core.refusal import Conflict, NotFound, Unavailable
from ostiary.core.snapshot import SECOND
from ostiary.dialects.doveadm import Doveadm
from ostiary.dialects.message import Answer, Request
from ostiary.store.people import Roles

KEY, SERVICE_PASSWORD = "key", "hello:doveadm"
WHO = b'[["who",{},"t"]]'


class Nothing(Struct, frozen=True):
    """Nothing is asked for."""


class Named(Struct, frozen=True):
    """A name."""

    name: str
    numbers: list[int] = []
    share: float = 0.0


class Room(Struct, frozen=True):
    name: str
    size: int


class Stage:
    """Operations that tests hold in hand."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.begun = asyncio.Event()
        self.runs = 0

        @operation("stage.wait", permission="gateway:manage")
        async def wait(control: Control, call: Call, params: Nothing) -> Nothing:
            """Wait until the test says so."""
            self.runs += 1
            self.begun.set()
            await self.open.wait()
            return Nothing()

        @operation("stage.break", reads=True, permission="")
        async def break_(control: Control, call: Call, params: Nothing) -> Nothing:
            """Break."""
            raise ZeroDivisionError("a secret")

        @operation("stage.rooms", reads=True, permission="routes:read")
        async def rooms(control: Control, call: Call, params: Nothing) -> list[Room]:
            """List rooms."""
            return [Room("hall", 3), Room("attic", 1)]

        @operation("stage.room", reads=True, permission="routes:read")
        async def room(control: Control, call: Call, params: Named) -> Room:
            """Show a room."""
            refusals = {"full": Conflict("room.full", "No"), "nobody": NotFound("user.unknown", "No")}
            if params.name in refusals:
                raise refusals[params.name]
            return Room(params.name, sum(params.numbers))

        self.subject = subject(wait, break_, rooms, room)


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
async def house(tmp_path: Path, stage: Stage) -> AsyncIterator[House]:
    built = await build(tmp_path, stage.subject)
    configure(built)
    yield built
    built.control.passwords.close()
    await built.close()


def configure(house: House, **settings: Any) -> None:
    """Settings of the surface: a key and a password, unless told otherwise."""
    given = {"api_key": Secret(KEY), "password": Secret(SERVICE_PASSWORD), **settings}
    house.settings = Settings(dialects=DialectSettings(doveadm=DoveadmSettings(**given)))


def keyed(key: str = KEY, **more: str) -> dict[str, str]:
    return {"authorization": "X-Dovecot-API " + base64.b64encode(key.encode()).decode(), **more}


async def send(
    house: House, body: bytes = WHO, headers: dict[str, str] | None = None, *, method: str = "POST",
    path: str = "/doveadm/v1",
) -> Answer:  # fmt: skip
    sent = keyed() if headers is None else headers
    return await house.ask(method, path, body, owner=False, media="text/plain", headers=sent)


async def run(house: House, *commands: object, query: str = "", headers: dict[str, str] | None = None) -> Any:
    answer = await send(house, msgspec.json.encode(commands), headers, path=f"/doveadm/v1{query}")
    assert (answer.status, dict(answer.headers)["Content-Type"]) == (200, "application/json; charset=utf-8")
    return msgspec.json.decode(answer.body)


def failed(code: int, tag: str = "t") -> list[object]:
    return ["error", {"type": "exitCode", "exitCode": code}, tag]


# The frame


@pytest.mark.parametrize("path", ["/doveadm/v1/", "/doveadm", "/doveadm/v2", "/doveadm/v1/x", "/doveadm/%761"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_other_paths_are_404_before_credentials(house: House, method: str, path: str) -> None:
    answer = await send(house, headers={}, method=method, path=path)
    assert (answer.status, answer.body, answer.reason) == (404, b"Path Not Found\r\n", "Path Not Found")
    assert answer.headers == (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "post", "TRACE"])
async def test_other_methods_are_404_never_405(house: House, method: str) -> None:
    assert (await send(house, method=method)).status == 404


async def test_options_needs_no_credential_and_grants_nothing(house: House) -> None:
    answer = await send(house, b"x" * 2_000_000, {"origin": "http://evil.example"}, method="OPTIONS")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers == (("Cache-Control", "no-store"), ("Allow", "GET, POST, OPTIONS"))


async def test_a_body_over_the_limit_is_413_before_credentials(house: House) -> None:
    answer = await send(house, b" " * (1 << 20) + b"[", {})
    assert (answer.status, answer.body, answer.close) == (413, b"Payload Too Large\r\n", True)
    assert (await send(house, b" " * ((1 << 20) - 2) + b"[]")).body == b"[]"


async def test_the_list_of_commands_ignores_the_query_and_needs_a_credential_only(house: House) -> None:
    configure(house, keys=[ServiceKeySettings("none", Secret("weak"), "nosuch")])
    answer = await send(house, b"", keyed("weak"), method="GET", path="/doveadm/v1?dry_run=7")
    listed = msgspec.json.decode(answer.body)
    assert answer.status == 200
    assert listed[0] == {"command": "reload", "parameters": []}
    assert listed[2] == {"command": "serviceStop", "parameters": [{"name": "service", "type": "array"}]}
    names = [each["command"] for each in listed]
    assert names[:23] == [
        "reload", "stop", "serviceStop", "serviceStatus", "statsDump", "statsReset", "penalty", "kick", "who",
        "directorStatus", "directorMap", "directorAdd", "directorUpdate", "directorUp", "directorDown",
        "directorRemove", "directorMove", "directorKick", "directorFlush", "directorDump", "directorRingAdd",
        "directorRingRemove", "directorRingStatus",
    ]  # fmt: skip
    operations = sorted(name for name in house.registry.operations if not name.startswith("login."))
    assert names[23:] == operations
    assert {"command": "tokens.revoke_all", "parameters": [{"name": "user", "type": "string"}]} in listed
    up = next(each for each in listed if each["command"] == "directorUp")
    assert [each["name"] for each in up["parameters"]] == ["socketPath", "host"]
    room = next(each for each in listed if each["command"] == "stage.room")
    assert [each["type"] for each in room["parameters"]] == ["string", "array", "number"]


@pytest.mark.parametrize("status", [400, 408, 413, 417, 431, 500, 503])
async def test_what_is_no_request_is_refused_in_text(house: House, status: int) -> None:
    answer = house.router.refuse(Request("", "/doveadm/v1"), status, "what was wrong")
    assert (answer.status, answer.close) == (status, True)
    assert dict(answer.headers)["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.body.endswith(b"\r\n")


# Credentials


BOTH = (("WWW-Authenticate", "X-Dovecot-API"), ("WWW-Authenticate", 'Basic Realm="doveadm"'))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "X-Dovecot-API"},
        {"authorization": f"X-Dovecot-API {KEY}"},
        {"authorization": "X-Dovecot-API ===="},
        keyed("wrong"),
        keyed(KEY + "\n"),
        keyed(""),
        {"x-api-key": KEY},
        {"authorization": basic("doveadm", "wrong")},
        {"authorization": basic("Doveadm", SERVICE_PASSWORD)},
        {"authorization": basic("doveadm", KEY)},
        {"authorization": basic("doveadm", "")},
        {"authorization": "Basic"},
        {"authorization": "Basic %%%"},
        {"authorization": "Bearer " + "0" * 64},
        {"authorization": "Bearer \u00e9"},
        {"authorization": "Digest x"},
        {"authorization": "x" * 20_000},
        {"cookie": "access_token_cookie=x"},
    ],
)
async def test_what_is_no_credential_is_401_with_a_line_a_scheme(house: House, headers: dict[str, str]) -> None:
    answer = await send(house, b"no payload at all", headers)
    assert (answer.status, answer.body, answer.reason) == (401, b"", "Authentication required")
    assert answer.headers == (("Cache-Control", "no-store"), *BOTH)


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({"password": None}, BOTH[:1]),
        ({"api_key": None}, BOTH[1:]),
        ({"api_key": None, "keys": [ServiceKeySettings("m", Secret("k"))], "password": None}, BOTH[:1]),
        ({"api_key": None, "password": None}, (("WWW-Authenticate", 'Bearer realm="ostiary"'),)),
    ],
)
async def test_only_configured_schemes_are_offered(house: House, settings: dict[str, Any], lines: object) -> None:
    configure(house, **settings)
    assert (await send(house, headers={})).headers[1:] == lines


@pytest.mark.parametrize(
    "authorization",
    [
        "X-Dovecot-API a2V5",
        "x-dovecot-api   a2V5  ",
        "X-DOVECOT-API a2V5",
        basic("doveadm", SERVICE_PASSWORD),
        basic("doveadm", SERVICE_PASSWORD).rstrip("="),
        "bAsIc " + basic("doveadm", SERVICE_PASSWORD)[6:],
        basic(OWNER, PASSWORD),
    ],
)
async def test_credentials_are_taken(house: House, authorization: str) -> None:
    assert (await send(house, headers={"authorization": authorization})).status == 200


@pytest.mark.parametrize("key", ["a", "ab", "abcd", "k\u00e9y", "with:colon"])
async def test_keys_are_taken_padded_or_not(house: House, key: str) -> None:
    configure(house, api_key=Secret(key))
    sent = base64.b64encode(key.encode()).decode()
    for text in {sent, sent.rstrip("=")}:
        assert (await send(house, headers={"authorization": f"X-Dovecot-API {text}"})).status == 200


async def test_of_two_headers_the_first_counts(house: House) -> None:
    async def status(*values: str) -> int:
        request = Request(
            "POST", "/doveadm/v1", "", {"authorization": list(values)}, "127.0.0.1", WHO, address="192.0.2.1"
        )
        return (await house.answer(request)).status

    right, wrong, owner = keyed()["authorization"], keyed("wrong")["authorization"], basic(OWNER, PASSWORD)
    assert [await status(right, wrong), await status(wrong, right)] == [200, 401]
    assert [await status(owner, wrong), await status(wrong, owner)] == [200, 401]


async def test_neither_key_nor_password_configured_leaves_other_operators(house: House) -> None:
    configure(house, api_key=None, password=None)
    assert (await send(house)).status == 401
    assert (await send(house, headers={"authorization": basic("doveadm", SERVICE_PASSWORD)})).status == 401
    assert (await send(house, headers={"authorization": basic(OWNER, PASSWORD)})).status == 200


async def test_an_empty_key_opens_nothing(house: House) -> None:
    configure(house, api_key=Secret(""), password=Secret(""), keys=[ServiceKeySettings("m", Secret(""))])
    assert (await send(house, headers=keyed(""))).status == 401
    assert (await send(house, headers={"authorization": basic("doveadm", "")})).status == 401


async def test_named_keys_hold_at_once_each_with_its_role_and_a_reload_takes_one_away(house: House) -> None:
    old, new = ServiceKeySettings("old", Secret("k1"), "viewer"), ServiceKeySettings("new", Secret("k2"), "admin")
    configure(house, keys=[old, new])
    command = ["caches.flush", {}, "t"]
    assert await run(house, command, headers=keyed("k1")) == [failed(77)]
    assert (await run(house, command, headers=keyed("k2")))[0][0] == "doveadmResponse"
    configure(house, keys=[new])
    assert (await send(house, headers=keyed("k1"))).status == 401
    assert (await send(house, headers=keyed("k2"))).status == 200


async def test_another_password_holds_at_once(house: House) -> None:
    assert (await send(house, headers={"authorization": basic("doveadm", SERVICE_PASSWORD)})).status == 200
    configure(house, password=Secret("another"))
    assert (await send(house, headers={"authorization": basic("doveadm", SERVICE_PASSWORD)})).status == 401
    assert (await send(house, headers={"authorization": basic("doveadm", "another")})).status == 200


async def test_a_custom_role_holds_as_it_is_now(house: House) -> None:
    configure(house, role="watch")
    assert await run(house, ["stage.rooms", {}, "t"]) == [failed(77)]
    owner = Principal("user", OWNER, ALL)
    await house.desk.run("roles.create", CreateRole("watch", ["routes:read"]), Call(owner))
    assert (await run(house, ["stage.rooms", {}, "t"]))[0][0] == "doveadmResponse"


async def test_a_personal_token_is_a_bearer_credential(house: House) -> None:
    owner = await house.control.users.named(OWNER)
    assert owner is not None
    made = await house.desk.run(
        "tokens.create_personal",
        CreatePersonal("t"),
        Call(Principal("user", OWNER, ALL, number=owner.user.number)),
    )
    assert (await send(house, headers={"authorization": f"Bearer {made.access_token}"})).status == 200


async def test_an_access_token_of_a_client_permits_nothing(house: House) -> None:
    made = await run(
        house,
        ["scopes.create", {"scope": "basic", "cc_expires_in": 60, "pass_expires_in": 60, "description": "d"}, "a"],
        ["applications.create", {"name": "app", "scope": "basic", "redirect_uri": "http://a.example"}, "b"],
    )
    (application,) = made[1][1]
    issue = {"grant_type": "client_credentials"}
    issue |= {name: application[name] for name in ("client_id", "client_secret")}
    await run(house, ["applications.update", {"client_id": application["client_id"], "active": 1}, "t"])
    (issued,) = await run(house, ["tokens.issue", issue, "t"])
    bearer = {"authorization": f"Bearer {issued[1][0]['access_token']}"}
    denied = [failed(77, "a"), failed(77, "b")]
    assert await run(house, ["who", {}, "a"], ["tokens.issue", issue, "b"], headers=bearer) == denied


async def test_wrong_keys_bar_their_address_and_nobody_else(house: House) -> None:
    for _ in range(100):
        assert (await send(house, headers=keyed("wrong"))).status == 401
    answer = await send(house)
    assert (answer.status, answer.body) == (429, b"Too Many Requests\r\n")
    assert int(dict(answer.headers)["Retry-After"]) >= 1
    elsewhere = Request("POST", "/doveadm/v1", "", {"authorization": [keyed()["authorization"]]}, "h", WHO)
    elsewhere.address = "198.51.100.7"
    assert (await house.answer(elsewhere)).status == 200


async def test_a_right_key_clears_no_failures(house: House) -> None:
    for _ in range(50):
        await send(house, headers=keyed("wrong"))
        await send(house)
    for _ in range(50):
        await send(house, headers={"authorization": basic("doveadm", "wrong")})
    assert (await send(house)).status == 429


# Browsers


FOREIGN: list[dict[str, str]] = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
]


@pytest.mark.parametrize("more", FOREIGN)
@pytest.mark.parametrize("name", ["doveadm", OWNER])
async def test_a_foreign_page_cannot_use_a_stored_password(house: House, name: str, more: dict[str, str]) -> None:
    password = SERVICE_PASSWORD if name == "doveadm" else PASSWORD
    answer = await send(house, b"no payload", {"authorization": basic(name, password), **more})
    assert (answer.status, answer.body) == (403, b"Cross-site request refused\r\n")
    assert (await send(house, headers={"authorization": basic(name, "wrong"), **more})).status == 401
    listing = await send(house, b"", {"authorization": basic(name, password), **more}, method="GET")
    assert listing.status == 200


@pytest.mark.parametrize("more", FOREIGN)
async def test_a_key_cannot_be_added_by_a_foreign_page(house: House, more: dict[str, str]) -> None:
    assert (await send(house, headers=keyed(**more))).status == 200


# A batch


async def test_entries_are_byte_exact_and_in_order(house: House) -> None:
    body = (
        b'[["stage.room",{"name":"x"},"a"],["stage.room",{"name":"full"},"b"],["nosuch",{},"c"],["who",{"x":1},"d"],'
        b'[ "stage.break", {},"e\\n\\u00e9"]]'
    )
    assert (await send(house, body)).body == (
        b'[["doveadmResponse",[{"name":"x","size":0}],"a"],["error",{"type":"exitCode", "exitCode":65},"b"],'
        b'["error",{"type":"unknownMethod", "exitCode":0},"c"],["error",{"type":"invalidRequest", "exitCode":0},"d"],'
        b'["error",{"type":"internalError", "exitCode":70},"e\\n\xc3\xa9"]]'
    )


async def test_nothing_asked_is_nothing_answered(house: House) -> None:
    answer = await send(house, b"[]")
    assert (answer.body, answer.headers) == (
        b"[]",
        (("Content-Type", "application/json; charset=utf-8"), ("Cache-Control", "no-store")),
    )


async def test_a_mistake_in_the_payload_runs_nothing(house: House, stage: Stage) -> None:
    answer = await send(house, b'[["roles.create",{"role":"r"},"t"],["who",{},"t",1]]')
    assert (answer.status, answer.body) == (400, b"Unexpected JSON element at end of command\r\n")
    assert dict(answer.headers)["Content-Type"] == "text/plain; charset=utf-8"
    assert await house.control.roles.get("r") is None


@pytest.mark.parametrize(
    ("values", "rows"),
    [
        ({"name": "x", "numbers": [1, 2]}, [{"name": "x", "size": 3}]),
        ({"name": 7}, [{"name": "7", "size": 0}]),
        ({"name": True}, [{"name": "true", "size": 0}]),
        ({"name": "x", "share": 1.5}, [{"name": "x", "size": 0}]),
        ({"name": "x", "share": "2"}, [{"name": "x", "size": 0}]),
    ],
)
async def test_values_are_taken_as_the_original_takes_them(house: House, values: object, rows: object) -> None:
    assert await run(house, ["stage.room", values, "t"]) == [["doveadmResponse", rows, "t"]]


@pytest.mark.parametrize(
    "values",
    [
        {"name": None}, {"name": []}, {"name": {}}, {"name": "x", "numbers": {}}, {"name": "x", "share": "y"},
        {"name": "x", "share": None}, {"name": "x", "nope": 1}, {"Name": "x"}, {"nope": 1},
    ],
)  # fmt: skip
async def test_values_of_another_type_and_unknown_parameters_are_invalid_requests(house: House, values: object) -> None:
    entry = ["error", {"type": "invalidRequest", "exitCode": 0}, "t"]
    assert await run(house, ["stage.room", values, "t"]) == [entry]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["stage.room", {}, "t"], 64),
        (["stage.room", {"name": "x", "numbers": ["a"]}, "t"], 64),
        (["stage.room", {"name": "full"}, "t"], 65),
        (["stage.room", {"name": "nobody"}, "t"], 67),
        (["roles.get", {"role": "nosuch"}, "t"], 68),
        (["users.create", {"user": "doveadm", "role": "viewer"}, "t"], 64),
        (["users.create", {"user": "DoveAdm", "role": "viewer"}, "t"], 64),
        (["users.totp_setup", {"user": "nosuch"}, "t"], 77),
    ],
)
async def test_refusals_have_their_exit_codes(house: House, command: object, code: int) -> None:
    assert await run(house, command) == [failed(code)]


async def test_a_missing_permission_is_told_before_a_missing_value_and_stands_in_the_audit(house: House) -> None:
    configure(house, role="member")
    assert await run(house, ["scopes.create", {}, "one\n" + "x" * 100], ["who", {}, "t"]) == [
        failed(77, "one\n" + "x" * 100),
        failed(77),
    ]
    found = [
        (each.kind, each.name, each.credential, each.surface, each.operation, each.outcome, each.request_id)
        for each in await house.audit()
    ]
    who = ("service", "doveadm", "api_key", "doveadm")
    assert found == [
        (*who, "sessions.list", "permission.denied", "req-1 t"),
        (*who, "scopes.create", "permission.denied", "req-1 one?" + "x" * 60),
    ]


async def test_a_change_writes_one_record_and_reading_and_usage_errors_write_none(house: House) -> None:
    scope = {"scope": "basic", "cc_expires_in": 60, "pass_expires_in": 60, "description": "d"}
    await run(house, ["scopes.create", scope, "a"], ["scopes.list", {}, "b"], ["scopes.create", {}, "c"])
    (record,) = await house.audit()
    assert (record.operation, record.target, record.outcome, record.request_id) == (
        "scopes.create",
        "basic",
        "done",
        "req-1 a",
    )
    assert record.credential == "api_key"


async def test_the_receipt_of_the_last_change_is_reported(house: House) -> None:
    answer = await send(house, b'[["caches.flush",{},"t"],["nosuch",{},"t"]]')
    assert dict(answer.headers)["X-Ostiary-Applied"] == "epoch 0; workers 2/2; nodes 1/1; 2 ms"


async def test_a_defect_is_told_without_its_words_and_logged_with_the_request(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await send(house, b'[["stage.break",{},"t"],["stage.rooms",{},"u"]]', path="/doveadm/v1?explain=1")
    entries = msgspec.json.decode(answer.body)
    assert entries[0][1] == {"type": "internalError", "exitCode": 70, "message": "An unexpected error occurred"}
    assert entries[1][0] == "doveadmResponse"
    (record,) = [each for each in caplog.records if each.name == "ostiary.doveadm"]
    assert record.__dict__["pairs"] == {"request_id": "req-1", "command": "stage.break"}


async def test_a_time_out_ends_one_command_and_the_change_goes_on(house: House, stage: Stage) -> None:
    configure(house, command_timeout=Timeout(SECOND // 2))
    late = "It takes too long; what it changes may still come to be"
    assert await run(house, ["stage.wait", {}, "a"], ["stage.rooms", {}, "b"], query="?explain=1") == [
        ["error", {"type": "exitCode", "exitCode": 75, "message": late}, "a"],
        ["doveadmResponse", [{"name": "hall", "size": 3}, {"name": "attic", "size": 1}], "b"],
    ]  # fmt: skip
    stage.open.set()
    await house.registry.settled()
    assert [each.operation for each in await house.audit()] == ["stage.wait"]


async def test_after_the_time_for_the_whole_payload_the_rest_is_not_run(house: House, stage: Stage) -> None:
    configure(house, payload_timeout=Timeout(SECOND // 2))
    commands = [["stage.wait", {}, "a"], ["stage.wait", {}, "b"], ["nosuch", {}, "c"]]
    unknown = ["error", {"type": "unknownMethod", "exitCode": 0}, "c"]
    assert await run(house, *commands) == [failed(75, "a"), failed(75, "b"), unknown]
    assert stage.runs == 1
    stage.open.set()
    await house.registry.settled()


async def test_a_client_that_hangs_up_stops_nothing(house: House, stage: Stage) -> None:
    asking = asyncio.create_task(run(house, ["stage.wait", {}, "a"]))
    await stage.begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    stage.open.set()
    await house.registry.settled()
    assert [each.outcome for each in await house.audit()] == ["done"]


async def test_the_store_away_is_75_for_each_command_and_the_list_is_still_there(house: House) -> None:
    class Away:
        async def get(self, name: str) -> None:
            raise Unavailable("store.unavailable", "The store cannot be reached")

    configure(house, role="watch")
    house.control.roles = cast(Roles, Away())
    assert await run(house, ["stage.rooms", {}, "t"], ["who", {}, "t"]) == [failed(75), failed(75)]
    assert (await send(house, b"", method="GET")).status == 200


# Permissions


@pytest.mark.parametrize("role", ROLES)
async def test_each_command_is_for_the_roles_that_hold_its_permission(house: House, role: str, stage: Stage) -> None:
    stage.open.set()
    surface = Doveadm(house.desk)
    configure(house, role=role)
    principal = Principal("service", "doveadm", ROLES[role])
    for name, command in surface.commands.items():
        declared = house.registry.operations.get(command.operation)
        if declared is None:
            continue
        (entry,) = await run(house, [name, {}, "t"], query="?dry_run=1")
        allowed = any(principal.may(each) for each in (declared.permission, *declared.also))
        denied = entry == failed(77)
        assert allowed or denied, (name, role)


# Extensions of the protocol


async def test_a_dry_run_says_what_would_change_and_changes_nothing(house: House) -> None:
    scope = {"scope": "basic", "cc_expires_in": 60, "pass_expires_in": 60, "description": "d"}
    for value in ("1", "true"):
        answer = await run(house, ["scopes.create", scope, "a"], ["scopes.list", {}, "b"], query=f"?dry_run={value}")
        change = {"dry_run": "1", "operation": "scopes.create", "target": "basic", "change": "Register a scope."}
        assert answer == [["doveadmResponse", [change], "a"], ["doveadmResponse", [], "b"]]
    assert await house.audit() == []
    assert house.workers.changes == []


async def test_a_dry_reload_of_the_same_files_changes_nothing_and_of_broken_ones_is_78(house: House) -> None:
    assert await run(house, ["reload", {}, "t"], query="?dry_run=1") == [["doveadmResponse", [], "t"]]
    (house.path / "ostiary.yaml").write_text("log: {level: DEBUG}\n")
    rows = (await run(house, ["reload", {}, "t"], query="?dry_run=1"))[0][1]
    assert {"dry_run": "1", "operation": "config.reload", "target": "", "change": "LOG_LEVEL: WARNING -> DEBUG"} in rows
    (house.path / "ostiary.yaml").write_text("nonsense: 1\n")
    assert await run(house, ["reload", {}, "t"], query="?dry_run=1") == [failed(78)]
    assert await run(house, ["reload", {}, "t"], ["config.reload", {}, "u"]) == [failed(78), failed(78, "u")]


async def test_stop_on_error_runs_nothing_after_the_first_error(house: House, stage: Stage) -> None:
    skipped = ["error", {"type": "skipped", "exitCode": 0}]
    assert await run(
        house, ["stage.rooms", {}, "a"], ["nosuch", {}, "b"], ["stage.wait", {}, "c"], query="?stop_on_error=1"
    ) == [
        ["doveadmResponse", [{"name": "hall", "size": 3}, {"name": "attic", "size": 1}], "a"],
        ["error", {"type": "unknownMethod", "exitCode": 0}, "b"],
        [*skipped, "c"],
    ]
    assert stage.runs == 0


async def test_explain_names_the_parameter_to_blame_and_repeats_no_value(house: House) -> None:
    answer = await send(house, b'[["stage.room",{"name":null},"a"],["kick",{},"b"]]', path="/doveadm/v1?explain=true")
    assert answer.body == (
        b'[["error",{"type":"invalidRequest", "exitCode":0,"message":"The value is no string","parameter":"name"},"a"],'
        b'["error",{"type":"exitCode", "exitCode":64,"message":"It is required","parameter":"mask"},"b"]]'
    )


@pytest.mark.parametrize(
    "query", ["dry_run=0", "dry_run=", "dry_run", "stop_on_error=yes", "explain=TRUE", "dry_run=1&dry_run=2"]
)
async def test_other_values_of_these_are_400(house: House, query: str) -> None:
    answer = await send(house, b"no payload", path=f"/doveadm/v1?{query}")
    assert (answer.status, answer.body) == (400, b"Invalid query parameter\r\n")


async def test_unknown_query_parameters_are_ignored(house: House) -> None:
    assert (await send(house, b"[]", path="/doveadm/v1?x=1&Dry_run=7")).status == 200


# Idempotency-Key


CREATE = msgspec.json.encode(
    [["scopes.create", {"scope": "basic", "cc_expires_in": 60, "pass_expires_in": 60, "description": "d"}, "t"]]
)


async def test_the_same_request_again_gets_the_stored_answer_and_runs_nothing(house: House) -> None:
    first = await send(house, CREATE, keyed(**{"idempotency-key": "k"}))
    again = await send(house, CREATE, keyed(**{"idempotency-key": "k"}))
    assert (first.status, again.status, again.body) == (200, 200, first.body)
    assert again.headers == (*first.headers, ("Idempotency-Replayed", "true"))
    assert len(await house.audit()) == 1
    assert (await send(house, CREATE)).body == b'[["error",{"type":"exitCode", "exitCode":65},"t"]]'


async def test_a_key_is_its_callers_and_another_requests_is_422(house: House) -> None:
    configure(house, keys=[ServiceKeySettings("second", Secret("k2"), "admin")])
    await send(house, CREATE, keyed(**{"idempotency-key": "k"}))
    for body, path in ((b"[]", "/doveadm/v1"), (CREATE, "/doveadm/v1?explain=1")):
        answer = await send(house, body, keyed(**{"idempotency-key": "k"}), path=path)
        assert (answer.status, answer.body) == (422, b"Idempotency-Key was used with another request\r\n")
    assert (await send(house, b"[]", keyed("k2", **{"idempotency-key": "k"}))).body == b"[]"


async def test_ten_equal_requests_at_once_run_once(house: House, stage: Stage) -> None:
    body = b'[["stage.wait",{},"t"]]'
    asking = [asyncio.create_task(send(house, body, keyed(**{"idempotency-key": "k"}))) for _ in range(10)]
    await stage.begun.wait()
    done, (first,) = await _all_but_one(asking)
    for each in done:
        assert (each.result().status, each.result().body) == (
            409,
            b"A request with this Idempotency-Key is running\r\n",
        )
    stage.open.set()
    assert (await first).body == b'[["doveadmResponse",[],"t"]]'
    assert stage.runs == 1


async def _all_but_one(
    tasks: list["asyncio.Task[Answer]"],
) -> tuple[set["asyncio.Task[Answer]"], set["asyncio.Task[Answer]"]]:
    done: set[asyncio.Task[Answer]] = set()
    pending = set(tasks)
    while len(pending) > 1:
        ended, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        done |= ended
    return done, pending


async def test_an_answer_is_replayed_after_a_restart_and_a_lost_one_is_unknown(house: House, stage: Stage) -> None:
    first = await send(house, CREATE, keyed(**{"idempotency-key": "k"}))
    lost = asyncio.create_task(send(house, b'[["stage.wait",{},"t"]]', keyed(**{"idempotency-key": "lost"})))
    await stage.begun.wait()
    after = Doveadm(house.desk)

    async def resent(body: bytes, key: str) -> Answer:
        headers = {"authorization": [keyed()["authorization"]], "idempotency-key": [key]}
        return await after.answer(Request("POST", "/doveadm/v1", "", headers, "h", body, address="192.0.2.1"))

    assert (await resent(CREATE, "k")).body == first.body
    unknown = await resent(b'[["stage.wait",{},"t"]]', "lost")
    assert (unknown.status, unknown.body) == (409, b"The outcome of this request is unknown\r\n")
    stage.open.set()
    await lost


async def test_a_key_is_free_again_after_an_hour(house: House) -> None:
    await send(house, CREATE, keyed(**{"idempotency-key": "k"}))
    house.now += 3599 * SECOND
    assert (await send(house, b"[]", keyed(**{"idempotency-key": "k"}))).status == 422
    house.now += SECOND
    assert (await send(house, b"[]", keyed(**{"idempotency-key": "k"}))).status == 200


async def test_dry_runs_and_400s_are_not_kept(house: House) -> None:
    await send(house, CREATE, keyed(**{"idempotency-key": "k"}), path="/doveadm/v1?dry_run=1")
    assert (await send(house, b"[", keyed(**{"idempotency-key": "k"}))).status == 400
    assert (await send(house, b"[]", keyed(**{"idempotency-key": "k"}))).body == b"[]"


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\u00e9", "a\t"])
async def test_a_key_of_other_characters_is_400(house: House, key: str) -> None:
    assert (await send(house, b"[]", keyed(**{"idempotency-key": key}))).status == 400
    assert (await send(house, b"[]", keyed(**{"idempotency-key": "x" * 255}))).status == 200
