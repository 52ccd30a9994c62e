"""`ostiary create-user` beside a running node: what it took away is refused everywhere when it ends."""

import asyncio
import json
import time
from pathlib import Path

from tests.e2e.house import Client, Node, once, ostiary, serving
from tests.e2e.test_revocation import held

from ostiary.control.totp import code_of, step_at


async def signed_in(node: Node, name: str, secret: str) -> str:
    """An access token of a log-in by code."""
    code = code_of(secret, step_at(time.time_ns() // 1000))
    answer = await once(node.admin, "POST", "/api/v1/user/auth", {"username": name, "code": code})
    assert answer.status == 200, answer.body
    return str(answer.json["access_token"])


async def made(place: Path, *words: str) -> str:
    """The secret of `create-user`."""
    status, out, err = await ostiary(place, "create-user", "-u", "ann", "--json", *words)
    assert (status, err) == (0, "")
    return str(json.loads(out)["secret"])


async def test_what_a_user_had_is_refused_everywhere_when_it_ends(configured: Path) -> None:
    async with serving(configured) as node:
        await node.client()
        own = await signed_in(node, "ann", await made(configured, "-g", "viewer"))
        application = (await held(node)).access
        clients = [Client(node.gateway, application) for _ in range(16)]
        assert {(await each.ask("GET", "/closed")).status for each in clients} == {200}
        assert (await once(node.admin, "GET", "/api/v1/droplet/list", token=own)).status == 200
        again = await made(configured, "-g", "manager", "-r")
        answers = await asyncio.gather(*(each.ask("GET", "/closed") for each in clients))
        assert {each.status for each in answers} == {401}
        assert (await once(node.admin, "GET", "/api/v1/droplet/list", token=own)).status == 401
        await signed_in(node, "ann", again)
        for each in clients:
            each.close()
