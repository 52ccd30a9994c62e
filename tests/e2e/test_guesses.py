"""Guessed tokens: each is asked about once, and they cost neither memory nor the place of a real one."""

import asyncio
import resource
from pathlib import Path

from tests.e2e.crowd import bearer, each, request
from tests.e2e.house import serving
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
        [metrics] = await each(node.admin, [request("GET", "/metrics", Authorization=ADMIN)])
        assert f'event="admission.misses"}} {GUESSES + 1}.0' in metrics.body.decode()
        assert [new - old < 16 * MIB for old, new in zip(before, after, strict=True)] == [True, True]
