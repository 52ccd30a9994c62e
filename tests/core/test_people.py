"""Names, addresses and passwords of people, and what their credentials are worth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ostiary.core.people import (
    Credential,
    Kind,
    State,
    User,
    check_password,
    email_ok,
    role_name_ok,
    state,
    totp_secret_ok,
    user_name_ok,
)
from ostiary.core.permission import ADMIN, MANAGER, MEMBER, OWNER, VIEWER, may_give
from ostiary.core.refusal import Invalid

NOW = 10**15
SECOND = 1_000_000


@pytest.mark.parametrize("name", ["a", "_", "0", "alice", "a.b@c+d-e", "x" * 64])
def test_these_may_be_names_of_users(name: str) -> None:
    assert user_name_ok(name)


@pytest.mark.parametrize("name", ["", ".a", "-a", "@a", "a b", "a/b", "é", "a\n", "x" * 65])
def test_these_may_not(name: str) -> None:
    assert not user_name_ok(name)


@pytest.mark.parametrize(
    ("email", "expected"),
    [
        ("a@b", True),
        ("ä@example.org", True),
        ("a@" + "b" * 252, True),
        ("a@" + "b" * 253, False),
        ("@b", False),
        ("a@", False),
        ("a", False),
        ("a@b@c", False),
        ("a b@c", False),
        ("a@b\0", False),
        ("a@\udc80", False),
    ],
)
def test_addresses(email: str, expected: bool) -> None:
    assert email_ok(email) is expected


@pytest.mark.parametrize(
    "password", ["12345x78", "x1" * 512, "x" * 1024, "Tr0ub4dor&3", "correct horse", "Strong!Passw0rd1234"]
)
def test_these_may_be_passwords(password: str) -> None:
    check_password(password, "alice", 8)


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("1234567", "password.short"),
        ("x1" * 512 + "x", "password.long"),
        ("AliceAlice", "password.common"),
        ("password", "password.common"),
        ("Password1!", "password.common"),
        ("iloveyou99", "password.common"),
        ("qwertyuiop", "password.common"),
        ("12345678", "password.common"),
        ("abababab", "password.common"),
        ("zzzzzzzzzzzz", "password.common"),
        ("z" * 64, "password.common"),
        ("!!!letmein", "password.common"),
    ],
)
def test_these_may_not_be_passwords(password: str, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_password(password, "alicealice", 8)
    assert refused.value.code == code


def test_names_of_roles_and_secrets_of_codes() -> None:
    assert [role_name_ok(name) for name in ("a.b-C_9", "all", "", "x" * 51, "a b")] == [
        True,
        False,
        False,
        False,
        False,
    ]
    texts = ("JBSWY3DPEHPK3PXP", "JBSWY3DPEHPK3PX", "jbswy3dpehpk3pxp", "JBSWY3DPEHPK3PX1", "A" * 129)
    assert [totp_secret_ok(secret) for secret in texts] == [True, False, False, False, False]


USER = User(7, "alice", "member")
HELD = Credential(1, b"d", Kind.SESSION, "", b"f", 5, NOW, NOW + 10 * SECOND, NOW, NOW, False, False)


@pytest.mark.parametrize(
    ("held", "user", "worth"),
    [
        (HELD, USER, State.LIVE),
        (replace(HELD, expires=NOW + SECOND), USER, State.LIVE),
        (replace(HELD, expires=NOW), USER, State.EXPIRED),
        (replace(HELD, expires=0), USER, State.LIVE),
        (replace(HELD, ended=True), USER, State.ENDED),
        (replace(HELD, spent=True), USER, State.ENDED),
        (HELD, replace(USER, cut_off=5), State.LIVE),
        (HELD, replace(USER, cut_off=6), State.CUT_OFF),
        (HELD, replace(USER, active=False), State.INACTIVE),
        (replace(HELD, kind=Kind.PERSONAL, used=NOW - 9), USER, State.LIVE),
        (replace(HELD, kind=Kind.PERSONAL, used=NOW - 10), USER, State.EXPIRED),
        (replace(HELD, kind=Kind.ACCESS, used=NOW - 10), USER, State.LIVE),
    ],
)
def test_what_a_credential_is_worth(held: Credential, user: User, worth: State) -> None:
    assert state(held, user, NOW, idle=10) is worth


@given(st.integers(0, 100), st.integers(0, 100))
def test_what_was_issued_before_a_cut_off_is_refused_and_nothing_else(issued: int, cut_off: int) -> None:
    worth = state(replace(HELD, seq=issued), replace(USER, cut_off=cut_off), NOW)
    assert (worth is State.LIVE) == (issued >= cut_off)


@pytest.mark.parametrize(
    ("giver", "given_", "may"),
    [
        (ADMIN, ADMIN, True),
        (ADMIN, OWNER, False),
        (OWNER, OWNER, True),
        (MEMBER, VIEWER, True),
        (MEMBER, MANAGER, False),
        (frozenset({"users:manage"}), VIEWER, True),
        (frozenset({"users:manage"}), frozenset({"users:manage"}), True),
        (frozenset({"users:manage"}), frozenset({"tokens:read"}), False),
    ],
)
def test_nobody_gives_more_than_they_hold(giver: frozenset[str], given_: frozenset[str], may: bool) -> None:
    assert may_give(giver, given_) is may
