"""What is wrong with the private keys: where they are kept, who may read them, whether each is the one it says."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from issuer.checks.finding import Finding, problem, warning
from issuer.checks.storage import restore
from issuer.key import Key
from issuer.keyring import KeyRing
from issuer.refusal import KeyUnavailable
from issuer.settings import Settings
from issuer.signing import Signer
from issuer.signing.directory import NOTE, PemDirectory
from issuer.signing.proof import prove
from issuer.store.database import Database


def directory(path: Path) -> Iterator[Finding]:
    """Yield what is wrong with rights, owners and kinds in the directory of private keys."""
    quoted = shlex.quote(str(path))
    if path.is_symlink() and path.is_dir():
        yield warning(
            f"{path} is a symbolic link to {path.resolve()}: who may change it changes the keys, and a backup may"
            " hold the link alone",
            f"ISSUER_KEYS={path.resolve()}",
        )
    for error in PemDirectory(path).faults():
        is_there = path.exists() or path.is_symlink()
        otherwise = f"chmod 700 {quoted}" if path.is_dir() else f"mv {quoted} {quoted}.aside"
        yield problem(error.message, error.mend or (otherwise if is_there else f"mkdir -m 700 {quoted}"))


def published(
    settings: Settings, database: Database, signer: Signer, keys: Sequence[Key]
) -> Iterator[Finding]:
    """Yield each published key whose private half is missing, does not open, or is another's."""
    for key in keys:
        try:
            prove(signer, key)
        except KeyUnavailable as error:
            yield problem(error.message, error.mend or _mend(settings, database, signer, key.kid))


def strays(settings: Settings, signer: Signer, ring: KeyRing, now: datetime) -> Iterator[Finding]:
    """Yield what lies among the private keys and belongs to no published key."""
    for name in signer.strays([key.kid for key in ring.published_keys(now)]):
        place = Path(settings.keys)
        move = f"mkdir -p -m 700 strays && mv {shlex.quote(str(place / name))} strays/"
        yield warning(
            f"{name} lies among the private keys and belongs to no key of the ring; see: issuer keys verify",
            "issuer keys verify" if settings.keys in {"database", "pkcs11"} else move,
        )


def unnoted(settings: Settings, signer: Signer) -> Iterator[Finding]:
    """Yield that a token holds no note of the key ring: nothing was started yet since it could, or it takes none."""
    with suppress(KeyUnavailable):  # told of the keys themselves
        if settings.keys == "pkcs11" and not signer.noted():
            yield warning(
                f"nothing in the PKCS#11 token {settings.pkcs11_token} tells of the key ring, and a restored older"
                " database would not be noticed: a start notes it, or logs that the token takes no data object; then"
                " note elsewhere, after each change, what this prints",
                "issuer audit verify",
            )


def remove_note(settings: Settings) -> str:
    """Return the command that removes what is noted beside the private keys."""
    if settings.keys == "pkcs11":
        return (
            f"pkcs11-tool --module {settings.pkcs11_module} --token-label {shlex.quote(settings.pkcs11_token or '')}"
            " --login --delete-object --type data --label 'jwks-issuer ring'"
        )
    return f"rm {shlex.quote(str(Path(settings.keys) / NOTE))}"


def _mend(settings: Settings, database: Database, signer: Signer, kid: str) -> str:
    if settings.keys == "pkcs11":
        return f"pkcs11-tool --module {settings.pkcs11_module} --login --list-objects"
    if kid not in signer.kept():
        if settings.keys == "database":
            return restore(database)
        return f"cp BACKUP/{kid}.pem {shlex.quote(settings.keys)}/"
    return "ISSUER_KEYS_PASSPHRASE_FILE=FILE"
