"""Hashes that others made: each is verified as its maker made it, and then replaced by one of ours.

Which hashes an import accepts is in `administration/test_user_import`.
"""

import unicodedata
from collections.abc import Callable

import argon2.low_level
import bcrypt
import pytest
from passlib.hash import argon2 as passlib_argon2
from passlib.hash import bcrypt_sha256, pbkdf2_sha256, pbkdf2_sha512, scrypt
from support.defaults import START

from issuer.accounts.passwords import BadHash, Passwords, WrongPassword
from issuer.accounts.registration import register_user
from issuer.oauth import LoginFailed
from issuer.throttling.origin import Origin
from issuer.wiring import Issuer

passwords = Passwords()
ORIGIN = Origin("a test", "198.18.0.1")
LONG = "correct horse battery staple " * 4
ACCENTS = "x" + "é" * 60
"""Of 121 bytes, the 72nd of which is in the middle of a character."""


def made_by_bcrypt(password: str, ident: str = "2b") -> str:
    """Hash as makers do that cut at 72 bytes."""
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
def test_bcrypt_is_verified_by_the_bytes_that_it_reads(password: str, ident: str) -> None:
    verified(password, made_by_bcrypt(password, ident))


def test_what_replaces_the_hash_of_a_long_password_asks_for_all_of_it() -> None:
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
def test_other_schemes_read_all_of_a_password(make: Callable[[str], str]) -> None:
    made = make(LONG)
    verified(LONG, made)
    with pytest.raises(WrongPassword):
        passwords.verify(LONG[:72], made)


@pytest.mark.parametrize("version", [16, 19])
def test_argon2_of_both_versions_is_verified_in_each_way_to_write_it(version: int) -> None:
    made = argon2.low_level.hash_secret(
        b"a password", b"saltsalt", 1, 64, 1, 32, argon2.low_level.Type.I, version=version
    ).decode()
    verified("a password", made)
    if version == 16:
        verified("a password", made.replace("$v=16$", "$"))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_hash_made_of_a_password_as_it_was_typed_is_verified(form: str) -> None:
    typed = unicodedata.normalize("NFD", "Pässwörter für Zoë")
    made = made_by_bcrypt(unicodedata.normalize(form, typed))
    better = verified(typed, made)
    assert passwords.verify(unicodedata.normalize("NFC", typed), better) is None


def test_a_password_of_up_to_4096_bytes_logs_in_by_an_imported_hash(issuer: Issuer) -> None:
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


def test_a_stored_hash_that_cannot_be_verified_is_a_wrong_password_and_no_error() -> None:
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
"""Of a fixed salt: the names of tests must be the same in every process."""


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
def test_what_others_write_in_another_form_is_refused_with_its_name(foreign: str, whose: str) -> None:
    with pytest.raises(BadHash, match=f"{whose}.*; known are argon2, "):
        passwords.require_verifiable(foreign)
