"""An unknown name is verified against the hash of an account drawn for it, so that the time reveals nothing.

Proved by which hash is verified, not by the time that takes.
"""

import threading
from collections import Counter
from functools import partial
from typing import Any

import pytest
from passlib.context import CryptContext
from passlib.hash import bcrypt, pbkdf2_sha256
from support.defaults import START

from issuer.accounts.passwords import Passwords
from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.clients.client import FIRST_PARTY_ID
from issuer.database.database import Database
from issuer.oauth import InvalidGrant, LoginFailed, OAuthRequest, TooManyAttempts
from issuer.services import Issuer
from issuer.throttling.limits import ACCOUNT
from issuer.throttling.origin import Origin

OURS = Passwords(memory_kib=8, passes=1).hash("violet otters juggle")
BCRYPT = bcrypt.using(rounds=4).hash("violet otters juggle")
PBKDF2 = pbkdf2_sha256.using(rounds=1000).hash("violet otters juggle")


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records the hashes against which passwords are verified, without the work."""
    seen: list[str] = []

    def note(_self: Passwords, _secret: bytes, password_hash: str) -> tuple[bool, None]:
        seen.append(password_hash)
        return False, None

    monkeypatch.setattr(Passwords, "_verify", note)
    return seen


def fill(accounts: AccountStore, *hashes: str) -> list[User]:
    users = [
        User(f"00000000-0000-7000-8000-{at:012}", f"user-{at}", each, frozenset(), START)
        for at, each in enumerate(hashes)  # identifiers that are near each other, as those of version 7
    ]
    accounts.add_all(users)
    return users


def log_in(issuer: Issuer, name: str, at: int = 0, typed: str = "violet otters") -> None:
    origin = Origin("a test", f"198.18.{at // 250}.{at % 250}")
    with pytest.raises((LoginFailed, TooManyAttempts)):
        issuer.tokens.pipeline.login({"username": name, "password": typed}, origin, START)


def test_an_unknown_name_is_verified_with_the_scheme_of_one_fixed_account(
    issuer: Issuer, verified: list[str]
) -> None:
    issuer.keys.node.refresh()
    fill(issuer.accounts.store, *[BCRYPT, PBKDF2, OURS] * 5)
    names = [f"nobody-{at}" for at in range(30)]
    for _ in range(2):
        for at, name in enumerate(names):
            log_in(issuer, name, at)
    first, second = verified[:30], verified[30:]
    assert first == second
    assert set(first) == {BCRYPT, PBKDF2, OURS}


def test_every_failed_log_in_verifies_one_password(issuer: Issuer, verified: list[str]) -> None:
    issuer.keys.node.refresh()
    known, disabled, _ = fill(issuer.accounts.store, BCRYPT, PBKDF2, OURS)
    issuer.tokens.families.disable(disabled.id, START)
    log_in(issuer, known.username)
    log_in(issuer, disabled.username)
    log_in(issuer, "nobody")
    log_in(issuer, "nobody", typed="too long" * 1000)
    log_in(issuer, "n\ud800", 1)
    assert verified[:2] == [BCRYPT, PBKDF2]
    assert len(verified) == 5
    assert set(verified) <= {BCRYPT, PBKDF2, OURS}


@pytest.mark.parametrize("impossible", ["too long" * 1000, "a\0b", "\ud800"])
def test_a_password_that_no_account_can_have_costs_the_same_work(
    issuer: Issuer, verified: list[str], impossible: str
) -> None:
    issuer.keys.node.refresh()
    users = fill(issuer.accounts.store, *[BCRYPT, PBKDF2, OURS] * 3)
    for typed in ("violet otters", impossible):
        for at, user in enumerate(users):
            log_in(issuer, user.username, at, typed)
        log_in(issuer, "nobody", len(users), typed)
    assert verified[:10] == verified[10:]
    assert verified[:9] == [BCRYPT, PBKDF2, OURS] * 3


def test_no_password_logs_in_to_an_account_that_must_not(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password that matches an older hash is rehashed, which takes time that attackers could measure."""
    outcomes: list[tuple[bool, str | None]] = []
    real = Passwords._verify

    def note(self: Passwords, secret: bytes, password_hash: str) -> tuple[bool, str | None]:
        outcomes.append(real(self, secret, password_hash))
        return outcomes[-1]

    monkeypatch.setattr(Passwords, "_verify", note)
    issuer.keys.node.refresh()
    right = "violet otters juggle"
    (user,) = fill(issuer.accounts.store, BCRYPT)
    assert issuer.accounts.store.decoy_hash("nobody") == BCRYPT
    log_in(issuer, "nobody", typed=right)
    for at in range(ACCOUNT.free + 1):
        log_in(issuer, user.username, at + 1)
    log_in(issuer, user.username, 100, typed=right)  # a stranger, after too many guesses
    assert outcomes == [(False, None)] * (ACCOUNT.free + 3)


@pytest.mark.parametrize("endpoint", ["login", "token"])
def test_every_failed_login_hashes_once_and_does_not_reveal_the_right_password(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    """Counted in passlib itself, as making a hash takes as long as verifying one."""
    hashed: list[str] = []

    def counting(kind: str) -> None:
        real = getattr(CryptContext, kind)

        def call(self: CryptContext, secret: bytes, *args: Any, **named: Any) -> Any:
            hashed.append(kind)
            return real(self, secret, *args, **named)

        monkeypatch.setattr(CryptContext, kind, call)

    def attempt(name: str, typed: str, at: int) -> None:
        origin, form = Origin("a test", f"198.18.7.{at}"), {"username": name, "password": typed}
        pipeline, token = issuer.tokens.pipeline, {"grant_type": "password", "client_id": FIRST_PARTY_ID}
        calls: dict[str, partial[Any]] = {
            "login": partial(pipeline.login, form, origin, START),
            "token": partial(pipeline.grant, OAuthRequest({**form, **token}), origin, START),
        }
        with pytest.raises((LoginFailed, InvalidGrant, TooManyAttempts)):
            calls[endpoint]()

    issuer.keys.node.refresh()
    right = "violet otters juggle"
    foreign, ours, disabled, disabled_ours, locked = fill(
        issuer.accounts.store, BCRYPT, OURS, BCRYPT, OURS, PBKDF2
    )
    for user in (disabled, disabled_ours):
        issuer.tokens.families.disable(user.id, START)
    for at in range(ACCOUNT.free + 1):
        attempt(locked.username, "wrong", 100 + at)
    for kind in ("verify", "verify_and_update", "hash"):
        counting(kind)
    attempts = {
        "unknown": ("nobody", right),
        "wrong": (ours.username, "wrong"),
        "wrong, of a hash made elsewhere": (foreign.username, "wrong"),
        "disabled, wrong": (disabled.username, "wrong"),
        "disabled, right": (disabled.username, right),
        "disabled, right, of our own hash": (disabled_ours.username, right),
        "locked, right": (locked.username, right),
        "impossible name": ("n\ud800", right),
        "too long a name": ("n" * 100_000, right),
        "too long": (foreign.username, "too long" * 1000),
        "too long, disabled": (disabled.username, "too long" * 1000),
        "impossible": (ours.username, "a\0b"),
        "impossible, unknown": ("nobody", "a\0b"),
    }
    counts = {}
    for at, (case, (name, typed)) in enumerate(attempts.items()):
        hashed.clear()
        attempt(name, typed, at)
        counts[case] = tuple(hashed)
    assert counts == dict.fromkeys(attempts, ("verify_and_update",))


def test_the_substitute_for_an_impossible_password_opens_no_account(issuer: Issuer) -> None:
    issuer.keys.node.refresh()
    (user,) = fill(issuer.accounts.store, bcrypt.using(rounds=4).hash("x"))
    log_in(issuer, user.username, typed="a\0b")


def test_unknown_names_have_the_same_mix_of_schemes_as_accounts(database: Database) -> None:
    accounts = AccountStore(database)
    users = fill(accounts, *[BCRYPT] * 150, *[OURS] * 50)
    names = [f"nobody-{at}" for at in range(1000)]
    before = {name: accounts.decoy_hash(name) for name in names}
    share = Counter(before.values())[BCRYPT] / len(names)
    assert 0.5 < share < 0.95  # 0.75, give or take what chance does
    with database.write() as connection:  # as after the log-in of each owner
        connection.exec_driver_sql("UPDATE users SET password_hash = ?", (OURS,))
    assert {accounts.decoy_hash(name) for name in names} == {OURS}
    assert len(users) == 200


def test_a_name_is_assigned_the_same_decoy_in_every_process_and_spelling(database: Database) -> None:
    here, there = AccountStore(database), AccountStore(database)
    fill(here, *(replaced(at) for at in range(50)))
    drawn = [here.decoy_hash(f"Nobody-{at}") for at in range(50)]
    assert drawn == [there.decoy_hash(f"nobody-{at}") for at in range(50)]
    assert len(set(drawn)) > 10


def replaced(at: int) -> str:
    return f"{BCRYPT[:-2]}{at:02}"


def test_another_installation_assigns_other_decoys(database: Database, tmp_path: object) -> None:
    accounts = AccountStore(database)
    fill(accounts, *(replaced(at) for at in range(50)))
    names = [f"nobody-{at}" for at in range(50)]
    drawn = [accounts.decoy_hash(name) for name in names]
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM secrets")
    assert [AccountStore(database).decoy_hash(name) for name in names] != drawn


def test_without_accounts_an_unknown_name_costs_as_much_as_a_new_account(
    issuer: Issuer, verified: list[str]
) -> None:
    issuer.keys.node.refresh()
    log_in(issuer, "nobody")
    assert verified == [issuer.accounts.passwords._dummy]


def test_processes_that_start_together_share_one_secret(database: Database) -> None:
    stores = [AccountStore(database) for _ in range(4)]
    fill(stores[0], *(replaced(at) for at in range(50)))
    drawn: list[str | None] = [None] * 4

    def draw(at: int) -> None:
        drawn[at] = stores[at].decoy_hash("nobody")

    threads = [threading.Thread(target=draw, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(drawn)) == 1


def test_the_password_of_a_decoy_account_does_not_log_in(issuer: Issuer) -> None:
    issuer.keys.node.refresh()
    (user,) = fill(issuer.accounts.store, OURS)
    assert issuer.accounts.store.decoy_hash("nobody") == OURS
    log_in(issuer, "nobody", typed="violet otters juggle")
    credentials = {"username": user.username, "password": "violet otters juggle"}
    assert issuer.tokens.pipeline.login(credentials, Origin("a test", "198.18.9.9"), START).access_token
