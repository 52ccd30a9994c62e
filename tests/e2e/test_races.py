"""Many at once want what only one can have; and what is used twice ends all that came of it, in every worker."""

import asyncio
import secrets
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.e2e.crowd import Crowd, bearer, each, form, request
from tests.e2e.house import URI, Answer, Node, once, serving

RACERS, ROUNDS = 50, 8
NAMESAKES = 30
"""Secrets that clients bring along are hashed with argon2id; more than 32 of those at once are told to come again."""
TOKEN, TOKENS = "/oauth20/token", "/oauth20/tokens"
SPENT_CODE = {TOKEN: "invalid_grant", TOKENS: "invalid auth_code"}
SPENT_REFRESH = {TOKEN: "invalid_grant", TOKENS: "invalid refresh token"}
paths = pytest.mark.parametrize("path", [TOKEN, TOKENS])


class Racing:
    """A client application that asks for much at once."""

    def __init__(self, node: Node, client: dict[str, str]) -> None:
        self.node, self.client = node, client

    async def code(self, user: str = "ann") -> str:
        path = f"/oauth20/auth-codes?response_type=code&user_id={user}&client_id={self.client['client_id']}"
        location = str((await once(self.node.admin, "GET", path)).json["redirect_uri"])
        return parse_qs(urlsplit(location).query)["code"][0]

    def exchange(self, code: str, path: str) -> bytes:
        return form(path, grant_type="authorization_code", code=code, redirect_uri=URI, **self.client)

    def refresh(self, token: str, path: str) -> bytes:
        return form(path, grant_type="refresh_token", refresh_token=token, **self.client)

    async def tokens(self, code: str = "") -> dict[str, str]:
        """The tokens of a new family."""
        [answer] = await each(self.node.admin, [self.exchange(code or await self.code(), TOKEN)])
        return dict(answer.json)

    async def race(self, requests: list[bytes]) -> list[Answer]:
        """All at once, every other one through the gateway."""
        async with Crowd(self.node.admin, RACERS) as inside, Crowd(self.node.gateway, RACERS) as outside:
            found = await asyncio.gather(inside.answers(requests[::2]), outside.answers(requests[1::2]))
        return [answer for answers in found for answer in answers]

    async def passes(self, token: str) -> set[int]:
        """What the workers say to this token."""
        return {answer.status for answer in await each(self.node.gateway, [bearer("/closed", token)] * 32)}


def one_won(answers: list[Answer], refusal: str) -> Answer:
    """The one that was answered with 200; all others were refused like this."""
    (won,) = [answer for answer in answers if answer.status == 200]
    others = [answer for answer in answers if answer is not won]
    assert [(other.status, other.json["error"]) for other in others] == [(400, refusal)] * (len(answers) - 1)
    return won


@paths
async def test_one_of_many_exchanges_a_code_and_loses_it_to_the_others(configured: Path, path: str) -> None:
    async with serving(configured, "--workers", "2") as node:
        racing = Racing(node, await node.client())
        for _ in range(ROUNDS):
            code = await racing.code()
            won = one_won(await racing.race([racing.exchange(code, path)] * RACERS), SPENT_CODE[path]).json
            assert await racing.passes(won["access_token"]) == {401}
            [again] = await each(node.admin, [racing.refresh(won["refresh_token"], path)])
            assert (again.status, again.json["error"]) == (400, SPENT_REFRESH[path])


@paths
async def test_one_of_many_rotates_a_refresh_token_and_loses_it_to_the_others(configured: Path, path: str) -> None:
    async with serving(configured, "--workers", "2") as node:
        racing = Racing(node, await node.client(rotate_refresh_tokens=True))
        for _ in range(ROUNDS):
            first = await racing.tokens()
            assert await racing.passes(first["access_token"]) == {200}
            won = one_won(
                await racing.race([racing.refresh(first["refresh_token"], path)] * RACERS), SPENT_REFRESH[path]
            )
            assert await racing.passes(first["access_token"]) == {401}
            assert await racing.passes(won.json["access_token"]) == {401}
            [again] = await each(node.admin, [racing.refresh(won.json["refresh_token"], path)])
            assert (again.status, again.json["error"]) == (400, SPENT_REFRESH[path])


async def test_one_of_many_registers_a_client_id_and_its_secret_is_the_one_that_holds(configured: Path) -> None:
    async with serving(configured, "--workers", "1") as node:
        await node.client()
        for _ in range(ROUNDS // 4):
            name = secrets.token_hex(20)
            given = [{"client_id": name, "client_secret": secrets.token_hex(32)} for _ in range(NAMESAKES)]
            wanted = {"name": "app", "scope": "basic", "redirect_uri": URI}
            posts = [request("POST", "/oauth20/applications", wanted | pair) for pair in given]
            won = one_won(await each(node.admin, posts, NAMESAKES), "already registered client application").json
            assert (await once(node.admin, "PUT", f"/oauth20/applications/{name}", {"status": 1})).status == 200
            tried = await each(node.admin, [form(TOKEN, grant_type="client_credentials", **pair) for pair in given])
            assert [pair for pair, answer in zip(given, tried, strict=True) if answer.status == 200] == [won]


async def test_a_code_that_is_used_again_ends_its_family_in_every_worker(configured: Path) -> None:
    async with serving(configured, "--workers", "2") as node:
        racing = Racing(node, await node.client())
        code = await racing.code()
        first = await racing.tokens(code)
        [second] = await each(node.gateway, [racing.refresh(first["refresh_token"], TOKEN)])
        assert await racing.passes(second.json["access_token"]) == {200}
        async with Crowd(node.gateway, 32) as crowd:
            asked = [bearer("/closed", second.json["access_token"])] * 32
            assert {answer.status for answer in await crowd.answers(asked)} == {200}
            [again] = await each(node.admin, [racing.exchange(code, TOKENS)])
            assert (again.status, again.json["error"]) == (400, SPENT_CODE[TOKENS])
            assert {answer.status for answer in await crowd.answers(asked)} == {401}
        [late] = await each(node.admin, [racing.refresh(second.json["refresh_token"], TOKEN)])
        assert (late.status, late.json["error"]) == (400, "invalid_grant")


async def test_a_refresh_token_that_is_used_again_ends_its_family_in_every_worker(configured: Path) -> None:
    async with serving(configured, "--workers", "2") as node:
        racing = Racing(node, await node.client())
        first = await racing.tokens()
        [second] = await each(node.admin, [racing.refresh(first["refresh_token"], TOKEN)])
        async with Crowd(node.gateway, 32) as crowd:
            asked = [bearer("/closed", second.json["access_token"])] * 32
            assert {answer.status for answer in await crowd.answers(asked)} == {200}
            [again] = await each(node.gateway, [racing.refresh(first["refresh_token"], TOKEN)])
            assert (again.status, again.json["error"]) == (400, "invalid_grant")
            assert {answer.status for answer in await crowd.answers(asked)} == {401}
