"""Keys that sign: made at the first need, kept sealed; the newest signs, all verify until nothing of theirs can live.

The private halves are encrypted (AES-256-GCM) under a key derived from the one in the state directory, so that the
database alone gives nothing away. The JOSE library is imported when it is needed.
"""

import asyncio
import copy
import hmac
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Meta, Struct

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core import jws
from ostiary.core.people import OwnKey
from ostiary.core.permission import Principal
from ostiary.core.refusal import Conflict, Unavailable
from ostiary.core.snapshot import SECOND
from ostiary.store import ports
from ostiary.store.ports import Record, SigningKey

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
    from joserfc.jws import JWSRegistry

    AnyKey = ECKey | OKPKey | RSAKey

PURPOSE = b"ostiary signing keys 1"
NONCE = 12
RETENTION = 7 * 86_400 * SECOND
"""How long a retired key verifies: longer than anything lives that is signed (a session: a day at most)."""
FRESH = 60 * SECOND
"""How long this process trusts what it has read: so soon it hears of another node's rotation."""
NODE = Principal("node", "ostiary")

Purpose = Literal["oauth", "session"]


class RotateKeys(Struct, frozen=True):
    """Which key gets a successor."""

    purpose: Annotated[Purpose, Meta(description="what it signs")] = "oauth"


class ListKeys(Struct, frozen=True):
    """Which keys."""

    purpose: Annotated[Purpose, Meta(description="what they sign")] = "oauth"


class KeyState(Struct, frozen=True):
    """A signing key, without its private half."""

    kid: str
    purpose: str
    alg: str
    created: int
    """Unix time in microseconds."""
    retired: int
    """When another took its place; 0: it signs."""
    public: dict[str, str]
    """The JWK that others verify with."""


class Keys:
    """Signs and verifies. `alg` says which algorithm a purpose has now; `clock` is Unix time in microseconds."""

    def __init__(
        self,
        kept: ports.Keys,
        key: bytes,
        clock: Callable[[], int],
        entropy: Callable[[int], bytes],
        alg: Callable[[str], str],
        configured: Callable[[str], Sequence[OwnKey]] = lambda purpose: (),
    ) -> None:
        self._store = kept
        self._cipher = AESGCM(hmac.digest(key, PURPOSE, "sha256"))
        self._clock = clock
        self._entropy = entropy
        self._alg = alg
        self._configured = configured
        self._read: dict[str, tuple[int, list[SigningKey]]] = {}

    async def sign(self, purpose: str, typ: str, claims: Mapping[str, object]) -> str:
        """A compact JWS of the claims, by the key of that purpose. Refuses Unavailable `keys.sealed`."""
        from joserfc.jws import serialize_compact

        own = self._configured(purpose)
        key = own[0] if own else (await self.published(purpose))[0]
        header = {"alg": key.alg, "kid": key.kid, "typ": typ}
        private = _own(key) if isinstance(key, OwnKey) else _key(self._open(key))
        return serialize_compact(header, msgspec.json.encode(claims), private, registry=_registry(key.alg))

    async def verify(self, purpose: str, typ: str, token: str) -> dict[str, Any]:
        """The claims of a token that `sign` gave, before its `exp`. Refuses Unauthenticated `token.refused`."""
        from joserfc.errors import JoseError
        from joserfc.jws import deserialize_compact

        header = jws.header(token)
        key = await self._named(purpose, header.kid)
        if key is None or header.alg != key.alg or header.typ != typ:
            raise jws.refused()
        try:
            public = _own(key) if isinstance(key, OwnKey) else _key(key.public)
            found = deserialize_compact(token, public, registry=_registry(key.alg))
            claims = msgspec.json.decode(found.payload, type=dict[str, Any])
        except (JoseError, ValueError):
            raise jws.refused() from None
        expires = claims.get("exp")
        if not isinstance(expires, int | float) or expires * SECOND <= self._clock():
            raise jws.refused()
        return claims

    async def published(self, purpose: str) -> list[SigningKey]:
        """The key that signs, and behind it those that still verify. Makes the first one, and one of another alg."""
        keys = await self._kept(purpose)
        if not keys or keys[0].retired or keys[0].alg != self._alg(purpose):
            record = Call(NODE, "node", operation="keys.rotate", target=purpose).done(self._clock())
            await self._put(purpose, record, rotate=False)
            keys = await self._load(purpose)
        return keys

    async def rotate(self, purpose: str, record: Record) -> SigningKey:
        """Have a new key sign; which one does (another's, where two rotate at once).

        Refuses Conflict `keys.configured` where the configuration brings the keys.
        """
        self.check(purpose)
        await self._put(purpose, record, rotate=True)
        return (await self._load(purpose))[0]

    def check(self, purpose: str) -> None:
        """Refuse Conflict `keys.configured` where the configuration brings the keys."""
        if self._configured(purpose):
            raise Conflict("keys.configured", "The configuration names these keys: put a new one first, and reload")

    async def _put(self, purpose: str, record: Record, *, rotate: bool) -> None:
        made = await asyncio.to_thread(_make, self._alg(purpose))
        kid, now, nonce = made.thumbprint(), self._clock(), self._entropy(NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, msgspec.json.encode(made.as_dict(private=True)), kid.encode())
        alg = self._alg(purpose)
        public = {**made.as_dict(private=False), "kid": kid, "alg": alg, "use": "sig"}
        key = SigningKey(kid, purpose, alg, msgspec.json.encode(public).decode(), sealed, now)
        await self._store.put(key, now - RETENTION, record, rotate=rotate)

    def _open(self, key: SigningKey) -> str:
        try:
            return self._cipher.decrypt(key.sealed[:NONCE], key.sealed[NONCE:], key.kid.encode()).decode()
        except (InvalidTag, ValueError):
            message = "The signing key was sealed with the key of another state directory; rotate it: keys.rotate"
            raise Unavailable("keys.sealed", message) from None

    async def _named(self, purpose: str, kid: str) -> SigningKey | OwnKey | None:
        own = self._configured(purpose)
        if own:
            return next((each for each in own if each.kid == kid), None)
        keys = await self._kept(purpose)
        if all(each.kid != kid for each in keys):
            keys = await self._load(purpose)
        return next((each for each in keys if each.kid == kid), None)

    async def _kept(self, purpose: str) -> list[SigningKey]:
        at, keys = self._read.get(purpose, (0, []))
        return keys if 0 <= self._clock() - at < FRESH else await self._load(purpose)

    async def _load(self, purpose: str) -> list[SigningKey]:
        now = self._clock()
        keys = await self._store.kept(purpose, now - RETENTION)
        self._read[purpose] = now, keys
        return keys


def _make(alg: str) -> "AnyKey":
    from joserfc.jwk import ECKey, OKPKey, RSAKey

    if alg == "ES256":
        return ECKey.generate_key("P-256")
    return OKPKey.generate_key("Ed25519") if alg == "EdDSA" else RSAKey.generate_key(2048)


@lru_cache(16)
def _own(key: OwnKey) -> "AnyKey | OctKey":
    """A key out of the configuration."""
    from joserfc.jwk import ECKey, OctKey, OKPKey

    if key.alg == "HS256":
        return OctKey.import_key(key.secret)
    return (OKPKey if key.alg == "EdDSA" else ECKey).import_key(key.secret)


def _key(text: str) -> "AnyKey":
    """A key out of its JWK."""
    from joserfc.jwk import ECKey, OKPKey, RSAKey

    jwk = msgspec.json.decode(text, type=dict[str, str | list[str]])
    kinds: dict[str, type[AnyKey]] = {"EC": ECKey, "OKP": OKPKey, "RSA": RSAKey}
    return kinds[str(jwk["kty"])].import_key(jwk)


@cache
def _registry(alg: str) -> "JWSRegistry":
    """The one algorithm that a key has, for ever.

    RFC 9864 deprecates the name EdDSA because it leaves the curve open, of which the library warns; a key of ours does
    not leave it open.
    """
    from joserfc.jws import JWSRegistry

    registry = JWSRegistry(algorithms=[alg])
    own = copy.copy(registry.algorithms[alg])
    own.security_warning = None
    registry.algorithms = {alg: own}
    return registry


async def foresee(control: Control, call: Call, params: RotateKeys) -> list[str]:
    """What a rotation would do. Refuses Conflict as it does."""
    control.keys.check(params.purpose)
    return ["a new key signs"]


@operation("keys.rotate", target="purpose", preview=foresee)
async def rotate(control: Control, call: Call, params: RotateKeys) -> KeyState:
    """Have a new key sign; the one before verifies for a week."""
    return state(await control.keys.rotate(params.purpose, call.done(control.clock())))


@operation("keys.list", reads=True)
async def list_(control: Control, call: Call, params: ListKeys) -> list[KeyState]:
    """List the signing keys, the one that signs first."""
    return [state(key) for key in await control.keys.published(params.purpose)]


def state(key: SigningKey) -> KeyState:
    """A key as anybody may see it."""
    public = msgspec.json.decode(key.public, type=dict[str, str])
    return KeyState(key.kid, key.purpose, key.alg, key.created, key.retired, public)
