"""Proof that a form comes from a page of ours: a value that belongs to one log-in and needs no storage."""

import hmac
from base64 import urlsafe_b64encode

from ostiary.core.digest import equal

PURPOSE = b"ostiary csrf 1"


class Csrf:
    """Makes and compares the values, under a key derived from `key`."""

    def __init__(self, key: bytes) -> None:
        self._key = hmac.digest(key, PURPOSE, "sha256")

    def token(self, kind: str, secret: str) -> str:
        """The value (43 base64url characters) for what `secret` names among all of `kind`."""
        made = hmac.digest(self._key, f"{kind} {secret}".encode(), "sha256")
        return urlsafe_b64encode(made).rstrip(b"=").decode()

    def holds(self, kind: str, secret: str, shown: str) -> bool:
        """Whether `shown` is that value, in constant time."""
        return bool(secret) and equal(shown, self.token(kind, secret))
