"""The registry: who may run what, and what is written down of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints

import msgspec
import pytest
from msgspec import Struct
from tests.control.house import ADMIN, NOW, House

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.deployments import Structure
from ostiary.control.registry import Operation, Registry, operation, parse
from ostiary.control.scopes import CreateScope, ListScopes, OneScope
from ostiary.control.services import Names
from ostiary.control.settings import SetSettings
from ostiary.control.stats import Kind
from ostiary.control.subjects import registry
from ostiary.control.tokens import IssueToken, RevokeToken
from ostiary.core.digest import digest, handle
from ostiary.core.permission import NOBODY, ROLES, Principal
from ostiary.core.refusal import Conflict, Forbidden, Invalid, NotFound, Refusal, Unauthenticated
from ostiary.link.receipt import Receipt

VALUES = get_type_hints(SetSettings, include_extras=True)["values"]
EXAMPLES: dict[Any, object] = {VALUES: {}, Structure: {}, Names: [], Kind: "global"}
"""Of required parameters that take no text."""
OPERATIONS = sorted(registry().operations.values(), key=lambda each: each.name)
PERMISSIONS = {
    "apps.create": "apps:own",
    "apps.list": "apps:own",
    "apps.scale": "apps:own",
    "applications.create": "applications:manage",
    "applications.delete": "applications:manage",
    "applications.get": "applications:read",
    "applications.list": "applications:read",
    "applications.rotate_secret": "applications:manage",
    "applications.update": "applications:manage",
    "audit.list": "audit:read",
    "caches.flush": "gateway:manage",
    "scopes.create": "scopes:manage",
    "scopes.delete": "scopes:manage",
    "scopes.get": "scopes:read",
    "scopes.list": "scopes:read",
    "scopes.update": "scopes:manage",
    "login.check": "",
    "login.password": "",
    "login.renew": "",
    "login.totp": "",
    "keys.rotate": "keys:manage",
    "penalties.clear": "penalties:manage",
    "penalties.list": "penalties:read",
    "roles.create": "roles:manage",
    "roles.delete": "roles:manage",
    "roles.update": "roles:manage",
    "node.health": "services:read",
    "node.stop": "node:stop",
    "services.start": "services:manage",
    "services.status": "services:read",
    "services.stop": "services:manage",
    "sessions.kick": "sessions:kick",
    "sessions.list": "sessions:read",
    "stats.dump": "stats:read",
    "stats.reset": "stats:manage",
    "settings.set": "settings:manage",
    "tokens.check": "tokens:read",
    "tokens.create_personal": "",
    "tokens.end": "",
    "tokens.refresh": "",
    "tokens.reissue": "tokens:manage",
    "tokens.reissue_all": "tokens:manage",
    "tokens.revoke_all": "tokens:manage",
    "tokens.unrevoke_all": "tokens:manage",
    "users.create": "users:manage",
    "users.delete": "users:manage",
    "users.disable": "users:manage",
    "users.enable": "users:manage",
    "users.get": "users:read",
    "users.list": "users:read",
    "users.register": "",
    "users.set_password": "users:manage",
    "users.set_role": "users:manage",
    "users.status": "users:read",
    "users.totp_reset": "users:secrets",
    "users.totp_setup": "users:secrets",
    "users.transfer_ownership": "users:own",
    "users.update": "users:manage",
    "tokens.issue": "",
    "tokens.list": "tokens:read",
    "tokens.revoke": "tokens:manage",
    "tokens.revoke_subject": "tokens:manage",
}


def test_operations_ask_the_permissions_of_the_contract() -> None:
    assert {name: registry().get(name).permission for name in PERMISSIONS} == PERMISSIONS


@pytest.mark.parametrize("declared", OPERATIONS, ids=lambda each: each.name)
def test_every_operation_can_be_described(declared: Operation) -> None:
    """OpenAPI, the command line and the documentation are made of this."""
    (schema, _), definitions = msgspec.json.schema_components([declared.params, declared.result])
    fields = definitions[schema["$ref"].removeprefix("#/$defs/")]["properties"]
    assert [name for name, field in fields.items() if not field.get("description")] == []
    assert declared.summary.endswith(".")
    assert not declared.target or declared.target in declared.params.__struct_fields__


def example(declared: Operation) -> Struct:
    """Parameters that are good enough to be asked with; about somebody else."""
    required = [field for field in msgspec.structs.fields(declared.params) if field.required]
    values: dict[str, Any] = {field.encode_name: EXAMPLES.get(field.type, "60") for field in required}
    about = {declared.own: "another"} if declared.own else {}
    return msgspec.convert({**values, **about}, declared.params, strict=False)


@pytest.mark.parametrize("role", [*ROLES, "nobody"])
@pytest.mark.parametrize("declared", OPERATIONS, ids=lambda each: each.name)
async def test_nobody_gets_past_a_permission_that_they_lack(house: House, declared: Operation, role: str) -> None:
    principal = NOBODY if role == "nobody" else Principal("user", "someone", ROLES[role])
    if any(principal.may(each) for each in (declared.permission, *declared.also)):
        return
    call = Call(principal, "test", "192.0.2.1", "r1")
    with pytest.raises(Refusal) as refused:
        await house.run(declared.name, example(declared), call=call)
    expected = (Unauthenticated, "authentication.required") if role == "nobody" else (Forbidden, "permission.denied")
    assert (type(refused.value), refused.value.code) == expected
    records = await house.records()
    assert [(each.operation, each.outcome) for each in records] == (
        [] if declared.reads else [(declared.name, expected[1])]
    )


async def test_an_unknown_operation_is_not_found(house: House) -> None:
    with pytest.raises(NotFound) as refused:
        await house.run("scopes.explode", OneScope("x"))
    assert refused.value.code == "operation.unknown"


async def test_a_change_leaves_one_record_with_everything_in_it(house: House) -> None:
    await house.run("scopes.create", CreateScope("basic", 60, 60))
    [record] = await house.records()
    assert msgspec.structs.asdict(record) == {
        "at": NOW,
        "kind": "user",
        "name": "admin",
        "credential": "password",
        "address": "192.0.2.1",
        "surface": "test",
        "operation": "scopes.create",
        "target": "basic",
        "outcome": "done",
        "request_id": "request-1",
        "number": 1,
    }


async def test_reading_leaves_no_record_whatever_comes_of_it(house: House) -> None:
    await house.run("scopes.list", ListScopes())
    with pytest.raises(NotFound):
        await house.run("scopes.get", OneScope("none"))
    assert await house.records() == []


async def test_not_found_and_unauthenticated_changes_are_recorded_but_conflicts_and_mistakes_are_not(
    house: House,
) -> None:
    await house.run("scopes.create", CreateScope("basic", 60, 60))
    for name, params, meaning in (
        ("scopes.create", CreateScope("basic", 60, 60), Conflict),
        ("scopes.create", CreateScope("a b", 60, 60), Invalid),
        ("scopes.delete", OneScope("none"), NotFound),
        ("tokens.issue", IssueToken("client_credentials", "ffff", "x"), Unauthenticated),
    ):
        with pytest.raises(meaning):
            await house.run(name, params)
    assert [(each.operation, each.target, each.outcome) for each in await house.records()] == [
        ("tokens.issue", "ffff", "client.invalid"),
        ("scopes.delete", "none", "scope.unknown"),
        ("scopes.create", "basic", "done"),
    ]


async def test_hostile_targets_are_recorded_in_a_form_that_can_be_kept(house: House) -> None:
    for target in ("x" * 100_000, "\ud800\0"):
        with pytest.raises(NotFound):
            await house.run("scopes.delete", OneScope(target))
    assert [each.target for each in await house.records()] == ["??", handle(digest("x" * 100_000))]


class Nothing(Struct):
    """No parameters."""


def odd(run: Callable[[], Awaitable[None]]) -> Registry:
    """A registry with one operation of its own."""

    @operation("things.do")
    async def do(control: Control, call: Call, params: Nothing) -> None:
        """Do it."""
        await run()

    class Subject:
        pass

    subject: Any = Subject()
    subject.do = do
    return Registry([subject])


async def test_a_change_that_keeps_nothing_itself_is_recorded_all_the_same(house: House) -> None:
    async def run() -> None:
        pass

    await odd(run).run(
        house.control, "things.do", Nothing(), Call(Principal("user", "u", frozenset({"things:manage"})))
    )
    assert [(each.operation, each.name, each.outcome) for each in await house.records()] == [("things.do", "u", "done")]


async def test_a_change_goes_on_to_its_end_when_its_caller_hangs_up(house: House) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    async def run() -> None:
        begun.set()
        await go_on.wait()
        done.append("done")

    things = odd(run)
    call = Call(Principal("user", "u", frozenset({"things:manage"})))
    asking = asyncio.create_task(things.run(house.control, "things.do", Nothing(), call))
    await begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    go_on.set()
    await things.settled()
    assert done == ["done"]
    assert [each.outcome for each in await house.records()] == ["done"]


async def test_a_surface_can_record_a_refusal_of_its_own(house: House) -> None:
    refusal = Unauthenticated("login.refused", "no")
    call = Call(NOBODY, "test", "192.0.2.1", "r1")
    await house.registry.refused(house.control, "scopes.create", call, refusal)
    await house.registry.refused(house.control, "scopes.list", call, refusal)
    await house.registry.refused(house.control, "scopes.create", call, Invalid("x", "x"))
    assert [(each.operation, each.outcome, each.kind) for each in await house.records()] == [
        ("scopes.create", "login.refused", "nobody")
    ]


async def test_a_receipt_reads_as_the_header_says_it(house: House) -> None:
    call = Call(ADMIN)
    assert call.trail.applied == ""
    call.trail.receipt = Receipt(8812, 3, 4, 2_001, {})
    assert call.trail.applied == "epoch 8812; workers 3/4; nodes 1/1; 3 ms"
    await house.run("tokens.revoke", RevokeToken("t"), call=call)
    assert call.trail.applied == "epoch 0; workers 2/2; nodes 1/1; 2 ms"


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({}, "$"),
        ([], "$"),
        ({"scope": "a", "cc_expires_in": "60", "pass_expires_in": 1}, "$.cc_expires_in"),
        ({"scope": "a", "cc_expires_in": 0, "pass_expires_in": 1}, "$.cc_expires_in"),
        ({"scope": None, "cc_expires_in": 1, "pass_expires_in": 1}, "$.scope"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_with_their_place(values: object, path: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(registry().get("scopes.create"), values)
    assert refused.value.code == "params.invalid"
    assert [mistake.path for mistake in refused.value.mistakes] == [path]


def test_no_refusal_repeats_what_was_sent() -> None:
    values = {"name": "a", "scope": "a", "redirect_uri": "a", "token_endpoint_auth_method": "hunter2"}
    with pytest.raises(Invalid) as refused:
        parse(registry().get("applications.create"), values)
    assert "hunter2" not in str(refused.value.mistakes)


def test_a_query_gives_numbers_as_text() -> None:
    assert parse(registry().get("scopes.list"), {"limit": "5"}, lax=True) == ListScopes(limit=5)
