"""Session tokens under keys that the configuration brings."""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as new_curve_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from msgspec.structs import replace
from tests.control.house import House

from ostiary.control.keys import RotateKeys
from ostiary.control.login import ByPassword
from ostiary.control.owner import Owner, ensure_owner
from ostiary.control.principals import presented
from ostiary.core.people import OwnKey
from ostiary.core.permission import NOBODY
from ostiary.core.refusal import Conflict, Unauthenticated
from ostiary.core.signing import key_fault


def pem(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


EDWARDS = pem(Ed25519PrivateKey.generate())
CURVE = new_curve_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
WIDER = new_curve_key(SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
SHARED = "s" * 32
HEADER = b'{"alg":"HS256","kid":"ed","typ":"session+jwt"}'
KEYS = (OwnKey("ed", "EdDSA", EDWARDS), OwnKey("ec", "ES256", CURVE), OwnKey("hs", "HS256", SHARED))


def use(house: House, *keys: OwnKey) -> None:
    rules = house.control.rules
    house.control.rules = replace(rules, people=replace(rules.people, session_keys=keys))


async def signed_in(house: House) -> str:
    token: str = (await house.run("login.password", ByPassword("boss", "correct horse"), NOBODY)).access_token
    return token


async def who(house: House, token: str) -> str:
    try:
        return (await presented(house.control, token)).name
    except Unauthenticated as refusal:
        return refusal.code


def encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def header(token: str) -> dict[str, str]:
    part = token.partition(".")[0]
    found: dict[str, str] = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.alg)
async def test_a_key_of_the_configuration_signs_and_verifies(house: House, key: OwnKey) -> None:
    await ensure_owner(house.control, Owner("boss", "correct horse"))
    use(house, key)
    token = await signed_in(house)
    assert header(token) == {"alg": key.alg, "kid": key.kid, "typ": "session+jwt"}
    assert await who(house, token) == "boss"


async def test_a_new_first_key_ends_no_session_and_a_removed_one_ends_its_own(house: House) -> None:
    await ensure_owner(house.control, Owner("boss", "correct horse"))
    use(house, KEYS[0])
    old = await signed_in(house)
    use(house, KEYS[1], KEYS[0])
    new = await signed_in(house)
    assert [await who(house, token) for token in (old, new)] == ["boss", "boss"]
    use(house, KEYS[1])
    assert [await who(house, token) for token in (old, new)] == ["credential.unknown", "boss"]
    use(house)
    assert await who(house, new) == "credential.unknown"


async def test_a_shared_secret_signs_nothing_under_another_keys_name(house: House) -> None:
    await ensure_owner(house.control, Owner("boss", "correct horse"))
    use(house, KEYS[0])
    token = await signed_in(house)
    for secret in (EDWARDS, SHARED):
        text = ".".join((encoded(HEADER), token.split(".")[1]))
        forged = f"{text}.{encoded(hmac.digest(secret.encode(), text.encode(), 'sha256'))}"
        assert await who(house, forged) == "credential.unknown"


async def test_keys_of_the_configuration_are_not_rotated_by_an_operation(house: House) -> None:
    use(house, KEYS[0])
    with pytest.raises(Conflict) as refused:
        await house.run("keys.rotate", RotateKeys("session"))
    assert refused.value.code == "keys.configured"
    assert "secret" not in repr(KEYS[2]) and SHARED not in repr(KEYS[2])


@pytest.mark.parametrize(
    ("alg", "secret", "fault"),
    [
        ("EdDSA", EDWARDS, ""),
        ("ES256", CURVE, ""),
        ("HS256", SHARED, ""),
        ("HS256", "s" * 31, "a key for HS256 has 32 bytes or more"),
        ("EdDSA", CURVE, "a key for EdDSA is an Ed25519 one"),
        ("ES256", EDWARDS, "a key for ES256 is one of the curve P-256"),
        ("ES256", WIDER, "a key for ES256 is one of the curve P-256"),
        ("ES256", "nothing", "no private key in PEM without a passphrase"),
    ],
)
def test_what_is_wrong_with_a_key_is_said(alg: str, secret: str, fault: str) -> None:
    assert key_fault(alg, secret) == fault
