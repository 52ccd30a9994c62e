"""Every operation, asked by every role with every kind of credential: who may is what the table of permissions says."""

from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace
from tests.control.test_registry import OPERATIONS, example
from tests.dialects.house import OWNER as OWNER_NAME
from tests.dialects.house import PASSWORD, House, basic

from ostiary.control.call import Call
from ostiary.control.login import ByCode, ByPassword, LoggedIn
from ostiary.control.registry import Operation, allow
from ostiary.control.totp import step_at
from ostiary.core.permission import NOBODY, OWNER, ROLES, Principal
from ostiary.core.refusal import Forbidden, Refusal, Unauthenticated
from ostiary.dialects import credentials
from ostiary.dialects.message import Request
from ostiary.store.people import NewUser

KINDS = ("basic", "session", "cookie", "personal", "access")
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
BOSS = Principal("user", OWNER_NAME, OWNER, "password", 1, "owner")


class Stage:
    """A user of each role, with a credential of each kind."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.held: dict[tuple[str, str], Request] = {}
        self.refresh = ""

    async def furnish(self) -> None:
        control = self.house.control
        kept, record = await control.passwords.make(PASSWORD), Call(BOSS).record(control.clock(), "done")
        for role in ROLES:
            name = OWNER_NAME if role == "owner" else f"the-{role}"
            if role != "owner":
                await control.users.create(NewUser(name, role, control.clock(), password=kept), record)
            user = await control.users.get(name)
            assert user is not None
            sealed = control.totp_vault.close(str(user.number), SECRET)
            await control.users.set_totp(user.number, sealed, record, again=False)
            await self.sign_in(role, name)

    async def sign_in(self, role: str, name: str) -> None:
        session = await self.run("login.password", ByPassword(name, PASSWORD))
        personal = await self.run("login.password", ByPassword(name, PASSWORD, personal=True))
        pair = await self.run("login.totp", ByCode(name, code(self.house.now)))
        self.refresh = pair.refresh_token or ""
        shown = {
            "basic": {"authorization": [basic(name, PASSWORD)]},
            "session": bearer(session.access_token),
            "cookie": {"cookie": [f"access_token_cookie={session.access_token}"]},
            "personal": bearer(personal.access_token),
            "access": bearer(pair.access_token),
        }
        for kind, headers in shown.items():
            self.held[role, kind] = Request("POST", "/", headers=headers, host="127.0.0.1", address="192.0.2.9")

    async def run(self, name: str, params: Struct) -> LoggedIn:
        call = Call(NOBODY, "test", "192.0.2.9", "r")
        made: LoggedIn = await self.house.registry.run(self.house.control, name, params, call)
        return made

    async def principal(self, request: Request) -> Principal:
        return await credentials.operator(self.house.desk, request)


def bearer(token: str) -> dict[str, list[str]]:
    return {"authorization": [f"Bearer {token}"]}


def code(now: int) -> str:
    from pyotp import HOTP

    return HOTP(SECRET).at(step_at(now))


@pytest.fixture
async def stage(house: House) -> Stage:
    made = Stage(house)
    await made.furnish()
    return made


def outcome(declared: Operation, principal: Principal) -> str:
    """`may`, or the code of the refusal."""
    try:
        allow(declared, Call(principal), example(declared))
    except Refusal as refusal:
        return refusal.code
    return "may"


def expected(declared: Operation, role: str) -> str:
    """By the table of permissions alone; who manages a subject may read it, and some permissions stand for others."""
    permission = declared.permission
    subject, _, verb = permission.partition(":")
    held = ROLES[role] | ({permission} if verb == "read" and f"{subject}:manage" in ROLES[role] else set())
    enough = not permission or bool(held & {permission, *declared.also})
    return "may" if enough else "permission.denied"


async def test_every_role_may_what_the_table_says_with_every_kind_of_credential(stage: Stage) -> None:
    wrong = []
    for (role, kind), request in stage.held.items():
        principal = await stage.principal(request)
        assert (principal.kind, principal.role, principal.number > 0) == ("user", role, True)
        wrong += [
            (declared.name, role, kind)
            for declared in OPERATIONS
            if outcome(declared, principal) != expected(declared, role)
        ]
    assert wrong == []
    assert len(stage.held) == len(ROLES) * len(KINDS)


def test_nobody_is_asked_to_sign_in_wherever_anything_is_needed() -> None:
    answers = {declared.name: outcome(declared, NOBODY) for declared in OPERATIONS}
    assert answers == {
        declared.name: "authentication.required" if declared.permission else "may" for declared in OPERATIONS
    }


async def test_people_act_on_themselves_without_permission_and_on_nobody_else(stage: Stage) -> None:
    member = await stage.principal(stage.held["member", "session"])
    for declared in OPERATIONS:
        if declared.own:
            params: Any = example(declared)
            for name in ("", member.name):
                allow(declared, Call(member), replace(params, **{declared.own: name}))
            with pytest.raises(Forbidden):
                allow(declared, Call(member), params)


@pytest.mark.parametrize("path", ["/operations/users.list", "/metrics", "/operations/audit.list"])
async def test_a_refresh_token_and_what_is_no_token_open_nothing(stage: Stage, path: str) -> None:
    for token in (stage.refresh, "0" * 64, "a.b.c", "x", "\xe9"):
        answer = await stage.house.ask("GET", path, owner=False, headers={"authorization": f"Bearer {token}"})
        assert answer.status == 401


async def test_what_a_role_loses_is_lost_on_the_next_request(stage: Stage) -> None:
    control, record = stage.house.control, Call(BOSS).record(stage.house.now, "done")
    request = stage.held["manager", "session"]
    assert (await stage.principal(request)).may("scopes:manage")
    user = await control.users.get("the-manager")
    assert user is not None
    await control.users.set_role(user.number, "member", record)
    assert not (await stage.principal(request)).may("scopes:manage")


async def test_after_a_cut_off_no_credential_of_the_user_passes_anywhere(stage: Stage) -> None:
    control, record = stage.house.control, Call(BOSS).record(stage.house.now, "done")
    user = await control.users.get("the-admin")
    assert user is not None
    await control.users.cut_off(user.number, record)
    for kind in ("session", "cookie", "personal", "access"):
        with pytest.raises(Unauthenticated):
            await stage.principal(stage.held["admin", kind])
    for role in ("member", "viewer", "manager", "owner"):
        assert (await stage.principal(stage.held[role, "session"])).role == role
    await control.users.lift(user.number, record)
    for kind in ("session", "cookie", "personal", "access"):
        assert (await stage.principal(stage.held["admin", kind])).role == "admin"
