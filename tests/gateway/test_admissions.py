"""The worker's cache of admissions: what it keeps, for how long, and that it stays bounded."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ostiary.core.admission import Admission
from ostiary.core.limit import Limit
from ostiary.gateway.admissions import MOST_REFUSED, REFUSED_FOR, Admissions
from ostiary.gateway.cells import Cells
from ostiary.link.messages import Change

HOUR = 3_600_000_000
"""Microseconds."""


def digest(name: str) -> bytes:
    """The digest of a token."""
    return sha256(name.encode()).digest()


def admission(client: str = "app", user: str = "ann", limit: Limit | None = None) -> Admission:
    """What a token stands for."""
    return Admission(client, user, ("a", "b"), HOUR, limit)


def filled(most: int, count: int) -> Admissions:
    """A cache of `most` entries that was told of `count` tokens, t0 to ..."""
    cache = Admissions(most, Cells())
    for number in range(count):
        cache.take_in(digest(f"t{number}"), admission(user=f"u{number}"), 0, 0)
    return cache


def test_what_control_said_is_found_until_it_is_dropped() -> None:
    cache = filled(10, 1)
    found = cache.find(digest("t0"))
    assert found is not None
    assert (found.admission, found.user) == (admission(user="u0"), "u0")
    assert found.scopes == frozenset(("a", "b"))
    assert cache.find(digest("t1")) is None
    assert cache.drop(Change(1, digests=[digest("t0")])) == 1
    assert cache.find(digest("t0")) is None
    assert cache.drop(Change(1, digests=[digest("t0")])) == 0


def test_the_identity_is_ready_to_be_sent_and_to_be_logged() -> None:
    cache = Admissions(10, Cells())
    found = cache.take_in(b"d", Admission("a", "b\r\nx: y", ("s", "t"), HOUR), 0, 0)
    assert found is not None
    assert found.ident == b"x-client-id: a\r\nx-user-id: bx: y\r\nx-scope: s t\r\n"
    assert found.log == b'"client":"a","user":"b\\r\\nx: y",'
    found = cache.take_in(b"e", Admission("\u00e9", "", (), HOUR), 0, 0)
    assert found is not None
    assert found.ident == "x-client-id: \u00e9\r\nx-scope: \r\n".encode()


def test_expiry_is_told_in_the_workers_own_clock() -> None:
    cache = Admissions(10, Cells())
    found = cache.take_in(b"d", Admission("a", "", (), 2_000_000), now=5_000_000_000, wall=500_000)
    assert found is not None
    assert found.expires == 6_500_000_000


def test_tokens_of_one_client_share_its_limit() -> None:
    cache = Admissions(10, Cells())
    limit = Limit(5, 1_000_000)
    first, second, third = (
        cache.take_in(name.encode(), admission(client, limit=limit), 0, 0)
        for name, client in (("a", "app"), ("b", "app"), ("c", "other"))
    )
    assert first and second and third
    assert first.cell is second.cell
    assert first.cell is not third.cell
    changed = cache.take_in(b"d", admission("app", limit=Limit(6, 1_000_000)), 0, 0)
    assert changed
    assert changed.cell is not first.cell


def test_a_refused_token_is_remembered_for_a_while() -> None:
    cache = Admissions(10, Cells())
    assert not cache.refused(b"d", 0)
    assert cache.take_in(b"d", None, 100, 0) is None
    assert cache.refused(b"d", 100 + REFUSED_FOR - 1)
    assert not cache.refused(b"d", 100 + REFUSED_FOR)
    assert len(cache) == 0


@pytest.mark.parametrize(
    ("change", "forgotten"),
    [
        (Change(1, clients=["x"]), True),
        (Change(1, users=["x"]), True),
        (Change(1, everything=True), True),
        (Change(1, digests=[b"e"]), False),
    ],
)
def test_a_change_that_may_let_tokens_pass_again_forgets_who_was_refused(change: Change, forgotten: bool) -> None:
    cache = Admissions(10, Cells())
    cache.take_in(b"d", None, 0, 0)
    cache.drop(change)
    assert cache.refused(b"d", 1) is not forgotten


def test_guesses_push_no_real_token_out_and_are_bounded() -> None:
    cache = filled(10, 4)
    for number in range(MOST_REFUSED + 10):
        cache.take_in(number.to_bytes(32), None, 0, 0)
    assert all(cache.find(digest(f"t{number}")) for number in range(4))
    assert cache.drop(Change(1, everything=True)) == 4 + 10


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        (Change(1, users=["ann"]), {"ann1", "ann2"}),
        (Change(1, clients=["b"]), {"ann2", "bob2", "nobody"}),
        (Change(1, clients=["b"], users=["ann"]), {"ann1", "ann2", "bob2", "nobody"}),
        (Change(1, users=[""]), set()),
        (Change(1, users=["nobody"]), set()),
        (Change(1, digests=[digest("ann1"), digest("bob2"), digest("x")]), {"ann1", "bob2"}),
        (Change(1, everything=True), {"ann1", "ann2", "bob1", "bob2", "nobody"}),
        (Change(1), set()),
    ],
)
def test_a_change_drops_what_it_names_and_counts_it(change: Change, gone: set[str]) -> None:
    tokens = {
        "ann1": ("a", "ann"),
        "ann2": ("b", "ann"),
        "bob1": ("a", "bob"),
        "bob2": ("b", "bob"),
        "nobody": ("b", ""),
    }
    cache = Admissions(100, Cells())
    for name, (client, user) in tokens.items():
        cache.take_in(digest(name), admission(client, user), 0, 0)
    assert cache.drop(change) == len(gone)
    assert {name for name in tokens if cache.find(digest(name)) is None} == gone


@given(st.integers(2, 60), st.lists(st.integers(0, 99), max_size=300))
def test_it_never_holds_more_than_it_may(most: int, names: list[int]) -> None:
    cache = Admissions(most, Cells())
    for name in names:
        if cache.find(digest(f"t{name}")) is None:
            cache.take_in(digest(f"t{name}"), admission(), 0, 0)
        assert len(cache) <= most
        assert cache.find(digest(f"t{name}")) is not None


@given(st.integers(4, 60), st.data())
@settings(max_examples=25)
def test_what_is_used_again_soon_enough_stays(most: int, data: st.DataObject) -> None:
    """A token that is used at least once for each quarter of the cache of new ones is never pushed out."""
    cache = filled(most, 1)
    for number in range(1, 150):
        cache.take_in(digest(f"t{number}"), admission(), 0, 0)
        if number % max(1, most // 4) == 0 or data.draw(st.booleans()):
            assert cache.find(digest("t0")) is not None


def test_a_smaller_size_counts_from_then_on() -> None:
    cache = filled(100, 100)
    cache.resize(10)
    for number in range(100, 120):
        cache.take_in(digest(f"t{number}"), admission(), 0, 0)
    assert len(cache) <= 10


class Model(RuleBasedStateMachine):
    """The cache beside a dictionary that never forgets: it may know less, never anything else."""

    tokens = st.integers(0, 15).map(lambda number: bytes([number]))

    def __init__(self) -> None:
        super().__init__()
        self.cache = Admissions(8, Cells())
        self.truth: dict[bytes, Admission] = {}

    @rule(token=tokens, client=st.sampled_from("ab"), user=st.sampled_from(["", "x", "y"]))
    def tell(self, token: bytes, client: str, user: str) -> None:
        self.truth[token] = admission(client, user)
        self.cache.take_in(token, self.truth[token], 0, 0)

    @rule(tokens=st.lists(tokens, max_size=3))
    def revoke(self, tokens: list[bytes]) -> None:
        self.cache.drop(Change(1, digests=tokens))
        for token in tokens:
            self.truth.pop(token, None)

    @rule(client=st.sampled_from("ab"))
    def stop(self, client: str) -> None:
        self.cache.drop(Change(1, clients=[client]))
        self.truth = {token: each for token, each in self.truth.items() if each.client != client}

    @rule(user=st.sampled_from("xy"))
    def cut_off(self, user: str) -> None:
        self.cache.drop(Change(1, users=[user]))
        self.truth = {token: each for token, each in self.truth.items() if each.user != user}

    @rule(token=tokens)
    def use(self, token: bytes) -> None:
        found = self.cache.find(token)
        assert found is None or found.admission == self.truth[token]

    @invariant()
    def knows_nothing_that_is_not_so(self) -> None:
        assert len(self.cache) <= 8
        for token, found in self.cache.young.items():
            assert found.admission == self.truth[token]


Model.TestCase.settings = settings(max_examples=40, stateful_step_count=40)
TestModel = Model.TestCase
