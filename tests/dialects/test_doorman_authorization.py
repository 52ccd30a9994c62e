"""Log-in, registration, refresh, invalidate; revoke, unrevoke, disable, enable: each answer to the word."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from tests.dialects.doorman import LOG_IN, SECRET, Visitor, entered, header, person, read, role, said, told
from tests.dialects.house import DAY, House

from ostiary.control.call import Call
from ostiary.control.settings import SetSettings
from ostiary.core.permission import OWNER, Principal
from ostiary.core.refusal import Refusal
from ostiary.core.snapshot import SECOND
from ostiary.dialects.message import Answer, Request

STATUS = f"{LOG_IN}/status"
UNAUTHORIZED = (401, "AUTH005", "Unauthorized")
WRONG = (401, "AUTH002", "Invalid email or password")
INACTIVE = (403, "AUTH007", "User is not active")
NO_AUTH = (403, "AUTH900", "You do not have permission to manage auth")
NOBODY = (404, "USR002", "User not found")
SPENT = (401, "AUTH003", "Unable to validate credentials")
OWNER_PASSWORD = "change-me-please-1"


def people(house: House, **rules: Any) -> None:
    known = house.control.rules
    house.control.rules = replace(known, people=replace(known.people, **rules))


async def post(house: House, path: str, body: object, **more: Any) -> Answer:
    return await house.ask("POST", f"{LOG_IN}{path}", body, owner=False, **more)


@pytest.mark.parametrize("email", ["admin", "admin@example.com", "ADMIN@Example.com"])
async def test_a_log_in_takes_a_name_or_an_address(house: House, email: str) -> None:
    assert (await Visitor(house).log_in(email, OWNER_PASSWORD)).status == 200


@pytest.mark.parametrize("email", ["ADMIN", "nobody", "nobody@example.com", "a\0b", "é", "' OR 1=1 --", "admin "])
async def test_an_unknown_user_and_a_wrong_password_look_alike(house: House, email: str) -> None:
    for name, password in ((email, OWNER_PASSWORD), ("admin", "wrong")):
        answer = await Visitor(house).log_in(name, password)
        assert said(answer) == WRONG
        assert header(answer, "WWW-Authenticate") == 'Bearer realm="ostiary"'
        assert header(answer, "Set-Cookie") == ""


@pytest.mark.parametrize("path", ["", "/register"])
@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        (b"", 400, "AUTH004", "Invalid JSON payload"),
        (b"{bad", 400, "AUTH004", "Invalid JSON payload"),
        (b"[]", 400, "AUTH004", "Invalid JSON payload"),
        (b'"text"', 400, "AUTH004", "Invalid JSON payload"),
        (b"null", 400, "AUTH004", "Invalid JSON payload"),
        (b"\xff", 400, "AUTH004", "Invalid JSON payload"),
        (b"[" * 100_000, 400, "AUTH004", "Invalid JSON payload"),
        ({}, 400, "AUTH001", "Missing email or password"),
        ({"email": "a@b"}, 400, "AUTH001", "Missing email or password"),
        ({"password": "x"}, 400, "AUTH001", "Missing email or password"),
        ({"email": "", "password": "x"}, 400, "AUTH001", "Missing email or password"),
        ({"email": "a@b", "password": None}, 400, "AUTH001", "Missing email or password"),
        ({"email": 5, "password": "x"}, 422, "VAL001", "Validation Error"),
        ({"email": {"$ne": ""}, "password": "x"}, 422, "VAL001", "Validation Error"),
        ({"email": "a@b", "password": ["x"]}, 422, "VAL001", "Validation Error"),
        ({"email": "a@b", "password": "x", "role": "owner"}, 422, "VAL001", "Validation Error"),
        ({"email": "a" * 255, "password": "x"}, 422, "VAL001", "Validation Error"),
    ],
)
async def test_a_malformed_log_in_or_registration_says_how(
    house: House, path: str, body: object, status: int, code: str, message: str
) -> None:
    assert said(await post(house, path, body)) == (status, code, message)


async def test_a_refused_body_is_told_by_place_and_never_repeated(house: House) -> None:
    answer = await post(house, "", {"email": 77123, "password": {"s3cret": 1}, "UNKNOWN s3cret": "s3cret", "otp": 1})
    assert read(answer)["errors"] == [
        {"path": "$.email", "message": "expected str, got int"},
        {"path": "$.password", "message": "expected str, got object"},
        {"path": "$", "message": "unknown member"},
        {"path": "$.otp", "message": "unknown member"},
    ]
    answer = await post(house, "", {"email": "a@b", "password": "s3cret" * 200})
    assert (answer.status, b"s3cret" in answer.body) == (422, False)


async def test_a_log_in_says_what_is_left(house: House) -> None:
    answer = await Visitor(house).log_in("admin", OWNER_PASSWORD)
    assert header(answer, "X-RateLimit-Limit") == "600"
    assert header(answer, "X-RateLimit-Remaining") == "599"
    assert header(answer, "X-RateLimit-Reset") == str(DAY // SECOND + 300)


def throttled(answer: Answer, seconds: int, allowed: int) -> None:
    message = f"Too many log-in attempts. Please wait {seconds} seconds before trying again."
    assert said(answer) == (429, "IP_RATE_LIMIT", message)
    assert header(answer, "Retry-After") == str(seconds)
    assert header(answer, "X-RateLimit-Limit") == str(allowed)
    assert header(answer, "X-RateLimit-Remaining") == "0"
    assert header(answer, "X-RateLimit-Reset") == str(DAY // SECOND + seconds)


@pytest.mark.parametrize("password", [OWNER_PASSWORD, "wrong"])
async def test_beyond_the_limit_of_an_address_no_password_is_looked_at(house: House, password: str) -> None:
    people(house, login_limit=2)
    visitor = Visitor(house)
    for _ in range(2):
        await visitor.log_in("admin", OWNER_PASSWORD)
    throttled(await visitor.log_in("admin", password), 300, 2)
    house.now += 300 * SECOND
    assert (await visitor.log_in("admin", OWNER_PASSWORD)).status == 200


async def test_of_fifty_wrong_passwords_at_once_five_are_checked(house: House) -> None:
    answers = await asyncio.gather(*(Visitor(house).log_in("admin", f"wrong {each}") for each in range(50)))
    statuses = [answer.status for answer in answers]
    assert (statuses.count(401), statuses.count(429)) == (5, 45)
    throttled(await Visitor(house).log_in("admin", OWNER_PASSWORD), 30, 5)


async def test_an_address_is_barred_after_a_hundred_failures_and_free_later(house: House) -> None:
    for each in range(100):
        assert said(await Visitor(house).log_in(f"nobody{each}", "wrong")) == WRONG
    throttled(await Visitor(house).log_in("admin", OWNER_PASSWORD), 600, 100)
    house.now += 600 * SECOND
    assert (await Visitor(house).log_in("admin", OWNER_PASSWORD)).status == 200


def log_in_from(address: str = "192.0.2.1", **headers: str) -> Request:
    sent = {name.replace("_", "-"): [value] for name, value in headers.items()}
    return Request("POST", LOG_IN, "", sent, "127.0.0.1:8081", b"{}", address=address, request_id="req-1")


async def test_whoever_is_barred_gets_the_same_answer_without_a_wait_once_the_audit_has_a_first(house: House) -> None:
    for each in range(100):
        house.control.penalties.failed("192.0.2.1", "", str(each))
    request = log_in_from()
    look = house.router.look(request)
    assert look is not None
    assert look(request) is None
    first = await house.answer(request)
    throttled(first, 600, 100)
    assert look(request) == look(request) == await house.answer(request) == first
    house.now += SECOND
    assert header(look(request) or first, "Retry-After") == "599"
    assert look(log_in_from("192.0.2.2")) is None
    await house.registry.settled()
    assert [(each.outcome, each.target) for each in await house.audit()] == [
        ("login.throttled", "4 more"),
        ("login.throttled", ""),
    ]
    house.now += 600 * SECOND
    assert look(request) is None


async def test_the_limit_of_an_address_refuses_without_a_wait_too_and_counts_nothing(house: House) -> None:
    people(house, login_limit=1)
    request = log_in_from()
    look = house.router.look(request)
    assert look is not None
    assert look(request) is None
    await house.answer(request)
    refused = await house.answer(request)
    throttled(refused, 300, 1)
    assert look(request) == refused


@pytest.mark.parametrize(
    "request_", [
        log_in_from(authorization="Bearer x"),
        log_in_from(cookie="access_token_cookie=x"),
        log_in_from(origin="https://elsewhere.example"),
        replace(log_in_from(), method="GET"),
        replace(log_in_from(), path=f"{LOG_IN}/"),
        replace(log_in_from(), public=True),
    ],
)  # fmt: skip
async def test_what_is_looked_at_before_the_limits_takes_its_time(house: House, request_: Request) -> None:
    assert house.router.look(request_) is None


async def test_a_stranger_cannot_shut_out_a_user_who_comes_from_a_known_address(house: House, admin: Visitor) -> None:
    codes = []
    for each in range(6):
        with pytest.raises(Refusal) as refused:
            await house.control.login.password("admin", f"wrong {each}", "198.51.100.7")
        codes.append(refused.value.code)
    assert codes == ["login.refused"] * 5 + ["login.throttled"]
    assert (await admin.log_in("admin", OWNER_PASSWORD)).status == 200


async def test_a_disabled_user_is_told_so_for_the_right_password_only(admin: Visitor) -> None:
    alice = await person(admin, "alice")
    assert (await admin.ask("POST", f"{LOG_IN}/admin/disable/alice")).status == 200
    assert said(await alice.log_in("alice")) == INACTIVE
    assert said(await alice.log_in("alice", "wrong")) == WRONG
    assert said(await alice.ask("GET", STATUS)) == UNAUTHORIZED


async def test_who_registers_is_a_member_and_not_signed_in(house: House, admin: Visitor) -> None:
    answer = await post(house, "/register", {"email": "bob@example.com", "password": SECRET})
    assert told(answer) == (201, "User created successfully")
    assert header(answer, "Set-Cookie") == ""
    bob = await entered(house, "bob")
    assert read(await bob.ask("GET", "/platform/user/me"))["role"] == "member"
    named = {"email": "bob2@example.com", "password": SECRET, "username": "bobby"}
    assert (await post(house, "/register", named)).status == 201
    assert read(await admin.ask("GET", "/platform/user/bobby"))["email"] == "bob2@example.com"


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({"email": "admin@other.example"}, (400, "USR001", "Username already exists")),
        ({"email": "ADMIN@example.com", "username": "x"}, (400, "USR001", "Email already exists")),
        ({"email": "c@example.com", "password": "short"},
         (400, "USR005", "The password must have at least 8 characters")),
        ({"email": "c@example.com", "password": "x" * 1025},
         (400, "USR005", "The password must have at most 1024 characters")),
        ({"email": "carolcarol@example.com", "password": "carolcarol"}, (400, "USR005", "The password is too common")),
        ({"email": "nonsense"}, (422, "VAL001", "Validation Error")),
        ({"email": "a b@example.com"}, (422, "VAL001", "Validation Error")),
        ({"email": "c@example.com", "username": "a b"}, (422, "VAL001", "Validation Error")),
        ({"email": "c@example.com", "username": "me"}, (422, "VAL001", "Validation Error")),
        ({"email": "all@example.com"}, (422, "VAL001", "Validation Error")),
    ],
)  # fmt: skip
async def test_a_registration_that_breaks_a_rule_is_refused(
    house: House, body: dict[str, str], refusal: tuple[int, str, str]
) -> None:
    assert said(await post(house, "/register", {"password": SECRET} | body)) == refusal


async def test_registration_can_be_closed_or_left_to_administrators(house: House, admin: Visitor) -> None:
    body = {"email": "dave@example.com", "password": SECRET}
    closed = (403, "AUTH008", "Registration is disabled")
    owner = Call(Principal("user", "admin", OWNER), "test")
    await house.desk.run("settings.set", SetSettings({"registration.mode": "admin_only"}), owner)
    assert said(await post(house, "/register", body)) == closed
    assert said(await post(house, "/register", {})) == closed
    assert (await admin.ask("POST", f"{LOG_IN}/register", body)).status == 201
    await house.desk.run("settings.set", SetSettings({"registration.mode": "disabled"}), owner)
    assert said(await admin.ask("POST", f"{LOG_IN}/register", body)) == closed


async def test_the_301st_registration_of_an_hour_waits(house: House) -> None:
    for _ in range(300):
        house.control.penalties.admit_registration("192.0.2.1")
    throttled(await post(house, "/register", {"email": "e@example.com", "password": SECRET}), 3600, 300)


async def test_a_refresh_gives_another_session_and_ends_the_old_one(house: House, admin: Visitor) -> None:
    old = admin.jar["access_token_cookie"]
    house.now += 60 * SECOND
    answer = await admin.ask("POST", f"{LOG_IN}/refresh", b"whatever")
    new = admin.jar["access_token_cookie"]
    assert read(answer) == {"access_token": new, "refresh_token": new}
    assert list(read(answer)) == ["access_token", "refresh_token"]
    assert (await admin.ask("GET", STATUS)).status == 200
    assert said(await Visitor(house, old).ask("GET", STATUS)) == UNAUTHORIZED
    assert said(await Visitor(house, old).ask("POST", f"{LOG_IN}/refresh")) == SPENT
    assert (await admin.ask("GET", STATUS)).status == 200


async def test_a_refreshed_session_ends_with_the_longest_life_of_a_log_in(house: House, admin: Visitor) -> None:
    people(house, session_max_age=3000 * SECOND)
    house.now += 1700 * SECOND
    answer = await admin.ask("POST", f"{LOG_IN}/refresh")
    cookies = [value for name, value in answer.headers if name == "Set-Cookie"]
    assert ["; Max-Age=1300; " in each for each in cookies] == [True, True]
    house.now += 1300 * SECOND - 1
    assert (await admin.ask("GET", STATUS)).status == 200
    assert said(await admin.ask("POST", f"{LOG_IN}/refresh")) == SPENT
    house.now += 1
    assert said(await admin.ask("GET", STATUS)) == UNAUTHORIZED


async def test_only_a_session_can_be_refreshed(house: House) -> None:
    for headers, challenge in (({}, ""), ({"authorization": "Bearer x"}, ', error="invalid_token"')):
        answer = await house.ask("POST", f"{LOG_IN}/refresh", owner=False, headers=headers)
        assert said(answer) == SPENT
        assert header(answer, "WWW-Authenticate") == f'Bearer realm="ostiary"{challenge}'


async def test_invalidate_ends_this_session_for_good_and_no_other(house: House, admin: Visitor) -> None:
    other = await entered(house, "admin", OWNER_PASSWORD)
    token = admin.jar["access_token_cookie"]
    answer = await admin.ask("POST", f"{LOG_IN}/invalidate")
    assert told(answer) == (200, "Your token has been invalidated")
    gone = "Max-Age=0; Path=/; SameSite=Strict"
    assert [value for name, value in answer.headers if name == "Set-Cookie"] == [
        f"access_token_cookie=; HttpOnly; {gone}", f"csrf_token=; {gone}",
    ]  # fmt: skip
    assert admin.jar == {}
    assert said(await Visitor(house, token).ask("GET", STATUS)) == UNAUTHORIZED
    await other.ask("POST", f"{LOG_IN}/admin/unrevoke/admin")
    assert said(await Visitor(house, token).ask("GET", STATUS)) == UNAUTHORIZED
    assert (await other.ask("GET", STATUS)).status == 200


async def standing(admin: Visitor, name: str) -> tuple[bool, bool]:
    found = read(await admin.ask("GET", f"{LOG_IN}/admin/status/{name}"))
    assert list(found) == ["active", "revoked"]
    return found["active"], found["revoked"]


async def test_the_table_of_revoke_unrevoke_disable_and_enable(house: House, admin: Visitor) -> None:
    async def change(verb: str) -> tuple[int, str]:
        return told(await admin.ask("POST", f"{LOG_IN}/admin/{verb}/alice"))

    alice = await person(admin, "alice")
    assert await standing(admin, "alice") == (True, False)
    for _ in range(2):
        assert await change("revoke") == (200, "All tokens revoked for alice")
        assert await standing(admin, "alice") == (True, True)
    assert said(await alice.ask("GET", STATUS)) == UNAUTHORIZED
    later = await entered(house, "alice")
    assert (await later.ask("GET", STATUS)).status == 200
    assert await standing(admin, "alice") == (True, True)
    for _ in range(2):
        assert await change("unrevoke") == (200, "Token revocation cleared for alice")
        assert await standing(admin, "alice") == (True, False)
    assert (await alice.ask("GET", STATUS)).status == 200
    for _ in range(2):
        assert await change("disable") == (200, "User alice disabled and tokens revoked")
        assert await standing(admin, "alice") == (False, True)
    assert said(await Visitor(house).log_in("alice")) == INACTIVE
    assert await change("unrevoke") == (200, "Token revocation cleared for alice")
    assert await standing(admin, "alice") == (False, False)
    assert said(await alice.ask("GET", STATUS)) == UNAUTHORIZED
    assert await change("disable") == (200, "User alice disabled and tokens revoked")
    for _ in range(2):
        assert await change("enable") == (200, "User alice enabled")
        assert await standing(admin, "alice") == (True, True)
    assert said(await alice.ask("GET", STATUS)) == UNAUTHORIZED
    assert (await entered(house, "alice")).jar


async def test_a_revoke_is_told_to_the_workers_before_its_answer(house: House, admin: Visitor) -> None:
    await person(admin, "alice")
    answer = await admin.ask("POST", f"{LOG_IN}/admin/revoke/alice")
    assert house.workers.changes[-1].users == ["alice"]
    assert header(answer, "X-Ostiary-Applied").startswith("epoch ")


NAMES = [
    "nobody",
    "ALICE",
    "a" * 65,
    "a" * 5000,
    "alice%0d%0aX: y",
    "alice%00",
    "a%2Fb",
    "..",
    "%2e%2e",
    "%ff",
    " ",
    "%7Busername%7D",
]


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_that_is_nobodys_is_404(admin: Visitor, name: str) -> None:
    await person(admin, "alice")
    path = f"{LOG_IN}/admin"
    assert said(await admin.ask("GET", f"{path}/status/{name}")) == NOBODY
    for verb in ("revoke", "unrevoke", "disable", "enable"):
        assert said(await admin.ask("POST", f"{path}/{verb}/{name}")) == NOBODY


async def test_who_manages_auth_does_not_see_administrators_and_others_learn_nothing(admin: Visitor) -> None:
    await person(admin, "root", "admin")
    await person(admin, "plain")
    keeper = await person(admin, "keeper", await role(admin, "keepers", "manage_auth"))
    outsider = await person(admin, "outsider", await role(admin, "outsiders", "manage_gateway"))
    for verb in ("revoke", "unrevoke", "disable", "enable"):
        for name in ("root", "admin", "nobody"):
            assert said(await keeper.ask("POST", f"{LOG_IN}/admin/{verb}/{name}")) == NOBODY
            assert said(await outsider.ask("POST", f"{LOG_IN}/admin/{verb}/{name}")) == NO_AUTH
        assert (await keeper.ask("POST", f"{LOG_IN}/admin/{verb}/plain")).status == 200
    assert said(await keeper.ask("GET", f"{LOG_IN}/admin/status/root")) == NOBODY
    assert said(await outsider.ask("GET", f"{LOG_IN}/admin/status/plain")) == NO_AUTH
    assert said(await outsider.ask("POST", f"{LOG_IN}/admin/revoke/outsider")) == NO_AUTH


async def test_the_owner_can_be_revoked_and_never_disabled(house: House, admin: Visitor) -> None:
    root = await person(admin, "root", "admin")
    cannot = (403, "AUTH902", "The owner cannot be disabled")
    for visitor in (admin, root):
        assert said(await visitor.ask("POST", f"{LOG_IN}/admin/disable/admin")) == cannot
    assert told(await root.ask("POST", f"{LOG_IN}/admin/revoke/admin")) == (200, "All tokens revoked for admin")
    assert said(await admin.ask("GET", STATUS)) == UNAUTHORIZED
    again = await entered(house, "admin", OWNER_PASSWORD)
    assert (await again.ask("POST", f"{LOG_IN}/admin/revoke/admin")).status == 200
    assert said(await again.ask("GET", STATUS)) == UNAUTHORIZED


async def test_the_audit_has_one_record_for_each_change_and_each_refusal(house: House) -> None:
    async def newest() -> tuple[int, str, str, str, str]:
        records = [each for each in await house.audit() if each.surface == "doorman"]
        assert (records[0].address, records[0].request_id) == ("192.0.2.1", "req-1")
        return len(records), records[0].name, records[0].operation, records[0].target, records[0].outcome

    visitor = Visitor(house)
    await visitor.log_in("s3cret-in-the-wrong-field", "wrong")
    assert await newest() == (1, "", "login.password", "", "login.refused")
    await visitor.log_in("admin@example.com", "wrong")
    assert await newest() == (2, "", "login.password", "admin", "login.refused")
    await visitor.log_in("admin", OWNER_PASSWORD)
    assert await newest() == (3, "admin", "login.password", "admin", "done")
    await visitor.ask("POST", f"{LOG_IN}/admin/revoke/nobody")
    assert await newest() == (4, "admin", "tokens.revoke_all", "nobody", "user.unknown")
    await house.ask("POST", f"{LOG_IN}/admin/revoke/admin", owner=False)
    assert await newest() == (5, "", "tokens.revoke_all", "admin", "authentication.required")
    await visitor.ask("GET", STATUS)
    await post(house, "", {"email": "a", "password": "b"}, headers={"origin": "http://evil.example"})
    assert await newest() == (6, "", "login.password", "", "csrf.invalid")
    await visitor.ask("POST", f"{LOG_IN}/refresh")
    assert (await newest())[2:] == ("login.renew", "", "done")
    await visitor.ask("POST", f"{LOG_IN}/admin/revoke/admin")
    assert await newest() == (8, "admin", "tokens.revoke_all", "admin", "done")
