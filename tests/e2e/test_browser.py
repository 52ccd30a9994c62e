"""A real browser, without script, through a real node: sign in, consent, and who may not."""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from html import escape
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from tests.e2e.chromium import BROWSER, DRIVER, Chromium, chromium
from tests.e2e.house import Node, once, serving
from tests.listening import listening

pytestmark = pytest.mark.skipif(
    not (DRIVER and BROWSER), reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)"
)
VERIFIER = "v" * 43
CHALLENGE = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
PASSWORD = "change-me-please-1"
SCOPES = {"basic": "See your name and your pictures", "print": "Print pictures and send them to you"}


class Site:
    """A web site with one page, which remembers what was asked of it."""

    def __init__(self) -> None:
        self.port = 0
        self.page = "<p>Back at the application</p>"
        self.asked: list[dict[str, str]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            target = urlsplit(head.split()[1].decode())
            if target.path == "/cb":
                self.asked.append(dict(parse_qsl(target.query)))
            body = f"<!DOCTYPE html><title>x</title>{self.page}".encode()
            start = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"
            writer.write(f"{start}Content-Length: {len(body)}\r\n\r\n".encode() + body)


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    each = Site()
    async with listening(each.serve) as listener:
        each.port = listener.port
        yield each


class Scene:
    """A node with a client application, its site, and a browser."""

    def __init__(self, node: Node, app: Site, browser: Chromium, client: dict[str, str]) -> None:
        self.node, self.app, self.browser, self.client = node, app, browser, client

    def address(self, scope: str = "basic", **more: str) -> str:
        asked = {
            "response_type": "code", "client_id": self.client["client_id"], "scope": scope, "state": "s=1&é",
            "redirect_uri": f"http://127.0.0.1:{self.app.port}/cb", "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }  # fmt: skip
        return f"{self.node.gateway}/oauth20/authorize?{urlencode(asked | more)}"

    async def sign_in(self, password: str = PASSWORD) -> None:
        await self.browser.write("#username", "admin")
        await self.browser.write("#password", password)
        await self.browser.click("button[value=sign_in]")

    async def token(self, code: str) -> str:
        form = {
            "grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER,
            "redirect_uri": f"http://127.0.0.1:{self.app.port}/cb", **self.client,
        }  # fmt: skip
        answer = await once(self.node.gateway, "POST", "/oauth20/token", urlencode(form).encode())
        return str(answer.json["access_token"])


async def registered(node: Node, port: int) -> dict[str, str]:
    for name, description in SCOPES.items():
        scope = {"scope": name, "description": description, "cc_expires_in": 900, "pass_expires_in": 900}
        assert (await once(node.admin, "POST", "/oauth20/scopes", scope)).status == 200
    wanted = {
        "name": "Pictures & Prints", "description": "Brings your pictures to paper.", "scope": " ".join(SCOPES),
        "redirect_uri": f"http://127.0.0.1:{port}/cb",
    }  # fmt: skip
    made: dict[str, str] = (await once(node.admin, "POST", "/oauth20/applications", wanted)).json
    path = f"/oauth20/applications/{made['client_id']}"
    assert (await once(node.admin, "PUT", path, {"status": 1})).status == 200
    return made


@pytest.fixture
async def scene(configured: Path, place: Path) -> AsyncIterator[Scene]:
    async with serving(configured, "--workers", "1") as node, site() as app, chromium(place / "profile") as browser:
        yield Scene(node, app, browser, await registered(node, app.port))


async def test_a_person_signs_in_allows_and_is_not_asked_again(scene: Scene) -> None:
    browser, app = scene.browser, scene.app
    await browser.open(scene.address())
    assert "Pictures & Prints" in await browser.text("h1 + p")
    await scene.sign_in("wrong")
    assert await browser.text("[role=alert]") == "Wrong name or password"
    await browser.write("#password", PASSWORD)
    await browser.click("button[value=sign_in]")
    assert await browser.text("li") == "basic\nSee your name and your pictures"
    cookies = {each["name"]: each for each in await browser.cookies()}
    assert set(cookies) == {"ostiary_login"}
    assert (cookies["ostiary_login"]["httpOnly"], cookies["ostiary_login"]["sameSite"]) == (True, "Lax")
    await browser.click("button[value=allow]")
    assert await browser.text() == "Back at the application"
    (first,) = app.asked
    assert (first["state"], first["iss"]) == ("s=1&é", scene.node.gateway)
    token = await scene.token(first["code"])
    assert (await once(scene.node.gateway, "GET", "/closed", token=token)).status == 200
    await browser.open(scene.address())
    assert await browser.text() == "Back at the application"
    assert set(app.asked[1]) == {"code", "state", "iss"}
    assert app.asked[1]["code"] != first["code"]


async def test_a_person_may_deny_and_sign_out(scene: Scene) -> None:
    browser, app = scene.browser, scene.app
    await browser.open(scene.address())
    await browser.click("button[value=deny]")
    await browser.open(scene.address())
    await scene.sign_in()
    await browser.click("button[value=deny]")
    denied = {"error": "access_denied", "state": "s=1&é", "iss": scene.node.gateway}
    assert app.asked == [denied, denied]
    await browser.open(scene.address())
    await browser.click("button[value=sign_out]")
    assert await browser.text("h1") == "Sign in"
    assert await browser.text("button.first") == "Sign in"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_form_on_another_site_does_nothing(scene: Scene, host: str) -> None:
    """127.0.0.1 is the same site with another origin, to which browsers send the cookie too."""
    browser, app = scene.browser, scene.app
    await browser.open(scene.address())
    await scene.sign_in()
    async with site() as evil:
        inputs = "".join(f'<input name="{name}" value="x">' for name in ("csrf", "username", "password"))
        buttons = "".join(f'<button name="act" value="{act}">{act}</button>' for act in ("allow", "sign_in", "deny"))
        action = escape(scene.address())
        evil.page = f'<form method="post" action="{action}">{inputs}{buttons}</form>'
        for act in ("allow", "sign_in", "deny"):
            await browser.open(f"http://{host}:{evil.port}/")
            await browser.click(f"button[value={act}]")
            assert "Another web site has sent this form." in await browser.text()
        evil.page = f'<iframe src="{action}" width="400" height="400"></iframe><p>framed</p>'
        await browser.open(f"http://{host}:{evil.port}/")
        assert await browser.text("p") == "framed"
    assert app.asked == []
    await browser.open(scene.address())
    assert await browser.text("button.first") == "Allow"


@pytest.mark.parametrize(("width", "height"), [(320, 640), (1280, 800)])
async def test_the_pages_fit_small_and_large_windows(scene: Scene, tmp_path: Path, width: int, height: int) -> None:
    browser = scene.browser
    await browser.open(scene.address("basic print"))
    for dark in (False, True):
        await browser.resize(width, height, dark)
        keep(tmp_path / f"sign-in-{dark}.png", await browser.picture())
        await fits(browser, width, "main", "#username", "#password", "button[value=sign_in]", "button[value=deny]")
    await scene.sign_in("wrong")
    keep(tmp_path / "wrong.png", await browser.picture())
    await fits(browser, width, "main", "[role=alert]")
    await browser.write("#password", PASSWORD)
    await browser.click("button[value=sign_in]")
    for dark in (False, True):
        await browser.resize(width, height, dark)
        keep(tmp_path / f"consent-{dark}.png", await browser.picture())
        await fits(browser, width, "main", "ul", "button[value=allow]", "button[value=deny]", "button[value=sign_out]")


async def fits(browser: Chromium, width: int, *parts: str) -> None:
    for part in parts:
        left, right = await browser.edges(part)
        assert 0 <= left < right <= width


def keep(path: Path, picture: bytes) -> None:
    """For people to look at: `pytest --basetemp=DIRECTORY tests/e2e/test_browser.py`."""
    path.write_bytes(picture)
