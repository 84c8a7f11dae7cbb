"""Hashing: its strength, moving in from older schemes, the same work for everybody, and the bounded pool."""

import asyncio
import os
import sys
import threading

import pytest
from passlib.hash import bcrypt, pbkdf2_sha256, scrypt

from issuer.oauth import Unavailable
from issuer.passwords import (
    BACK_WITHIN_SECONDS,
    GIVE_WAY,
    NICEST,
    QUEUE_LIMIT,
    HashingPool,
    Passwords,
    WrongPassword,
)

passwords = Passwords()


def test_a_hash_is_argon2id_with_19_mib_two_passes_and_one_lane() -> None:
    assert passwords.hash("a password").startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_the_right_password_is_accepted_and_its_hash_is_up_to_date() -> None:
    assert passwords.verify("a password", passwords.hash("a password")) is None


def test_a_wrong_password_and_an_unknown_user_are_refused() -> None:
    for password_hash in (passwords.hash("a password"), None, "not a hash", ""):
        with pytest.raises(WrongPassword):
            passwords.verify("another", password_hash)


def test_the_password_of_the_dummy_opens_nothing() -> None:
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
def test_older_schemes_and_weaker_parameters_verify_and_are_upgraded(older: str) -> None:
    better = passwords.verify("a password", older)
    assert better is not None
    assert passwords.verify("a password", better) is None
    with pytest.raises(WrongPassword):
        passwords.verify("another", older)


def test_a_password_too_long_for_an_older_scheme_is_a_wrong_one() -> None:
    with pytest.raises(WrongPassword):
        passwords.verify("x" * 100, bcrypt.using(rounds=4).hash("a password"))


def test_an_unknown_user_costs_one_verification_like_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Passwords()
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


def test_beyond_its_queue_the_pool_refuses_at_once_and_recovers() -> None:
    async def flood() -> None:
        pool = HashingPool(threads=1)
        gate = threading.Event()
        waiting = [asyncio.create_task(pool.run(gate.wait)) for _ in range(QUEUE_LIMIT + 1)]
        await asyncio.sleep(0)
        told = set()
        for _ in range(200):
            with pytest.raises(Unavailable) as refusal:
                await pool.run(gate.wait)
            assert refusal.value.retry_after
            told.add(refusal.value.retry_after.total_seconds())
        assert told == set(range(1, BACK_WITHIN_SECONDS + 1))  # they do not all come back at once
        gate.set()
        assert all(await asyncio.gather(*waiting))
        assert await pool.run(str, 1) == "1"
        pool.close()

    asyncio.run(flood())


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_hashing_gives_way_to_all_else_in_the_process() -> None:
    async def niceness() -> int:
        pool = HashingPool(threads=1)
        try:
            return await pool.run(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        finally:
            pool.close()

    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert asyncio.run(niceness()) == min(NICEST, own + GIVE_WAY)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own
