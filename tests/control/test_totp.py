"""Codes: the vectors of RFC 6238 appendix B, windows, and short secrets."""

from base64 import b32encode

import pytest
from pyotp import HOTP

from ostiary.control.totp import STEP, code_of, enrolment, new_secret, step_of
from ostiary.core.people import totp_secret_ok
from ostiary.core.snapshot import SECOND

SECRET = b32encode(b"12345678901234567890").decode()


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (2000000000, "279037"),
     (20000000000, "353130")],
)  # fmt: skip
def test_codes_are_those_of_the_rfc(seconds: int, code: str) -> None:
    assert code_of(SECRET, seconds // STEP) == code
    assert step_of(SECRET, code, seconds * SECOND, 0) == seconds // STEP


@pytest.mark.parametrize("length", [length for length in range(23, 129) if length % 8 not in (1, 3, 6)])
def test_codes_are_those_of_another_implementation(length: int) -> None:
    secret = ("JBSWY3DPEHPK3PXP" * 9)[1:][:length]
    assert totp_secret_ok(secret)
    assert code_of(secret, 7) == HOTP(secret).at(7)


def test_secrets_of_80_bits_have_codes_too() -> None:
    assert totp_secret_ok("JBSWY3DPEHPK3PXP")
    assert code_of("JBSWY3DPEHPK3PXP", 7) == "449891"


@pytest.mark.parametrize(
    "secret", ["", "A" * 15, "A" * 17, "A" * 19, "A" * 22, "A" * 129, "a" * 16, "1" * 16, "A" * 16 + "\n"]
)
def test_other_secrets_are_refused(secret: str) -> None:
    assert not totp_secret_ok(secret)


def test_a_new_secret_is_160_bits_and_its_uri_is_encoded() -> None:
    secret = new_secret(lambda count: bytes(range(count)))
    assert (len(secret), totp_secret_ok(secret)) == (32, True)
    made = enrolment(secret, "a@b", "My Gate & Co")
    assert made.uri == (
        f"otpauth://totp/My%20Gate%20%26%20Co:a%40b?secret={secret}&issuer=My%20Gate%20%26%20Co"
        "&algorithm=SHA1&digits=6&period=30"
    )
