"""Guessed tokens: each is asked about once, and they cost neither memory nor the place of a real one."""

import asyncio
import resource
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e.crowd import bearer, each, request
from tests.e2e.house import LIMIT, Node, serving
from tests.e2e.test_revocation import ADMIN, PASSED, REFUSED, held
from tests.e2e.volley import Volley

GUESSES = 32_000
"""More than a worker remembers as refused."""
ROUNDS = 4
MIB = 1 << 20


def memory(pid: int) -> int:
    """Bytes that a process holds now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


async def test_guesses_are_bounded_and_push_no_real_token_out(configured: Path) -> None:
    async with serving(configured, "--workers", "1") as node:
        await node.client()
        one = await held(node)
        (worker,), (control,) = node.children("worker"), node.children("control")
        async with Volley(node.gateway, 1, each=16) as volley:
            assert set(await volley.fire([bearer("/closed", one.access)], 100)) == {PASSED}
            before = memory(worker), memory(control)
            share = GUESSES // ROUNDS // len(volley.lanes)
            for turn in range(ROUNDS):
                guesses = [
                    b"".join(bearer("/closed", f"{turn:08x}{place:08x}{number:048x}") for number in range(share))
                    for place, _ in enumerate(volley.lanes)
                ]
                sending = zip(volley.lanes, guesses, strict=True)
                await asyncio.gather(*(lane.send(guess, share) for lane, guess in sending))
                assert {answer for lane in volley.lanes for answer in lane.answers} == {REFUSED}
            after = memory(worker), memory(control)
            assert set(await volley.fire([bearer("/closed", one.access)], 100)) == {PASSED}
        async with asyncio.timeout(LIMIT):
            while f'event="admission.misses"}} {GUESSES + 1}.0' not in await metrics(node):
                pass  # a report that comes too late for one question is told at the next
        assert [new - old < 16 * MIB for old, new in zip(before, after, strict=True)] == [True, True]


async def metrics(node: Node) -> str:
    """What is counted."""
    [answer] = await each(node.admin, [request("GET", "/metrics", Authorization=ADMIN)])
    return answer.body.decode()


class Stranger:
    """A client at an address that nobody trusts, with one connection for each request."""

    def __init__(self, node: Node) -> None:
        self.place = urlsplit(node.gateway)

    async def status(self, token: str) -> int:
        """The status of a request with this token."""
        reader, writer = await asyncio.open_connection(
            self.place.hostname, self.place.port, local_addr=("127.0.0.2", 0)
        )
        writer.write(bearer("/closed", token))
        line = await reader.readline()
        writer.close()
        return int(line.split()[1])


async def test_an_address_that_guesses_waits_in_every_worker(configured: Path) -> None:
    """Tokens that are remembered go on from there; other addresses know nothing of it."""
    file = configured / "ostiary.yaml"
    file.write_text(file.read_text().replace("127.0.0.0/8", "127.0.0.1/32"))
    async with serving(configured, "--workers", "2") as node:
        await node.client()
        one = await held(node)
        stranger = Stranger(node)
        async with Volley(node.gateway, 2, each=1) as volley:
            assert set(await volley.fire([bearer("/closed", one.access)], 20)) == {PASSED}
            statuses = [await stranger.status(f"{number:064x}") for number in range(100)]
            assert set(statuses) == {401}
            async with asyncio.timeout(LIMIT):
                number = 100
                while {await stranger.status(f"{number + each:064x}") for each in range(8)} != {429}:
                    number += 8
            assert {await stranger.status(one.access) for _ in range(8)} == {200}
            assert set(await volley.fire([bearer("/closed", f"{number:064x}")], 20)) == {REFUSED}
