"""A real browser without script, led over the WebDriver protocol."""

import base64
import re
import shutil
from asyncio import StreamReader, create_subprocess_exec, create_task, timeout
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium")
LIMIT = 60.0
"""Seconds that anything may take at most; a browser's first start on a busy machine takes some."""
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--no-proxy-server", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-extensions", "--hide-scrollbars",
)  # fmt: skip
NO_SCRIPT = {"profile.managed_default_content_settings.javascript": 2}
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Chromium:
    """One window. Elements are named by CSS selectors, of which the first counts."""

    def __init__(self, client: httpx2.AsyncClient, session: str) -> None:
        self._client = client
        self._session = session

    async def _do(self, method: str, command: str, **given: object) -> Any:
        answer = await self._client.request(
            method, f"{self._session}/{command}", json=given if method == "POST" else None
        )
        value = answer.json()["value"]
        assert answer.status_code == 200, value
        return value

    async def _find(self, selector: str) -> str:
        found = await self._do("POST", "element", using="css selector", value=selector)
        return f"element/{found[_ELEMENT]}"

    async def open(self, url: str) -> None:
        await self._do("POST", "url", url=url)

    async def url(self) -> str:
        return str(await self._do("GET", "url"))

    async def click(self, selector: str) -> None:
        """Click, and wait for the page that follows: the driver answers once the form is on its way, not before."""
        page, element = await self._find("html"), await self._find(selector)
        await self._do("POST", f"{element}/click")
        async with timeout(LIMIT):
            while (await self._client.get(f"{self._session}/{page}/name")).status_code == 200:
                pass  # the question itself takes some milliseconds

    async def write(self, selector: str, text: str) -> None:
        await self._do("POST", f"{await self._find(selector)}/value", text=text)

    async def text(self, selector: str = "body") -> str:
        return str(await self._do("GET", f"{await self._find(selector)}/text"))

    async def edges(self, selector: str) -> tuple[float, float]:
        """Left and right of an element, in pixels."""
        box = await self._do("GET", f"{await self._find(selector)}/rect")
        return box["x"], box["x"] + box["width"]

    async def resize(self, width: int, height: int, dark: bool = False) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        for command, given in (
            ("Emulation.setDeviceMetricsOverride", metrics),
            ("Emulation.setEmulatedMedia", {"features": scheme}),
        ):
            await self._do("POST", "goog/cdp/execute", cmd=command, params=given)

    async def picture(self) -> bytes:
        return base64.b64decode(await self._do("GET", "screenshot"))

    async def cookies(self) -> list[dict[str, Any]]:
        """Those that the page's address would be sent."""
        return list(await self._do("GET", "cookie"))


async def _port(lines: StreamReader) -> int:
    while line := (await lines.readline()).decode():
        if match := re.search(r"started successfully on port (\d+)", line):
            return int(match[1])
    raise AssertionError("chromedriver did not start")


@asynccontextmanager
async def chromium(place: Path) -> AsyncIterator[Chromium]:
    """A browser with a profile of its own in `place`."""
    assert DRIVER
    driver = await create_subprocess_exec(DRIVER, "--port=0", stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
    assert driver.stdout is not None
    drain = None
    try:
        async with timeout(LIMIT):
            port = await _port(driver.stdout)
        drain = create_task(driver.stdout.read())
        url = f"http://127.0.0.1:{port}/session"
        options = {"binary": BROWSER, "args": [*FLAGS, f"--user-data-dir={place}"], "prefs": NO_SCRIPT}
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        async with httpx2.AsyncClient(timeout=LIMIT, trust_env=False) as client:
            made = (await client.post(url, json={"capabilities": wanted})).json()["value"]
            session = f"{url}/{made['sessionId']}"
            try:
                yield Chromium(client, session)
            finally:
                await client.delete(session)
    finally:
        driver.terminate()
        await driver.wait()
        if drain is not None:
            await drain
