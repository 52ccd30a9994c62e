"""Log-in, the first owner, and what passwords cost."""

import asyncio

import pytest
from msgspec.structs import replace
from tests.control.house import ADMIN, NOW, House

from ostiary.control.caches import Flush
from ostiary.control.call import Call
from ostiary.control.owner import Owner, ensure_owner
from ostiary.control.passwords import WAITING, Passwords
from ostiary.core.permission import OWNER, Principal
from ostiary.core.refusal import Forbidden, Invalid, Limited, Refusal, Unauthenticated, Unavailable
from ostiary.link.messages import Change
from ostiary.store.people import NewUser

BOSS = Owner("boss", "correct horse", "boss@example.org")


async def test_the_first_start_makes_up_an_owner_and_the_second_does_not(house: House) -> None:
    made = await ensure_owner(house.control, None)
    assert made is not None
    assert made.name == "admin"
    assert len(made.password) == 24
    assert await house.login.password("admin", made.password) == Principal(
        "user", "admin", OWNER, "password", 1, "owner"
    )
    assert await ensure_owner(house.control, None) is None
    assert await ensure_owner(house.control, BOSS) is None
    [record] = await house.records()
    assert (record.kind, record.operation, record.target) == ("node", "users.register", "admin")


async def test_the_owner_of_the_configuration_is_made_without_a_word(house: House) -> None:
    assert await ensure_owner(house.control, BOSS) is None
    for name in ("boss", "boss@example.org", "BOSS@example.org"):
        assert (await house.login.password(name, "correct horse")).name == "boss"


@pytest.mark.parametrize(
    ("owner", "code"),
    [
        (replace(BOSS, name="a b"), "owner.name"),
        (replace(BOSS, email="nobody"), "owner.email"),
        (replace(BOSS, password="short"), "owner.password"),
        (replace(BOSS, password="boss", name="boss"), "owner.password"),
    ],
)
async def test_an_owner_that_breaks_the_rules_is_refused(house: House, owner: Owner, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        await ensure_owner(house.control, owner)
    assert refused.value.code == code
    assert await house.store.users.empty()


async def attempt(house: House, password: str, name: str = "boss") -> str:
    """The code of the refusal, or the name of who came in."""
    try:
        return (await house.login.password(name, password)).name
    except Refusal as refusal:
        return refusal.code


@pytest.mark.parametrize("name", ["boss", "nobody", "\ud800", "x" * 5000, ""])
async def test_a_wrong_password_and_an_unknown_name_look_alike(house: House, name: str) -> None:
    await ensure_owner(house.control, BOSS)
    with pytest.raises(Unauthenticated) as refused:
        await house.login.password(name, "wrong")
    assert (refused.value.code, refused.value.message) == ("login.refused", "Wrong name or password")


async def test_of_fifty_wrong_passwords_at_once_five_are_checked(house: House) -> None:
    await ensure_owner(house.control, BOSS)
    codes = await asyncio.gather(*(attempt(house, f"wrong{each}") for each in range(50)))
    assert sorted(set(codes)) == ["login.refused", "login.throttled"]
    assert codes.count("login.refused") == 5


async def test_while_a_name_is_barred_the_right_password_is_refused_too_and_nothing_is_counted(house: House) -> None:
    await ensure_owner(house.control, BOSS)
    for each in range(5):
        assert await attempt(house, f"wrong{each}") == "login.refused"
    house.now += 29_000_001
    with pytest.raises(Limited) as refused:
        await house.login.password("BOSS", "correct horse")
    assert refused.value.retry_after == 1
    house.now = NOW + 30_000_000
    assert await attempt(house, "correct horse") == "boss"
    assert await attempt(house, "wrong") == "login.refused"
    assert await attempt(house, "correct horse") == "boss"


async def test_the_same_right_password_many_times_at_once_is_one_attempt(house: House) -> None:
    await ensure_owner(house.control, BOSS)
    assert await asyncio.gather(*(attempt(house, "correct horse") for _ in range(50))) == ["boss"] * 50


async def test_a_password_longer_than_any_is_wrong_without_being_hashed(house: House) -> None:
    await ensure_owner(house.control, BOSS)
    assert await attempt(house, "x" * 1025) == "login.refused"


async def test_the_right_password_of_a_disabled_user_is_forbidden(house: House) -> None:
    kept = await house.passwords.make("correct horse")
    new = NewUser("boss", "member", NOW, password=kept, active=False)
    await house.store.users.create(new, Call(ADMIN).record(NOW, "done"))
    with pytest.raises(Forbidden) as refused:
        await house.login.password("boss", "correct horse")
    assert refused.value.code == "login.inactive"
    assert await attempt(house, "wrong") == "login.refused"


async def test_flushing_spares_penalties_unless_they_are_asked_for(house: House) -> None:
    await ensure_owner(house.control, BOSS)
    for each in range(5):
        await attempt(house, f"wrong{each}")
    flushed = await house.run("caches.flush", Flush())
    assert (flushed.admissions, flushed.limits, flushed.workers, flushed.nodes) == (3, 4, 2, 1)
    assert await attempt(house, "correct horse") == "login.throttled"
    assert (await house.run("caches.flush", Flush(penalties=True))).penalties == 1
    assert await attempt(house, "correct horse") == "boss"
    assert house.workers.told == [Change(0, everything=True, limits=True, streams=False)] * 2


async def test_lifting_penalties_needs_more_than_flushing(house: House) -> None:
    flusher = Principal("user", "m", frozenset({"gateway:manage"}))
    with pytest.raises(Forbidden) as refused:
        await house.run("caches.flush", Flush(penalties=True), flusher)
    assert refused.value.code == "penalties.denied"
    assert house.workers.told == []


async def test_more_passwords_than_can_wait_are_refused(house: House) -> None:
    kept = await house.passwords.make("right")
    asked = [house.passwords.verify(kept, f"wrong{each}") for each in range(WAITING + 3)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in outcomes].count(Unavailable) == 3
    assert outcomes.count(False) == WAITING


async def test_a_verified_password_is_remembered_only_for_what_it_was_verified_against(house: House) -> None:
    first, second = await house.passwords.make("right"), await house.passwords.make("right")
    assert first != second
    assert await house.passwords.verify(first, "right")
    assert house.passwords.remembered(first, "right")
    assert not house.passwords.remembered(second, "right")
    assert not house.passwords.remembered(first, "wrong")
    assert not await house.passwords.verify(first, "wrong")
    assert not house.passwords.remembered(first, "wrong")
    other = Passwords(lambda count: bytes(count))
    assert not other.remembered(first, "right")
    other.close()


async def test_a_password_is_kept_at_the_cost_that_owasp_names() -> None:
    passwords = Passwords(bytes)
    kept = await passwords.make("right")
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.verify(kept, "right")
    passwords.close()
