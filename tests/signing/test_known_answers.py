"""The examples of the RFCs, to the byte; `known_answers.json` holds the keys that they print."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPrivateNumbers,
    RSAPublicNumbers,
    rsa_crt_dmp1,
    rsa_crt_dmq1,
    rsa_crt_iqmp,
)
from jwt.utils import base64url_decode, base64url_encode

from issuer.signing.algorithms import ALGORITHMS
from issuer.signing.pem import PemSigner
from issuer.signing.pem_directory import PemDirectory
from issuer.signing.public_key import thumbprint
from jwks_verifier.jwk import import_key

EXAMPLES: Mapping[str, Mapping[str, Any]] = json.loads(
    (Path(__file__).parent / "known_answers.json").read_text("utf-8")
)


def private_key(jwk: Mapping[str, str]) -> RSAPrivateKey:
    n, e, d, p, q = (int.from_bytes(base64url_decode(jwk[name])) for name in ("n", "e", "d", "p", "q"))
    crt = rsa_crt_dmp1(d, p), rsa_crt_dmq1(d, q), rsa_crt_iqmp(p, q)
    return RSAPrivateNumbers(p, q, d, *crt, RSAPublicNumbers(e, n)).private_key()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_signer_signs_the_examples_of_the_rfcs_to_the_byte(name: str, keys: Path) -> None:
    example = EXAMPLES[name]
    key = private_key(example["key"])
    public = ALGORITHMS["RS256"].public_key(key)
    keys.mkdir(mode=0o700)
    file = keys / f"{public.kid}.pem"
    file.touch(mode=0o600)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    signer = PemSigner(PemDirectory(keys), lambda: None)
    signer.load(public.kid, public.alg)
    signature = signer.sign(public.kid, example["signed"].encode())
    assert base64url_encode(signature).decode() == example["signature"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_verifier_takes_the_signatures_of_the_rfcs_and_no_other(name: str) -> None:
    example = EXAMPLES[name]
    jwk = {"kty": "RSA", "kid": "k", "n": example["key"]["n"], "e": example["key"]["e"]}
    key = import_key(jwk, ["RS256"])
    signature = base64url_decode(example["signature"])
    assert key.Algorithm.verify(example["signed"].encode(), key.key, signature)
    assert not key.Algorithm.verify(example["signed"].encode() + b".", key.key, signature)
    assert jwt.PyJWK(jwk, "RS256").key == key.key


def test_thumbprints_match_the_example_of_rfc_7638() -> None:
    example = {
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCi"
        "FV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d"
        "0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-cs"
        "FCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB",
        "alg": "RS256",
        "kid": "2011-04-29",
    }
    assert thumbprint(example) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
