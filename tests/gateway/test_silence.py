"""Control is linked and says nothing: what can go on without it goes on."""

from time import monotonic_ns

from tests.gateway.door import FOREVER, Line, door
from tests.gateway.wire import connected, recording

from ostiary.core.limit import Limit
from ostiary.core.snapshot import Gateway, Policy, RouteLimit, Upstream

LIMITED = Policy(limit=RouteLimit("r", Limit(2, 3_600_000_000), "route"))
GET = b"GET /limited HTTP/1.1\r\nhost: x\r\n\r\n"


async def test_a_limited_public_route_holds_its_limit_by_itself_under_a_lease_and_without_one() -> None:
    async with (
        recording() as (_, address),
        door([Line("GET /limited", "/b", policy=LIMITED)], [Upstream("u", (address,))], Gateway(access_log="")) as (
            worker,
            control,
            port,
        ),
        connected(port) as wire,
    ):
        control.silent = True
        for until in (FOREVER, monotonic_ns()):
            worker.lease(until)
            assert (await wire.ask(GET)).status == 200
        assert (await wire.ask(GET)).status == 429
