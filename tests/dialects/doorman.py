"""Somebody at the Doorman surface, with a cookie jar as curl and browsers keep one."""

from http.cookies import SimpleCookie
from typing import Any

import msgspec
from tests.dialects.house import House

from ostiary.dialects.message import Answer

SECRET = "Strong!Passw0rd1234"
LOG_IN = "/platform/authorization"


def said(answer: Answer) -> tuple[int, str, str]:
    """Status, code and message of a refusal."""
    body = msgspec.json.decode(answer.body)
    return answer.status, body["error_code"], body["error_message"]


def told(answer: Answer) -> tuple[int, str]:
    """Status and message of a success."""
    body = msgspec.json.decode(answer.body)
    assert list(body) == ["message"]
    return answer.status, body["message"]


def read(answer: Answer) -> Any:
    return msgspec.json.decode(answer.body)


def header(answer: Answer, name: str) -> str:
    return dict(answer.headers).get(name, "")


class Visitor:
    """One client: its cookies go with each request, unless it carries a token instead."""

    def __init__(self, house: House, token: str = "") -> None:
        self.house = house
        self.token = token
        self.jar: dict[str, str] = {}

    async def ask(
        self, method: str, path: str, body: object = b"", headers: dict[str, str] | None = None, **more: Any
    ) -> Answer:
        sent = {"authorization": f"Bearer {self.token}"} if self.token else {}
        if self.jar:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        answer = await self.house.ask(method, path, body, owner=False, headers=sent | (headers or {}), **more)
        for name, value in answer.headers:
            if name == "Set-Cookie":
                self.keep(value)
        return answer

    def keep(self, cookie: str) -> None:
        for name, morsel in SimpleCookie(cookie).items():
            self.jar[name] = morsel.value
            if morsel["max-age"] == "0":
                del self.jar[name]

    async def log_in(self, email: str, password: str = SECRET) -> Answer:
        return await self.ask("POST", LOG_IN, {"email": email, "password": password})


async def entered(house: House, email: str, password: str = SECRET) -> Visitor:
    """Somebody who has logged in."""
    visitor = Visitor(house)
    answer = await visitor.log_in(email, password)
    assert answer.status == 200, answer.body
    return visitor


async def person(admin: Visitor, name: str, role: str = "viewer", **more: object) -> Visitor:
    """A new user of that role, who has logged in."""
    body = {"username": name, "email": f"{name}@example.com", "password": SECRET, "role": role, **more}
    made = await admin.ask("POST", "/platform/user", body)
    assert made.status == 201, made.body
    return await entered(admin.house, name)


async def role(admin: Visitor, name: str, *flags: str) -> str:
    """A new role with these flags; its name."""
    made = await admin.ask("POST", "/platform/role", {"role_name": name, **dict.fromkeys(flags, True)})
    assert made.status == 201, made.body
    return name
