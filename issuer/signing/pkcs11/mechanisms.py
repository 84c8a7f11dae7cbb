"""The PKCS#11 mechanisms of each JWS algorithm, and how its public keys are read from a token.

The algorithms outside of tokens are defined in `signing.algorithms`.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from asn1crypto.core import OctetString
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from pkcs11 import MGF, Attribute, KeyType, Mechanism, MechanismFlag, Session, SignMixin
from pkcs11 import PrivateKey as PrivateObject
from pkcs11 import PublicKey as PublicObject
from pkcs11.util.ec import encode_named_curve_parameters

from issuer.signing.algorithms import RSA_BITS, CryptoPublicKey

_ED25519 = "1.3.101.112"  # RFC 8410 section 3
_INSIDE = {Attribute.EXTRACTABLE: False, Attribute.SENSITIVE: True, Attribute.PRIVATE: True}
_POINT_BYTES = {KeyType.EC: 65, KeyType.EC_EDWARDS: 32}  # SEC 1 section 2.3.3; RFC 8032 section 5.1.5
_PSS = (Mechanism.SHA256, MGF.SHA256, hashlib.sha256().digest_size)  # RFC 7518 section 3.5


@dataclass(frozen=True)
class Method:
    """How a token implements one JWS algorithm."""

    key_type: KeyType
    generating: Mechanism
    signing: Mechanism
    read: Callable[[PublicObject], CryptoPublicKey]
    bits: int | None = None
    curve: str | None = None
    parameter: tuple[Mechanism, MGF, int] | None = None
    digest: Callable[[bytes], bytes] = bytes
    """What is done to the data before the token signs it: SHA-256 where the mechanism takes a digest."""

    def generate(self, session: Session, label: str) -> tuple[PublicObject, PrivateObject]:
        """Generate a key pair in the token whose private key can only sign, and cannot be extracted."""
        generate: Callable[..., tuple[PublicObject, PrivateObject]]
        if self.curve:
            curve = {Attribute.EC_PARAMS: encode_named_curve_parameters(self.curve)}
            generate = session.create_domain_parameters(self.key_type, curve, local=True).generate_keypair
        else:
            generate = partial(session.generate_keypair, self.key_type, self.bits)
        return generate(
            label=label,
            store=True,
            capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
            mechanism=self.generating,
            private_template=_INSIDE,
        )

    def sign(self, key: SignMixin, data: bytes) -> bytes:
        """Return the signature in JWS form, which for ECDSA is also that of PKCS#11: r and s."""
        return key.sign(self.digest(data), mechanism=self.signing, mechanism_param=self.parameter)


def _rsa(key: PublicObject) -> CryptoPublicKey:
    n, e = (int.from_bytes(key[name]) for name in (Attribute.MODULUS, Attribute.PUBLIC_EXPONENT))
    return RSAPublicNumbers(e, n).public_key()


def _ec(key: PublicObject) -> CryptoPublicKey:
    return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), _point(key))


def _ed25519(key: PublicObject) -> CryptoPublicKey:
    return Ed25519PublicKey.from_public_bytes(_point(key))


def _point(key: PublicObject) -> bytes:
    """Return CKA_EC_POINT without the OCTET STRING in which some modules wrap it, for some curves."""
    point: bytes = key[Attribute.EC_POINT]
    return point if len(point) == _POINT_BYTES[key.key_type] else OctetString.load(point).native


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


_RSA = KeyType.RSA, Mechanism.RSA_PKCS_KEY_PAIR_GEN
METHODS: Mapping[str, Method] = {
    "RS256": Method(*_RSA, Mechanism.SHA256_RSA_PKCS, _rsa, bits=RSA_BITS),
    "PS256": Method(*_RSA, Mechanism.SHA256_RSA_PKCS_PSS, _rsa, bits=RSA_BITS, parameter=_PSS),
    "ES256": Method(
        KeyType.EC, Mechanism.EC_KEY_PAIR_GEN, Mechanism.ECDSA, _ec, curve="secp256r1", digest=_sha256
    ),
    "EdDSA": Method(
        KeyType.EC_EDWARDS, Mechanism.EC_EDWARDS_KEY_PAIR_GEN, Mechanism.EDDSA, _ed25519, curve=_ED25519
    ),
}
