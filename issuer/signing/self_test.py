"""The test that a private key matches its public key: it signs, and the signature verifies.

Storing private keys is left to the signer.
"""

import secrets

import jwt

from issuer.errors import KeyUnavailable
from issuer.signing.public_key import PublicKey
from issuer.signing.signer import Signer


def prove(signer: Signer, key: PublicKey) -> None:
    """Sign with the private key of `key` and verify with its JWK; raise KeyUnavailable."""
    public = require_sound(key)
    signer.load(key.kid, key.alg)
    data = secrets.token_bytes(32)
    if not jwt.get_algorithm_by_name(key.alg).verify(data, public.key, signer.sign(key.kid, data)):
        raise KeyUnavailable(
            f"a signature of {key.kid} does not verify with its public key: revoke the key and restore the backup"
        )


def require_sound(key: PublicKey) -> jwt.PyJWK:
    """Return the public key; raise KeyUnavailable for one that this program did not make, or that is not a valid key.

    Another program that can write to the database may have added it.
    """
    wrong = key.integrity_error()
    try:
        if wrong is None:
            return jwt.PyJWK(dict(key.jwk), algorithm=key.alg)
    except (jwt.PyJWTError, ValueError):  # for example, numbers that are not a point of the curve
        wrong = "a public key cannot be read"
    raise KeyUnavailable(
        f"the key ring in the database was changed by another program, {wrong}: restore the backup, and find out who"
        " can write there"
    )
