"""Operations on users, roles, what people hold, settings and the audit."""

from typing import Any

import msgspec
import pytest
from msgspec import Struct
from tests.control.house import ADMIN, NOW, House

from ostiary.control.audit import ListRecords, VerifyRecords
from ostiary.control.credentials import CreatePersonal, EndHeld, ListHeld
from ostiary.control.login import ByCode, ByPassword, LoggedIn, Nothing, Presented
from ostiary.control.owner import Owner, ensure_owner
from ostiary.control.principals import presented
from ostiary.control.roles import CreateRole, ListRoles, OneRole, UpdateRole
from ostiary.control.settings import GetSettings, SetSettings
from ostiary.control.totp import step_at
from ostiary.control.users import (
    CreateUser,
    FindUser,
    ListUsers,
    OneUser,
    OwnUser,
    RegisterUser,
    ResetTotp,
    SetPassword,
    SetRole,
    Transfer,
    UpdateUser,
)
from ostiary.core.digest import digest, handle
from ostiary.core.permission import NOBODY, ROLES, Principal
from ostiary.core.refusal import Refusal
from ostiary.link.messages import Change

PASSWORD = "correct horse 7"
SECOND = 1_000_000


@pytest.fixture
async def boss(house: House) -> Principal:
    """The owner, signed in."""
    await ensure_owner(house.control, Owner("boss", PASSWORD))
    return await signed_in(house, "boss")


async def log_in(house: House, name: str, password: str = PASSWORD, *, personal: bool = False) -> str:
    made: LoggedIn = await house.run("login.password", ByPassword(name, password, personal), NOBODY)
    return made.access_token


async def signed_in(house: House, name: str, password: str = PASSWORD) -> Principal:
    return await presented(house.control, await log_in(house, name, password))


async def member(house: House, name: str = "ann", role: str = "member") -> Principal:
    """A user with a role, signed in."""
    await house.run("users.create", CreateUser(name, role, PASSWORD))
    return await signed_in(house, name)


async def code(house: House, name: str, params: Struct, principal: Principal = ADMIN) -> str:
    """The code of the refusal, empty for none."""
    try:
        await house.run(name, params, principal)
    except Refusal as refusal:
        return refusal.code
    return ""


async def test_the_first_to_register_is_owner_and_the_next_is_not(house: House) -> None:
    first = await house.run("users.register", RegisterUser("ann", PASSWORD, "ann@example.org"), NOBODY)
    second = await house.run("users.register", RegisterUser("bob", PASSWORD), NOBODY)
    assert (first.role, second.role) == ("owner", "member")
    assert await code(house, "users.register", RegisterUser("ANN", PASSWORD), NOBODY) == "user.exists"
    assert await code(house, "users.register", RegisterUser("c", PASSWORD, "ANN@example.org"), NOBODY) == "email.exists"
    assert await code(house, "users.register", RegisterUser("c", "short"), NOBODY) == "password.short"
    assert await code(house, "users.register", RegisterUser("c d", PASSWORD), NOBODY) == "user.name"


@pytest.mark.parametrize(
    ("mode", "nobody", "a_member", "an_admin"),
    [
        ("enabled", "", "", ""),
        ("disabled", "registration.disabled", "registration.disabled", "registration.disabled"),
        ("admin_only", "registration.administrators", "registration.administrators", ""),
    ],
)
async def test_the_switch_of_registration(
    house: House, boss: Principal, mode: str, nobody: str, a_member: str, an_admin: str
) -> None:
    plain = await member(house)
    [shown] = await house.run("settings.set", SetSettings({"registration.mode": mode}), boss)
    assert (shown.value, shown.source) == (mode, "store")
    for name, principal, expected in (("u1", NOBODY, nobody), ("u2", plain, a_member), ("u3", boss, an_admin)):
        assert await code(house, "users.register", RegisterUser(name, PASSWORD), principal) == expected
    [shown] = await house.run("settings.set", SetSettings({"registration.mode": None}), boss)
    assert (shown.value, shown.source) == ("enabled", "file")


async def test_settings_that_do_not_exist_or_do_not_fit_change_nothing(house: House, boss: Principal) -> None:
    both = SetSettings({"registration.mode": "disabled", "log.level": "DEBUG"})
    assert await code(house, "settings.set", both, boss) == "setting.unknown"
    assert await code(house, "settings.set", SetSettings({"registration.mode": "1"}), boss) == "setting.value"
    assert await code(house, "settings.get", GetSettings(["x"]), boss) == "setting.unknown"
    assert [(each.name, each.value) for each in await house.run("settings.get", GetSettings(), boss)] == [
        ("registration.mode", "enabled")
    ]


async def test_registrations_of_an_address_are_limited(house: House, boss: Principal) -> None:
    for _ in range(300):
        assert await code(house, "users.register", RegisterUser("boss", "x"), NOBODY) == "password.short"
    assert await code(house, "users.register", RegisterUser("ann", PASSWORD), NOBODY) == "login.throttled"


async def test_nobody_reaches_above_themselves(house: House, boss: Principal) -> None:
    admin = await member(house, "adam", "admin")
    await house.run("roles.create", CreateRole("clerk", ["users:manage", "users:read"]), boss)
    clerk = await member(house, "carl", "clerk")
    await member(house, "mary", "manager")
    await member(house, "vera", "viewer")
    assert await code(house, "users.delete", OwnUser("mary"), clerk) == "user.above"
    assert await code(house, "users.set_password", SetPassword(PASSWORD, "mary"), clerk) == "user.above"
    assert await code(house, "users.set_role", SetRole("vera", "manager"), clerk) == "role.above"
    assert await code(house, "users.create", CreateUser("x", "manager", PASSWORD), clerk) == "role.above"
    assert await code(house, "users.set_role", SetRole("vera", "clerk"), clerk) == ""
    assert await code(house, "users.disable", OneUser("boss"), admin) == "user.above"
    assert await code(house, "users.set_role", SetRole("mary", "admin"), admin) == ""
    assert await code(house, "users.set_role", SetRole("mary", "owner"), boss) == "owner.role"
    assert await code(house, "users.create", CreateUser("x", "owner", PASSWORD), boss) == "owner.exists"
    assert await code(house, "roles.create", CreateRole("god", ["users:own"]), admin) == "role.above"
    assert await code(house, "roles.update", UpdateRole("clerk", ["users:own"]), admin) == "role.above"


async def test_the_owner_stays_and_hands_over(house: House, boss: Principal) -> None:
    adam = await member(house, "adam", "admin")
    assert await code(house, "users.delete", OwnUser("boss"), boss) == "owner.delete"
    assert await code(house, "users.disable", OneUser("boss"), boss) == "owner.active"
    assert await code(house, "users.set_role", SetRole("boss", "admin"), boss) == "owner.role"
    assert await code(house, "users.transfer_ownership", Transfer("boss"), adam) == "permission.denied"
    assert (await house.run("users.transfer_ownership", Transfer("adam"), boss)).role == "owner"
    assert (await house.run("users.get", FindUser("boss"), ADMIN)).role == "admin"


async def test_people_look_after_themselves(house: House, boss: Principal) -> None:
    ann = await member(house)
    other = await log_in(house, "ann", personal=True)
    changed = await house.run("users.update", UpdateUser(email="ann@example.org", attributes={"a": 1}), ann)
    assert (changed.email, changed.attributes) == ("ann@example.org", {"a": 1})
    assert await code(house, "users.update", UpdateUser(ui_access=True), ann) == "user.restricted"
    assert await code(house, "users.update", UpdateUser("boss"), ann) == "permission.denied"
    assert await code(house, "users.update", UpdateUser(email="nobody"), ann) == "user.email"
    assert await code(house, "users.update", UpdateUser(attributes={str(n): n for n in range(11)}), ann) == (
        "user.attributes"
    )
    assert (await house.run("users.get", FindUser(), ann)).name == "ann"
    assert await code(house, "users.get", FindUser("boss"), ann) == "permission.denied"
    new = SetPassword("another horse 8", current_password="wrong")
    assert await code(house, "users.set_password", new, ann) == "password.current"
    new = SetPassword("another horse 8", current_password=PASSWORD)
    assert await code(house, "users.set_password", new, ann) == ""
    assert (await house.control.credentials.find(ann.digest)) is not None
    with pytest.raises(Refusal):
        await presented(house.control, other)
    assert (await signed_in(house, "ann", "another horse 8")).name == "ann"
    assert await code(house, "users.delete", OwnUser(), ann) == ""
    assert await code(house, "login.password", ByPassword("ann", "another horse 8"), NOBODY) == "login.refused"


async def test_a_new_password_spares_what_its_user_holds_where_the_settings_say_so(
    house: House, boss: Principal
) -> None:
    people = msgspec.structs.replace(house.control.rules.people, password_ends=False)
    house.control.rules = msgspec.structs.replace(house.control.rules, people=people)
    await member(house)
    token = await log_in(house, "ann", personal=True)
    told = len(house.workers.told)
    assert await code(house, "users.set_password", SetPassword("another horse 8", "ann"), boss) == ""
    assert (await presented(house.control, token)).name == "ann"
    assert len(house.workers.told) == told
    assert await code(house, "login.password", ByPassword("ann", PASSWORD), NOBODY) == "login.refused"


async def test_a_disabled_user_is_out_until_enabled_and_old_tokens_stay_refused(house: House, boss: Principal) -> None:
    await member(house)
    token = await log_in(house, "ann", personal=True)
    disabled = await house.run("users.disable", OneUser("ann"), boss)
    assert (disabled.active, disabled.revoked) == (False, True)
    assert house.workers.told[-1].users == ["ann"]
    assert await code(house, "login.password", ByPassword("ann", PASSWORD), NOBODY) == "login.inactive"
    assert await worth(house, token) == "credential.inactive"
    enabled = await house.run("users.enable", OneUser("ann"), boss)
    assert (enabled.active, enabled.revoked) == (True, True)
    assert await worth(house, token) == "credential.refused"
    assert (await signed_in(house, "ann")).name == "ann"
    assert (await house.run("tokens.unrevoke_all", OwnUser("ann"), boss)).revoked is False
    assert await worth(house, token) == ""
    assert house.workers.told[-1] == Change(house.workers.told[-1].seq, everything=True, streams=False)


async def worth(house: House, token: str) -> str:
    try:
        await presented(house.control, token)
    except Refusal as refusal:
        return refusal.code
    return ""


async def test_a_cut_off_refuses_what_was_and_not_what_comes(house: House, boss: Principal) -> None:
    await member(house)
    before = [await log_in(house, "ann"), await log_in(house, "ann", personal=True)]
    status = await house.run("tokens.revoke_all", OwnUser("ann"), boss)
    assert (status.active, status.revoked) == (True, True)
    after = await log_in(house, "ann")
    assert [await worth(house, token) for token in (*before, after)] == ["credential.refused"] * 2 + [""]
    await house.run("tokens.revoke_all", OwnUser("ann"), boss)
    assert await worth(house, after) == "credential.refused"


async def test_a_log_in_by_code_works_once_and_its_pair_is_replaced(house: House, boss: Principal) -> None:
    await house.run("users.create", CreateUser("ann", "viewer"))
    enrolment = await house.run("users.totp_setup", OwnUser("ann"), boss)
    assert len(enrolment.secret) == 32
    assert enrolment.uri.startswith(f"otpauth://totp/Ostiary:ann?secret={enrolment.secret}&issuer=Ostiary")
    now = code_of(enrolment.secret, house.now)
    pair = await house.run("login.totp", ByCode("ann", now), NOBODY)
    assert (pair.expires_in, len(pair.access_token), len(pair.refresh_token)) == (7200, 64, 64)
    assert await code(house, "login.totp", ByCode("ann", now), NOBODY) == "login.code"
    assert await worth(house, pair.access_token) == ""
    assert await worth(house, pair.refresh_token) == "credential.refused"
    second = await house.run("tokens.refresh", Presented(pair.refresh_token), NOBODY)
    assert [await worth(house, each.access_token) for each in (pair, second)] == ["credential.refused", ""]
    assert await code(house, "tokens.refresh", Presented(pair.refresh_token), NOBODY) == "credential.spent"
    assert await worth(house, second.access_token) == "credential.refused"
    assert await code(house, "tokens.refresh", Presented(second.refresh_token), NOBODY) == "refresh.unknown"
    house.now += 30 * SECOND
    assert await code(house, "login.totp", ByCode("ann", code_of(enrolment.secret, house.now)), NOBODY) == ""
    assert await code(house, "login.totp", ByCode("nobody", "123456"), NOBODY) == "user.unknown"


def code_of(secret: str, now: int, steps: int = 0) -> str:
    from pyotp import HOTP

    return HOTP(secret).at(step_at(now) + steps)


@pytest.mark.parametrize(("steps", "expected"), [(-2, "login.code"), (-1, ""), (1, ""), (2, "login.code")])
async def test_a_code_of_a_neighbouring_step_counts(house: House, boss: Principal, steps: int, expected: str) -> None:
    made = await house.run("users.create", CreateUser("ann", "viewer", totp=True), boss)
    assert made.enrolment is not None
    assert (
        await code(house, "login.totp", ByCode("ann", code_of(made.enrolment.secret, NOW, steps)), NOBODY) == expected
    )


@pytest.mark.parametrize("text", ["", "12345", "1234567", "12345a", "١٢٣٤٥٦", "\ud800", "x" * 10_000])
async def test_what_is_no_code_is_refused(house: House, boss: Principal, text: str) -> None:
    await house.run("users.create", CreateUser("ann", "viewer", totp=True), boss)
    assert await code(house, "login.totp", ByCode("ann", text), NOBODY) == "login.code"


async def test_nobody_is_shown_their_own_secret_twice(house: House, boss: Principal) -> None:
    ann = await member(house)
    first = await house.run("users.totp_setup", OwnUser(), ann)
    assert await code(house, "users.totp_setup", OwnUser(), ann) == "totp.enrolled"
    assert (await house.run("users.totp_setup", OwnUser("ann"), boss)).secret == first.secret
    assert await code(house, "users.totp_reset", ResetTotp(), ann) == "password.current"
    assert (await house.run("users.totp_reset", ResetTotp(current_password=PASSWORD), ann)).secret != first.secret


async def test_a_session_is_renewed_until_its_age_ends(house: House, boss: Principal) -> None:
    token = await log_in(house, "boss")
    for _ in range(24):
        house.now += 1799 * SECOND
        principal = await presented(house.control, token)
        made = await house.run("login.renew", Nothing(), principal)
        assert await worth(house, token) == "credential.refused"
        token = made.access_token
    assert made.expires_in == 43_200 - 24 * 1799
    house.now += made.expires_in * SECOND
    assert await worth(house, token) == "credential.unknown"
    personal = await presented(house.control, await log_in(house, "boss", personal=True))
    assert await code(house, "login.renew", Nothing(), personal) == "credential.refused"


async def test_personal_tokens_are_named_listed_ended_and_re_issued(house: House, boss: Principal) -> None:
    ann = await member(house)
    made = await house.run("tokens.create_personal", CreatePersonal("laptop", 60), ann)
    listed = await house.run("tokens.held", ListHeld(), ann)
    assert [(each.kind, each.label) for each in listed] == [("session", ""), ("personal", "laptop")]
    assert listed[1].handle == handle(digest(made.access_token))
    assert await code(house, "tokens.held", ListHeld("boss"), ann) == "permission.denied"
    assert await code(house, "tokens.end", EndHeld(handle(boss.digest)), ann) == "credential.unknown"
    assert (await house.run("tokens.end", EndHeld(listed[1].handle), ann)).ended == 1
    assert await worth(house, made.access_token) == "credential.refused"
    tokens = [await log_in(house, "ann", personal=True) for _ in range(3)]
    again = await house.run("tokens.reissue", OwnUser(), ann)
    assert again.ended == 3
    assert [await worth(house, token) for token in (*tokens, again.access_token)] == ["credential.refused"] * 3 + [""]
    assert (await house.run("tokens.reissue", OwnUser("ann"), boss)).access_token == ""
    assert await worth(house, again.access_token) == "credential.refused"
    await log_in(house, "ann", personal=True)
    await log_in(house, "boss", personal=True)
    assert (await house.run("tokens.reissue_all", Nothing(), boss)).ended == 2


async def test_an_expired_and_an_idle_personal_token(house: House, boss: Principal) -> None:
    short = (await house.run("tokens.create_personal", CreatePersonal("short", 60), boss)).access_token
    long = (await house.run("tokens.create_personal", CreatePersonal("long"), boss)).access_token
    house.now += 60 * SECOND
    assert [await worth(house, token) for token in (short, long)] == ["credential.expired", ""]
    house.now += 300 * 86_400 * SECOND
    assert await worth(house, long) == ""
    house.now += 300 * 86_400 * SECOND
    assert await worth(house, long) == ""
    house.now += 365 * 86_400 * SECOND
    assert await worth(house, long) == "credential.expired"


async def test_what_asks_can_end_itself(house: House, boss: Principal) -> None:
    token = await log_in(house, "boss")
    await house.run("tokens.end", EndHeld(), await presented(house.control, token))
    assert await worth(house, token) == "credential.refused"
    assert await code(house, "tokens.end", EndHeld(), ADMIN) == "credential.fixed"
    assert await code(house, "tokens.end", EndHeld(), NOBODY) == "authentication.required"


async def test_roles_hold_for_whoever_has_them_at_once(house: House, boss: Principal) -> None:
    await house.run("roles.create", CreateRole("ops", ["scopes:manage"]), boss)
    await member(house, "ann", "ops")
    token = await log_in(house, "ann")
    assert (await presented(house.control, token)).may("scopes:manage")
    await house.run("roles.update", UpdateRole("ops", ["scopes:read"]), boss)
    assert not (await presented(house.control, token)).may("scopes:manage")
    assert await code(house, "roles.delete", OneRole("ops"), boss) == "role.in_use"
    assert await code(house, "roles.create", CreateRole("x y"), boss) == "role.name"
    assert await code(house, "roles.create", CreateRole("x", ["Nonsense"]), boss) == "role.permission"
    assert [role.name for role in await house.run("roles.list", ListRoles(), boss)] == [*ROLES, "ops"]


async def test_lists_of_users(house: House, boss: Principal) -> None:
    await member(house, "ann", "viewer")
    await member(house, "bob", "admin")
    page = await house.run("users.list", ListUsers(order="name"), boss)
    assert ([user.name for user in page.users], page.total) == (["ann", "bob", "boss"], 3)
    page = await house.run("users.list", ListUsers(hide_administrators=True), boss)
    assert [user.name for user in page.users] == ["ann"]


async def test_a_failed_log_in_names_the_account_only_if_there_is_one(house: House, boss: Principal) -> None:
    for name in ("boss", "my-secret-password"):
        assert await code(house, "login.password", ByPassword(name, "wrong"), NOBODY) == "login.refused"
    records = [each for each in await house.records() if each.outcome == "login.refused"]
    assert [record.target for record in records] == ["", "boss"]


async def test_the_audit_is_verified_and_filtered(house: House, boss: Principal) -> None:
    verified = await house.run("audit.verify", VerifyRecords(), boss)
    assert (verified.intact, verified.broken, verified.head_found) == (True, [], None)
    await member(house)
    later = await house.run("audit.verify", VerifyRecords(verified.head), boss)
    assert (later.intact, later.head_found, later.records > verified.records) == (True, True, True)
    await house.store.writer.each(lambda sql: sql.change("UPDATE audit SET name = 'eve' WHERE number = 1"))
    broken = await house.run("audit.verify", VerifyRecords(verified.head), boss)
    assert (broken.intact, broken.broken, broken.head_found) == (False, [1], True)
    gone = await house.run("audit.verify", VerifyRecords("00" * 32), boss)
    assert (gone.intact, gone.head_found) == (False, False)
    found: list[Any] = await house.run("audit.list", ListRecords(operation="users.create", surface="test"), boss)
    assert [each.target for each in found] == ["ann"]


async def test_secrets_of_people_are_nowhere_in_the_store(house: House, boss: Principal) -> None:
    made = await house.run("users.create", CreateUser("ann", "viewer", PASSWORD, totp=True), boss)
    assert made.enrolment is not None
    pair = await house.run("login.totp", ByCode("ann", code_of(made.enrolment.secret, house.now)), NOBODY)
    session = await log_in(house, "ann")
    secrets = (made.enrolment.secret, PASSWORD, pair.access_token, pair.refresh_token, session)
    kept = b"".join(each.read_bytes() for each in house.path.parent.glob("ostiary.db*"))
    assert [secret for secret in secrets if secret.encode() in kept] == []
    assert [secret for secret in secrets if secret in msgspec.json.encode(await house.records()).decode()] == []
