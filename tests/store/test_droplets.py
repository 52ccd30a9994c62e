"""Droplets, jobs and apps as they are kept: what is unique, what is counted, and what goes with what."""

import asyncio
from collections.abc import Awaitable

import pytest
from msgspec.structs import replace
from tests.store.values import NOW, RECORD

from ostiary.core.director import Edit, Host
from ostiary.core.droplets import Place
from ostiary.core.lifecycle import Life
from ostiary.core.refusal import Refusal
from ostiary.store.fleet import App, Job, Kept, Noted, Release
from ostiary.store.people import NewUser
from ostiary.store.ports import RecordFilter
from ostiary.store.purge import DAY, STALE, SqlPurge
from ostiary.store.store import Store

FIRST = Release(1, "initial", "u1", "ann", b"\0s", "", NOW)
JOBS = next(each for each in STALE if each.table == "jobs")


def droplet(number: int, name: str = "", ports: dict[int, int] | None = None) -> Kept:
    return Kept(f"{number:012x}", name, "web", NOW + number, ports or {}, b"\0sealed")


async def add(store: Store, number: int, name: str = "", ports: dict[int, int] | None = None, most: int = 100) -> str:
    """The name that it got."""
    return (await store.droplets.create(droplet(number, name, ports), "droplet", most)).name


async def refused(asked: Awaitable[object]) -> str:
    with pytest.raises(Refusal) as refusal:
        await asked
    return refusal.value.code


async def test_a_droplet_is_kept_with_all_that_it_is(store: Store) -> None:
    place = Place("shop", "web", 1, 3)
    kept = replace(droplet(1, "shop.web.1", {443: 20002, 80: 20001}), life=Life("crashed", due=5), place=place)
    assert await store.droplets.create(kept, "droplet", 1) == kept
    assert await store.droplets.all() == [kept]
    assert list((await store.droplets.all())[0].ports) == [443, 80]


async def test_twenty_at_once_have_twenty_names_and_none_is_given_again(store: Store) -> None:
    names = await asyncio.gather(*(add(store, number) for number in range(20)))
    assert sorted(names) == [f"droplet{number:02d}" for number in range(1, 21)]
    for number in range(20):
        await store.droplets.delete(f"{number:012x}")
    assert await add(store, 21) == "droplet21"


async def test_a_name_that_somebody_chose_is_passed_over(store: Store) -> None:
    await add(store, 1, "droplet01")
    assert await add(store, 2) == "droplet02"
    assert await refused(add(store, 3, "droplet02")) == "droplet.exists"


async def test_of_many_that_want_a_name_one_gets_it(store: Store) -> None:
    wanted = (add(store, number, "shop") for number in range(10))
    outcomes = await asyncio.gather(*wanted, return_exceptions=True)
    assert [each for each in outcomes if isinstance(each, str)] == ["shop"]


async def test_no_port_is_two_droplets_and_a_deleted_ones_is_free(store: Store) -> None:
    await add(store, 1, ports={80: 20001})
    assert await refused(add(store, 2, "shop", {80: 20002, 443: 20001})) == "port.taken"
    assert len(await store.droplets.all()) == 1
    await store.droplets.delete(f"{1:012x}")
    assert await add(store, 2, "shop", {80: 20002, 443: 20001}) == "shop"


async def test_what_operators_made_of_a_directors_host_goes_with_the_droplets_port(store: Store) -> None:
    names = [f"127.0.0.1:{port}" for port in (20001, 20002, 20003)] + ["127.0.0.1"]
    await add(store, 1, ports={80: 20001, 443: 20002})
    await add(store, 2, ports={80: 20003})
    for upstream in ("mail", "web"):
        await store.directors.change(upstream, lambda kept: Edit([Host(name, 1) for name in names]), RECORD)

    async def kept() -> list[list[str]]:
        return [sorted(each.host for each in await store.directors.hosts(name)) for name in ("mail", "web")]

    await store.droplets.remake(droplet(1, "droplet01", {80: 20002}))
    assert await kept() == [["127.0.0.1", *names[1:3]]] * 2
    await store.droplets.delete(f"{1:012x}")
    assert await kept() == [["127.0.0.1", names[2]]] * 2


async def test_there_are_no_more_than_the_limit(store: Store) -> None:
    wanted = (add(store, number, most=3) for number in range(9))
    outcomes = await asyncio.gather(*wanted, return_exceptions=True)
    assert sum(isinstance(each, str) for each in outcomes) == 3
    assert await refused(add(store, 10, most=3)) == "droplets.limit"


async def test_what_becomes_of_a_droplet_is_kept(store: Store) -> None:
    await add(store, 1, "shop", {80: 20001})
    await store.droplets.live(f"{1:012x}", Life("running", health="healthy", started=NOW))
    assert (await store.droplets.all())[0].life == Life("running", health="healthy", started=NOW)
    place = Place("shop", "web", 1, 2)
    [kept] = await store.droplets.all()
    anew = replace(kept, template="job", recipe=b"new", life=Life("stopping"), place=place, ports={443: 20009})
    await store.droplets.remake(anew)
    assert await store.droplets.all() == [anew]
    assert await refused(add(store, 2, "b", {80: 20009})) == "port.taken"
    await add(store, 2, "b", {80: 20001})
    await store.droplets.remake(replace(anew, id="gone", ports={80: 20002}))
    await add(store, 3, "c", {80: 20002})


async def test_a_job_that_control_left_is_interrupted_and_goes_after_a_day(store: Store) -> None:
    queued = Job("a", "droplets.start", "shop", "queued", NOW)
    done = replace(queued, id="b", state="done", finished_at=NOW)
    failed = replace(queued, id="c", state="failed", finished_at=NOW, error="no", code="droplet.failed")
    for job in (queued, done, failed, replace(queued, state="running")):
        await store.jobs.put(job)
    assert await store.jobs.interrupt(NOW + 5) == 1
    assert await store.jobs.get("a") == replace(
        queued, state="failed", finished_at=NOW + 5, error="interrupted", code="interrupted"
    )
    assert [await store.jobs.get(each) for each in "bcd"] == [done, failed, None]
    assert await SqlPurge(store.writer).purge(JOBS, NOW + DAY + 1) == 2


# Apps


async def people(store: Store) -> tuple[int, int]:
    """Numbers of ann and bob."""
    for name, role in (("ann", "owner"), ("bob", "member")):
        await store.users.create(NewUser(name, role, NOW, password="x"), RECORD)
    accounts = [await store.users.named(name) for name in ("ann", "bob")]
    ann, bob = (account.user.number for account in accounts if account)
    return ann, bob


async def count(store: Store, table: str) -> int:
    rows = await store.lister.each(lambda sql: sql.rows(f"SELECT COUNT(*) FROM {table}"))
    return int(rows[0][0])


async def made(store: Store, owner: int, ident: str = "shop", most: int = 50) -> App:
    return await store.apps.create(ident, f"uuid {ident}", owner, "web", FIRST, most, RECORD)


async def test_an_app_has_an_owner_and_a_first_release(store: Store) -> None:
    ann, _ = await people(store)
    app = await made(store, ann)
    assert app == App(app.number, "shop", "uuid shop", ann, "ann", "web", 1, {}, NOW, NOW)
    assert await store.apps.get("shop") == app
    assert await store.apps.get("shop2") is None
    assert (await store.apps.release("shop"), await store.apps.build("shop")) == (FIRST, None)
    assert await store.apps.config("shop") == FIRST
    assert await store.apps.notes("shop", 9) == [Noted(NOW, "ann created initial release")]
    assert await refused(made(store, ann)) == "app.exists"
    assert await refused(made(store, ann, "more", most=1)) == "apps.limit"


async def test_each_sees_own_and_shared_apps_and_nobody_elses(store: Store) -> None:
    ann, bob = await people(store)
    for ident, owner in (("b", ann), ("a", bob), ("c", bob)):
        await made(store, owner, ident)
    await store.apps.share("b", bob, RECORD)
    await store.apps.share("b", bob, RECORD)

    async def seen(user: int | None, limit: int = 10, offset: int = 0) -> tuple[list[str], int]:
        apps, count = await store.apps.page(user, limit, offset)
        return [app.id for app in apps], count

    assert await seen(bob) == (["a", "b", "c"], 3)
    assert await seen(ann) == (["b"], 1)
    assert await seen(None, 2, 1) == (["b", "c"], 3)
    assert await store.apps.collaborators("b") == ["bob"]
    assert [await store.apps.shared("b", user) for user in (ann, bob)] == [False, True]
    assert [await store.apps.unshare("b", bob, RECORD) for _ in range(2)] == [True, False]
    assert await seen(bob) == (["a", "c"], 2)
    assert await refused(store.apps.share("nope", bob, RECORD)) == "app.unknown"


async def test_who_owns_an_app_stays_and_who_leaves_shares_none(store: Store) -> None:
    ann, bob = await people(store)
    await made(store, bob)
    assert await refused(store.users.delete(bob, RECORD)) == "user.owns_apps"
    await store.apps.transfer("shop", ann, 1, RECORD)
    await store.apps.share("shop", bob, RECORD)
    assert (await store.apps.owned(ann), await store.apps.owned(bob)) == (1, 0)
    await store.users.delete(bob, RECORD)
    assert await count(store, "collaborators") == 0


async def test_nobody_is_given_more_apps_than_one_may_have(store: Store) -> None:
    ann, bob = await people(store)
    await made(store, ann)
    await made(store, bob, "other")
    assert await refused(store.apps.transfer("shop", bob, 1, RECORD)) == "apps.full"
    await store.apps.transfer("shop", ann, 1, RECORD)
    await store.apps.transfer("shop", bob, 2, RECORD)
    assert (await store.apps.owned(ann), await store.apps.owned(bob)) == (0, 2)


async def test_who_wants_something_is_kept_together_with_it(store: Store) -> None:
    kept = await store.droplets.create(droplet(1), "droplet", 9, replace(RECORD, target=""))
    await store.droplets.live(kept.id, replace(kept.life, wanted="stopped"), RECORD)
    await store.jobs.put(Job("1" * 16, "droplets.stop", kept.name, "queued", NOW), RECORD)
    targets = [record.target for record in await store.audit.page(RecordFilter())]
    assert targets == [RECORD.target, RECORD.target, kept.name]
    assert await refused(store.droplets.create(droplet(2, kept.name), "droplet", 9, RECORD)) == "droplet.exists"
    assert len(await store.audit.page(RecordFilter())) == 3


async def test_a_release_is_proposed_then_in_force_or_withdrawn(store: Store) -> None:
    ann, _ = await people(store)
    await made(store, ann)
    second = replace(FIRST, number=2, kind="build", uuid="u2", values=b"\1", image="job")
    assert await refused(store.apps.propose("shop", replace(second, number=3))) == "release.stale"
    await store.apps.propose("shop", second)
    assert await store.apps.release("shop") == FIRST
    assert [(app.id, release) for app, release in await store.apps.proposed()] == [("shop", second)]
    await store.apps.withdraw("shop")
    assert (await store.apps.proposed(), await store.apps.release("shop", 2)) == ([], None)
    await store.apps.propose("shop", replace(second, uuid="other"))
    await store.apps.propose("shop", second)
    await store.apps.settle("shop", 2, "job", replace(RECORD, at=NOW + 1))
    app = await store.apps.get("shop")
    assert app is not None
    assert (app.release, app.template, app.updated) == (2, "job", NOW + 1)
    assert (await store.apps.release("shop"), await store.apps.build("shop")) == (second, second)
    assert await store.apps.config("shop") == FIRST
    assert await refused(store.apps.settle("shop", 9, "job", RECORD)) == "release.unknown"


async def test_an_app_takes_all_that_was_its_own_with_it(store: Store) -> None:
    ann, bob = await people(store)
    await made(store, ann)
    await store.apps.share("shop", bob, RECORD)
    await store.apps.note("shop", NOW, "ann created initial release")
    await store.apps.scaled("shop", {"web": 2}, RECORD)
    app = await store.apps.get("shop")
    assert app is not None
    assert app.structure == {"web": 2}
    assert await refused(store.apps.delete("shop")) == "app.unknown"
    await store.apps.end("shop", replace(RECORD, operation="apps.delete"))
    app = await store.apps.get("shop")
    assert app is not None
    assert (app.structure, app.ending) == ({}, True)
    assert len(await store.audit.page(RecordFilter())) == 5
    await store.apps.delete("shop")
    for table in ("apps", "collaborators", "releases", "app_notes"):
        assert await count(store, table) == 0
    assert await refused(store.apps.delete("shop")) == "app.unknown"
    assert await refused(store.apps.end("shop", RECORD)) == "app.unknown"
    newest, *before = await store.audit.page(RecordFilter())
    assert (newest.operation, len(before)) == ("apps.delete", 5)


async def test_the_last_thousand_notes_stay(store: Store) -> None:
    ann, _ = await people(store)
    await made(store, ann)
    await asyncio.gather(*(store.apps.note("shop", at, f"n{at}") for at in range(1005)))
    assert await store.apps.notes("shop", 2) == [Noted(1003, "n1003"), Noted(1004, "n1004")]
    assert len(await store.apps.notes("shop", 2000)) == 1000
