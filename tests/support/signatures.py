"""Verifies signatures with a published key, by PyJWT."""

import jwt

from issuer.signing.public_key import PublicKey


def verifies(public: PublicKey, data: bytes, signature: bytes) -> bool:
    key = jwt.PyJWK(dict(public.jwk))
    return jwt.get_algorithm_by_name(public.alg).verify(data, key.key, signature)
