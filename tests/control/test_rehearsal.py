"""Dry calls: everything is checked, nothing is done."""

import pytest
from msgspec import Struct
from tests.control.house import ADMIN, House

from ostiary.control.caches import Flush
from ostiary.control.call import Call
from ostiary.control.keys import ListKeys, RotateKeys
from ostiary.control.roles import CreateRole, ListRoles, OneRole
from ostiary.control.scopes import CreateScope
from ostiary.control.store import WriteBackup
from ostiary.control.tokens import RevokeSubject
from ostiary.core.permission import Principal
from ostiary.core.refusal import Conflict, Forbidden, NotFound

VIEWER = Principal("service", "doveadm", frozenset({"roles:read"}), "key monitor")


async def dry(house: House, name: str, params: Struct, principal: Principal = ADMIN) -> object:
    return await house.run(name, params, call=Call(principal, "test", "192.0.2.1", "request-1", dry=True))


async def roles(house: House) -> list[str]:
    return [each.name for each in await house.run("roles.list", ListRoles())]


async def test_a_change_without_a_preview_is_done_in_a_store_that_keeps_nothing(house: House) -> None:
    before = await roles(house)
    assert await dry(house, "roles.create", CreateRole("watch", ["routes:read"])) == ["Make a role."]
    assert await roles(house) == before
    assert await house.records() == []
    await house.run("roles.create", CreateRole("watch", ["routes:read"]))
    assert await roles(house) == [*before, "watch"]


async def test_a_dry_change_refuses_what_the_change_would_refuse(house: House) -> None:
    await house.run("roles.create", CreateRole("watch"))
    with pytest.raises(Conflict) as caught:
        await dry(house, "roles.create", CreateRole("watch"))
    assert caught.value.code == "role.exists"
    with pytest.raises(NotFound):
        await dry(house, "roles.delete", OneRole("nosuch"))
    with pytest.raises(Forbidden):
        await dry(house, "roles.delete", OneRole("watch"), VIEWER)
    assert len(await house.records()) == 1


async def test_workers_hear_nothing_of_a_dry_change(house: House) -> None:
    call = Call(ADMIN, "test", "192.0.2.1", "request-1", dry=True)
    await house.run("tokens.revoke_subject", RevokeSubject("alice"), call=call)
    assert house.workers.told == []
    assert call.trail.applied == ""


async def test_what_is_not_in_the_store_has_a_preview(house: House) -> None:
    keys = await house.run("keys.list", ListKeys())
    assert await dry(house, "keys.rotate", RotateKeys()) == ["a new key signs"]
    assert await house.run("keys.list", ListKeys()) == keys
    assert await dry(house, "caches.flush", Flush()) == ["cached admissions and limits of all workers"]
    assert await dry(house, "store.backup", WriteBackup("one")) == ["a new file one"]
    assert not (house.path.parent / "backups").exists()


async def test_a_rehearsal_leaves_what_others_do_meanwhile_alone(house: House) -> None:
    await dry(house, "scopes.create", CreateScope("basic", 60, 60))
    await house.run("scopes.create", CreateScope("basic", 60, 60))
