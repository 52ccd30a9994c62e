"""The node as a whole."""

from importlib.metadata import version

from tests.control.house import House

from ostiary.control.call import Call
from ostiary.control.node import Health, NoParameters
from ostiary.control.services import StopServices
from ostiary.core.permission import OWNER, Principal
from ostiary.core.refusal import Unavailable
from ostiary.core.snapshot import SECOND
from ostiary.link.receipt import WorkerStatus
from ostiary.store.ports import LoggedChange


class Away:
    """The change log of a store that does not answer."""

    async def newest(self) -> int:
        raise Unavailable("store.unavailable", "The store does not answer")

    async def after(self, seq: int, limit: int) -> list[LoggedChange]:
        raise AssertionError


OPERATOR = Principal("user", "admin", OWNER)


async def test_health_tells_versions_uptime_store_and_workers(house: House) -> None:
    house.workers.statuses = [WorkerStatus(1, 11, True, 5, 0)]
    await house.run("services.stop", StopServices(["oauth"]))
    house.now += 90 * SECOND
    health: Health = await house.run("node.health", NoParameters())
    assert (health.version, health.uptime, health.mode, health.store) == (version("ostiary"), 90, "sqlite", True)
    assert (health.workers, health.stopped) == (house.workers.statuses, ["oauth"])


async def test_a_store_that_is_away_is_told(house: House) -> None:
    house.control.changes = Away()
    health: Health = await house.run("node.health", NoParameters())
    assert health.store is False


async def test_a_stop_is_left_for_after_the_answer(house: House) -> None:
    call = Call(OPERATOR, "test")
    await house.run("node.stop", NoParameters(), call=call)
    assert call.trail.afterwards is house.control.stop
    assert [each.outcome for each in await house.records(operation="node.stop")] == ["done"]


async def test_a_dry_stop_leaves_nothing_to_be_done(house: House) -> None:
    call = Call(OPERATOR, "test", dry=True)
    assert await house.run("node.stop", NoParameters(), call=call) == ["would drain and end the node"]
    assert call.trail.afterwards is None
