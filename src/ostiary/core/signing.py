"""Keys that a configuration brings for signing: whether a secret is one of its algorithm."""

LEAST_SHARED = 32
"""Bytes of a key for HS256 (RFC 7518 section 3.2)."""


def key_fault(alg: str, secret: str) -> str:
    """What is wrong with a private key in PEM (Ed25519, P-256) or a shared one (HS256); empty: nothing."""
    if alg == "HS256":
        return "" if len(secret.encode()) >= LEAST_SHARED else f"a key for HS256 has {LEAST_SHARED} bytes or more"
    # Imported here: few configurations bring keys of their own.
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(secret.encode(), None)
    except (ValueError, TypeError):
        return "no private key in PEM without a passphrase"
    if alg == "EdDSA":
        return "" if isinstance(key, Ed25519PrivateKey) else "a key for EdDSA is an Ed25519 one"
    right = isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1)
    return "" if right else "a key for ES256 is one of the curve P-256"
