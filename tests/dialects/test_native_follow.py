"""The native surface: what goes on is followed line by line."""

from collections.abc import AsyncIterator

import pytest
from tests.dialects.fleet import Fleet, fleet
from tests.dialects.house import House
from tests.dialects.test_apifest import said

FOLLOW = "/operations/droplets.logs/follow"


@pytest.fixture
async def droplets(house: House) -> AsyncIterator[Fleet]:
    async with fleet(house) as found:
        assert (await house.ask("POST", "/operations/droplets.create", {"name": "one"})).status == 200
        found.engine.lives[found.engine.named("one")].lines.extend([b"first", b"\xff", b"third"])
        yield found


async def test_lines_are_plain_text_as_they_were_printed(house: House, droplets: Fleet) -> None:
    answer = await house.ask("GET", f"{FOLLOW}?droplet=one&tail=2")
    assert (answer.status, answer.body) == (200, b"")
    assert dict(answer.headers)["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.stream is not None
    assert [piece async for piece in answer.stream] == [b"\xff\n", b"third\n"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"{FOLLOW}?droplet=two", 404, "droplet.unknown"),
        ("GET", f"{FOLLOW}?droplet=one&tail=10001", 400, "params.invalid"),
        ("GET", FOLLOW, 400, "params.invalid"),
        ("POST", FOLLOW, 405, "method.not_allowed"),
        ("GET", "/operations/droplets.list/follow", 404, "path.unknown"),
        ("GET", "/operations/droplets.logs/other", 404, "path.unknown"),
        ("GET", "/operations/droplets.logs/", 404, "path.unknown"),
        ("GET", "/operations/nothing/follow", 404, "operation.unknown"),
    ],
)
async def test_what_cannot_be_followed_is_refused(
    house: House, droplets: Fleet, method: str, path: str, status: int, code: str
) -> None:
    answer = await house.ask(method, path)
    assert answer.status == status
    assert f'"error":"{code}"' in said(answer)[1]


async def test_nobody_follows_without_a_credential(house: House, droplets: Fleet) -> None:
    answer = await house.ask("GET", f"{FOLLOW}?droplet=two", owner=False)
    assert answer.status == 401
