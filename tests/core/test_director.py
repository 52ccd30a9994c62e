"""The director's decisions: the vectors of doveadm.md 7.1, and the ring as properties."""

from collections import Counter
from hashlib import md5
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ostiary.core.director import (
    LAST_HASH,
    Assignment,
    Board,
    DirectorRules,
    Edit,
    Enlisted,
    Host,
    Move,
    Ring,
    add,
    named,
    read_host,
    remove,
    reset,
    turn,
    update,
    user_hash,
)
from ostiary.core.marks import Mark
from ostiary.core.refusal import Conflict, Invalid, NotFound, Refusal

A, B, C = "127.0.0.11", "127.0.0.12", "127.0.0.13"
RULES = DirectorRules("mail", {A: 8011, B: 8012}, 8080)
USERS = [f"user{number}" for number in range(10_000)]
SAMIK = user_hash("samik")

IPV4 = st.integers(1, 40).map(lambda number: f"10.0.0.{number}")
IPV6 = st.integers(1, 9).map(lambda number: f"2001:db8::{number}")
HOSTS = st.dictionaries(IPV4 | IPV6, st.integers(0, 30), max_size=6)
HASHES = st.integers(0, LAST_HASH)


def plain(hosts: dict[str, int], number: int) -> str:
    """The contract's words, without thinking of speed."""
    points = sorted(
        (int(md5(f"{host}-{index}".encode()).hexdigest()[:8], 16), host.count(":") > 1, host)
        for host, vhosts in hosts.items()
        for index in range(vhosts)
    )
    at_or_after = [point for point in points if point[0] >= number]
    return (at_or_after or points)[0][2] if points else ""


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("samik", 3853430566), ("user2", 2119751227), ("testuser001", 1154102239), ("testuser002", 2373509374),
        ("user1", 617210206), ("neverseen", 4018969814), ("SAMIK", 3853430566),
    ],
)  # fmt: skip
def test_the_hash_of_a_user(name: str, number: int) -> None:
    assert user_hash(name) == number


@pytest.mark.parametrize(
    ("form", "same"),
    [("%Lu", "samik@example.org"), ("%u", "Samik@Example.org"), ("%Ln", "samik"), ("%n", "Samik")],
)
def test_what_of_a_name_counts(form: str, same: str) -> None:
    assert user_hash("Samik@Example.org", form) == user_hash(same, "%u")


@pytest.mark.parametrize(
    ("hosts", "name", "host"),
    [
        ({"10.0.0.234": 100, "10.0.0.235": 100}, "samik", "10.0.0.235"),
        ({"10.0.0.234": 2, "10.0.0.235": 2}, "samik", "10.0.0.235"),
        ({"10.0.0.234": 2, "10.0.0.235": 2}, "user2", "10.0.0.234"),
        ({A: 100, B: 100}, "testuser001", A),
        ({A: 100, B: 100}, "user1", A),
        ({A: 100, B: 100}, "samik", B),
        ({A: 100, B: 100}, "user2", B),
        ({A: 100, B: 100}, "neverseen", B),
        ({A: 100, B: 100}, "user42", A),
        ({A: 0}, "samik", ""),
        ({}, "samik", ""),
    ],
)
def test_where_a_user_goes(hosts: dict[str, int], name: str, host: str) -> None:
    assert Ring(hosts.items()).host(user_hash(name)) == host


@given(HOSTS, HASHES)
def test_the_ring_is_what_the_contract_says(hosts: dict[str, int], number: int) -> None:
    assert Ring(hosts.items()).host(number) == plain(hosts, number)


@settings(deadline=None)
@given(HOSTS, HASHES)
def test_a_point_itself_belongs_to_its_host(hosts: dict[str, int], number: int) -> None:
    for arc in Ring(hosts.items()).arcs():
        assert plain(hosts, arc.last) == plain(hosts, arc.first) == arc.host


@given(HOSTS)
def test_arcs_are_all_hashes_once(hosts: dict[str, int]) -> None:
    arcs = Ring(hosts.items()).arcs()
    assert (arcs[0].first, arcs[-1].last) == (0, LAST_HASH)
    for one, next_one in pairwise(arcs):
        assert one.last + 1 == next_one.first
        assert one.host != next_one.host


@given(HOSTS, st.sets(HASHES, max_size=20))
def test_who_leaves_a_host_is_who_goes_elsewhere(hosts: dict[str, int], hashes: set[int]) -> None:
    ring, host = Ring(hosts.items()), next(iter(hosts), "192.0.2.1")
    numbers = sorted({0, LAST_HASH, *hashes})
    assert ring.elsewhere(host, numbers) == [each for each in numbers if ring.host(each) != host]


@given(HOSTS, st.integers(1, 30))
def test_a_host_that_comes_moves_users_to_itself_only(hosts: dict[str, int], vhosts: int) -> None:
    before, after = Ring(hosts.items()), Ring([*hosts.items(), ("192.0.2.1", vhosts)])
    for name in USERS[:200]:
        was, comes = before.host(user_hash(name)), after.host(user_hash(name))
        if comes != was:
            assert comes == "192.0.2.1"


def test_one_of_ten_that_comes_takes_a_tenth() -> None:
    nine = [(f"10.0.0.{number}", 100) for number in range(1, 10)]
    before, after = Ring(nine), Ring([*nine, ("10.0.0.10", 100)])
    moved = sum(before.host(user_hash(name)) != after.host(user_hash(name)) for name in USERS)
    assert 0.05 < moved / len(USERS) < 0.15


def test_uneven_vhosts_get_their_share_within_a_third() -> None:
    hosts = {"10.0.0.1": 50, "10.0.0.2": 100, "10.0.0.3": 200, "10.0.0.4": 400}
    ring = Ring(hosts.items())
    counts = Counter(ring.host(user_hash(name)) for name in USERS)
    for host, vhosts in hosts.items():
        assert counts[host] / len(USERS) == pytest.approx(vhosts / 750, rel=1 / 3)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("10.0.234", "10.0.0.234"), ("127.24", "127.0.0.24"), (" 127.0.0.11\t", A), ("2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"), ("0x7f.1", "127.0.0.1"), ("mail.example.org", ""), ("", ""), ("300.1.1.1", ""),
        ("127.0.0.11@eu", ""), ("1.2.3.4.5", ""),
    ],
)  # fmt: skip
def test_a_host_is_an_address_in_its_short_form_or_may_be_a_name(text: str, host: str) -> None:
    assert read_host(text) == host


@pytest.mark.parametrize(
    "text",
    ["7", "0x10", "99999999999", "0.0.0.0", "0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "fe80::1%eth0",
     "::ffff:224.0.0.1"],
)  # fmt: skip
def test_some_numbers_are_no_host(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        read_host(text)
    assert refusal.value.code == "host.invalid"


def board(*kept: Host) -> Board:
    return Board(RULES, kept)


def test_what_operators_changed_lies_over_the_configuration() -> None:
    there = board(Host(A, 8011, vhosts=7), Host(B, 8012, state="removed"), Host(C, 80, "eu"))
    assert list(there.hosts) == [A, C]
    assert there.hosts[A].vhosts == 7
    assert there.gone == [B]
    assert there.ring("").host(1) == A
    assert there.ring("eu").host(1) == C
    assert there.ring("us").host(1) == ""
    assert there.initial.host(user_hash("samik")) == B


def test_hosts_stand_by_address_ipv4_first() -> None:
    there = board(Host("::1", 1), Host("10.0.0.9", 1), Host("10.0.0.10", 1))
    assert list(there.hosts) == ["10.0.0.9", "10.0.0.10", A, B, "::1"]


def test_a_host_that_is_down_has_no_points() -> None:
    assert board(Host(A, 1, state="down")).ring("").host(user_hash("testuser001")) == B


def test_adding_says_only_what_changes() -> None:
    assert add(board(), [A], "", None, None) == Edit()
    assert add(board(), [C], "eu", None, None).put == [Host(C, 8080, "eu", 100)]
    assert add(board(), [C], "", 0, 99).put == [Host(C, 99, "", 0)]
    assert add(board(Host(A, 1, state="removed")), [A], "", None, None).put == [Host(A, 8011)]
    assert add(board(), [A], "", 50, None).put == [Host(A, 8011, vhosts=50)]
    assert add(board(Host(C, 1, "eu")), [C], "", None, None) == Edit()


def test_a_host_of_the_configuration_that_is_removed_leaves_a_mark_another_does_not() -> None:
    marked = remove(board(), A)
    assert ([each.state for each in marked.put], marked.drop, marked.forget) == (["removed"], [], [A])
    gone = remove(board(Host(C, 80)), C)
    assert (gone.put, gone.drop, gone.forget) == ([], [C], [C])


def test_resetting_forgets_users_of_hosts_that_are_not_configured() -> None:
    edit = reset(board(Host(A, 1, vhosts=3), Host(C, 1)))
    assert (sorted(edit.drop), edit.forget) == ([A, C], [C])


def test_a_state_has_the_time_of_its_change_and_no_other() -> None:
    [down] = turn(board(), A, None, "down", 5).put
    assert (down.state, down.changed) == ("down", 5)
    assert turn(board(down), A, None, "down", 6) == Edit()
    assert turn(board(down), A, None, "up", 7).put == [Host(A, 8011, changed=7)]


def test_what_an_operator_takes_down_is_no_longer_healths_to_take_up() -> None:
    [ailing] = turn(board(), A, None, "down", 5, ailing=True).put
    assert ailing.ailing is True
    [own] = turn(board(ailing), A, None, "down", 6).put
    assert (own.ailing, own.changed) == (False, 5)


@pytest.mark.parametrize(
    ("edit", "refusal", "code"),
    [
        (lambda: add(board(Host(C, 1, "eu")), [C], "us", None, None), Conflict, "host.tag"),
        (lambda: add(board(), [C], "", 1001, None), Conflict, "vhosts.too_many"),
        (lambda: add(board(), [C], "", -1, None), Invalid, "vhosts.invalid"),
        (lambda: add(board(), [C], "a b", None, None), Invalid, "tag.invalid"),
        (lambda: add(board(), [C], "a@b", None, None), Invalid, "tag.invalid"),
        (lambda: add(board(), [C], "x" * 256, None, None), Invalid, "tag.invalid"),
        (lambda: update(board(), C, "", 1), NotFound, "host.unknown"),
        (lambda: turn(board(), A, "eu", "up", 1), NotFound, "host.unknown"),
        (lambda: remove(board(), C), NotFound, "host.unknown"),
    ],
)
def test_what_is_refused(edit: object, refusal: type[Refusal], code: str) -> None:
    assert callable(edit)
    with pytest.raises(refusal) as refused:
        edit()
    assert refused.value.code == code


# Droplets as hosts

ONE, TWO, TEN = "127.0.0.1:20001", "127.0.0.1:20002", "127.0.0.1:30010"
DROPLETS = st.sets(st.integers(20_000, 20_007).map(lambda port: f"127.0.0.1:{port}"))


def people(serving: set[str], leaving: set[str] | None = None, *kept: Host) -> Board:
    return Board(RULES, kept, Enlisted(frozenset(serving), frozenset(leaving or ())))


def test_droplets_are_hosts_beside_servers_by_address_and_port() -> None:
    there = people({TEN, TWO, ONE})
    assert list(there.hosts) == [ONE, TWO, TEN, A, B]
    assert (there.hosts[ONE].address, there.hosts[ONE].port, there.hosts[ONE].backend) == ("127.0.0.1", 20001, ONE)
    assert Host("2001:db8::1", 80).backend == "[2001:db8::1]:80"
    assert there.ring("").host(user_hash("samik")) == plain(dict.fromkeys([ONE, TWO, TEN, A, B], 100), SAMIK)


def test_what_operators_made_of_a_droplet_counts_while_it_serves() -> None:
    kept = Host(ONE, 20001, vhosts=7), Host(TWO, 20002, state="removed")
    assert people({ONE, TWO}, None, *kept).hosts[ONE].vhosts == 7
    assert people({ONE, TWO}, None, *kept).gone == [TWO]
    assert list(people(set(), None, *kept).hosts) == [A, B]
    assert people(set(), None, *kept).gone == []
    assert reset(people(set(), None, *kept)).changes == [f"{ONE}: as configured", f"{TWO}: as configured"]


def test_a_droplet_that_is_removed_leaves_a_mark_and_is_added_as_it_is() -> None:
    [mark] = remove(people({ONE}), ONE).put
    assert mark.state == "removed"
    assert add(people({ONE}, None, mark), [ONE], "eu", None, None).put == [Host(ONE, 20001, "eu")]


def test_nobody_new_comes_to_a_droplet_that_is_leaving_and_who_is_there_may_be_there() -> None:
    there = people({ONE}, {TWO})
    assert (list(there.hosts), list(there.known)) == ([ONE, A, B], [ONE, TWO, A, B])
    assert {host for host, _ in there.weights("")} == {ONE, A, B}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(DROPLETS, st.booleans()), max_size=8))
def test_a_droplet_leaves_before_it_is_gone_or_joins_again(turns: list[tuple[set[str], bool]]) -> None:
    """Whatever serves at each turn, and whether those that leave have left by the next."""
    enlisted = Enlisted()
    for serving, have_left in turns:
        before, enlisted = enlisted, enlisted.now(serving)
        assert enlisted.hosts >= before.hosts
        assert enlisted.serving == serving
        assert set(Board(RULES, (), enlisted).hosts) == serving - enlisted.leaving | {A, B}
        assert set(Board(RULES, (), enlisted).known) == enlisted.hosts | {A, B}
        if have_left:
            enlisted = enlisted.without(enlisted.leaving)
            assert enlisted.hosts == serving


@settings(deadline=None, max_examples=40)
@given(DROPLETS, HASHES)
def test_users_of_a_droplet_that_has_left_go_where_the_ring_of_the_others_says(hosts: set[str], number: int) -> None:
    for gone in hosts:
        mark = Mark(1, gone, (), 5)
        assert mark.apply(Assignment("", number, gone)) == Assignment("", number, "", held=5)
        assert people(hosts, {gone}).ring("").host(number) == people(hosts - {gone}).ring("").host(number)


@pytest.mark.parametrize(
    ("edit", "refusal", "code"),
    [
        (lambda: add(people(set()), [ONE], "", None, None), NotFound, "host.unknown"),
        (lambda: add(people({ONE}, {ONE}), [ONE], "", 7, None), NotFound, "host.unknown"),
        (lambda: add(people({ONE}), [ONE], "", None, 80), Conflict, "host.port"),
        (lambda: turn(people({ONE}, {ONE}), ONE, None, "down", 1), NotFound, "host.unknown"),
        (lambda: update(people(set(), {ONE}), ONE, "", 7), NotFound, "host.unknown"),
        (lambda: remove(people(set(), None, Host(ONE, 20001)), ONE), NotFound, "host.unknown"),
    ],
)
def test_what_is_refused_of_droplets(edit: object, refusal: type[Refusal], code: str) -> None:
    test_what_is_refused(edit, refusal, code)


MOVE = Move("samik", 1, now=100, expires=1000, held=150)


def test_who_is_moved_waits_and_who_was_nowhere_does_not() -> None:
    host = Host(B, 1, "eu")
    assert MOVE.decide(host, None) == Assignment("eu", 1, B, ("samik",), 1000, 0)
    assert MOVE.decide(host, Assignment("eu", 1, A, (), 100, 0)).held == 0
    assert MOVE.decide(host, Assignment("eu", 1, A, ("s",), 101)) == Assignment("eu", 1, B, ("s", "samik"), 1000, 150)
    assert MOVE.decide(host, Assignment("eu", 1, B, (), 101)).held == 0
    assert MOVE.decide(host, Assignment("eu", 1, "", (), 0, 120)) == Assignment("eu", 1, B, ("samik",), 1000, 120)


def test_a_second_move_waits_for_the_first() -> None:
    moving = Assignment("", 1, A, (), 1000, 120)
    second = replace(MOVE, going=frozenset({120}))
    with pytest.raises(Conflict) as refusal:
        second.decide(Host(B, 1), moving)
    assert refusal.value.code == "user.moving"
    assert second.decide(Host(A, 1), moving).held == 120
    assert MOVE.decide(Host(B, 1), moving).held == 150


def test_eight_names_are_kept() -> None:
    names: tuple[str, ...] = ()
    for number in range(9):
        names = named(names, str(number))
    assert names == tuple("01234567")
    assert named(("a",), "a") == ("a",)
    assert named((), "x" * 256) == ()


def test_another_port_has_users_asked_about_anew() -> None:
    edit = add(board(), [A], "", None, 99)
    assert (edit.put, edit.anew, edit.changes) == ([Host(A, 99)], [A], [f"{A}: port 8011 -> 99"])
    assert add(board(), [A], "", 1, None).anew == []
