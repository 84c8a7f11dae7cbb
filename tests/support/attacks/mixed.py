"""Tokens signed with another algorithm, or with the key of another algorithm, than their header names.

For an issuer during a migration, which publishes a key for every algorithm.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from jwks_verifier.testing import KeyPair

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
ORDER_OF_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ORDER_OF_ED25519 = 2**252 + 27742317777372353535851937790883648493


class Signers:
    """A key for each algorithm."""

    def __init__(self, forge: Any, pairs: list[KeyPair]) -> None:
        self._forge = forge
        keys = (
            pairs[0].private,
            pairs[1].private,
            ec.generate_private_key(ec.SECP256R1()),
            ed25519.Ed25519PrivateKey.generate(),
        )
        self._private: dict[str, Any] = dict(zip(ALGORITHMS, keys, strict=True))

    def jwks(self) -> Iterator[dict[str, Any]]:
        for alg, private in self._private.items():
            jwk = jwt.get_algorithm_by_name(alg).to_jwk(private.public_key(), as_dict=True)
            yield {**jwk, "alg": alg, "kid": alg}

    def token(self, key: str, *, alg: str = "", by: str = "", kid: str = "") -> str:
        """Sign with a key `by` its own algorithm or another; the header may name any."""
        header = self._forge.header(alg=alg or key, kid=kid or key)
        signing_input = self._forge.unsigned(header, self._forge.claims())
        signature = jwt.get_algorithm_by_name(by or key).sign(signing_input.encode(), self._private[key])
        return f"{signing_input}.{self._forge.segment(signature)}"

    def crafted(self, key: str, change: Callable[[bytes], bytes]) -> str:
        head, _, signature = self.token(key).rpartition(".")
        return f"{head}.{self._forge.segment(change(jwt.utils.base64url_decode(signature)))}"


def in_der(raw: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))


def zeros(raw: bytes) -> bytes:
    return b"\0" * len(raw)


def order_twice(_: bytes) -> bytes:
    return ORDER_OF_P256.to_bytes(32, "big") * 2


def plus_order(raw: bytes) -> bytes:
    return raw[:32] + (int.from_bytes(raw[32:], "little") + ORDER_OF_ED25519).to_bytes(32, "little")


def swapped(raw: bytes) -> bytes:
    return raw[32:] + raw[:32]


class MixedRow(NamedTuple):
    """A token that must be rejected, and the source of the attack."""

    name: str
    source: str
    make: Callable[[Signers], str]


MIXED = [
    MixedRow("RS256 under the kid of ES256", "RFC 8725 section 3.1", lambda s: s.token("RS256", kid="ES256")),
    MixedRow("RS256 by the PS256 key", "RFC 8725 section 3.1", lambda s: s.token("PS256", alg="RS256", by="RS256")),
    MixedRow("PS256 by the RS256 key", "CVE-2026-48523 (PyJWT)", lambda s: s.token("RS256", alg="PS256", by="PS256")),
    MixedRow("said RS256, signed PS256", "CVE-2026-48523 (PyJWT)", lambda s: s.token("RS256", by="PS256")),
    MixedRow("ES256 said of an RSA key", "RFC 8725 section 3.1", lambda s: s.token("RS256", alg="ES256")),
    MixedRow("EdDSA said of a P-256 key", "RFC 8725 section 3.1", lambda s: s.token("ES256", alg="EdDSA")),
    MixedRow("ES384 of the P-256 key", "RFC 7518 section 3.4", lambda s: s.token("ES256", alg="ES384")),
    MixedRow("ES256 of zeros", "CVE-2022-21449 (Java)", lambda s: s.crafted("ES256", zeros)),
    MixedRow("ES256 of r = 0", "CVE-2022-21449 (Java)", lambda s: s.crafted("ES256", lambda r: bytes(32) + r[32:])),
    MixedRow("ES256 of s = 0", "CVE-2022-21449 (Java)", lambda s: s.crafted("ES256", lambda r: r[:32] + bytes(32))),
    MixedRow("ES256 of r = s = n", "CVE-2022-21449 (Nimbus)", lambda s: s.crafted("ES256", order_twice)),
    MixedRow("ES256 in DER", "RFC 7518 section 3.4", lambda s: s.crafted("ES256", in_der)),
    MixedRow("ES256 and a byte", "RFC 7518 section 3.4", lambda s: s.crafted("ES256", lambda r: r + b"\0")),
    MixedRow("ES256 in halves swapped", "RFC 7518 section 3.4", lambda s: s.crafted("ES256", swapped)),
    MixedRow("EdDSA of zeros", "RFC 8032 section 5.1.7", lambda s: s.crafted("EdDSA", zeros)),
    MixedRow("EdDSA of S beyond the order", "RFC 8032 section 5.1.7", lambda s: s.crafted("EdDSA", plus_order)),
    MixedRow("EdDSA and a byte", "RFC 8032 section 5.1.6", lambda s: s.crafted("EdDSA", lambda r: r + b"\0")),
]  # fmt: skip
