"""The promises of every signer, and those of the directory of PEM files."""

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from support import softhsm
from support.signatures import verifies

from issuer.database.database import Database
from issuer.errors import KeyUnavailable
from issuer.signing.algorithms import ALGORITHMS
from issuer.signing.pem import PemSigner
from issuer.signing.pem_database import PemDatabase
from issuer.signing.pem_directory import PemDirectory
from issuer.signing.public_key import PublicKey, thumbprint
from issuer.signing.signer import Signer

PASSPHRASE = "correct horse"
Reopen = Callable[..., Signer]


@contextmanager
def pem_place(kind: str, folder: Path) -> Iterator[Reopen]:
    database = Database(f"sqlite:///{folder}/issuer.db")
    database.migrate()

    def signer(passphrase: str | None = PASSPHRASE) -> Signer:
        storage = PemDatabase(database) if kind == "database" else PemDirectory(folder / "keys")
        return PemSigner(storage, lambda: passphrase)

    yield signer
    database.close()


@pytest.fixture(params=["directory", "database", "pkcs11"])
def reopen(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Reopen]:
    """Open the same place anew, as another process would."""
    if request.param == "pkcs11":
        with softhsm.fresh_token(tmp_path, monkeypatch):
            yield softhsm.signer
    else:
        with pem_place(request.param, tmp_path) as signer:
            yield signer


@pytest.fixture(params=["directory", "database"])
def reopen_pem(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reopen]:
    """Open anew a place whose keys are under a passphrase of ours."""
    with pem_place(request.param, tmp_path) as signer:
        yield signer


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_signature_verifies_with_the_public_key_and_after_reopening(reopen: Reopen, alg: str) -> None:
    public = reopen().generate(alg)
    again = reopen()
    again.load(public.kid, alg)
    assert verifies(public, b"data", again.sign(public.kid, b"data"))
    assert not verifies(public, b"other", again.sign(public.kid, b"data"))


def test_the_public_key_has_public_members_only_and_is_named_by_its_thumbprint(reopen: Reopen) -> None:
    public = reopen().generate("RS256")
    assert set(public.jwk) == {"kty", "n", "e", "use", "alg", "kid"}
    assert public.kid == public.jwk["kid"] == thumbprint(public.jwk)


def test_a_key_is_pending_until_it_is_made_permanent(reopen: Reopen) -> None:
    signer = reopen()
    public = signer.generate("ES256")
    assert reopen().kept() == frozenset()
    signer.keep(public.kid)
    signer.keep(public.kid)
    assert reopen().kept() == {public.kid}


def test_a_key_left_pending_by_a_crash_can_still_sign(reopen: Reopen) -> None:
    public = reopen().generate("ES256")
    again = reopen()
    again.load(public.kid, "ES256")
    assert verifies(public, b"data", again.sign(public.kid, b"data"))


def test_a_destroyed_key_no_longer_signs(reopen: Reopen) -> None:
    signer = reopen()
    public = signer.generate("ES256")
    signer.keep(public.kid)
    assert signer.destroy(public.kid)
    assert not signer.destroy(public.kid)
    with pytest.raises(KeyUnavailable, match="not loaded"):
        signer.sign(public.kid, b"data")
    with pytest.raises(KeyUnavailable, match="missing"):
        reopen().load(public.kid, "ES256")


@pytest.mark.parametrize("passphrase", ["wrong", None])
def test_a_wrong_or_missing_passphrase_opens_nothing_and_is_named(
    reopen_pem: Reopen, passphrase: str | None
) -> None:
    public = reopen_pem().generate("ES256")
    with pytest.raises(KeyUnavailable, match="ISSUER_KEYS_PASSPHRASE") as refusal:
        reopen_pem(passphrase).load(public.kid, "ES256")
    assert public.kid in str(refusal.value)
    assert PASSPHRASE not in str(refusal.value)


def test_a_plain_key_does_not_open_under_a_passphrase(reopen_pem: Reopen) -> None:
    public = reopen_pem(None).generate("ES256")
    with pytest.raises(KeyUnavailable, match="is not encrypted"):
        reopen_pem().load(public.kid, "ES256")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def kept_key(keys: Path) -> PublicKey:
    signer = PemSigner(PemDirectory(keys), lambda: PASSPHRASE)
    public = signer.generate("ES256")
    signer.keep(public.kid)
    return public


def open_in(keys: Path, kid: str) -> None:
    PemSigner(PemDirectory(keys), lambda: PASSPHRASE).load(kid, "ES256")


def test_files_are_encrypted_and_readable_by_their_owner_only(keys: Path) -> None:
    public = kept_key(keys)
    file = keys / f"{public.kid}.pem"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert load_pem_private_key(file.read_bytes(), PASSPHRASE.encode())
    assert [path.name for path in keys.iterdir()] == [file.name]


def test_a_directory_that_others_could_read_is_closed_when_the_first_key_is_made(keys: Path) -> None:
    keys.mkdir(mode=0o755)
    kept_key(keys)
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused_with_the_fix(keys: Path, mode: int) -> None:
    public = kept_key(keys)
    file = keys / f"{public.kid}.pem"
    file.chmod(mode)
    with pytest.raises(KeyUnavailable, match="chmod 600"):
        open_in(keys, public.kid)


def test_a_directory_that_others_may_read_is_refused_with_the_fix(keys: Path) -> None:
    public = kept_key(keys)
    keys.chmod(0o755)
    with pytest.raises(KeyUnavailable, match="chmod 700"):
        open_in(keys, public.kid)


def test_a_directory_with_files_of_others_is_neither_used_nor_changed(keys: Path) -> None:
    keys.mkdir(mode=0o755)
    (keys / "somebody else's").touch()
    with pytest.raises(KeyUnavailable, match="chmod 700"):
        kept_key(keys)
    assert stat.S_IMODE(keys.stat().st_mode) == 0o755
    assert [path.name for path in keys.iterdir()] == ["somebody else's"]


def test_an_error_of_the_file_system_names_the_setting_to_correct(keys: Path) -> None:
    keys.write_text("a file")
    directory = PemDirectory(keys)
    for method in (lambda: directory.write("kid", b""), directory.kept):
        with pytest.raises(KeyUnavailable, match="ISSUER_KEYS"):
            method()


def test_a_swapped_file_is_detected_by_its_thumbprint(keys: Path) -> None:
    public, other = kept_key(keys), kept_key(keys)
    (keys / f"{other.kid}.pem").replace(keys / f"{public.kid}.pem")
    with pytest.raises(KeyUnavailable, match="swapped"):
        open_in(keys, public.kid)


def test_a_damaged_file_is_refused_by_name(keys: Path) -> None:
    public = kept_key(keys)
    file = keys / f"{public.kid}.pem"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(KeyUnavailable, match=f"{public.kid} is damaged"):
        open_in(keys, public.kid)
