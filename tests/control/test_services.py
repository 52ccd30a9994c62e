"""Services: what is stopped, and how it comes back."""

import asyncio

import pytest
from tests.control.house import House, Workers

from ostiary.control.call import Call
from ostiary.control.services import Service, Services, Stopped, StopServices, WhichServices
from ostiary.core.oauth import Rules
from ostiary.core.permission import ROLES, Principal
from ostiary.core.refusal import Invalid, NotFound, Refusal
from ostiary.link.messages import Change
from ostiary.link.receipt import Receipt, WorkerStatus


async def shown(house: House, *names: str) -> list[Service]:
    rows: list[Service] = await house.run("services.status", WhichServices(list(names)))
    return rows


async def stop(house: House, *names: str) -> list[str]:
    done: Stopped = await house.run("services.stop", StopServices(list(names)))
    return done.stopped


async def test_services_are_shown_in_order_with_their_processes(house: House) -> None:
    house.workers.statuses = [WorkerStatus(1, 11, True, 5, 0), WorkerStatus(2, 0, False, 0, 0)]
    house.control.rules = Rules(connections=700)
    rows = await shown(house)
    assert [each.name for each in rows] == ["http", "ws", "oauth", "admin"]
    assert rows[0] == Service("http", 1, 1, 2, 700, 0, 0, 0, 0, False, True, False, 1)
    assert rows[3] == Service("admin", 1, 1, 1, 1024, 0, 0, 0, 0, False, True, False, 1)


async def test_unknown_names_are_left_out_and_others_stand_for_what_they_mean(house: House) -> None:
    house.control.rules = Rules(services={"imap": ("http",), "none": ()})
    assert [each.name for each in await shown(house, "nonsense")] == []
    assert [each.name for each in await shown(house, "gateway", "nonsense")] == ["http", "ws"]
    assert [each.name for each in await shown(house, "admin", "imap", "none")] == ["http", "admin"]


async def test_workers_are_told_what_is_stopped_of_theirs(house: House) -> None:
    assert await stop(house, "http", "oauth") == ["http", "oauth"]
    assert await stop(house, "ws") == ["http", "oauth", "ws"]
    assert house.workers.told == [Change(0, stopped=["http"]), Change(0, stopped=["http", "ws"])]
    assert [(each.listening, each.doveadm_stop, each.process_avail) for each in await shown(house, "oauth")] == [
        (False, True, 0)
    ]


async def test_what_is_stopped_already_and_nothing_at_all_is_done_at_once(house: House) -> None:
    assert await stop(house) == []
    assert await stop(house, "gateway") == ["http", "ws"]
    assert await stop(house, "http") == ["http", "ws"]
    assert len(house.workers.told) == 1


async def test_a_second_stop_returns_when_the_first_is_in_force_and_not_before(house: House) -> None:
    gate = asyncio.Event()
    slow = Slow(house, gate)
    house.control.services = Services(slow)
    both = [asyncio.create_task(stop(house, "http")) for _ in range(2)]
    for _ in both:
        await asyncio.wait_for(slow.heard.acquire(), 20)
    assert [each.done() for each in both] == [False, False]
    gate.set()
    assert await asyncio.gather(*both) == [["http"], ["http"]]
    assert await stop(house, "http") == ["http"]
    assert len(house.workers.told) == 2


class Slow(Workers):
    """Workers that have done nothing before `gate` opens."""

    def __init__(self, house: House, gate: asyncio.Event) -> None:
        super().__init__()
        self.told, self.gate, self.heard = house.workers.told, gate, asyncio.Semaphore(0)

    async def apply(self, change: Change) -> Receipt:
        receipt = await super().apply(change)
        self.heard.release()
        await self.gate.wait()
        return receipt


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("http", "imap"), (NotFound, "service.unknown")),
        (("admin",), (Invalid, "service.admin")),
        (("imap", "admin", "http"), (Invalid, "service.admin")),
        (("HTTP",), (NotFound, "service.unknown")),
    ],
)
async def test_all_are_stopped_or_none(
    house: House, names: tuple[str, ...], expected: tuple[type[Refusal], str]
) -> None:
    with pytest.raises(Refusal) as refused:
        await stop(house, *names)
    assert (type(refused.value), refused.value.code) == expected
    assert (house.control.services.stopped, house.workers.told) == (frozenset(), [])


async def test_services_start_again_by_name_or_all(house: House) -> None:
    await stop(house, "gateway", "oauth")
    assert await house.run("services.start", WhichServices(["ws"])) == Stopped(["http", "oauth"])
    assert await house.run("services.start", WhichServices()) == Stopped([])
    assert house.workers.told[1:] == [Change(0, stopped=["http"]), Change(0, stopped=[])]
    with pytest.raises(NotFound):
        await house.run("services.start", WhichServices(["nonsense"]))


async def test_own_names_never_take_the_place_of_ours(house: House) -> None:
    house.control.rules = Rules(services={"imap": ("http",), "oauth": ("http",), "admin": ("http",)})
    assert await stop(house, "oauth") == ["oauth"]
    assert await stop(house, "imap") == ["http", "oauth"]
    with pytest.raises(Invalid):
        await stop(house, "admin")


async def test_the_audit_names_the_services(house: House) -> None:
    await stop(house, "http", "ws")
    assert [each.target for each in await house.records(operation="services.stop")] == ["http, ws"]


async def test_who_manages_the_gateway_may_stop_and_start_it(house: House) -> None:
    manager = Principal("user", "mia", ROLES["manager"])
    await house.run("services.stop", StopServices(["http"]), manager)
    await house.run("services.start", WhichServices(), manager)
    assert house.control.services.stopped == frozenset()


async def test_a_dry_stop_says_what_it_would_stop(house: House) -> None:
    await stop(house, "ws")
    call = Call(Principal("user", "mia", ROLES["manager"]), "test", dry=True)
    assert await house.run("services.stop", StopServices(["gateway"]), call=call) == ["would stop http"]
    assert await house.run("services.start", WhichServices(), call=call) == ["would start ws"]
    with pytest.raises(NotFound):
        await house.run("services.stop", StopServices(["nonsense"]), call=call)
    assert house.control.services.stopped == frozenset({"ws"})
