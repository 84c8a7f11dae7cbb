"""Checks of the private keys: their directory, its permissions, and whether each key works."""

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from issuer.checks.finding import Finding, other_user, problem, warning
from issuer.checks.storage import restore
from issuer.database.database import Database
from issuer.errors import KeyUnavailable, WrongPassphrase
from issuer.fixes import Fix, Kind, may_be_moved, quoted, setting
from issuer.keyring.key import Key
from issuer.keyring.ring import KeyRing
from issuer.settings.passphrase import unused
from issuer.settings.settings import Settings
from issuer.signing.encryption import is_current, is_whole
from issuer.signing.pem import ENCRYPT_ANEW, PemStorage
from issuer.signing.pem_directory import CHECKPOINT, PemDirectory
from issuer.signing.self_test import prove
from issuer.signing.signer import Signer


def directory(path: Path) -> Iterator[Finding]:
    """Yield problems of permissions, owners and file types in the key directory, and of its disk."""
    # `os.path`, because these functions return False for an inaccessible path.
    if os.path.islink(path) and os.path.isdir(path):  # noqa: PTH112, PTH114
        yield warning(
            f"{path} is a symbolic link to {path.resolve()}: whoever may change it can replace the keys, and a"
            " backup may contain only the link",
            setting(Kind.KEYS_LINK, "ISSUER_KEYS", str(path.resolve())),
        )
    if other := other_user(path):
        yield other
        return
    faults = list(PemDirectory(path).permission_errors())
    for error in faults:
        yield problem(error.message, error.fix or _usable(path))
    full = None if faults else PemDirectory(path).storage_error()
    if full:
        yield problem(full.message, full.fix or _usable(path))


def _usable(path: Path) -> Fix:
    """Return the fix for a path that cannot be used as key directory."""
    if os.path.isdir(path):  # noqa: PTH112 - as above
        return Fix(Kind.KEYS_CLOSED, f"chmod 700 {quoted(path)}")
    if os.path.lexists(path) and not may_be_moved(path):
        return setting(Kind.KEYS_NO_DIRECTORY, "ISSUER_KEYS", "keys")
    if os.path.lexists(path):
        aside = unused(f"{path.name}.aside", path.parent)
        return Fix(Kind.KEYS_NO_DIRECTORY, f"mv {quoted(path)} {quoted(aside)}")
    return Fix(Kind.KEYS_CLOSED, f"namei -l {quoted(path)}", clears=False)


def published(
    settings: Settings, database: Database, signer: Signer, keys: Sequence[Key]
) -> Iterator[Finding]:
    """Yield each published key whose private key is missing, cannot be decrypted, or does not match."""
    for key in keys:
        try:
            prove(signer, key)
        except KeyUnavailable as error:
            yield problem(error.message, error.fix or _fix(settings, database, signer, key.kid, error))


def encrypted_weakly(storage: PemStorage, passphrase: str | None) -> Iterator[Finding]:
    """Yield a warning about private keys with fewer rounds of key derivation than today."""
    if passphrase is None:
        return
    with suppress(KeyUnavailable):  # reported of the keys themselves
        pems = [storage.read(kid) for kid in sorted(storage.kept())]
        old = [pem for pem in pems if is_whole(pem) and not is_current(pem)]
        if old:
            yield warning(
                f"{len(old)} private key{'s' * (len(old) > 1)} encrypted by an older version or another program, with"
                " fewer rounds: a stolen copy is easier to decrypt",
                Fix(Kind.KEYS_ENCRYPTED_WEAKLY, ENCRYPT_ANEW),
            )


def orphans(settings: Settings, signer: Signer, ring: KeyRing, now: datetime) -> Iterator[Finding]:
    """Yield files or objects beside the private keys that belong to no published key."""
    if not signer.kept():  # no keys of this issuer are here, so the place may be another program's
        return
    for name in signer.orphans([key.kid for key in ring.published_keys(now)]):
        fix = Fix(Kind.KEY_STRAY_ELSEWHERE, "issuer keys verify", clears=False)
        if settings.key_directory:
            move = f"mv --backup=numbered {quoted(settings.key_directory / name)} strays/"
            fix = Fix(Kind.KEY_STRAY, f"mkdir -p -m 700 strays && {move}")
        yield warning(
            f"{name} is stored with the private keys and belongs to no key of the ring; see: issuer keys verify",
            fix,
        )


def checkpoint_missing(settings: Settings, signer: Signer) -> Iterator[Finding]:
    """Yield a warning if a PKCS#11 token has no checkpoint: none was written yet, or it cannot store one."""
    with suppress(KeyUnavailable):  # reported with the keys themselves
        if settings.keys == "pkcs11" and not signer.checkpoint_storage.read_checkpoints():
            yield warning(
                f"the PKCS#11 token {settings.pkcs11_token} has no checkpoint of the key ring, so a restored"
                " older database is not detected: restart the issuer, which writes one, or logs that the token cannot"
                " store it; in that case store outside the database, after each change, what this prints",
                Fix(Kind.CHECKPOINT_MISSING, "issuer audit verify", clears=False),
            )


def remove_checkpoint(settings: Settings) -> Fix:
    """Return the command that removes the checkpoint of the key ring with the private keys."""
    if settings.keys == "pkcs11":
        return Fix(
            Kind.CHECKPOINT_DAMAGED,
            f"{_pkcs11_tool(settings)} --token-label {shlex.quote(settings.pkcs11_token or '')}"
            " --login --delete-object --type data --label 'jwks-issuer ring'",
        )
    return Fix(Kind.CHECKPOINT_DAMAGED, f"rm {quoted(Path(settings.keys) / CHECKPOINT)}")


def token_slots(settings: Settings) -> Fix:
    """Return the command that lists the tokens of a PKCS#11 module."""
    return Fix(Kind.PKCS11_TOKEN, f"{_pkcs11_tool(settings)} --list-token-slots", clears=False)


def _pkcs11_tool(settings: Settings) -> str:
    return f"pkcs11-tool --module {quoted(settings.pkcs11_module or 'MODULE')}"


def _fix(settings: Settings, database: Database, signer: Signer, kid: str, error: KeyUnavailable) -> Fix:
    if settings.keys == "pkcs11":
        return Fix(Kind.PKCS11_KEY, f"{_pkcs11_tool(settings)} --login --list-objects", clears=False)
    if isinstance(error, WrongPassphrase):
        return Fix(Kind.PASSPHRASE_WRONG, "ISSUER_KEYS_PASSPHRASE_FILE=FILE")
    if settings.keys == "database":
        return restore(database)
    kind = Kind.KEY_SWAPPED if kid in signer.kept() else Kind.KEY_MISSING
    folder = quoted(settings.keys)
    made = "" if Path(settings.keys).is_dir() else f"mkdir -p -m 700 {folder} && "
    return Fix(kind, f"{made}install -m 600 BACKUP/{kid}.pem {folder}/")
