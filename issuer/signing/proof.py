"""Proof that a private key is there and is the one that its public half says: it signs, and that verifies.

Where it is kept is the signer's business.
"""

import secrets

import jwt

from issuer.key import PublicKey
from issuer.refusal import KeyUnavailable
from issuer.signing import Signer
from issuer.signing.algorithms import ALGORITHMS, KEY_TYPES, PUBLIC_MEMBERS, thumbprint


def prove(signer: Signer, key: PublicKey) -> None:
    """Sign with the private half of `key` and verify with its JWK; raise KeyUnavailable, with what to do."""
    require_own_name(key)
    signer.load(key.kid, key.alg)
    data = secrets.token_bytes(32)
    public = jwt.PyJWK(dict(key.jwk), algorithm=key.alg)
    if not jwt.get_algorithm_by_name(key.alg).verify(data, public.key, signer.sign(key.kid, data)):
        raise KeyUnavailable(
            f"what {key.kid} signs does not verify with its public half: revoke it and restore the backup"
        )


def require_own_name(key: PublicKey) -> None:
    """Raise KeyUnavailable unless the kid is the thumbprint of the JWK: somebody may have put in a key of theirs."""
    known = key.alg in ALGORITHMS and key.jwk.get("kty") in KEY_TYPES and set(key.jwk) <= PUBLIC_MEMBERS
    if not known or thumbprint(key.jwk) != key.kid:
        raise KeyUnavailable(
            f"the key ring in the database has another public key under {key.kid}: somebody changed it; find out"
            " who can write there, and restore the backup"
        )
