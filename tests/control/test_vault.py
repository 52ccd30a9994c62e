"""Client secrets that are kept readable."""

import os

from ostiary.control.vault import Vault


def test_a_secret_opens_under_its_own_key_for_its_own_application_only() -> None:
    vault = Vault(bytes(32), os.urandom)
    sealed = vault.close("ab01", "secret")
    assert b"secret" not in sealed
    assert vault.open("ab01", sealed) == "secret"
    assert vault.open("ab02", sealed) == ""
    assert vault.open("ab01", b"") == ""
    assert Vault(b"1" * 32, os.urandom).open("ab01", sealed) == ""
