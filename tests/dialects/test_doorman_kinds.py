"""Every kind of credential at the Doorman surface, and the order in which a request is refused."""

import pytest
from tests.dialects.doorman import LOG_IN, SECRET, Visitor, header, person, read, said, told
from tests.dialects.house import House
from tests.dialects.test_apifest import client, form

from ostiary.control import totp
from ostiary.control.call import Call
from ostiary.control.login import ByCode
from ostiary.control.users import OwnUser
from ostiary.core.configuration.measure import Secret
from ostiary.core.configuration.settings import DialectSettings, DoveadmSettings, ServiceKeySettings, Settings
from ostiary.core.permission import OWNER, Principal

UNAUTHORIZED = (401, "AUTH005", "Unauthorized")
STATUS = f"{LOG_IN}/status"


async def test_an_oauth_token_is_signed_in_and_may_nothing(house: House) -> None:
    grant = {"grant_type": "client_credentials", **await client(house)}
    visitor = Visitor(house, read(await form(house, grant))["access_token"])
    assert told(await visitor.ask("GET", STATUS)) == (200, "Token is valid")
    assert (await visitor.ask("GET", "/platform/config/reloadable-keys")).status == 200
    assert said(await visitor.ask("GET", "/platform/user/me")) == (404, "USR002", "User not found")
    assert said(await visitor.ask("DELETE", "/api/caches"))[:2] == (403, "GTW008")
    assert said(await visitor.ask("GET", "/platform/user"))[:2] == (403, "USR008")
    assert said(await visitor.ask("POST", f"{LOG_IN}/refresh"))[:2] == (401, "AUTH003")
    ended = await visitor.ask("POST", f"{LOG_IN}/invalidate")
    assert told(ended) == (200, "Your token has been invalidated")
    assert said(await visitor.ask("GET", STATUS)) == UNAUTHORIZED


async def test_the_pair_of_a_log_in_by_code_ends_together(house: House, admin: Visitor) -> None:
    owner = Call(Principal("user", "admin", OWNER, number=1, role="owner"), "test")
    await person(admin, "alice")
    secret = (await house.desk.run("users.totp_setup", OwnUser("alice"), owner)).secret
    code = totp.code_of(secret, totp.step_at(house.now))
    given = await house.desk.run("login.totp", ByCode("alice", code), Call(surface="test"))
    alice = Visitor(house, given.access_token)
    assert read(await alice.ask("GET", "/platform/user/me"))["username"] == "alice"
    refresh = Visitor(house, given.refresh_token)
    assert said(await refresh.ask("GET", STATUS)) == UNAUTHORIZED
    assert (await alice.ask("POST", f"{LOG_IN}/invalidate")).status == 200
    assert said(await alice.ask("GET", STATUS)) == UNAUTHORIZED
    holder = await house.control.credentials.page(2, 0, 100)
    assert [each.ended for each in holder if each.kind.value in ("access", "refresh")] == [True, True]


def services(house: House, *keys: ServiceKeySettings) -> None:
    doveadm = DoveadmSettings(api_key=Secret("main-key"), keys=list(keys))
    house.settings = Settings(dialects=DialectSettings(doveadm=doveadm))


@pytest.mark.parametrize(
    "carried",
    [
        {"authorization": "Bearer main-key"},
        {"authorization": "main-key"},
        {"cookie": "access_token_cookie=main-key"},
    ],
)
async def test_a_service_key_is_its_role_and_no_user(house: House, carried: dict[str, str]) -> None:
    services(house)
    visitor = Visitor(house)
    assert told(await visitor.ask("GET", STATUS, headers=carried)) == (200, "Token is valid")
    assert told(await visitor.ask("DELETE", "/api/caches", headers=carried)) == (200, "All caches cleared")
    (record, *_) = await house.audit()
    assert (record.kind, record.name, record.credential) == ("service", "doveadm", "api_key")
    assert said(await visitor.ask("GET", "/platform/user/me", headers=carried))[:2] == (404, "USR002")
    assert said(await visitor.ask("POST", f"{LOG_IN}/refresh", headers=carried))[:2] == (401, "AUTH003")
    assert said(await visitor.ask("POST", f"{LOG_IN}/invalidate", headers=carried)) == (
        400,
        "AUTH009",
        "This credential cannot be invalidated",
    )


async def test_a_service_key_may_what_its_role_may_as_long_as_it_is_configured(house: House) -> None:
    services(house, ServiceKeySettings("monitor", Secret("weak"), "viewer"))
    visitor = Visitor(house, "weak")
    assert (await visitor.ask("GET", STATUS)).status == 200
    assert said(await visitor.ask("DELETE", "/api/caches"))[:2] == (403, "GTW008")
    services(house)
    assert said(await visitor.ask("GET", STATUS)) == UNAUTHORIZED


async def test_an_address_that_has_guessed_too_often_is_not_told_a_right_key(house: House) -> None:
    services(house)
    for number in range(100):
        assert (await Visitor(house, f"guess-{number}").ask("GET", STATUS)).status == 401
    assert said(await Visitor(house, "main-key").ask("GET", STATUS))[:2] == (429, "IP_RATE_LIMIT")
    assert said(await Visitor(house, "wrong-key").ask("GET", STATUS))[:2] == (429, "IP_RATE_LIMIT")


async def test_checks_go_in_this_order(house: House, admin: Visitor) -> None:
    plain = await person(admin, "plain")
    big, evil = b"x" * 1_048_577, {"origin": "http://evil.example"}
    assert (await plain.ask("POST", "/platform/userx", big, evil)).status == 404
    assert (await plain.ask("PATCH", "/platform/user", big, evil)).status == 405
    assert (await house.ask("POST", "/platform/user", big, owner=False, headers=evil)).status == 413
    assert (await house.ask("POST", "/platform/user", b"{bad", owner=False, headers=evil)).status == 401
    assert said(await plain.ask("POST", "/platform/user", b"{bad", evil))[1] == "AUTH006"
    assert said(await plain.ask("POST", "/platform/user", b"{bad"))[1] == "USR006"
    assert said(await admin.ask("PUT", "/platform/user/nobody", b"{bad"))[1] == "VAL001"
    assert said(await admin.ask("PUT", "/platform/user/nobody", {"role": "owner"}))[1] == "USR002"
    assert said(await admin.ask("PUT", "/platform/user/plain", {"role": "owner"}))[1] == "USR013"


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/platform/user/me", "GET, HEAD, OPTIONS"),
        ("/platform/user/alice", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("/platform/user", "GET, HEAD, OPTIONS, POST"),
        ("/platform/role/all", "GET, HEAD, OPTIONS"),
        ("/platform/user/alice/update-password", "OPTIONS, PUT"),
        ("/platform/authorization/admin/status/alice", "GET, HEAD, OPTIONS"),
    ],
)
async def test_options_names_the_methods_of_each_path(house: House, path: str, allow: str) -> None:
    answer = await house.ask("OPTIONS", path, owner=False)
    assert (answer.status, answer.body, header(answer, "Allow")) == (204, b"", allow)


@pytest.mark.parametrize(
    "path",
    ["/platform/user/", "/platform/user//", "/platform/user/a/", "/platform/user/a/b", "/platform/user/{username}/x",
     "/platform/authorization/admin/revoke", "/platform/authorization/admin/revoke/", "/platform/api",
     "/platform/authorization/admin/kill/alice", "/platform/User/me", "/api/status", "/api/rest/x"],
)  # fmt: skip
async def test_other_paths_are_404(admin: Visitor, path: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        assert said(await admin.ask(method, path)) == (404, "GTW003", "Not Found")


async def test_a_node_whose_workers_do_not_answer_says_so(house: House, admin: Visitor) -> None:
    house.workers.away = True
    answer = await admin.ask("DELETE", "/api/caches")
    assert said(answer) == (503, "GTW998", "Service unavailable")
    assert header(answer, "Retry-After") == "1"


@pytest.mark.parametrize(
    "text", ["\ud800", "\0", "x" * 1_000_000, "${jndi:ldap://x}", "{{7*7}}", "\r\nSet-Cookie: a=b"]
)
async def test_hostile_text_is_refused_or_kept_as_text(admin: Visitor, text: str) -> None:
    body = {"username": "u", "email": "u@example.com", "password": SECRET, "role": "viewer"}
    raw = text.encode("utf-8", "surrogatepass").decode("latin-1")
    for change in ({"username": raw}, {"email": raw}, {"role": raw}):
        assert said(await admin.ask("POST", "/platform/user", body | change))[:2] == (422, "VAL001")
    assert said(await Visitor(admin.house).log_in("admin", raw[:1000])) == (401, "AUTH002", "Invalid email or password")
