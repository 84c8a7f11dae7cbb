"""Encrypted private keys: readable by other programs, slow to attack, and files of older versions still open."""

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from issuer.cli.output import CommandError
from issuer.cli.private_keys import _new_passphrase
from issuer.signing.algorithms import ALGORITHMS
from issuer.signing.encryption import is_current, pem_of
from issuer.signing.pem import PemSigner
from issuer.signing.pem_directory import PemDirectory

PASSPHRASE = "sixteen silent penguins \N{PENGUIN}"
ROUNDS = 600_000


pytestmark = pytest.mark.usefixtures("production_rounds")


@pytest.mark.processes
@pytest.mark.parametrize("alg", ALGORITHMS)
def test_an_encrypted_key_opens_under_its_passphrase_alone_and_in_openssl(alg: str, tmp_path: Path) -> None:
    key = ALGORITHMS[alg].generate()
    pem = pem_of(key, PASSPHRASE)
    again = load_pem_private_key(pem, PASSPHRASE.encode())
    plain = (Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert again.private_bytes(*plain) == key.private_bytes(*plain)
    with pytest.raises(ValueError, match="password"):
        load_pem_private_key(pem, b"another")
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    opened = subprocess.run(
        ["openssl", "pkey", "-in", "key.pem", "-passin", "file:passphrase", "-outform", "DER"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert opened.stdout


@pytest.mark.processes
def test_a_key_is_derived_in_the_rounds_that_owasp_recommends() -> None:
    key = ALGORITHMS["EdDSA"].generate()
    pem = pem_of(key, PASSPHRASE)
    parsed = subprocess.run(["openssl", "asn1parse"], input=pem, check=True, capture_output=True).stdout
    assert f"{ROUNDS:X}".zfill(6).encode() in parsed
    assert b"hmacWithSHA256" in parsed
    assert is_current(pem)


def test_each_file_has_a_salt_of_its_own() -> None:
    key = ALGORITHMS["EdDSA"].generate()
    assert pem_of(key, PASSPHRASE) != pem_of(key, PASSPHRASE)


def test_keys_encrypted_weakly_or_not_at_all_open_and_are_rewritten(tmp_path: Path) -> None:
    directory = PemDirectory(tmp_path / "keys")
    passphrase: list[str | None] = [None]
    signer = PemSigner(directory, lambda: passphrase[0])
    plain = signer.generate("EdDSA")
    passphrase[0] = PASSPHRASE
    weak_key = ALGORITHMS["EdDSA"].generate()
    weak = ALGORITHMS["EdDSA"].public_key(weak_key)
    old = BestAvailableEncryption(PASSPHRASE.encode())
    directory.write(weak.kid, weak_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, old))
    signer.keep(plain.kid)
    signer.keep(weak.kid)
    signer.load(weak.kid, "EdDSA")
    assert not is_current(directory.read(weak.kid))
    assert signer.rewrap(PASSPHRASE) == 2
    assert all(is_current(directory.read(kid)) for kid in (plain.kid, weak.kid))
    fresh = PemSigner(directory, lambda: PASSPHRASE)
    fresh.load(plain.kid, "EdDSA")
    fresh.load(weak.kid, "EdDSA")
    assert signer.rewrap(PASSPHRASE) == 0


@pytest.mark.parametrize("text", [b"", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n!!\n", b"\xff", b"MAA="])
def test_text_that_is_no_encrypted_key_is_not_current(text: bytes) -> None:
    assert not is_current(text)


@pytest.mark.parametrize("content", [b"", b"  \n", b"a\0b", b"\xff", b"x" * 1024])
def test_a_new_passphrase_that_no_node_could_use_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "new"
    file.write_bytes(content)
    with pytest.raises(CommandError, match="passphrase"):
        _new_passphrase(file)
