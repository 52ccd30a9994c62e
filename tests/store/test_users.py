"""Users, roles and what people hold, in the store."""

import asyncio
from collections.abc import Awaitable

import pytest
from msgspec.structs import replace
from tests.store.values import NOW, RECORD

from ostiary.core.people import Kind, Role, User
from ostiary.core.refusal import Conflict, NotFound, Refusal, Unauthenticated
from ostiary.store.credentials import MOST_PERSONAL, Reused
from ostiary.store.people import NewCredential, NewUser, Proof, UserChange, UserFilter
from ostiary.store.store import Store

OWNER = NewUser("Admin", "owner", NOW, "Admin@Example.org", "$argon2id$x")
ALICE = NewUser("alice", "viewer", NOW, "alice@example.org", "$argon2id$a")


async def code(asked: Awaitable[object]) -> str:
    """The code of the refusal, empty for none."""
    try:
        await asked
    except Refusal as refusal:
        return refusal.code
    return ""


async def made(store: Store, *users: NewUser) -> list[User]:
    return [await store.users.create(each, RECORD) for each in users]


async def test_the_first_user_is_the_only_one_to_become_owner_whoever_races(store: Store) -> None:
    assert await store.users.empty()
    racing = [NewUser(f"u{each}", "member", NOW) for each in range(5)]
    users = await asyncio.gather(*(store.users.create(each, RECORD, first="owner") for each in racing))
    assert [user.role for user in users] == ["owner", "member", "member", "member", "member"]
    assert await code(store.users.create(NewUser("x", "owner", NOW), RECORD)) == "owner.exists"
    assert await code(store.users.create(NewUser("x", "member", NOW), RECORD, first="only")) == "user.not_first"


async def test_a_user_is_found_by_exact_name_and_by_address_in_any_case(store: Store) -> None:
    [owner] = await made(store, OWNER)
    for name in ("Admin", "admin@example.org", "ADMIN@EXAMPLE.ORG"):
        account = await store.users.named(name)
        assert account is not None
        assert (account.user, account.password, account.totp) == (owner, "$argon2id$x", b"")
    for name in ("admin", "", "example.org", "other"):
        assert await store.users.named(name) is None


@pytest.mark.parametrize(
    ("user", "refused"),
    [
        (NewUser("ALICE", "viewer", NOW), "user.exists"),
        (NewUser("bob", "viewer", NOW, "ALICE@example.org"), "email.exists"),
        (NewUser("alice@example.org", "viewer", NOW), "user.exists"),
        (NewUser("bob", "viewer", NOW, "a@b"), "email.exists"),
        (NewUser("bob", "nothing", NOW), "role.unknown"),
        (NewUser("bob", "viewer", NOW, "bob@example.org"), ""),
    ],
)
async def test_names_and_addresses_are_one_set_without_letter_case(store: Store, user: NewUser, refused: str) -> None:
    await made(store, ALICE, NewUser("a@b", "viewer", NOW))
    assert await code(store.users.create(user, RECORD)) == refused


async def test_an_update_leaves_what_it_does_not_name(store: Store) -> None:
    [alice] = await made(store, ALICE)
    change = UserChange(groups=("x",), attributes={"k": 1, "n": None}, ui_access=True, first_name="A", last_name="L")
    changed = await store.users.update(alice.number, change, RECORD)
    expected = replace(
        alice, groups=("x",), attributes={"k": 1, "n": None}, ui_access=True, first_name="A", last_name="L"
    )
    assert changed.value == expected
    assert (await store.users.update(alice.number, UserChange(), RECORD)).value == expected
    assert (await store.users.update(alice.number, UserChange(email=""), RECORD)).value == replace(expected, email="")
    assert await store.users.at("alice@example.org") is None
    assert await code(store.users.update(99, UserChange(), RECORD)) == "user.unknown"


async def test_the_owner_cannot_be_lost(store: Store) -> None:
    owner, alice = await made(store, OWNER, ALICE)
    users = store.users
    assert await code(users.set_role(owner.number, "admin", RECORD)) == "owner.role"
    assert await code(users.set_role(alice.number, "owner", RECORD)) == "owner.role"
    assert await code(users.set_active(owner.number, False, RECORD)) == "owner.active"
    assert await code(users.delete(owner.number, RECORD)) == "owner.delete"
    assert await code(users.transfer(alice.number, owner.number, RECORD)) == "owner.other"
    assert (await users.transfer(owner.number, alice.number, RECORD)).value.role == "owner"
    former = await users.get("Admin")
    assert former is not None
    assert former.role == "admin"


async def test_pages_of_users_in_two_orders(store: Store) -> None:
    await made(store, OWNER, NewUser("zoe", "viewer", NOW), ALICE, NewUser("bob", "admin", NOW, active=False))
    page = await store.users.page(UserFilter(limit=2))
    assert ([user.name for user in page.users], page.total) == (["Admin", "zoe"], 4)
    page = await store.users.page(UserFilter("name", offset=1))
    assert ([user.name for user in page.users], page.total) == (["alice", "bob", "zoe"], 4)
    page = await store.users.page(UserFilter(hidden=("admin", "owner")))
    assert ([user.name for user in page.users], page.total) == (["zoe", "alice"], 2)
    page = await store.users.page(UserFilter(roles=("admin", "owner"), active=True))
    assert ([user.name for user in page.users], page.total) == (["Admin"], 1)


async def test_roles_are_made_changed_and_deleted_unless_built_in_or_in_use(store: Store) -> None:
    roles = store.roles
    role = Role("ops", frozenset({"a:b", "c:d"}), "who operates")
    await roles.create(role, RECORD)
    assert await roles.get("ops") == role
    assert await roles.page() == [role]
    assert await code(roles.create(Role("ops"), RECORD)) == "role.exists"
    assert await code(roles.create(Role("viewer"), RECORD)) == "role.exists"
    assert await code(roles.update("viewer", frozenset(), None, RECORD)) == "role.built_in"
    assert await code(roles.update("other", frozenset(), None, RECORD)) == "role.unknown"
    assert (await roles.update("ops", frozenset({"e:f"}), None, RECORD)).value == Role("ops", frozenset({"e:f"}))
    await made(store, NewUser("bob", "ops", NOW))
    assert await code(roles.delete("ops", RECORD)) == "role.in_use"
    assert await code(roles.delete("admin", RECORD)) == "role.built_in"
    bob = await store.users.named("bob")
    assert bob is not None
    assert bob.role == Role("ops", frozenset({"e:f"}))


def held(name: str, kind: Kind = Kind.SESSION, family: str = "", at: int = NOW) -> NewCredential:
    return NewCredential(name.encode(), kind, (family or name).encode(), at, at + 1000, at, name)


async def opened(store: Store, user: User, *names: str, kind: Kind = Kind.SESSION, family: str = "") -> None:
    kept = [held(name, kind, family) for name in names]
    await store.credentials.open(Proof(user.number), kept, RECORD, "192.0.2.1")


async def ended(store: Store, name: str) -> bool:
    found = await store.credentials.find(name.encode())
    assert found is not None
    return found.credential.ended or found.credential.spent


async def test_a_credential_is_found_with_its_user_and_role(store: Store) -> None:
    [alice] = await made(store, ALICE)
    await opened(store, alice, "s1")
    found = await store.credentials.find(b"s1")
    assert found is not None
    assert found.user == replace(alice, last_login=NOW)
    assert (found.credential.kind, found.credential.label, found.credential.ended) == (Kind.SESSION, "s1", False)
    assert found.role is not None
    assert found.role.name == "viewer"
    assert await store.credentials.find(b"s2") is None
    assert await store.users.known(alice.number, "192.0.2.1", NOW - 1)
    assert not await store.users.known(alice.number, "192.0.2.1", NOW)
    assert not await store.users.known(alice.number, "192.0.2.2", 0)


async def test_a_log_in_that_was_decided_on_something_else_gives_nothing(store: Store) -> None:
    [alice] = await made(store, ALICE)
    stale = [Proof(alice.number, "another"), Proof(99), Proof(alice.number, totp_step=5)]
    assert await code(store.credentials.open(Proof(alice.number, totp_step=5), [held("ok")], RECORD, "")) == ""
    for proof, expected in zip(stale, ["login.stale", "user.unknown", "login.stale"], strict=True):
        assert await code(store.credentials.open(proof, [held("x")], RECORD, "")) == expected
    await store.users.set_active(alice.number, False, RECORD)
    assert await code(store.credentials.open(Proof(alice.number), [held("x")], RECORD, "")) == "login.stale"
    assert await store.credentials.find(b"x") is None


async def test_of_two_log_ins_with_one_code_one_wins(store: Store) -> None:
    [alice] = await made(store, ALICE)
    proof = Proof(alice.number, totp_step=7)
    outcomes = await asyncio.gather(
        *(code(store.credentials.open(proof, [held(f"c{each}")], RECORD, "")) for each in range(5))
    )
    assert outcomes == ["", *["login.stale"] * 4]


async def test_what_is_issued_before_a_cut_off_and_after_it(store: Store) -> None:
    [alice] = await made(store, ALICE)
    await opened(store, alice, "before")
    cut = await store.users.cut_off(alice.number, RECORD)
    await opened(store, alice, "after")
    before, after = await store.credentials.find(b"before"), await store.credentials.find(b"after")
    assert before is not None
    assert after is not None
    assert before.credential.seq < cut.seq <= after.credential.seq
    assert after.user.cut_off == cut.seq
    assert (await store.users.lift(alice.number, RECORD)).value.cut_off is None
    disabled = (await store.users.set_active(alice.number, False, RECORD)).value
    assert (disabled.active, disabled.cut_off) == (False, cut.seq + 2)
    enabled = (await store.users.set_active(alice.number, True, RECORD)).value
    assert (enabled.active, enabled.cut_off) == (True, cut.seq + 2)


async def test_replacing_ends_the_pair_and_reuse_ends_the_family(store: Store) -> None:
    [alice] = await made(store, ALICE)
    pair = [held("a1", Kind.ACCESS, "f"), held("r1", Kind.REFRESH, "f")]
    await store.credentials.open(Proof(alice.number), pair, RECORD, "")
    second = [held("a2", Kind.ACCESS, "f"), held("r2", Kind.REFRESH, "f")]
    assert (await store.credentials.replace(b"r1", second, RECORD)).value == (b"r1", b"a1")
    assert [await ended(store, name) for name in ("a1", "r1", "a2", "r2")] == [True, True, False, False]
    with pytest.raises(Reused) as within:
        await store.credentials.replace(b"r1", [held("x")], RECORD, grace=1)
    assert within.value.changed.value == ()
    with pytest.raises(Reused) as reused:
        await store.credentials.replace(b"r1", [held("x")], replace(RECORD, at=NOW + 1), grace=1)
    assert set(reused.value.changed.value) == {b"a2", b"r2"}
    assert [await ended(store, name) for name in ("a2", "r2")] == [True, True]
    with pytest.raises(Unauthenticated):
        await store.credentials.replace(b"never", [held("x")], RECORD)
    assert await store.credentials.find(b"x") is None


async def test_of_two_that_replace_one_one_wins(store: Store) -> None:
    [alice] = await made(store, ALICE)
    await opened(store, alice, "s")
    outcomes = await asyncio.gather(
        *(code(store.credentials.replace(b"s", [held(f"n{each}")], RECORD)) for each in range(4))
    )
    assert outcomes.count("") == 1


async def test_a_new_password_ends_everything_but_the_credential_that_asked(store: Store) -> None:
    alice, bob = await made(store, ALICE, NewUser("bob", "viewer", NOW))
    await opened(store, alice, "one", "two", "three")
    await opened(store, bob, "his")
    assert (await store.users.set_password(alice.number, "$new", RECORD, b"two")).value == 2
    assert [await ended(store, name) for name in ("one", "two", "three", "his")] == [True, False, True, False]
    account = await store.users.named("alice")
    assert account is not None
    assert account.password == "$new"


async def test_somebody_of_the_same_name_inherits_nothing(store: Store) -> None:
    [alice] = await made(store, ALICE)
    await opened(store, alice, "s")
    await store.users.delete(alice.number, RECORD)
    [again] = await made(store, ALICE)
    assert again.number != alice.number
    assert await store.credentials.find(b"s") is None
    assert not await store.users.known(again.number, "192.0.2.1", 0)


async def test_personal_tokens_are_bounded_and_end_together(store: Store) -> None:
    alice, bob = await made(store, ALICE, NewUser("bob", "viewer", NOW))
    for each in range(MOST_PERSONAL):
        assert (
            await store.credentials.create(alice.number, held(f"p{each}", Kind.PERSONAL, at=NOW + each), RECORD) == []
        )
    await store.credentials.touch({b"p0": NOW + 500})
    last = held("last", Kind.PERSONAL, at=NOW + 300)
    assert await store.credentials.create(alice.number, last, RECORD) == [b"p1"]
    await opened(store, alice, "session")
    await store.credentials.create(bob.number, held("bobs", Kind.PERSONAL), RECORD)
    assert len((await store.credentials.end_all(alice.number, [Kind.PERSONAL], RECORD)).value) == MOST_PERSONAL
    assert [await ended(store, name) for name in ("p0", "last", "session", "bobs")] == [True, True, False, False]
    assert len((await store.credentials.end_all(None, [Kind.PERSONAL], RECORD)).value) == 1


async def test_ending_one_ends_its_family_and_answers_what_ended(store: Store) -> None:
    [alice] = await made(store, ALICE)
    await opened(store, alice, "a", "r", kind=Kind.ACCESS, family="f")
    assert set((await store.credentials.end(b"a", RECORD)).value) == {b"a", b"r"}
    assert (await store.credentials.end(b"a", RECORD)).value == ()
    assert (await store.credentials.end(b"unknown", RECORD)).value == ()
    assert [each.label for each in await store.credentials.page(alice.number, 0, 10)] == ["a", "r"]


async def test_a_totp_secret_stays_until_it_is_reset(store: Store) -> None:
    [alice] = await made(store, ALICE)
    users = store.users
    assert (await users.set_totp(alice.number, b"one", RECORD, again=False)).value == b"one"
    assert (await users.set_totp(alice.number, b"two", RECORD, again=False)).value == b"one"
    assert (await users.set_totp(alice.number, b"three", RECORD, again=True)).value == b"three"
    account = await users.named("alice")
    assert account is not None
    assert (account.totp, account.user.has_totp) == (b"three", True)


async def test_settings_are_set_all_or_none_and_forgotten(store: Store) -> None:
    assert await store.settings.all() == {}
    await store.settings.set({"a": "1", "b": "2"}, "admin", RECORD)
    await store.settings.set({"a": None, "b": "3"}, "admin", RECORD)
    assert await store.settings.all() == {"b": "3"}


async def test_the_audit_is_a_chain_that_shows_what_was_altered(store: Store) -> None:
    for each in range(4):
        await store.audit.append(replace(RECORD, target=f"t{each}"))
    chain = await store.audit.chain(0, 10)
    assert [(record.target, fits) for record, _, fits in chain] == [(f"t{each}", True) for each in range(4)]
    assert len({link for _, link, _ in chain}) == 4
    assert [fits for _, _, fits in await store.audit.chain(2, 10)] == [True, True]
    await store.writer.each(lambda sql: sql.do("UPDATE audit SET outcome = 'done!' WHERE number = 2"))
    assert [fits for _, _, fits in await store.audit.chain(0, 10)] == [True, False, True, True]
    await store.writer.each(lambda sql: sql.do("DELETE FROM audit WHERE number = 3"))
    assert [fits for _, _, fits in await store.audit.chain(0, 10)] == [True, False, False]


async def test_what_is_unknown_is_refused(store: Store) -> None:
    for asked in (store.users.cut_off(9, RECORD), store.users.lift(9, RECORD), store.users.delete(9, RECORD)):
        with pytest.raises(NotFound):
            await asked
    with pytest.raises(Conflict):
        await store.roles.create(Role("owner"), RECORD)
