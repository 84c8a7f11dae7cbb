"""The table of JWS algorithms (RFC 7518, RFC 8037): how a key is generated, and PyJWT's implementation of each.

The JWK members of each algorithm are defined in `public_key`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from issuer.signing.public_key import JWK_MEMBERS, PublicKey, thumbprint

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey
CryptoPublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

RSA_BITS = 2048


@dataclass(frozen=True)
class Algorithm:
    """One row of the table."""

    name: str
    generate: Callable[[], PrivateKey]
    key_type: type[PrivateKey]
    hash: str
    """The hash function of the signature, by its name in `hashlib`; RFC 8032 section 5.1 for Ed25519."""

    def sign(self, key: PrivateKey, data: bytes) -> bytes:
        """Return the signature of `data` in JWS form."""
        return jwt.get_algorithm_by_name(self.name).sign(data, key)

    def public_key(self, key: PrivateKey) -> PublicKey:
        """Return the public key of `key`, named by its thumbprint."""
        return self.to_public_key(key.public_key())

    def to_public_key(self, key: CryptoPublicKey) -> PublicKey:
        """Return `key` as a JWK, named by its thumbprint."""
        jwk = jwt.get_algorithm_by_name(self.name).to_jwk(key, as_dict=True)
        members = {name: str(jwk[name]) for name in sorted(JWK_MEMBERS[self.name])}
        kid = thumbprint(members)
        return PublicKey(kid, self.name, {**members, "use": "sig", "alg": self.name, "kid": kid})

    def require_signed(self, key: CryptoPublicKey, data: bytes, signature: bytes) -> None:
        """Raise InvalidSignatureError unless `signature`, in JWS form, is of `data` by the private key of `key`."""
        if not jwt.get_algorithm_by_name(self.name).verify(data, key, signature):
            raise jwt.InvalidSignatureError


def _rsa() -> RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)


ALGORITHMS: Mapping[str, Algorithm] = {
    row.name: row
    for row in (
        Algorithm("RS256", _rsa, RSAPrivateKey, "sha256"),
        Algorithm("PS256", _rsa, RSAPrivateKey, "sha256"),
        Algorithm(
            "ES256", lambda: ec.generate_private_key(ec.SECP256R1()), EllipticCurvePrivateKey, "sha256"
        ),
        Algorithm("EdDSA", ed25519.Ed25519PrivateKey.generate, Ed25519PrivateKey, "sha512"),
    )
}
