"""Users and roles over the Doorman surface: the field tables, pages, and who may do what to whom."""

from typing import Any

import pytest
from tests.dialects.doorman import LOG_IN, SECRET, Visitor, entered, header, person, read, role, said, told
from tests.dialects.house import House

from ostiary.control.call import Call
from ostiary.control.roles import CreateRole
from ostiary.core.permission import OWNER, Principal
from ostiary.dialects.doorman.bodies import NOT_KEPT
from ostiary.dialects.doorman.roles import FLAGS, Flags

USER, ROLE = "/platform/user", "/platform/role"
NOBODY = (404, "USR002", "User not found")
INVALID = (422, "VAL001", "Validation Error")
ABOVE = (403, "AUTH901", "You cannot act on permissions that you do not hold")
GIVING = (403, "USR013", "Only admin may change admin role assignments")
MAKING = (403, "USR015", "Only admin may create users with the admin role")
NO_AUTH = (403, "AUTH900", "You do not have permission to manage auth")
NOT_READ = (403, "USR008", "Unable to retrieve information for user")
NOT_YOURS = (403, "USR006", "Can only update your own information")
NEW = {"username": "new", "email": "new@example.com", "password": SECRET, "role": "viewer"}


async def test_a_user_has_these_members_in_this_order(admin: Visitor) -> None:
    alice = await person(admin, "alice", groups=["ALL"], custom_attributes={"team": "blue", "n": 1, "x": None})
    shown = read(await alice.ask("GET", f"{USER}/me"))
    kept = {
        "username": "alice", "email": "alice@example.com", "role": "viewer", "groups": ["ALL"],
        "custom_attributes": {"team": "blue", "n": 1, "x": None}, "active": True, "ui_access": False,
    }  # fmt: skip
    assert shown == kept | dict.fromkeys(NOT_KEPT)
    assert list(shown) == [*kept, *NOT_KEPT]
    assert len(shown) == 21
    for path in ("alice", "email/alice@example.com", "email/ALICE%40example.com"):
        assert read(await admin.ask("GET", f"{USER}/{path}")) == shown
        assert read(await alice.ask("GET", f"{USER}/{path}")) == shown
    me = read(await admin.ask("GET", f"{USER}/me"))
    assert (me["username"], me["role"], me["ui_access"]) == ("admin", "owner", True)


async def test_what_is_not_kept_is_taken_and_named(admin: Visitor) -> None:
    more = {"throttle_duration": 5, "rate_limit_duration": 1, "bandwidth_limit_window": "day", "throttle_enabled": None}
    made = await admin.ask("POST", USER, NEW | more)
    assert told(made) == (201, "User created successfully")
    assert header(made, "X-Ostiary-Ignored") == "bandwidth_limit_window, rate_limit_duration, throttle_duration"
    changed = await admin.ask("PUT", f"{USER}/new", {"rate_limit_enabled": True})
    assert told(changed) == (200, "User updated successfully")
    assert header(changed, "X-Ostiary-Ignored") == "rate_limit_enabled"
    assert (await admin.ask("PUT", f"{USER}/admin", {"rate_limit_enabled": True})).status == 200
    for wrong in ({"rate_limit_duration": "x"}, {"throttle_enabled": 1}, {"bandwidth_limit_window": 5}):
        assert said(await admin.ask("PUT", f"{USER}/new", wrong)) == INVALID


@pytest.mark.parametrize(
    ("change", "places"),
    [
        ({"username": None}, ["$.username"]),
        ({"email": None, "password": None}, ["$.email", "$.password"]),
        ({"role": 5, "groups": "x", "active": "yes"}, ["$.role", "$.groups", "$.active"]),
        ({"groups": ["a", 5]}, ["$.groups[1]"]),
        ({"groups": ["x" * 256]}, ["$.groups"]),
        ({"custom_attributes": {"a": {"b": 1}}}, ["$.custom_attributes[...]"]),
        ({"custom_attributes": {"a": "\0"}}, ["$.custom_attributes"]),
        ({"custom_attributes": []}, ["$.custom_attributes"]),
        ({"is_admin": True}, ["$.is_admin"]),
        ({"username": "a b"}, ["$.username"]),
        ({"username": "me"}, ["$.username"]),
        ({"username": "all"}, ["$.username"]),
        ({"username": "email"}, ["$.username"]),
        ({"username": "x" * 65}, ["$.username"]),
        ({"username": {"$ne": 1}}, ["$.username"]),
        ({"email": "nonsense"}, ["$.email"]),
        ({"email": "a@b\r\nX: y"}, ["$.email"]),
        ({"email": ""}, ["$.email"]),
        ({"role": "a b"}, ["$.role"]),
        ({"role": "all"}, ["$.role"]),
    ],
)
async def test_a_user_that_is_not_valid_is_told_where(
    admin: Visitor, change: dict[str, Any], places: list[str]
) -> None:
    answer = await admin.ask("POST", USER, NEW | change)
    assert said(answer) == INVALID
    assert [each["path"] for each in read(answer)["errors"]] == places


@pytest.mark.parametrize("body", [b"", b"{bad", b"[]", b"5", b"\xff", b"[" * 100_000, b'{"username":1e999}'])
async def test_a_body_that_is_no_object_is_not_valid(admin: Visitor, body: bytes) -> None:
    for method, path in (("POST", USER), ("PUT", f"{USER}/admin"), ("POST", ROLE), ("PUT", f"{ROLE}/member"),
                         ("PUT", f"{USER}/admin/update-password")):  # fmt: skip
        assert said(await admin.ask(method, path, body)) == INVALID


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"username": "admin"}, (400, "USR001", "Username already exists")),
        ({"username": "ADMIN"}, (400, "USR001", "Username already exists")),
        ({"email": "ADMIN@example.com"}, (400, "USR001", "Email already exists")),
        ({"username": "admin@example.com"}, (400, "USR001", "Username already exists")),
        ({"password": "short"}, (400, "USR005", "The password must have at least 8 characters")),
        ({"username": "newnewnew", "password": "newnewnew"}, (400, "USR005", "The password is too common")),
        ({"role": "owner"}, MAKING),
        ({"custom_attributes": {str(each): each for each in range(11)}},
         (400, "USR016", "Maximum 10 custom attributes allowed. Please replace an existing one.")),
    ],
)  # fmt: skip
async def test_a_user_that_breaks_a_rule_is_refused(
    admin: Visitor, change: dict[str, Any], refusal: tuple[int, str, str]
) -> None:
    assert said(await admin.ask("POST", USER, NEW | change)) == refusal


async def test_a_role_that_does_not_exist_comes_with_its_user_and_allows_nothing(admin: Visitor) -> None:
    await person(admin, "alice", "fresh")
    shown = read(await admin.ask("GET", f"{ROLE}/fresh"))
    assert shown == {"role_name": "fresh", "role_description": None, **dict.fromkeys(FLAGS, False)}


async def test_pages_go_by_name(admin: Visitor) -> None:
    for name in ("carol", "bob", "Dave"):
        await admin.ask("POST", USER, NEW | {"username": name, "email": f"{name}@example.com"})
    first = read(await admin.ask("GET", f"{USER}?page=1&page_size=3"))
    assert [each["username"] for each in first.pop("users")] == ["admin", "bob", "carol"]
    assert first == {"page": 1, "page_size": 3, "has_next": True, "total": 4}
    last = read(await admin.ask("GET", f"{USER}/all?page=2&page_size=3"))
    assert [each["username"] for each in last.pop("users")] == ["Dave"]
    assert last == {"page": 2, "page_size": 3, "has_next": False, "total": 4}
    beyond = read(await admin.ask("GET", f"{USER}?page=9999999999999999&other=x"))
    assert (beyond["users"], beyond["page_size"], beyond["has_next"]) == ([], 10, False)
    roles = read(await admin.ask("GET", f"{ROLE}?page_size=2"))
    assert [each["role_name"] for each in roles.pop("roles")] == ["admin", "manager"]
    assert roles == {"page": 1, "page_size": 2, "has_next": True, "total": 5}


@pytest.mark.parametrize("path", [USER, f"{USER}/all", ROLE, f"{ROLE}/all"])
@pytest.mark.parametrize(
    ("query", "message"),
    [
        *[(each, "Invalid page or page size") for each in (
            "page=0", "page=-1", "page=x", "page=", "page=1.5", "page_size=0", "page=1&page=2", "page=%D9%A1",
            "page=99999999999999999", "page_size=+1")],
        ("page_size=201", "Page size exceeds maximum limit"),
        ("page_size=9999999999999999", "Page size exceeds maximum limit"),
    ],
)  # fmt: skip
async def test_a_page_that_cannot_be_is_refused(admin: Visitor, path: str, query: str, message: str) -> None:
    assert said(await admin.ask("GET", f"{path}?{query}")) == (400, "PAG001", message)


async def test_without_the_permission_one_sees_and_changes_oneself_only(house: House, admin: Visitor) -> None:
    alice = await person(admin, "alice")
    for path in ("", "/all", "/admin", "/nobody", "/email/admin@example.com", "/email/nobody@example.com"):
        assert said(await alice.ask("GET", f"{USER}{path}")) == NOT_READ
    assert said(await alice.ask("POST", USER, NEW)) == NOT_YOURS
    for name in ("admin", "nobody"):
        assert said(await alice.ask("PUT", f"{USER}/{name}", {"email": "x@example.com"})) == NOT_YOURS
        refused = await alice.ask("PUT", f"{USER}/{name}/update-password", {"new_password": SECRET})
        assert said(refused) == (403, "USR006", "Can only update your own password")
        assert said(await alice.ask("DELETE", f"{USER}/{name}")) == (403, "USR007", "Can only delete your own account")
    restricted = {"role": "admin", "groups": [], "active": False, "username": "alice", "ui_access": True}
    words = "Cannot modify restricted fields without manage_users permission: "
    for sent in (restricted, {"role": "viewer", "active": True}, {"username": "x"}):
        refused = await alice.ask("PUT", f"{USER}/alice", sent | {"email": "a@example.com"})
        assert said(refused) == (403, "USR023", words + ", ".join(sorted(sent)))
    mine = {"email": "mine@example.com", "custom_attributes": {"a": 1}}
    assert told(await alice.ask("PUT", f"{USER}/alice", mine)) == (200, "User updated successfully")
    assert read(await alice.ask("GET", f"{USER}/me"))["email"] == "mine@example.com"
    answer = await alice.ask("DELETE", f"{USER}/alice")
    assert told(answer) == (200, "User deleted successfully")
    assert alice.jar == {}
    assert said(await admin.ask("GET", f"{USER}/alice")) == NOBODY


async def test_a_password_is_changed_by_the_present_one_and_ends_everything_else(house: House, admin: Visitor) -> None:
    alice, elsewhere = await person(admin, "alice"), await entered(house, "alice")
    path, new = f"{USER}/alice/update-password", "Another!Passw0rd5678"
    wrong = (400, "USR017", "Current password does not match")
    assert said(await alice.ask("PUT", path, {"new_password": new})) == wrong
    assert said(await alice.ask("PUT", path, {"new_password": new, "current_password": "x"})) == wrong
    assert said(await admin.ask("PUT", path, {"new_password": new, "old_password": "x"})) == wrong
    short = await alice.ask("PUT", path, {"new_password": "short", "current_password": SECRET})
    assert said(short) == (400, "USR005", "The password must have at least 8 characters")
    assert said(await alice.ask("PUT", path, {"new_password": 5})) == INVALID
    changed = await alice.ask("PUT", path, {"new_password": new, "old_password": SECRET})
    assert told(changed) == (200, "User updated successfully")
    assert (await alice.ask("GET", f"{LOG_IN}/status")).status == 200
    assert (await elsewhere.ask("GET", f"{LOG_IN}/status")).status == 401
    assert (await entered(house, "alice", new)).jar
    assert (await admin.ask("PUT", path, {"new_password": SECRET})).status == 200
    assert (await alice.ask("GET", f"{LOG_IN}/status")).status == 401


async def test_wrong_present_passwords_are_throttled(admin: Visitor) -> None:
    alice = await person(admin, "alice")
    body = {"new_password": "Another!Passw0rd5678", "current_password": "wrong"}
    for _ in range(5):
        assert said(await alice.ask("PUT", f"{USER}/alice/update-password", body))[1] == "USR017"
    assert said(await alice.ask("PUT", f"{USER}/alice/update-password", body))[1] == "IP_RATE_LIMIT"


async def test_an_update_changes_what_is_sent(house: House, admin: Visitor) -> None:
    alice = await person(admin, "alice")
    change = {"role": "manager", "groups": ["x"], "ui_access": True, "active": False, "username": "alice"}
    assert told(await admin.ask("PUT", f"{USER}/alice", change)) == (200, "User updated successfully")
    shown = read(await admin.ask("GET", f"{USER}/alice"))
    assert {name: shown[name] for name in change} == change
    assert read(await admin.ask("GET", f"{LOG_IN}/admin/status/alice")) == {"active": False, "revoked": True}
    assert (await admin.ask("PUT", f"{USER}/alice", {"active": True})).status == 200
    assert (await alice.ask("GET", f"{LOG_IN}/status")).status == 401
    assert (await entered(house, "alice")).jar
    assert (await admin.ask("PUT", f"{USER}/alice", {})).status == 200


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"role": "nothing"}, (400, "ROLE004", "Role does not exist")),
        ({"role": "owner"}, GIVING),
        ({"username": "other"}, (400, "USR004", "Unable to update user")),
        ({"password": SECRET}, INVALID),
        ({"email": "admin@example.com"}, (400, "USR001", "Email already exists")),
    ],
)
async def test_an_update_that_breaks_a_rule_changes_nothing(
    admin: Visitor, change: dict[str, str], refusal: tuple[int, str, str]
) -> None:
    await person(admin, "alice")
    assert said(await admin.ask("PUT", f"{USER}/alice", {"groups": ["x"]} | change)) == refusal
    assert read(await admin.ask("GET", f"{USER}/alice"))["groups"] == []


async def test_the_owner_is_changed_by_nobody_here(admin: Visitor) -> None:
    root = await person(admin, "root", "admin")
    for who in (admin, root):
        refused = await who.ask("PUT", f"{USER}/admin", {"email": "x@example.com"})
        assert said(refused) == (403, "USR020", "Super admin user cannot be modified")
        refused = await who.ask("DELETE", f"{USER}/admin")
        assert said(refused) == (403, "USR021", "Super admin user cannot be deleted")
        refused = await who.ask("PUT", f"{USER}/admin/update-password", {"new_password": SECRET})
        assert said(refused) == (403, "USR022", "Super admin password cannot be changed via UI")


async def test_nobody_reaches_above_themselves(admin: Visitor) -> None:
    await person(admin, "gate", await role(admin, "gates", "manage_gateway"))
    await person(admin, "root", "admin")
    await person(admin, "plain")
    hr = await person(admin, "hr", await role(admin, "hrs", "manage_users"))
    for name in ("root", "admin"):
        assert said(await hr.ask("GET", f"{USER}/{name}")) == NOBODY
        assert said(await hr.ask("PUT", f"{USER}/{name}", {"email": "x@example.com"})) == NOBODY
        assert said(await hr.ask("DELETE", f"{USER}/{name}")) == NOBODY
        assert said(await hr.ask("GET", f"{USER}/email/{name}@example.com")) == NOBODY
    names = [each["username"] for each in read(await hr.ask("GET", USER))["users"]]
    assert names == ["gate", "hr", "plain"]
    assert said(await hr.ask("PUT", f"{USER}/gate", {"email": "x@example.com"})) == ABOVE
    assert said(await hr.ask("PUT", f"{USER}/gate/update-password", {"new_password": SECRET})) == ABOVE
    assert said(await hr.ask("DELETE", f"{USER}/gate")) == ABOVE
    assert said(await hr.ask("PUT", f"{USER}/plain", {"role": "gates"})) == ABOVE
    assert said(await hr.ask("PUT", f"{USER}/plain", {"role": "admin"})) == GIVING
    assert said(await hr.ask("PUT", f"{USER}/plain", {"active": False})) == NO_AUTH
    assert said(await hr.ask("POST", USER, NEW | {"role": "gates"})) == ABOVE
    assert said(await hr.ask("POST", USER, NEW | {"role": "admin"})) == MAKING
    assert (await hr.ask("POST", USER, NEW)).status == 201
    assert (await hr.ask("PUT", f"{USER}/plain", {"email": "y@example.com", "role": "member"})).status == 200
    assert (await hr.ask("DELETE", f"{USER}/plain")).status == 200


def test_there_are_sixteen_flags() -> None:
    assert (len(FLAGS), Flags.__struct_fields__) == (16, tuple(FLAGS))


@pytest.mark.parametrize("flag", FLAGS)
async def test_a_flag_is_set_shown_and_cleared_with_all_that_it_stands_for(admin: Visitor, flag: str) -> None:
    await role(admin, "one", flag)
    assert read(await admin.ask("GET", f"{ROLE}/one"))[flag] is True
    found = await admin.house.control.roles.get("one")
    assert found is not None
    assert found.permissions == FLAGS[flag]
    cleared = read(await admin.ask("PUT", f"{ROLE}/one", {flag: False}))
    assert cleared == {"role_name": "one", "role_description": None, **dict.fromkeys(FLAGS, False)}


async def test_permissions_without_a_flag_are_left_alone(house: House, admin: Visitor) -> None:
    owner = Call(Principal("user", "admin", OWNER), "test")
    await house.desk.run("roles.create", CreateRole("mixed", ["scopes:manage", "gateway:manage"]), owner)
    shown = read(await admin.ask("GET", f"{ROLE}/mixed"))
    assert shown["manage_gateway"] is False
    changed = read(await admin.ask("PUT", f"{ROLE}/mixed", {"manage_gateway": True, "role_description": "d"}))
    assert (changed["manage_gateway"], changed["role_description"]) == (True, "d")
    found = await house.control.roles.get("mixed")
    assert found is not None
    assert found.permissions == FLAGS["manage_gateway"] | {"scopes:manage"}


@pytest.mark.parametrize("name", ["member", "viewer", "manager", "admin", "owner"])
async def test_the_built_in_roles_have_no_flag_or_all(admin: Visitor, name: str) -> None:
    shown = read(await admin.ask("GET", f"{ROLE}/{name}"))
    flags = dict.fromkeys(FLAGS, name in ("admin", "owner"))
    assert shown == {"role_name": name, "role_description": None, **flags}


@pytest.mark.parametrize(
    ("method", "path", "body", "refusal"),
    [
        ("POST", "", {"role_name": "mine"}, (400, "ROLE001", "Role already exists")),
        ("POST", "", {"role_name": "owner"}, (400, "ROLE001", "Role already exists")),
        ("POST", "", {}, INVALID),
        ("POST", "", {"role_name": "all"}, INVALID),
        ("POST", "", {"role_name": "a b"}, INVALID),
        ("POST", "", {"role_name": "x" * 51}, INVALID),
        ("POST", "", {"role_name": "x", "manage_all": True}, INVALID),
        ("POST", "", {"role_name": "x", "manage_auth": "true"}, INVALID),
        ("POST", "", {"role_name": "x", "role_description": "d" * 256}, INVALID),
        ("GET", "/nothing", b"", (404, "ROLE004", "Role does not exist")),
        ("PUT", "/nothing", {"manage_auth": True}, (404, "ROLE004", "Role does not exist")),
        ("DELETE", "/nothing", b"", (404, "ROLE004", "Role does not exist")),
        ("DELETE", "/%00", b"", (404, "ROLE004", "Role does not exist")),
        ("PUT", "/mine", {"role_name": "other"}, (400, "ROLE005", "Role name cannot be changed")),
        ("PUT", "/mine", {}, (400, "ROLE007", "No data to update")),
        ("PUT", "/mine", {"manage_auth": None}, (400, "ROLE007", "No data to update")),
        ("PUT", "/viewer", {"manage_auth": True}, (400, "ROLE006", "Unable to update role")),
        ("PUT", "/owner", {"manage_auth": True}, (403, "ROLE014", "Only admin may modify the admin role")),
        ("DELETE", "/mine", b"", (400, "ROLE008", "Unable to delete role")),
        ("DELETE", "/viewer", b"", (400, "ROLE008", "Unable to delete role")),
        ("DELETE", "/owner", b"", (400, "ROLE008", "Unable to delete role")),
    ],
)
async def test_what_cannot_be_done_to_a_role(
    admin: Visitor, method: str, path: str, body: object, refusal: tuple[int, str, str]
) -> None:
    await person(admin, "alice", await role(admin, "mine"))
    assert said(await admin.ask(method, f"{ROLE}{path}", body)) == refusal


async def test_roles_need_a_permission_and_hide_those_of_administrators(admin: Visitor) -> None:
    plain = await person(admin, "plain")
    words = "You do not have permission to {} roles"
    for path in ("", "/all", "/viewer", "/nothing"):
        assert said(await plain.ask("GET", f"{ROLE}{path}")) == (403, "ROLE012", words.format("read"))
    assert said(await plain.ask("POST", ROLE, {})) == (403, "ROLE009", words.format("create"))
    assert said(await plain.ask("PUT", f"{ROLE}/x", {})) == (403, "ROLE010", words.format("update"))
    assert said(await plain.ask("DELETE", f"{ROLE}/x")) == (403, "ROLE011", words.format("delete"))
    hr = await person(admin, "hr", await role(admin, "hrs", "manage_users"))
    keeper = await person(admin, "keeper", await role(admin, "keepers", "manage_roles"))
    for reader in (hr, keeper):
        names = [each["role_name"] for each in read(await reader.ask("GET", ROLE))["roles"]]
        assert names == ["hrs", "keepers", "manager", "member", "viewer"]
        assert said(await reader.ask("GET", f"{ROLE}/admin")) == (404, "ROLE004", "Role does not exist")
    refused = await keeper.ask("POST", ROLE, {"role_name": "admin"})
    assert said(refused) == (403, "ROLE013", "Only admin may create the admin role")
    refused = await keeper.ask("PUT", f"{ROLE}/admin", {"manage_auth": False})
    assert said(refused) == (403, "ROLE014", "Only admin may modify the admin role")
    assert said(await keeper.ask("DELETE", f"{ROLE}/admin")) == (403, "ROLE016", "Only admin may delete the admin role")
    assert said(await keeper.ask("POST", ROLE, {"role_name": "big", "manage_gateway": True})) == ABOVE
    assert said(await keeper.ask("PUT", f"{ROLE}/hrs", {"role_description": "mine now"})) == ABOVE
    assert said(await keeper.ask("DELETE", f"{ROLE}/hrs")) == ABOVE
    assert (await keeper.ask("POST", ROLE, {"role_name": "small", "manage_roles": True})).status == 201
