"""Existing private keys to import: their PEM is read, and weak keys are refused.

Storing them is left to the signer, adding them to the ring to `keyring.rotation`.
"""

import re
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from issuer.errors import Refused
from issuer.signing.algorithms import PrivateKey

LEAST_BITS: Final = 2048
MOST_BITS: Final = 8192  # verifying takes longer with each bit, and some verifiers refuse more
PUBLIC_EXPONENT: Final = 65537
_RSA_ALGORITHMS: Final = ("RS256", "PS256")
# The primes that reveal a key of the generator of CVE-2017-15361.
_ROCA_PRIMES: Final = [p for p in range(3, 168) if all(p % divisor for divisor in range(2, p))]

_BEGIN: Final = re.compile(rb"^-----BEGIN [A-Z ]*PRIVATE KEY-----", re.MULTILINE)


class PassphraseNeeded(Exception):
    """The PEM is encrypted and no passphrase was given."""


def read_private_key(pem: bytes, passphrase: str | None) -> PrivateKey:
    """Return the private key in `pem`; raise PassphraseNeeded, or Refused with the reason.

    The library that reads its numbers checks that they are consistent.
    """
    if len(_BEGIN.findall(pem)) > 1:
        raise Refused("there is more than one private key in the PEM: give a file with one")
    try:
        key = load_pem_private_key(pem, passphrase.encode() if passphrase else None)
    except TypeError as error:
        if passphrase is None:
            raise PassphraseNeeded from error
        raise Refused("the PEM is not encrypted: give no passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Refused("this is not the PEM of a readable private key, or the passphrase is wrong") from error
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey):
        raise Refused("the key must be RSA, EC on P-256, or Ed25519")
    return key


def algorithm_for(key: PrivateKey, preferred: str) -> str:
    """Return the JWS algorithm of `key`; raise Refused for a weak key."""
    match key:
        case RSAPrivateKey():
            _require_sound_rsa(key)
            return preferred if preferred in _RSA_ALGORITHMS else _RSA_ALGORITHMS[0]
        case EllipticCurvePrivateKey():
            if key.curve.name != "secp256r1":
                raise Refused(
                    f"the key is on the curve {key.curve.name}; ES256 is on P-256 (RFC 7518 section 3.4)"
                )
            return "ES256"
    return "EdDSA"


def _require_sound_rsa(key: RSAPrivateKey) -> None:
    numbers = key.private_numbers()
    public = numbers.public_numbers
    if not LEAST_BITS <= key.key_size <= MOST_BITS:
        raise Refused(
            f"the key has {key.key_size} bits; it must have {LEAST_BITS} to {MOST_BITS} (RFC 7518 section 3.3)"
        )
    if public.e != PUBLIC_EXPONENT:
        raise Refused(f"the public exponent is {public.e}; it must be {PUBLIC_EXPONENT}")
    if all(_is_power(public.n % prime, PUBLIC_EXPONENT % prime, prime) for prime in _ROCA_PRIMES):
        raise Refused(
            "the key was made by the generator of CVE-2017-15361 (ROCA): the private key can be computed"
        )
    if abs(numbers.p - numbers.q).bit_length() <= key.key_size // 2 - 100:
        raise Refused("the two primes are so close (FIPS 186-5 appendix A.1.3) that they can be computed")


def _is_power(number: int, base: int, modulus: int) -> bool:
    power = 1
    for _ in range(modulus):
        if power == number:
            return True
        power = power * base % modulus
    return False
