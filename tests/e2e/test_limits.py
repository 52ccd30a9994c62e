"""Limits of client applications over all workers: exact accounts, and what changes them."""

import re
import time
from pathlib import Path

from tests.e2e.crowd import bearer, request
from tests.e2e.test_revocation import ADMIN, PASSED, REFUSED, WORKERS, Held, held, house
from tests.e2e.volley import Volley

LIMITED = (429, b'{"error":"rate limit reached"}')
DAYS = 8_640_000
"""Seconds of a window in which a test earns nothing."""
TOLD = re.compile(
    rb'retry-after: (\d+)\r\nratelimit-policy: "client";q=(\d+);w=(\d+)\r\nratelimit: "client";r=0;t=(\d+)\r\n'
)


async def passed(one: Held, volley: Volley, count: int, quota: int, seconds: int = DAYS) -> int:
    """How many of `count` requests pass; all others are refused by this limit, and told of it."""
    answers = await volley.fire([bearer("/closed", one.access)], count)
    assert set(answers) <= {PASSED, LIMITED}
    told = [TOLD.search(head) for lane in volley.lanes for head in lane.heads if b" 429 " in head]
    assert len(told) == answers[LIMITED]
    for each in told:
        assert each is not None
        assert (int(each[2]), int(each[3])) == (quota, seconds)
        assert each[1] == each[4]
    return answers[PASSED]


async def test_a_limit_holds_over_all_workers_to_the_request(configured: Path) -> None:
    async with house(configured) as (node, volley):
        one = await held(node, rate_limit={"requests": 640, "per_seconds": DAYS})
        assert await passed(one, volley, 3000, 640) == 640
        assert await passed(one, volley, 1000, 640) == 0


async def test_what_time_earns_passes_and_not_more(configured: Path) -> None:
    quota, seconds = 640, 2
    async with house(configured) as (node, volley):
        one = await held(node, rate_limit={"requests": quota, "per_seconds": seconds})
        began, total = time.monotonic(), 0
        while total <= 2 * quota:
            total += await passed(one, volley, 2000, quota, seconds)
            assert total <= quota + (time.monotonic() - began) * quota / seconds + 1


async def test_a_changed_limit_counts_anew_in_every_worker_before_the_answer(configured: Path) -> None:
    async with house(configured) as (node, volley):
        one = await held(node)
        asked = [bearer("/closed", one.access)]
        assert set(await volley.fire(asked, 1000)) == {PASSED}
        for quota in (64, 1280):
            changed = await one.change(rate_limit={"requests": quota, "per_seconds": DAYS})
            assert changed.status == 200
            assert await passed(one, volley, 3000, quota) == quota
        for status in (0, 1):
            assert (await one.change(status=status)).status == 200
            assert set(await volley.fire(asked, 1000)) == {LIMITED if status else REFUSED}
        flush = request("POST", "/operations/caches.flush", {}, Authorization=ADMIN)
        assert (await one.ask(flush)).json["workers"] == WORKERS
        assert await passed(one, volley, 3000, 1280) == 1280
