"""Private keys that are imported or encrypted under another passphrase, in a directory and in the database."""

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from support.defaults import MovableClock
from support.ring_nodes import FAST, files, kids

from issuer.database.database import Database
from issuer.errors import KeyUnavailable, NoRing, Refused, WrongPassphrase
from issuer.keyring.ring import Phase
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore
from issuer.signing import key_import
from issuer.signing.key_import import PassphraseNeeded, algorithm_for, read_private_key
from issuer.signing.pem import PemSigner, PemStorage
from issuer.signing.pem_database import PemDatabase
from issuer.signing.pem_directory import PemDirectory
from issuer.signing.self_test import prove

OLD, NEW = "the old passphrase", "the new passphrase"


@pytest.fixture(params=["directory", "database"])
def storage(request: pytest.FixtureRequest, database: Database, keys: Path) -> PemStorage:
    return PemDatabase(database) if request.param == "database" else PemDirectory(keys)


def made(storage: PemStorage, count: int, passphrase: str | None = OLD) -> list[str]:
    signer = PemSigner(storage, lambda: passphrase)
    made = [signer.generate("ES256").kid for _ in range(count)]
    for kid in made[:-1]:  # the last one is pending
        signer.keep(kid)
    return made


def opens(storage: PemStorage, kid: str, passphrase: str | None) -> bool:
    try:
        PemSigner(storage, lambda: passphrase).load(kid, "ES256")
    except KeyUnavailable:
        return False
    return True


@pytest.mark.parametrize("old", [OLD, None])
def test_rewrapping_puts_every_key_under_the_new_passphrase_and_doing_it_again_changes_nothing(
    storage: PemStorage, old: str | None
) -> None:
    made_kids = made(storage, 3, old)
    assert PemSigner(storage, lambda: old).rewrap(NEW) == 3
    assert all(opens(storage, kid, NEW) and not opens(storage, kid, old) for kid in made_kids)
    assert PemSigner(storage, lambda: old).rewrap(NEW) == 0


class Crash(BaseException):
    """The process ends here."""


def test_an_interrupted_rewrapping_loses_no_key_and_is_completed_by_the_next(storage: PemStorage) -> None:
    made_kids = made(storage, 3)
    rewrite = storage.rewrite
    done: list[str] = []

    def crash_at_the_second(kid: str, pem: bytes) -> None:
        if done:
            raise Crash
        rewrite(kid, pem)
        done.append(kid)

    storage.rewrite = crash_at_the_second  # type: ignore[method-assign]
    with pytest.raises(Crash):
        PemSigner(storage, lambda: OLD).rewrap(NEW)
    storage.rewrite = rewrite  # type: ignore[method-assign]
    assert sorted(opens(storage, kid, NEW) for kid in made_kids) == [False, False, True]
    assert PemSigner(storage, lambda: OLD).rewrap(NEW) == 2
    assert all(opens(storage, kid, NEW) for kid in made_kids)


def test_a_key_that_opens_with_neither_passphrase_stops_the_rewrapping_before_anything_is_changed(
    storage: PemStorage,
) -> None:
    made_kids = made(storage, 3)
    with pytest.raises(KeyUnavailable, match="does not open"):
        PemSigner(storage, lambda: "another").rewrap(NEW)
    assert all(opens(storage, kid, OLD) for kid in made_kids)


def test_a_node_with_the_old_passphrase_keeps_signing_but_generates_no_key(
    storage: PemStorage,
) -> None:
    passphrases = [OLD]
    node = PemSigner(storage, lambda: passphrases[-1])
    public = node.generate("ES256")
    node.keep(public.kid)
    PemSigner(storage, lambda: OLD).rewrap(NEW)
    assert node.sign(public.kid, b"data")
    with pytest.raises(KeyUnavailable, match="passphrase"):
        node.generate("ES256")
    passphrases.append(NEW)  # its file was changed, and it reads it again
    assert opens(storage, node.generate("ES256").kid, NEW)


def test_a_key_that_is_removed_while_it_is_rewrapped_stays_removed(storage: PemStorage) -> None:
    made(storage, 2)
    rewrite = storage.rewrite

    def too_late(kid: str, pem: bytes) -> None:
        storage.remove(kid)
        rewrite(kid, pem)

    storage.rewrite = too_late  # type: ignore[method-assign]
    PemSigner(storage, lambda: OLD).rewrap(NEW)
    assert storage.kept() | storage.pending() == frozenset()


def test_two_rewrappings_at_once_do_not_both_claim_to_have_done_it(storage: PemStorage) -> None:
    made(storage, 2)
    rewrite, others = storage.rewrite, [1]

    def interrupted(kid: str, pem: bytes) -> None:
        rewrite(kid, pem)
        if others:
            others.pop()
            PemSigner(storage, lambda: NEW).rewrap("a third") if opens(storage, kid, NEW) else None

    storage.rewrite = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyUnavailable):
        PemSigner(storage, lambda: OLD).rewrap(NEW)


def test_a_kept_key_is_not_overwritten_by_a_pending_one_of_its_name(storage: PemStorage) -> None:
    kid, _ = made(storage, 2)
    if isinstance(storage, PemDatabase):
        with pytest.raises(KeyUnavailable, match="already"):
            storage.write(kid, b"another text")
    else:
        storage.write(kid, b"another text")
        storage.keep(kid)
    assert opens(storage, kid, OLD)


def test_orphans_are_reported_by_name(storage: PemStorage, keys: Path) -> None:
    first, second = made(storage, 2)
    assert storage.orphans([first, second]) == []
    (stray,) = storage.orphans([first])
    assert second in stray
    if isinstance(storage, PemDirectory):
        (keys / "lost+found").mkdir()  # the file system's, on a volume for keys alone
        (keys / "notes.txt").touch()
        assert storage.orphans([first, second]) == ["notes.txt"]


@pytest.mark.parametrize("remains", [0.0, 0.5])
@pytest.mark.parametrize("passphrase", [None, OLD], ids=["plain", "encrypted"])
def test_a_truncated_file_is_distinguished_from_a_wrong_passphrase(
    keys: Path, passphrase: str | None, remains: float
) -> None:
    signer = PemSigner(PemDirectory(keys), lambda: passphrase)
    kid = signer.generate("ES256").kid
    signer.keep(kid)
    file = keys / f"{kid}.pem"
    file.write_bytes(file.read_bytes()[: int(remains * file.stat().st_size)])
    with pytest.raises(KeyUnavailable, match="is damaged, and no passphrase opens it") as refused:
        PemSigner(PemDirectory(keys), lambda: passphrase).load(kid, "ES256")
    assert not isinstance(refused.value, WrongPassphrase)


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK], ids=["a FIFO", "a socket"])
@pytest.mark.parametrize("use", ["load", "rewrap", "generate"])
def test_a_pipe_or_device_in_place_of_a_private_key_is_reported_without_blocking(
    keys: Path, kind: int, use: str
) -> None:
    kid, _ = made(PemDirectory(keys), 2)
    file = keys / f"{kid}.pem"
    file.unlink()
    os.mknod(file, kind | 0o600)
    signer = PemSigner(PemDirectory(keys), lambda: OLD)
    uses: dict[str, Callable[[], object]] = {
        "load": lambda: signer.load(kid, "ES256"),
        "rewrap": lambda: signer.rewrap(NEW),
        "generate": lambda: signer.generate("ES256"),
    }
    with ThreadPoolExecutor(1) as pool:
        submitted = pool.submit(uses[use])
        wait([submitted], timeout=60)
        with suppress(OSError):  # lets go who waits for a writer after all; refused if nobody does
            os.close(os.open(file, os.O_WRONLY | os.O_NONBLOCK))
        with pytest.raises(KeyUnavailable, match=f"{kid}.pem is not a file"):
            submitted.result()


def test_a_pipe_or_file_in_place_of_the_directory_is_reported_without_blocking(tmp_path: Path) -> None:
    fifo = tmp_path / "keys"
    os.mkfifo(fifo, 0o700)
    somebody = os.open(fifo, os.O_RDWR)  # who opens it to read would wait for a writer otherwise
    with pytest.raises(KeyUnavailable, match="Not a directory"):
        PemDirectory(fifo).keep("a" * 43)
    os.close(somebody)


# Taking in


def pem_of(key: Any, passphrase: str | None = None) -> bytes:
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return pem


SOUND = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("key", "preferred", "alg"),
    [
        (SOUND, "RS256", "RS256"),
        (SOUND, "PS256", "PS256"),
        (SOUND, "ES256", "RS256"),
        (ec.generate_private_key(ec.SECP256R1()), "RS256", "ES256"),
        (ed25519.Ed25519PrivateKey.generate(), "RS256", "EdDSA"),
    ],
)
def test_a_strong_key_is_read_and_gets_its_algorithm(key: Any, preferred: str, alg: str) -> None:
    assert algorithm_for(read_private_key(pem_of(key), None), preferred) == alg
    assert algorithm_for(read_private_key(pem_of(key, OLD), OLD), preferred) == alg


@pytest.mark.parametrize(
    ("pem", "passphrase", "says"),
    [
        (b"nonsense", None, "not the PEM"),
        (pem_of(SOUND) * 2, None, "more than one"),
        (pem_of(SOUND, OLD), NEW, "passphrase"),
        (pem_of(SOUND), OLD, "not encrypted"),
        (pem_of(dsa.generate_private_key(2048)), None, "must be RSA"),
    ],
)
def test_a_pem_that_is_no_readable_key_is_refused(pem: bytes, passphrase: str | None, says: str) -> None:
    with pytest.raises(Refused, match=says):
        read_private_key(pem, passphrase)


def test_an_encrypted_key_needs_its_passphrase() -> None:
    with pytest.raises(PassphraseNeeded):
        read_private_key(pem_of(SOUND, OLD), None)


def close_primes() -> rsa.RSAPrivateKey:
    """Return a key whose primes are neighbours."""
    p = SOUND.private_numbers().p | 1
    q = next(n for n in range(p + 2, p + 20_000, 2) if pow(2, n - 1, n) == 1)
    return composed(p, q)


def roca() -> rsa.RSAPrivateKey:
    """Return a key as the generator of CVE-2017-15361 made them: each prime is a power of 65537 modulo M."""
    product = 1
    for prime in key_import._ROCA_PRIMES:
        product *= prime
    primes: list[int] = []
    number = 3 << 1022
    number += pow(65537, 123, product) - number % product
    while len(primes) < 2:
        number += product
        if number % 2 and pow(2, number - 1, number) == 1:
            primes.append(number)
            number += product << 900 - product.bit_length()
    return composed(*primes)


def composed(p: int, q: int) -> rsa.RSAPrivateKey:
    d = pow(65537, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(65537, p * q)
    parts = (d % (p - 1), d % (q - 1), pow(q, -1, p))
    return rsa.RSAPrivateNumbers(p, q, d, *parts, public).private_key(unsafe_skip_rsa_key_validation=True)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: rsa.generate_private_key(65537, 1024), "1024 bits"),  # noqa: S505 - that is the point
        (lambda: rsa.generate_private_key(3, 2048), "exponent is 3"),
        (close_primes, "so close"),
        (roca, "CVE-2017-15361"),
        (lambda: ec.generate_private_key(ec.SECP384R1()), "P-256"),
    ],
)
def test_a_weak_key_is_refused(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(Refused, match=says):
        algorithm_for(make(), "RS256")


@pytest.fixture
def signer(keys: Path) -> PemSigner:
    return PemSigner(PemDirectory(keys), lambda: OLD)


@pytest.fixture
def rotation(database: Database, signer: PemSigner, clock: MovableClock) -> Rotation:
    return Rotation(RingStore(database), signer, FAST, clock, "me")


def test_an_imported_key_waits_as_a_standby_for_its_lead(
    rotation: Rotation, signer: PemSigner, keys: Path, clock: MovableClock
) -> None:
    rotation.reconcile()
    public = signer.import_key(SOUND, "RS256")
    ring = rotation.import_key(public, current=False, reason="imported")
    key = ring.find(public.kid)
    assert ring.phase(key, clock()) is Phase.STANDBY
    assert key.may_sign_from == clock() + FAST.publish_lead
    assert files(keys) == kids(ring)
    prove(signer, key)


def test_a_key_that_the_ring_has_is_refused_and_not_lost(
    rotation: Rotation, signer: PemSigner, keys: Path
) -> None:
    rotation.reconcile()
    public = signer.import_key(SOUND, "RS256")
    ring = rotation.import_key(public, current=False, reason="imported")
    with pytest.raises(Refused, match="already"):
        rotation.import_key(signer.import_key(SOUND, "RS256"), current=False, reason="imported")
    assert files(keys) == kids(ring)
    with pytest.raises(Refused, match="already"):
        rotation.require_importable(public, current=False)


def test_a_revoked_key_does_not_come_back_by_an_import(
    rotation: Rotation, signer: PemSigner, keys: Path, clock: MovableClock
) -> None:
    rotation.reconcile()
    public = signer.import_key(SOUND, "RS256")
    rotation.import_key(public, current=False, reason="imported")
    ring = rotation.change(lambda ring, now: ring.revoked(public.kid, "stolen", FAST, now))
    with pytest.raises(Refused, match="already"):
        rotation.import_key(signer.import_key(SOUND, "RS256"), current=False, reason="imported")
    assert ring.phase(rotation.ring().find(public.kid), clock()) is Phase.REVOKED
    assert files(keys) == kids(ring)


def test_a_new_ring_can_begin_with_an_imported_key_that_signs_at_once(
    rotation: Rotation, signer: PemSigner, keys: Path, clock: MovableClock
) -> None:
    public = signer.import_key(SOUND, "RS256")
    with pytest.raises(NoRing):
        rotation.import_key(public, current=False, reason="imported")
    ring = rotation.import_key(signer.import_key(SOUND, "RS256"), current=True, reason="imported")
    assert ring.current(clock()).kid == public.kid
    assert len(ring.standbys(clock())) == FAST.standby_keys
    assert files(keys) == kids(ring)


def test_an_imported_current_key_is_refused_and_destroyed_if_there_is_a_ring(
    rotation: Rotation, signer: PemSigner, keys: Path
) -> None:
    ring = rotation.reconcile()
    with pytest.raises(Refused, match="already"):
        rotation.import_key(signer.import_key(SOUND, "RS256"), current=True, reason="imported")
    assert files(keys) == kids(ring)
    assert rotation.ring() == ring
