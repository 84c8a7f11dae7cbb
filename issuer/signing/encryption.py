"""Encryption of private keys under a passphrase: PKCS#8 (RFC 5958) by PBES2 (RFC 8018), as OpenSSL reads it.

`cryptography` reads such files, but writes them with only 2048 rounds of key derivation, so that passphrases can be
guessed fast from a copy of a file. So the envelope is written here; `pem` opens it with `cryptography`.
"""

import os
import textwrap
from base64 import b64decode, b64encode
from contextlib import suppress
from typing import Final

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ObjectIdentifier

from issuer.signing.algorithms import PrivateKey

ROUNDS: Final = 600_000
"""The recommendation of OWASP for HMAC-SHA-256; takes 0.2 s for each key, once in each process."""

_PBES2: Final = ObjectIdentifier("1.2.840.113549.1.5.13")
_PBKDF2: Final = ObjectIdentifier("1.2.840.113549.1.5.12")
_HMAC_SHA256: Final = ObjectIdentifier("1.2.840.113549.2.9")
_AES256_CBC: Final = ObjectIdentifier("2.16.840.1.101.3.4.1.42")
_SALT_BYTES: Final = 16
_BEGIN: Final = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
_END: Final = b"-----END ENCRYPTED PRIVATE KEY-----\n"


@asn1.sequence
class _Prf:
    algorithm: ObjectIdentifier
    parameters: asn1.Null


@asn1.sequence
class _Pbkdf2Parameters:
    salt: bytes
    rounds: int
    prf: _Prf


@asn1.sequence
class _Kdf:
    algorithm: ObjectIdentifier
    parameters: _Pbkdf2Parameters


@asn1.sequence
class _Scheme:
    algorithm: ObjectIdentifier
    iv: bytes


@asn1.sequence
class _Pbes2Parameters:
    kdf: _Kdf
    scheme: _Scheme


@asn1.sequence
class _Algorithm:
    algorithm: ObjectIdentifier
    parameters: _Pbes2Parameters


@asn1.sequence
class _EncryptedPrivateKeyInfo:
    algorithm: _Algorithm
    data: bytes


def pem_of(key: PrivateKey, passphrase: str | None) -> bytes:
    """Return `key` as PKCS#8 PEM, encrypted unless there is no passphrase."""
    if not passphrase:
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    salt, iv = os.urandom(_SALT_BYTES), os.urandom(AES256.block_size // 8)
    derived = PBKDF2HMAC(SHA256(), AES256.key_size // 8, salt, ROUNDS).derive(passphrase.encode())
    padder, encryptor = PKCS7(AES256.block_size).padder(), Cipher(AES256(derived), CBC(iv)).encryptor()
    data = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    prf = _Prf(algorithm=_HMAC_SHA256, parameters=asn1.Null())
    kdf = _Kdf(algorithm=_PBKDF2, parameters=_Pbkdf2Parameters(salt=salt, rounds=ROUNDS, prf=prf))
    parameters = _Pbes2Parameters(kdf=kdf, scheme=_Scheme(algorithm=_AES256_CBC, iv=iv))
    info = _EncryptedPrivateKeyInfo(algorithm=_Algorithm(algorithm=_PBES2, parameters=parameters), data=data)
    lines = "\n".join(textwrap.wrap(b64encode(asn1.encode_der(info)).decode(), 64))
    return _BEGIN + lines.encode() + b"\n" + _END


def is_encrypted(pem: bytes) -> bool:
    """Whether a PEM is an encrypted private key."""
    return b"ENCRYPTED" in pem


def is_whole(pem: bytes) -> bool:
    """Whether a PEM has a beginning and an end; an interrupted write or a full disk leaves less."""
    return b"-----BEGIN " in pem and b"-----END " in pem


def is_current(pem: bytes) -> bool:
    """Whether an encrypted PEM was written with at least as many rounds as `pem_of` uses."""
    with suppress(ValueError, TypeError):
        body = b"".join(line for line in pem.splitlines() if line and not line.startswith(b"-----"))
        info = asn1.decode_der(_EncryptedPrivateKeyInfo, b64decode(body))
        return info.algorithm.parameters.kdf.parameters.rounds >= ROUNDS
    return False  # another key derivation, by another program or an older version
