"""Hashing: its strength, the upgrade from older schemes, and equal work for every account."""

import pytest
from passlib.hash import bcrypt, pbkdf2_sha256, scrypt
from support.cheap import production_passwords

from issuer.accounts.passwords import Passwords, WrongPassword

passwords = production_passwords()


def test_a_hash_is_argon2id_with_19_mib_two_passes_and_one_lane() -> None:
    assert passwords.hash("a password").startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_the_right_password_is_accepted_and_needs_no_new_hash() -> None:
    assert passwords.verify("a password", passwords.hash("a password")) is None


def test_a_wrong_password_and_an_unknown_user_are_rejected() -> None:
    for password_hash in (passwords.hash("a password"), None, "not a hash", ""):
        with pytest.raises(WrongPassword):
            passwords.verify("another", password_hash)


def test_the_password_of_the_dummy_hash_is_rejected() -> None:
    with pytest.raises(WrongPassword):
        passwords.verify("no account has this password", None)


@pytest.mark.parametrize(
    "older",
    [
        bcrypt.using(rounds=4).hash("a password"),
        pbkdf2_sha256.using(rounds=1000).hash("a password"),
        scrypt.using(rounds=4).hash("a password"),
        Passwords(memory_kib=8, passes=1).hash("a password"),
    ],
    ids=["bcrypt", "pbkdf2_sha256", "scrypt", "argon2, weaker"],
)
def test_older_schemes_and_weaker_parameters_are_verified_and_rehashed(older: str) -> None:
    better = passwords.verify("a password", older)
    assert better is not None
    assert passwords.verify("a password", better) is None
    with pytest.raises(WrongPassword):
        passwords.verify("another", older)


def test_a_password_too_long_for_an_older_scheme_is_rejected() -> None:
    with pytest.raises(WrongPassword):
        passwords.verify("x" * 100, bcrypt.using(rounds=4).hash("a password"))


def test_an_unknown_user_costs_one_verification_as_a_known_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = production_passwords()
    verifications: list[str] = []
    real = counted._context.verify_and_update

    def count(password: str, password_hash: str) -> tuple[bool, str | None]:
        verifications.append(password_hash.rpartition("$")[0].rpartition("$")[0])
        return real(password, password_hash)  # type: ignore[no-any-return]

    monkeypatch.setattr(counted._context, "verify_and_update", count)
    for password_hash in (counted.hash("a password"), None):
        with pytest.raises(WrongPassword):
            counted.verify("another", password_hash)
    assert verifications == ["$argon2id$v=19$m=19456,t=2,p=1"] * 2
