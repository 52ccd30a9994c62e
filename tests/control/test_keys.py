"""Keys that sign: what verifies, what does not, and how long."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from msgspec.structs import replace
from tests.control.house import House

from ostiary.control.keys import FRESH, RETENTION, Keys, KeyState, ListKeys, RotateKeys
from ostiary.core.permission import ADMIN, MANAGER, Principal
from ostiary.core.refusal import Forbidden, Unauthenticated, Unavailable
from ostiary.core.snapshot import SECOND

TYP = "at+jwt"
KINDS: dict[str, type[ECKey] | type[OKPKey] | type[RSAKey]] = {"ES256": ECKey, "EdDSA": OKPKey, "RS256": RSAKey}

ANOTHER = {"A": "B", "Q": "R", "g": "h", "w": "x"}
"""Last characters of a signature, and ones that stand for the same bits without being canonical."""


def claims(house: House, **more: object) -> dict[str, object]:
    return {"sub": "ann", "exp": house.now // SECOND + 60, **more}


async def signed(house: House, **more: object) -> str:
    return await house.control.keys.sign("oauth", TYP, claims(house, **more))


def part(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def parts(token: str) -> tuple[dict[str, Any], str, str]:
    first, second, third = token.split(".")
    return json.loads(urlsafe_b64decode(first + "==")), second, third


async def refused(house: House, token: str, typ: str = TYP) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        await house.control.keys.verify("oauth", typ, token)
    assert refusal.value.code == "token.refused"


def use(house: House, alg: str) -> None:
    house.control.rules = replace(house.control.rules, signing_alg=alg)


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize("alg", ["ES256", "EdDSA", "RS256"])
async def test_what_is_signed_verifies_here_and_by_what_is_published(house: House, alg: str) -> None:
    use(house, alg)
    token = await signed(house)
    assert await house.control.keys.verify("oauth", TYP, token) == claims(house)
    header, _, _ = parts(token)
    (state,) = await house.run("keys.list", ListKeys())
    assert header == {"alg": alg, "kid": state.kid, "typ": TYP}
    assert (state.public["alg"], state.public["kid"], state.public["use"]) == (alg, state.kid, "sig")
    assert not {"d", "p", "q", "dp", "dq", "qi", "k", "oth"} & set(state.public)
    published = KINDS[alg].import_key(state.public)
    assert published.thumbprint() == state.kid
    assert json.loads(jws.deserialize_compact(token, published, algorithms=[alg]).payload) == claims(house)


async def test_private_halves_lie_sealed_in_the_store(house: House) -> None:
    await signed(house)
    (kept,) = await house.store.keys.kept("oauth", 0)
    assert b'"d"' not in kept.sealed
    other = Keys(house.store.keys, b"o" * 32, house.clock, house.control.entropy, house.alg)
    with pytest.raises(Unavailable) as refusal:
        await other.sign("oauth", TYP, {})
    assert refusal.value.code == "keys.sealed"
    assert await other.verify("oauth", TYP, await signed(house)) == claims(house)


async def test_the_newest_signs_and_all_verify_until_they_are_over(house: House) -> None:
    first = await signed(house, exp=house.now // SECOND + 10**8)
    rotated: KeyState = await house.run("keys.rotate", RotateKeys())
    second = await signed(house, exp=house.now // SECOND + 10**8)
    assert parts(second)[0]["kid"] == rotated.kid != parts(first)[0]["kid"]
    states: list[KeyState] = await house.run("keys.list", ListKeys())
    assert [(each.kid, each.retired) for each in states] == [
        (rotated.kid, 0), (parts(first)[0]["kid"], house.now),
    ]  # fmt: skip
    house.now += RETENTION - 1
    assert (await house.control.keys.verify("oauth", TYP, first))["sub"] == "ann"
    house.now += FRESH
    await refused(house, first)
    assert (await house.control.keys.verify("oauth", TYP, second))["sub"] == "ann"


async def test_another_algorithm_makes_a_key_and_ends_nothing(house: House) -> None:
    first = await signed(house)
    use(house, "EdDSA")
    second = await signed(house)
    assert (parts(first)[0]["alg"], parts(second)[0]["alg"]) == ("ES256", "EdDSA")
    for token in (first, second):
        assert await house.control.keys.verify("oauth", TYP, token) == claims(house)


async def test_another_node_hears_of_a_rotation(house: House) -> None:
    other = Keys(house.store.keys, bytes(32), house.clock, house.control.entropy, house.alg)
    before = await other.sign("oauth", TYP, claims(house))
    await house.run("keys.rotate", RotateKeys())
    after = await signed(house)
    assert await other.verify("oauth", TYP, after) == claims(house)
    assert await house.control.keys.verify("oauth", TYP, before) == claims(house)
    assert parts(await other.sign("oauth", TYP, claims(house)))[0]["kid"] == parts(after)[0]["kid"]


async def test_purposes_do_not_verify_each_other(house: House) -> None:
    token = await house.control.keys.sign("session", TYP, claims(house))
    await refused(house, token)
    assert await house.control.keys.verify("session", TYP, token) == claims(house)


async def test_only_who_manages_keys_rotates_and_lists_them(house: House) -> None:
    for permissions in (MANAGER, ADMIN):
        principal = Principal("user", "x", permissions)
        for name, params in (("keys.rotate", RotateKeys()), ("keys.list", ListKeys())):
            if permissions is ADMIN:
                await house.run(name, params, principal)
            else:
                with pytest.raises(Forbidden):
                    await house.run(name, params, principal)
    done = [each for each in await house.records(operation="keys.rotate") if each.outcome == "done"]
    assert {(each.name, each.target) for each in done} == {("x", "oauth")}


@pytest.mark.parametrize("expires", [None, "soon", True, 0, 1_800_000_000, 1_799_999_999.5])
async def test_what_is_over_or_never_ends_is_refused(house: House, expires: object) -> None:
    await refused(house, await signed(house, exp=expires))


async def test_a_token_of_another_type_is_refused(house: House) -> None:
    await refused(house, await signed(house), "session+jwt")


@pytest.mark.parametrize(
    "changed",
    [
        {"alg": "none"}, {"alg": "None"}, {"alg": "HS256"}, {"alg": "ES384"}, {"alg": ""}, {"alg": None},
        {"kid": "other"}, {"kid": ""}, {"kid": None}, {"kid": 1}, {"typ": "JWT"}, {"typ": None}, {"typ": "AT+JWT"},
        {"crit": ["exp"]}, {"crit": []}, {"crit": None}, {"jku": "https://evil.example/jwks"}, {"x": 1},
    ],
)  # fmt: skip
async def test_a_changed_header_is_refused(house: House, changed: dict[str, object]) -> None:
    header, body, signature = parts(await signed(house))
    await refused(house, f"{part({**header, **changed})}.{body}.{signature}")
    await refused(house, f"{part({**header, **changed})}.{body}.")


async def test_a_key_that_comes_along_is_never_read(house: House) -> None:
    header, _, _ = parts(await signed(house))
    own = ECKey.generate_key("P-256")
    forged = {**header, "jwk": own.as_dict(private=False)}
    token = jws.serialize_compact(forged, json.dumps(claims(house)), own, algorithms=["ES256"])
    await refused(house, token)


async def test_a_public_key_is_no_shared_secret(house: House) -> None:
    header, _, _ = parts(await signed(house))
    (state,) = await house.run("keys.list", ListKeys())
    secret = OctKey.import_key(json.dumps(state.public))
    token = jws.serialize_compact({**header, "alg": "HS256"}, json.dumps(claims(house)), secret, algorithms=["HS256"])
    await refused(house, token)


async def test_malformed_tokens_are_refused(house: House) -> None:
    token = await signed(house)
    first, second, third = token.split(".")
    for odd in (
        "", ".", "..", "a.b.c", token + ".", token + "=", token + "A", token + "AAAA", " " + token, token + "\n",
        f"{first}.{second}", f"{first}.{second}.", f"{first}..{third}", f".{second}.{third}",
        f"{first}=.{second}.{third}",
        f"{first}.{second}.{third[:-1]}", token.replace(".", "..", 1), token + "é", "\ud800" + token, "A" * 5000,
        f"{first}.{second}.{third[:-1]}{ANOTHER[third[-1]]}",
        f"{part([])}.{second}.{third}", f"{part('x')}.{second}.{third}", f"{first}.{part([1])}.{third}",
    ):  # fmt: skip
        await refused(house, odd)


async def test_a_token_may_be_so_long(house: House) -> None:
    long = await signed(house, text="x" * 2880)
    assert len(long) <= 4096
    assert (await house.control.keys.verify("oauth", TYP, long))["sub"] == "ann"
    longer = await signed(house, text="x" * 3100)
    assert len(longer) > 4096
    await refused(house, longer)
