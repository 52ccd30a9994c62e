"""The requests that the Deis client 1.4.1 makes for apps, header by header, and what it needs to find in the answers.

It is a program for Python 2.7, which is not installed here; this sends what its commands send, with the library that
it uses, and reads of the answers what it reads.
"""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.e2e.test_apps import shopping

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Client:
    """Its session."""

    def __init__(self, controller: str) -> None:
        self.controller = controller
        self.session = requests.Session()
        self.session.trust_env = False
        self.token = ""

    def dispatch(self, method: str, path: str, body: str | None = None) -> requests.Response:
        url = self.controller + path
        headers = {
            "content-type": "application/json", "X-Deis-Version": "1", "Authorization": f"token {self.token}",
            "Referer": url,
        }  # fmt: skip
        response = self.session.request(method, url, data=body, headers=headers, allow_redirects=False)
        assert response.headers["X_DEIS_API_VERSION"] == "1.1"
        return response

    def sign_in(self) -> None:
        form = {"username": "customer", "password": "correct-horse-7", "email": "c@example.com"}
        url = f"{self.controller}/v1/auth/register"
        assert self.session.post(url, data=form, headers={"Referer": url}).status_code == 201
        url = f"{self.controller}/v1/auth/login/"
        response = self.session.post(url, data=form, headers={"Referer": url}, allow_redirects=False)
        self.token = response.json()["token"]

    def rows(self, path: str) -> list[str]:
        """As `ps:list` prints them."""
        found: list[dict[str, Any]] = self.dispatch("get", path).json()["results"]
        return ["{type}.{num} {state} ({release})".format(**each) for each in found]


def commands(client: Client) -> None:
    """A day with an app."""
    client.sign_in()
    made = client.dispatch("post", "/v1/apps", json.dumps({}))
    app = made.json()["id"]
    assert made.status_code == requests.codes.created
    assert [each["id"] for each in client.dispatch("get", "/v1/apps").json()["results"]] == [app]
    scaled = client.dispatch("post", f"/v1/apps/{app}/scale", json.dumps({"web": 2}))
    assert (scaled.status_code, scaled.reason) == (requests.codes.no_content, "NO CONTENT")
    assert client.rows(f"/v1/apps/{app}/containers") == ["web.1 up (v1)", "web.2 up (v1)"]
    body = json.dumps({"values": json.dumps({"WORD": "hello", "N": "1"})})
    configured = client.dispatch("post", f"/v1/apps/{app}/config", body)
    assert (configured.status_code, configured.headers["x-deis-release"]) == (requests.codes.created, "2")
    assert sorted(configured.json()["values"].items()) == [("N", "1"), ("WORD", "hello")]
    unset = client.dispatch("post", f"/v1/apps/{app}/config", json.dumps({"values": json.dumps({"N": None})}))
    assert (unset.headers["Deis-Release"], unset.json()["values"]) == ("3", {"WORD": "hello"})
    built = client.dispatch("post", f"/v1/apps/{app}/builds", json.dumps({"image": "web:latest"}))
    assert (built.status_code, built.headers["x-deis-release"]) == (requests.codes.created, "4")
    for path in ("containers/restart", "containers/web/restart", "containers/web/1/restart"):
        assert client.dispatch("post", f"/v1/apps/{app}/{path}").status_code == requests.codes.ok
    lines = client.dispatch("get", f"/v1/apps/{app}/logs").json().split("\n")[:-1]
    assert {line.split(": ")[0].split(" ")[1] for line in lines} == {"ostiary[api]"}
    for sent, name in (({"memory": json.dumps({"web": "1G"})}, "limits"), ({"tags": json.dumps({"a": "b"})}, "tags")):
        refused = client.dispatch("post", f"/v1/apps/{app}/config", json.dumps(sent))
        assert (refused.status_code, refused.json()["detail"]) == (501, f"Not supported by this controller: {name}")
    assert client.dispatch("post", f"/v1/apps/{app}/perms", json.dumps({"username": "admin"})).status_code == 201
    assert client.dispatch("get", f"/v1/apps/{app}/perms").json() == {"users": ["admin"]}
    assert client.dispatch("delete", f"/v1/apps/{app}/perms/admin").status_code == 204
    assert client.dispatch("get", f"/v1/apps/{app}/domains").json()["results"] == []
    assert client.dispatch("delete", f"/v1/apps/{app}").status_code == requests.codes.no_content
    assert client.dispatch("get", f"/v1/apps/{app}").status_code == requests.codes.not_found


async def test_the_clients_commands_for_apps() -> None:
    with tempfile.TemporaryDirectory(prefix="ost-") as directory:
        async with shopping(Path(directory)) as shop:
            await asyncio.to_thread(commands, Client(shop.node.admin))
