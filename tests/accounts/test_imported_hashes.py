"""Imported hashes: each is verified as its program made it, and replaced by one of ours at log-in.

Which hashes an import accepts is in `administration/test_user_import`.
"""

import unicodedata
from collections.abc import Callable

import argon2.low_level
import bcrypt
import pytest
from passlib.hash import argon2 as passlib_argon2
from passlib.hash import bcrypt_sha256, pbkdf2_sha256, pbkdf2_sha512, scrypt
from pwdlib import PasswordHash
from pwdlib.hashers import HasherProtocol
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher
from support.cheap import production_passwords
from support.defaults import START

from issuer.accounts.passwords import BadHash, WrongPassword
from issuer.accounts.registration import register_user
from issuer.oauth import LoginFailed
from issuer.services import Issuer
from issuer.throttling.origin import Origin

passwords = production_passwords()
ORIGIN = Origin("a test", "198.18.0.1")
LONG = "correct horse battery staple " * 4
ACCENTS = "x" + "é" * 60
"""Of 121 bytes; the 72nd is within a character."""


def made_by_bcrypt(password: str, ident: str = "2b") -> str:
    """Hash like systems that truncate at 72 bytes."""
    made = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    return f"${ident}${made[4:]}"


def verified(password: str, password_hash: str) -> str:
    """Return the hash that replaces an imported one."""
    passwords.require_verifiable(password_hash)
    better = passwords.verify(password, password_hash)
    assert better is not None
    assert better.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert passwords.verify(password, better) is None
    return better


@pytest.mark.parametrize("ident", ["2a", "2b", "2y"])
@pytest.mark.parametrize("password", [LONG, ACCENTS, "y" * 72, "y" * 73, "z" * 1025, "short"])
def test_bcrypt_verifies_only_the_first_72_bytes(password: str, ident: str) -> None:
    verified(password, made_by_bcrypt(password, ident))


def test_the_new_hash_of_a_long_password_covers_all_of_it() -> None:
    better = verified(LONG, made_by_bcrypt(LONG))
    for other in (LONG[:72], LONG + "x", LONG[:-1]):
        with pytest.raises(WrongPassword):
            passwords.verify(other, better)


def test_a_long_password_that_differs_within_the_first_72_bytes_is_wrong() -> None:
    with pytest.raises(WrongPassword):
        passwords.verify("X" + LONG[1:], made_by_bcrypt(LONG))


@pytest.mark.parametrize(
    "make",
    [
        bcrypt_sha256.using(rounds=4).hash,
        bcrypt_sha256.using(rounds=4, version=1).hash,
        pbkdf2_sha256.using(rounds=1000).hash,
        pbkdf2_sha512.using(rounds=1000).hash,
        scrypt.using(rounds=4).hash,
        passlib_argon2.using(type="I", memory_cost=64, time_cost=1, parallelism=1).hash,
        passlib_argon2.using(type="D", memory_cost=64, time_cost=1, parallelism=1).hash,
        passlib_argon2.using(type="ID", memory_cost=64, time_cost=1, parallelism=2, salt_len=8).hash,
    ],
)
def test_other_schemes_use_the_whole_password(make: Callable[[str], str]) -> None:
    made = make(LONG)
    verified(LONG, made)
    with pytest.raises(WrongPassword):
        passwords.verify(LONG[:72], made)


@pytest.mark.parametrize("hasher", [Argon2Hasher(), BcryptHasher(rounds=4)])
def test_hashes_of_pwdlib_are_verified(hasher: HasherProtocol) -> None:
    verified("a password", PasswordHash([hasher]).hash("a password"))


@pytest.mark.parametrize("version", [16, 19])
def test_both_versions_of_argon2_are_verified_in_every_notation(version: int) -> None:
    made = argon2.low_level.hash_secret(
        b"a password", b"saltsalt", 1, 64, 1, 32, argon2.low_level.Type.I, version=version
    ).decode()
    verified("a password", made)
    if version == 16:
        verified("a password", made.replace("$v=16$", "$"))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_hash_of_an_unnormalized_password_is_verified(form: str) -> None:
    typed = unicodedata.normalize("NFD", "Pässwörter für Zoë")
    made = made_by_bcrypt(unicodedata.normalize(form, typed))
    better = verified(typed, made)
    assert passwords.verify(unicodedata.normalize("NFC", typed), better) is None


def test_a_password_of_up_to_4096_bytes_logs_in_with_an_imported_hash(issuer: Issuer) -> None:
    issuer.keys.node.refresh()
    user = register_user(
        issuer.accounts.store, issuer.accounts.passwords, "carol", "violet otters juggle", START
    )
    for length, fits in ((4096, True), (4097, False)):
        issuer.tokens.families.set_password_hash(user.id, made_by_bcrypt("p" * length), START)
        credentials = {"username": "carol", "password": "p" * length}
        if fits:
            assert issuer.tokens.pipeline.login(credentials, ORIGIN, START).access_token
        else:
            with pytest.raises(LoginFailed):
                issuer.tokens.pipeline.login(credentials, ORIGIN, START)


def test_an_unverifiable_stored_hash_counts_as_a_wrong_password() -> None:
    for broken in (
        "$argon2id$v=19$m=64,t=1,p=1,keyid=YQ$c2FsdHNhbHQ$" + "A" * 43,
        "$argon2id$v=19$m=64,t=1,p=1,data=YQ$c2FsdHNhbHQ$" + "A" * 43,
        made_by_bcrypt("a password").replace("$2b$", "$2x$"),
        "$2b$04$",
        "$scrypt$ln=4,r=8,p=1$",
        "{bcrypt}" + made_by_bcrypt("a password"),
        "\ud800",
    ):
        with pytest.raises(WrongPassword):
            passwords.verify("a password", broken)


BCRYPT = bcrypt.hashpw(b"a", b"$2b$04$" + b"abcdefghijklmnopqrstuu").decode()
"""With a fixed salt, as test ids must be the same in every process."""


@pytest.mark.parametrize(
    ("foreign", "whose"),
    [
        ("pbkdf2_sha256$600000$salt$aGFzaA==", "Django"),
        ("bcrypt_sha256$" + BCRYPT, "Django"),
        ("argon2$argon2id$v=19$m=102400,t=2,p=8$c2FsdA$aGFzaA", "Django"),
        ("scrypt:32768:8:1$salt$00ff", "Werkzeug"),
        ("pbkdf2:sha256:1000000$salt$00ff", "Werkzeug"),
        ("{bcrypt}" + BCRYPT, "Spring"),
        ("{SSHA}c2FsdA==", "LDAP"),
        ("$P$BIRXVj/ZG0YRiBH8gnRy0x72UPnzjb/", "phpass"),
        ("$6$salt$hash", "crypt"),
        ("$y$j9T$salt$hash", "crypt"),
        ("5f4dcc3b5aa765d61d8327deb882cf99", "plain digest"),
        (BCRYPT.replace("$2b$", "$2x$"), r"\$2x\$"),
    ],
)
def test_unsupported_hash_formats_are_rejected_by_name(foreign: str, whose: str) -> None:
    with pytest.raises(BadHash, match=f"{whose}.*; known are argon2, "):
        passwords.require_verifiable(foreign)
