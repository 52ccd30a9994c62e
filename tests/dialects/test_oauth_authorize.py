"""The authorization endpoint, as a browser meets it: checks in order, pages, log-ins, consents, hostile input."""

import asyncio
import re
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.dialects.house import ISSUER, OWNER, PASSWORD, House, build

from ostiary.core.refusal import Unavailable
from ostiary.dialects.message import FORM, Answer, Request
from ostiary.dialects.oauth import page
from ostiary.dialects.oauth.authorize import PARAMETERS
from ostiary.store.applications import SqlApplications

PATH = "/oauth20/authorize"
VERIFIER = "v" * 43
CHALLENGE = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
URI = "https://app.example/cb"
ORIGIN = "http://127.0.0.1:8081"
APPLICATION = {"name": "Photos & <Films>", "description": "Prints what you like", "scope": "basic aa"}
SCOPES = [
    {"scope": name, "description": f"{name} <things>", "cc_expires_in": 1800, "pass_expires_in": 900}
    for name in ("basic", "aa")
]


def read(answer: Answer) -> Any:
    return msgspec.json.decode(answer.body)


def header(answer: Answer, name: str) -> str:
    (value,) = (value for each, value in answer.headers if each == name)
    return value


def cookies(answer: Answer) -> list[str]:
    return [value for name, value in answer.headers if name == "Set-Cookie"]


def back(answer: Answer, uri: str = URI) -> dict[str, str]:
    """The parameters with which an answer leads to the client application."""
    where = header(answer, "Location")
    assert where.startswith(f"{uri}?")
    return dict(parse_qsl(urlsplit(where).query, keep_blank_values=True, strict_parsing=True))


class Form(HTMLParser):
    """The only form of a page: its action, its inputs, its buttons and what the page says."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.action, self.inputs, self.acts, self.text = "", {}, [], ""
        self.feed(answer.body.decode())

    inputs: dict[str, str]
    acts: list[str]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        assert not any(name.startswith("on") or name == "style" for name in given)
        assert tag != "script"
        if tag == "form":
            assert given["method"] == "post"
            self.action = given["action"]
        elif tag == "input":
            self.inputs[given["name"]] = given.get("value", "")
        elif tag == "button":
            assert given["name"] == "act"
            self.acts.append(given["value"])

    def handle_data(self, data: str) -> None:
        self.text += data


class Browser:
    """Keeps cookies and sends forms."""

    def __init__(self, house: House, **params: str) -> None:
        self.house = house
        self.params = params
        self.jar: dict[str, str] = {}
        self.secure = False
        self.host = "127.0.0.1:8081"

    async def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        path, _, query = target.partition("?")
        sent = {"cookie": "; ".join(f"{name}={value}" for name, value in self.jar.items())} if self.jar else {}
        if method == "POST":
            sent |= {"content-type": FORM, "origin": "null", "sec-fetch-site": "same-origin"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        request = Request(
            method, path, query, {name: [value] for name, value in sent.items()}, self.host, body,
            peer="192.0.2.1", address="192.0.2.1", secure=self.secure, request_id="req-1",
        )  # fmt: skip
        answer = await self.house.answer(request)
        for each in cookies(answer):
            self.keep(each)
        return answer

    def keep(self, cookie: str) -> None:
        name, _, value = cookie.partition(";")[0].partition("=")
        if "Max-Age=0" in cookie:
            self.jar.pop(name, None)
        else:
            self.jar[name] = value

    async def visit(self, **params: str) -> Answer:
        return await self.ask("GET", f"{PATH}?{urlencode(self.params | params)}")

    async def press(self, answer: Answer, act: str, headers: dict[str, str] | None = None, **fields: str) -> Answer:
        form = Form(answer)
        assert act in form.acts
        return await self.send(form, {"act": act, **fields}, **headers or {})

    async def send(self, form: Form, fields: dict[str, str], **headers: str) -> Answer:
        return await self.ask("POST", form.action, urlencode(form.inputs | fields).encode(), **headers)

    async def sign_in(self, name: str = OWNER, password: str = PASSWORD) -> Answer:
        """Sign in and follow: the page that asks for consent."""
        done = await self.press(await self.visit(), "sign_in", username=name, password=password)
        assert done.status == 303
        return await self.ask("GET", header(done, "Location"))

    async def code(self) -> str:
        return back(await self.press(await self.sign_in(), "allow"))["code"]


async def registered(house: House, **more: object) -> dict[str, str]:
    """An active client application."""
    for scope in SCOPES:
        await house.ask("POST", "/oauth20/scopes", scope)
    wanted = {**APPLICATION, "redirect_uri": URI, **more}
    made: dict[str, str] = read(await house.ask("POST", "/oauth20/applications", wanted))
    await house.ask("PUT", f"/oauth20/applications/{made['client_id']}", {"status": 1})
    return made


def asking(client_id: str, **more: str) -> dict[str, str]:
    return {
        "client_id": client_id, "response_type": "code", "redirect_uri": URI, "state": "a b&c=d%\u00e9",
        "scope": "basic", "code_challenge": CHALLENGE, "code_challenge_method": "S256", **more,
    }  # fmt: skip


async def exchanged(house: House, made: dict[str, str], code: str, **fields: str) -> Answer:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": URI, "code_verifier": VERIFIER}
    body = urlencode({**form, **made, **fields}).encode()
    return await house.ask("POST", "/oauth20/token", body, media=FORM, owner=False)


@pytest.fixture
async def made(house: House) -> dict[str, str]:
    return await registered(house)


@pytest.fixture
async def browser(house: House, made: dict[str, str]) -> AsyncIterator[Browser]:
    yield Browser(house, **asking(made["client_id"]))


# The whole way


async def test_a_user_signs_in_and_allows_and_the_application_gets_a_token(
    house: House, made: dict[str, str], browser: Browser
) -> None:
    first = await browser.visit()
    assert (first.status, Form(first).acts) == (200, ["sign_in", "deny"])
    signed = await browser.press(first, "sign_in", username=OWNER, password=PASSWORD)
    assert signed.status == 303
    asked = await browser.ask("GET", header(signed, "Location"))
    form = Form(asked)
    assert (asked.status, form.acts) == (200, ["sign_out", "allow", "deny"])
    for said in ("Photos & <Films>", "Prints what you like", "basic <things>", "app.example", OWNER):
        assert said in form.text
    assert "aa <things>" not in form.text
    allowed = await browser.press(asked, "allow")
    shown = back(allowed)
    assert (allowed.status, allowed.body) == (303, b"")
    assert {**shown, "code": len(shown["code"])} == {"code": 64, "state": "a b&c=d%\u00e9", "iss": ISSUER}
    token = read(await exchanged(house, made, shown["code"]))
    assert (token["scope"], token["token_type"]) == ("basic", "Bearer")
    state = read(await house.ask("GET", f"/oauth20/tokens/validate?token={token['access_token']}"))
    assert (state["userId"], state["clientId"]) == (OWNER, made["client_id"])


async def test_what_was_allowed_once_needs_no_page(browser: Browser) -> None:
    await browser.code()
    again = await browser.visit()
    assert again.status == 302
    assert set(back(again)) == {"code", "state", "iss"}
    more = await browser.visit(scope="basic aa")
    assert (more.status, Form(more).acts) == (200, ["sign_out", "allow", "deny"])
    back(await browser.press(more, "allow"))
    assert (await browser.visit(scope="aa")).status == 302
    assert (await browser.visit(scope="aa basic")).status == 302


async def test_another_browser_and_another_application_know_nothing_of_it(house: House, browser: Browser) -> None:
    await browser.code()
    stranger = Browser(house, **browser.params)
    assert Form(await stranger.visit()).acts == ["sign_in", "deny"]
    other = await registered(house, name="other")
    assert Form(await browser.visit(client_id=other["client_id"])).acts == ["sign_out", "allow", "deny"]


async def test_without_scope_and_redirect_uri_all_scopes_go_to_the_registered_one(
    house: House, made: dict[str, str], browser: Browser
) -> None:
    browser.params = {name: value for name, value in browser.params.items() if name not in ("scope", "redirect_uri")}
    text = await browser.code()
    assert read(await exchanged(house, made, text, redirect_uri=""))["scope"] == "basic aa"


async def test_denying_and_cancelling_say_so_and_leave_the_log_in(browser: Browser) -> None:
    cancelled = await browser.press(await browser.visit(), "deny")
    expected = {"error": "access_denied", "state": "a b&c=d%\u00e9", "iss": ISSUER}
    assert (cancelled.status, back(cancelled)) == (303, expected)
    denied = await browser.press(await browser.sign_in(), "deny")
    assert (denied.status, back(denied)) == (303, expected)
    assert Form(await browser.visit()).acts == ["sign_out", "allow", "deny"]


async def test_signing_out_ends_the_log_in_here_and_in_the_store(house: House, browser: Browser) -> None:
    asked = await browser.sign_in()
    before = dict(browser.jar)
    out = await browser.press(asked, "sign_out")
    assert out.status == 303
    assert "ostiary_login" not in browser.jar
    assert Form(await browser.ask("GET", header(out, "Location"))).acts == ["sign_in", "deny"]
    browser.jar = before
    assert Form(await browser.visit()).acts == ["sign_in", "deny"]


async def test_what_happens_stands_in_the_audit(house: House, made: dict[str, str], browser: Browser) -> None:
    await browser.press(await browser.visit(), "sign_in", username=OWNER, password="wrong")
    await browser.press(await browser.sign_in(), "allow")
    await browser.press(await browser.visit(scope="aa"), "sign_out")
    records = [each for each in await house.audit() if each.surface == "oauth"]
    assert [(each.operation, each.kind, each.name, each.outcome) for each in reversed(records)] == [
        ("login.browser", "nobody", "", "login.refused"),
        ("login.browser", "user", OWNER, "done"),
        ("codes.authorize", "user", OWNER, "done"),
        ("login.sign_out", "user", OWNER, "done"),
    ]
    assert {each.target for each in records} == {made["client_id"], ""}
    assert {each.address for each in records} == {"192.0.2.1"}


# Checks, in their order


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize(
    "query",
    [
        "",
        "client_id=ffff&redirect_uri=https://evil.example",
        "client_id=%00&redirect_uri=https://evil.example",
        "client_id={id}&redirect_uri=https://evil.example/cb",
        "client_id={id}&redirect_uri=https://app.example/cb/",
        "client_id={id}&redirect_uri=https://app.example/cb?x",
        "client_id={id}&redirect_uri=HTTPS://app.example/cb",
        "client_id={id}&redirect_uri=https://app.example:443/cb",
        "client_id={id}&redirect_uri=https://app.example/cb%0d%0aSet-Cookie:a=b",
        "client_id={id}&redirect_uri=javascript:alert(1)",
        "client_id={id}&client_id={id}&redirect_uri=https://app.example/cb",
        "client_id={id}&redirect_uri=https://app.example/cb&state=1&state=2",
        "client_id={id}&redirect_uri=https://app.example/cb&unknown=1&unknown=2",
        "client_id={id}&client_id=&redirect_uri=https://app.example/cb",
    ],
)
async def test_what_goes_to_no_application_is_a_page_and_no_redirect(
    browser: Browser, made: dict[str, str], method: str, query: str
) -> None:
    text = query.replace("{id}", made["client_id"])
    answer = await browser.ask(method, f"{PATH}?{text}")
    assert answer.status == 400
    assert header(answer, "Content-Type") == "text/html; charset=utf-8"
    assert "Location" not in dict(answer.headers)
    assert b"evil" not in answer.body
    assert cookies(answer) == []


async def test_an_inactive_application_gets_nothing(house: House, made: dict[str, str], browser: Browser) -> None:
    asked = await browser.sign_in()
    await house.ask("PUT", f"/oauth20/applications/{made['client_id']}", {"status": 0})
    assert (await browser.visit()).status == 400
    answer = await browser.press(asked, "allow")
    assert (answer.status, dict(answer.headers).get("Location")) == (400, None)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"response_type": "token", "code_challenge": "", "scope": "none"}, "unsupported_response_type"),
        ({"response_type": "", "scope": "none"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"code_challenge": "", "code_challenge_method": "", "scope": "none"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": ""}, "invalid_request"),
        ({"code_challenge": CHALLENGE[:-1]}, "invalid_request"),
        ({"code_challenge": CHALLENGE + "="}, "invalid_request"),
        ({"scope": "none"}, "invalid_scope"),
        ({"scope": "basic none"}, "invalid_scope"),
        ({"scope": "basic  aa"}, "invalid_scope"),
        ({"scope": "\r\nx"}, "invalid_scope"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_later_errors_go_to_the_application(
    browser: Browser, changed: dict[str, str], error: str, method: str
) -> None:
    answer = await browser.ask(method, f"{PATH}?{urlencode(browser.params | changed)}")
    assert answer.status == (302 if method == "GET" else 303)
    assert back(answer) == {"error": error, "state": "a b&c=d%\u00e9", "iss": ISSUER}
    assert (header(answer, "Cache-Control"), header(answer, "Referrer-Policy")) == ("no-store", "no-referrer")


async def test_an_application_without_the_grant_is_told_so_after_its_scopes(house: House) -> None:
    made = await registered(house, grant_types=["client_credentials"])
    browser = Browser(house, **asking(made["client_id"]))
    assert back(await browser.visit(scope="none"))["error"] == "invalid_scope"
    assert back(await browser.visit())["error"] == "unauthorized_client"


async def test_state_is_handed_back_only_if_it_was_sent(browser: Browser) -> None:
    del browser.params["state"]
    assert back(await browser.visit(scope="none")) == {"error": "invalid_scope", "iss": ISSUER}
    assert set(back(await browser.press(await browser.sign_in(), "allow"))) == {"code", "iss"}


@pytest.mark.parametrize(
    "state", ["\r\nSet-Cookie: a=b", "x\ny", '"><script>alert(1)</script>', "\u2028", "%0d%0a", "+"]
)
async def test_any_state_comes_back_as_it_was(browser: Browser, state: str) -> None:
    browser.params["state"] = state
    answer = await browser.press(await browser.sign_in(), "allow")
    assert back(answer)["state"] == state
    assert re.fullmatch(r"[!-~]+", header(answer, "Location"))


async def test_the_redirect_uri_keeps_its_own_query(house: House) -> None:
    made = await registered(house, redirect_uri="https://app.example/cb?x=1")
    browser = Browser(house, **asking(made["client_id"], redirect_uri="https://app.example/cb?x=1"))
    answer = await browser.visit(scope="none")
    assert header(answer, "Location").startswith("https://app.example/cb?x=1&error=invalid_scope&state=")


@pytest.mark.parametrize(
    ("registered_uri", "asked", "expected"),
    [
        ("http://127.0.0.1/cb", "http://127.0.0.1:51004/cb", 200),
        ("http://127.0.0.1:8080/cb", "http://127.0.0.1:51004/cb", 200),
        ("http://127.0.0.1:8080/cb", "http://127.0.0.1/cb", 200),
        ("http://[::1]/cb?a=b", "http://[::1]:51004/cb?a=b", 200),
        ("http://127.0.0.1/cb", "http://127.0.0.1:51004/other", 400),
        ("http://127.0.0.1/cb", "http://127.0.0.2:51004/cb", 400),
        ("http://127.0.0.1/cb", "https://127.0.0.1:51004/cb", 400),
        ("http://127.0.0.1/cb", "http://127.0.0.1:0/cb", 400),
        ("http://127.0.0.1/cb", "http://127.0.0.1:65536/cb", 400),
        ("http://127.0.0.1/cb", "http://127.0.0.1:80@evil.example/cb", 400),
        ("http://localhost/cb", "http://localhost:51004/cb", 400),
        ("http://10.0.0.1/cb", "http://10.0.0.1:51004/cb", 400),
    ],
)
async def test_the_port_of_a_loopback_address_may_differ_for_applications_without_a_secret(
    house: House, registered_uri: str, asked: str, expected: int
) -> None:
    native = await registered(house, redirect_uri=registered_uri, token_endpoint_auth_method="none")
    browser = Browser(house, **asking(native["client_id"], redirect_uri=asked))
    assert (await browser.visit()).status == expected
    web = await registered(house, redirect_uri=registered_uri)
    assert (await Browser(house, **asking(web["client_id"], redirect_uri=asked)).visit()).status == 400


async def test_the_open_redirector_of_the_settings_is_not_open_here(house: House, browser: Browser) -> None:
    house.control.rules = replace(house.control.rules, any_redirect=True)
    assert (await browser.visit(redirect_uri="https://other.example/")).status == 400


async def test_an_application_that_anybody_could_be_asks_each_time(house: House) -> None:
    """RFC 8252 section 8.6."""
    for uri, status in (("http://127.0.0.1/", 200), ("com.example.app:/cb", 200), ("https://app.example/n", 302)):
        made = await registered(house, redirect_uri=uri, token_endpoint_auth_method="none")
        browser = Browser(house, **asking(made["client_id"], redirect_uri=uri))
        done = await browser.press(await browser.sign_in(), "allow")
        text = back(done, uri)["code"]
        assert (await browser.visit()).status == status
        token = await exchanged(house, {"client_id": made["client_id"]}, text, redirect_uri=uri)
        assert token.status == 200


async def test_a_private_use_scheme_is_named_to_the_user_and_to_the_browser(house: House) -> None:
    uri = "com.example.app:/cb"
    made = await registered(house, redirect_uri=uri, token_endpoint_auth_method="none")
    asked = await Browser(house, **asking(made["client_id"], redirect_uri=uri)).sign_in()
    assert "an application on this device (com.example.app)" in Form(asked).text
    assert "form-action 'self' com.example.app:;" in header(asked, "Content-Security-Policy")


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("https://app.example/cb", "https://app.example"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://app.example?x", "https://app.example"),
        ("http://[::1]:80/cb", "http:"),
        ("https://a;b/", "https:"),
        ("https://u@app.example/", "https:"),
    ],
)
def test_a_form_leads_to_one_place(uri: str, source: str) -> None:
    policy = dict(page.html(200, "", uri).headers)["Content-Security-Policy"]
    assert f"form-action 'self' {source};" in policy


# Pages and cookies


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_page_can_be_neither_framed_nor_kept_nor_scripted(browser: Browser, method: str) -> None:
    answer = await browser.ask(method, f"{PATH}?{urlencode(browser.params)}")
    policy = header(answer, "Content-Security-Policy")
    style = re.search(r"<style>(.*)</style>", answer.body.decode(), re.DOTALL)
    assert style is not None
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/]{43}='; form-action 'self' https://app\.example; "
        r"frame-ancestors 'none'; base-uri 'none'",
        policy,
    )
    assert style[1] == page.STYLE
    assert {name: value for name, value in answer.headers if name not in ("Content-Security-Policy", "Set-Cookie")} == {
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
    }


async def test_nothing_on_a_page_is_markup_of_another(house: House) -> None:
    nasty = "</title><script>alert('x')</script>\"'&"
    made = await registered(house, name=nasty, description=nasty)
    browser = Browser(house, **asking(made["client_id"], state=nasty))
    first = await browser.visit()
    refused = await browser.press(first, "sign_in", username=nasty, password="x")
    for answer in (first, refused, await browser.sign_in()):
        assert b"<script" not in answer.body
        assert b"alert('x')" not in answer.body
        assert parse_qs(urlsplit(Form(answer).action).query)["state"] == [nasty]
    assert Form(refused).inputs["username"] == nasty


@pytest.mark.parametrize("secure", [False, True])
async def test_cookies_stay_with_this_page(browser: Browser, secure: bool) -> None:
    browser.secure = secure
    prefix, flag = ("__Secure-", "; Secure") if secure else ("", "")
    first = await browser.visit()
    (form,) = cookies(first)
    assert re.fullmatch(f"{prefix}ostiary_form=[0-9a-f]{{64}}; HttpOnly; SameSite=Lax; Path={PATH}{flag}", form)
    login, gone = cookies(await browser.press(first, "sign_in", username=OWNER, password=PASSWORD))
    attributes = f"; HttpOnly; SameSite=Lax; Path={PATH}{flag}; Max-Age="
    assert re.fullmatch(f"{prefix}ostiary_login=[0-9a-f]{{64}}{attributes}43200", login)
    assert gone == f"{prefix}ostiary_form={attributes}0"


async def test_a_log_in_is_no_credential_anywhere_else(house: House, browser: Browser) -> None:
    await browser.sign_in()
    secret = browser.jar["ostiary_login"]
    cookie = f"ostiary_login={secret}"
    for headers in ({"cookie": cookie}, {"authorization": f"Bearer {secret}"}, {"authorization": f"Token {secret}"}):
        answer = await house.ask("GET", "/oauth20/applications", owner=False, headers=headers)
        assert answer.status == 401
        native = await house.ask("POST", "/operations/scopes.list", {}, owner=False, headers=headers)
        assert native.status == 401
    assert (await house.ask("GET", f"/oauth20/tokens/validate?token={secret}")).status == 401


async def test_only_digests_of_log_ins_are_kept(house: House, browser: Browser) -> None:
    text = await browser.code()
    kept = b"".join(each.read_bytes() for each in house.path.glob("ostiary.db*"))
    for secret in (browser.jar["ostiary_login"], text):
        assert secret.encode() not in kept
        assert bytes.fromhex(secret) not in kept


# Forgery


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:8082"},
        {"origin": "https://127.0.0.1:8081"},
    ],
)
async def test_a_form_of_another_site_does_nothing(browser: Browser, headers: dict[str, str]) -> None:
    first = await browser.visit()
    answer = await browser.press(first, "sign_in", headers, username=OWNER, password=PASSWORD)
    assert (answer.status, cookies(answer)) == (403, [])
    asked = await browser.sign_in()
    for act in ("allow", "deny", "sign_out"):
        answer = await browser.press(asked, act, headers)
        assert (answer.status, dict(answer.headers).get("Location"), cookies(answer)) == (403, None, [])
    assert Form(await browser.visit()).acts == ["sign_out", "allow", "deny"]


@pytest.mark.parametrize("origin", ["null", ORIGIN])
async def test_our_own_form_is_taken_however_the_browser_names_it(browser: Browser, origin: str) -> None:
    asked = await browser.sign_in()
    answer = await browser.press(asked, "allow", {"origin": origin, "sec_fetch_site": "same-origin"})
    assert set(back(answer)) == {"code", "state", "iss"}


@pytest.mark.parametrize("csrf", ["", "x", "A" * 43, "\ufffd", "another browser's"])
async def test_a_form_without_this_browsers_value_does_nothing(house: House, browser: Browser, csrf: str) -> None:
    stranger = Browser(house, **browser.params)
    theirs = Form(await stranger.visit()).inputs["csrf"]
    value = theirs if csrf.startswith("another") else csrf
    first = await browser.visit()
    answer = await browser.press(first, "sign_in", csrf=value, username=OWNER, password=PASSWORD)
    assert (answer.status, cookies(answer), Form(answer).acts) == (403, [], ["sign_in", "deny"])
    assert "no longer valid" in Form(answer).text
    asked = await browser.sign_in()
    theirs = Form(await stranger.sign_in()).inputs["csrf"]
    value = theirs if csrf.startswith("another") else csrf
    for act in ("allow", "deny", "sign_out"):
        answer = await browser.press(asked, act, csrf=value)
        assert (answer.status, Form(answer).acts) == (403, ["sign_out", "allow", "deny"])
    assert Form(await browser.visit()).acts == ["sign_out", "allow", "deny"]


async def test_a_value_is_worth_nothing_without_its_cookie(browser: Browser) -> None:
    asked = await browser.sign_in()
    jar, browser.jar = browser.jar, {}
    assert (await browser.press(asked, "allow")).status == 403
    browser.jar = jar | {"ostiary_login": jar["ostiary_login"].upper()}
    assert (await browser.press(asked, "allow")).status == 403
    browser.jar = jar
    assert (await browser.press(asked, "allow")).status == 303


async def test_a_cookie_sent_twice_is_none(browser: Browser) -> None:
    await browser.sign_in()
    secret = browser.jar.pop("ostiary_login")
    target = f"{PATH}?{urlencode(browser.params)}"
    twice = await browser.ask("GET", target, cookie=f"ostiary_login={secret}; ostiary_login={secret}")
    assert Form(twice).acts == ["sign_in", "deny"]
    once = await browser.ask("GET", target, cookie=f"a=b; ostiary_login={secret};c")
    assert Form(once).acts == ["sign_out", "allow", "deny"]


async def test_a_prepared_browser_gains_nothing(house: House, browser: Browser) -> None:
    """Session fixation: what an attacker puts into a browser is worth nothing after a log-in."""
    attacker = Browser(house, **browser.params)
    prepared = await attacker.visit()
    browser.jar = dict(attacker.jar) | {"ostiary_login": "a" * 64}
    signed = await browser.press(await browser.visit(), "sign_in", username=OWNER, password=PASSWORD)
    assert signed.status == 303
    assert browser.jar["ostiary_login"] != "a" * 64
    assert "ostiary_form" not in browser.jar
    assert Form(await attacker.visit()).acts == ["sign_in", "deny"]
    attacker.jar["ostiary_login"] = "a" * 64
    assert Form(await attacker.visit()).acts == ["sign_in", "deny"]
    stolen = Form(prepared).inputs["csrf"]
    browser.jar["ostiary_form"] = attacker.jar["ostiary_form"]
    asked = await browser.visit()
    for act in ("allow", "sign_out"):
        assert (await browser.press(asked, act, csrf=stolen)).status == 403


async def test_signing_in_again_ends_the_log_in_before(house: House, browser: Browser) -> None:
    first = await browser.visit()
    form_cookie = browser.jar["ostiary_form"]
    await browser.press(first, "sign_in", username=OWNER, password=PASSWORD)
    before = browser.jar["ostiary_login"]
    browser.jar["ostiary_form"] = form_cookie
    await browser.press(first, "sign_in", username=OWNER, password=PASSWORD)
    assert browser.jar["ostiary_login"] != before
    browser.jar = {"ostiary_login": before}
    assert Form(await browser.visit()).acts == ["sign_in", "deny"]


async def test_two_tabs_sign_in_at_once(browser: Browser) -> None:
    first, second = await browser.visit(), await browser.visit(scope="aa")
    form = browser.jar["ostiary_form"]
    tabs = []
    for shown in (first, second):
        tab = Browser(browser.house, **browser.params)
        tab.jar = {"ostiary_form": form}
        tabs.append(tab.press(shown, "sign_in", username=OWNER, password=PASSWORD))
    answers = await asyncio.gather(*tabs)
    assert [answer.status for answer in answers] == [303, 303]
    assert len({cookies(answer)[0] for answer in answers}) == 2


async def test_allowing_twice_at_once_gives_two_codes_and_one_consent(
    house: House, made: dict[str, str], browser: Browser
) -> None:
    asked = await browser.sign_in()
    answers = await asyncio.gather(browser.press(asked, "allow"), browser.press(asked, "allow"))
    codes = {back(answer)["code"] for answer in answers}
    assert len(codes) == 2
    for text in codes:
        assert (await exchanged(house, made, text)).status == 200


async def test_every_post_begins_anew_with_all_checks(house: House, browser: Browser) -> None:
    form = Form(await browser.sign_in())
    for query, status in (
        (browser.params | {"redirect_uri": "https://evil.example/"}, 400),
        (browser.params | {"client_id": "ffff"}, 400),
        (browser.params | {"scope": "none"}, 303),
        (browser.params | {"code_challenge_method": "plain"}, 303),
    ):
        form.action = f"{PATH}?{urlencode(query)}"
        answer = await browser.send(form, {"act": "allow"})
        assert (answer.status, "code=" in dict(answer.headers).get("Location", "")) == (status, False)
    form.action = f"{PATH}?{urlencode(browser.params)}"
    assert (await browser.send(form, {"act": "allow", "client_id": "ffff"})).status == 400
    assert (await browser.send(form, {"act": "magic"})).status == 403


# Names and passwords


@pytest.mark.parametrize(
    ("name", "password"),
    [(OWNER, "wrong"), ("nobody", PASSWORD), ("", ""), (OWNER, ""), ("\0", "\ufffd"), ("x" * 5000, "y" * 5000)],
)
async def test_a_wrong_password_brings_the_page_again(browser: Browser, name: str, password: str) -> None:
    answer = await browser.press(await browser.visit(), "sign_in", username=name, password=password)
    assert (answer.status, Form(answer).acts) == (403, ["sign_in", "deny"])
    assert 'role="alert">Wrong name or password</p>' in answer.body.decode()
    assert (Form(answer).inputs["username"], Form(answer).inputs["password"]) == (name, "")
    assert "ostiary_login" not in browser.jar
    again = await browser.press(answer, "sign_in", username=OWNER, password=PASSWORD)
    assert again.status == 303


async def test_guessing_is_slowed_down(house: House, browser: Browser) -> None:
    shown = await browser.visit()
    for number in range(5):
        shown = await browser.press(shown, "sign_in", username=OWNER, password=f"guess {number}")
        assert shown.status == 403
    barred = await browser.press(shown, "sign_in", username=OWNER, password=PASSWORD)
    assert (barred.status, header(barred, "Retry-After")) == (429, "30")
    assert "Please wait 30 seconds" in Form(barred).text
    assert Form(barred).acts == ["sign_in", "deny"]
    house.now += 30_000_000
    assert (await browser.press(barred, "sign_in", username=OWNER, password=PASSWORD)).status == 303


# The end of log-ins and consents


async def test_a_log_in_ends_with_its_time(house: House, browser: Browser) -> None:
    asked = await browser.sign_in()
    house.control.rules = replace(house.control.rules, login_lifetime=1)
    house.now += 12 * 3600 * 1_000_000 - 1
    assert Form(await browser.visit()).acts == ["sign_out", "allow", "deny"]
    house.now += 1
    assert Form(await browser.visit()).acts == ["sign_in", "deny"]
    late = await browser.press(asked, "allow")
    assert (late.status, header(late, "Location").partition("?")[0]) == (303, PATH)


async def test_revoking_everything_of_a_user_ends_log_ins_consents_and_codes(
    house: House, made: dict[str, str], browser: Browser
) -> None:
    text = await browser.code()
    done = await house.ask("DELETE", "/oauth20/tokens", {"user_id": OWNER})
    assert read(done) == {"revoked": "true"}
    assert (await exchanged(house, made, text)).status == 400
    assert Form(await browser.visit()).acts == ["sign_in", "deny"]
    assert Form(await browser.sign_in()).acts == ["sign_out", "allow", "deny"]


async def test_a_revocation_leaves_other_users_alone(house: House, browser: Browser) -> None:
    await browser.code()
    assert (await house.ask("DELETE", "/oauth20/tokens", {"user_id": "somebody"})).status == 200
    assert (await browser.visit()).status == 302


async def test_consents_go_with_the_application(house: House, made: dict[str, str], browser: Browser) -> None:
    await browser.code()
    await house.ask("POST", "/operations/applications.delete", {"client_id": made["client_id"]})
    assert (await browser.visit()).status == 400
    again = {**APPLICATION, "redirect_uri": URI, **made}
    await house.ask("POST", "/oauth20/applications", again)
    await house.ask("PUT", f"/oauth20/applications/{made['client_id']}", {"status": 1})
    assert Form(await browser.visit()).acts == ["sign_out", "allow", "deny"]


async def test_whoever_revokes_while_a_user_allows_no_code_outlives_it(house: House) -> None:
    made = await registered(house)
    for _ in range(8):
        browser = Browser(house, **asking(made["client_id"]))
        asked = await browser.sign_in()
        revoke = house.ask("DELETE", "/oauth20/tokens", {"user_id": OWNER})
        answer, _ = await asyncio.gather(browser.press(asked, "allow"), revoke)
        where = header(answer, "Location") if answer.status == 303 else ""
        text = dict(parse_qsl(urlsplit(where).query)).get("code", "")
        assert (await exchanged(house, made, text)).status == 400


# Anything else

given_texts = st.text(max_size=20) | st.sampled_from(
    [
        "", "code", "S256", CHALLENGE, URI, "https://evil.example/", "//evil.example", "basic", "\0", "\r\nA: b",
        "é" * 300,
    ]
)  # fmt: skip
names = st.sampled_from([*PARAMETERS, "csrf", "act", "username", "password", "other"])
acts = st.sampled_from(["sign_in", "allow", "deny", "", "magic"])


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def signed_in(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One that has its log-in, at a client application that has a consent for some scopes."""

    async def make() -> Browser:
        house = await build(tmp_path_factory.mktemp("any"))
        browser = Browser(house, **asking((await registered(house))["client_id"]))
        await browser.code()
        return browser

    browser = runner.run(make())
    yield browser
    runner.run(browser.house.close())


@settings(max_examples=200)
@given(
    st.dictionaries(names, given_texts, max_size=4), st.dictionaries(names, given_texts, max_size=4), acts,
    st.sampled_from(["GET", "HEAD", "POST"]), st.booleans(), st.booleans(),
)  # fmt: skip
def test_whatever_is_asked_leads_to_the_application_or_back_here(
    runner: asyncio.Runner, signed_in: Browser, query: dict[str, str], form: dict[str, str], act: str, method: str,
    known: bool, ours: bool,
) -> None:  # fmt: skip
    browser = Browser(signed_in.house, **signed_in.params)
    browser.jar = dict(signed_in.jar) if known else {}
    if ours:
        form = form | {"csrf": browser.house.control.csrf.token("login", signed_in.jar["ostiary_login"])}
    body = urlencode(form | {"act": act}).encode() if method == "POST" else b""
    answer = runner.run(browser.ask(method, f"{PATH}?{urlencode(browser.params | query)}", body))
    assert answer.status in {200, 302, 303, 400, 403, 429}
    where = dict(answer.headers).get("Location", "")
    assert bool(where) is (answer.status in {302, 303})
    assert not where or (where.startswith((f"{URI}?", f"{PATH}?")) and re.fullmatch("[!-~]+", where))
    assert all(re.fullmatch("[ -~]*", value) for _, value in answer.headers)


# Failure


async def test_forms_have_bounds(browser: Browser) -> None:
    form = Form(await browser.visit())
    large = await browser.send(form, {"act": "sign_in", "username": "x" * 65_536})
    assert (large.status, header(large, "Content-Type")) == (413, "text/html; charset=utf-8")
    media = await browser.ask("POST", form.action, b"{}", content_type="application/json")
    assert media.status == 400


async def test_other_methods_are_not_allowed(browser: Browser) -> None:
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH"):
        answer = await browser.ask(method, f"{PATH}?{urlencode(browser.params)}")
        assert (answer.status, header(answer, "Allow")) == (405, "GET, HEAD, POST")


class Away(SqlApplications):
    """Applications of a store that cannot be reached."""

    def __init__(self) -> None:
        pass

    async def client(self, client_id: str) -> None:
        raise Unavailable("store.unavailable", "The store cannot be reached")


async def test_while_the_store_is_away_a_page_says_when_to_come_again(tmp_path: Path) -> None:
    house = await build(tmp_path)
    made = await registered(house)
    browser = Browser(house, **asking(made["client_id"]))
    asked = await browser.sign_in()

    house.control.applications = Away()
    for answer in (await browser.visit(), await browser.press(asked, "allow")):
        assert (answer.status, header(answer, "Retry-After")) == (503, "1")
        assert header(answer, "Content-Type") == "text/html; charset=utf-8"
    await house.close()
