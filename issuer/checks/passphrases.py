"""Checks of the passphrase of the private keys; a fix never removes a passphrase that opens a key."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from issuer.checks.finding import Finding, problem, warnings
from issuer.errors import KeyUnavailable
from issuer.fixes import Fix, Kind, as_root, may_be_moved, quoted
from issuer.settings.env_file import commented
from issuer.settings.passphrase import BadPassphrase, make_file, read_passphrase, unused
from issuer.settings.settings import BadSettings, Settings
from issuer.settings.sources import RawSetting, raw_settings
from issuer.signing.encryption import is_encrypted
from issuer.signing.pem import opens
from issuer.signing.pem_directory import PemDirectory

TEXT, FILE = "ISSUER_KEYS_PASSPHRASE", "ISSUER_KEYS_PASSPHRASE_FILE"
NAMED = 'printf "\\nISSUER_KEYS_PASSPHRASE_FILE=%s\\n" '


def passphrase(settings: Settings) -> Iterator[Finding]:
    """Yield why there is no usable passphrase, and warnings about the one there is."""
    try:
        settings.passphrase()
    except BadSettings as error:
        yield problem(str(error), _fix(settings))
    yield from warnings(settings.passphrase_warnings())


def _fix(settings: Settings) -> Fix:
    given, file = raw_settings(), settings.keys_passphrase_file
    if file and settings.keys_passphrase and TEXT in given and FILE in given:
        return _one_of_two(settings, file, given)
    if file:
        return _of_file(file, settings)
    if settings.keys_passphrase:  # no key can be encrypted with it
        return Fix(
            Kind.PASSPHRASE_UNUSABLE, f"{_without(given[TEXT])} && {_made_and_named(unused('passphrase'))}"
        )
    if _encrypted_keys(settings):
        return Fix(Kind.PASSPHRASE_LOST, f"{FILE}=FILE")
    return Fix(Kind.PASSPHRASE_MISSING, _made_and_named(unused("passphrase")))


def _one_of_two(settings: Settings, file: Path, given: dict[str, RawSetting]) -> Fix:
    """Return the fix for two passphrases: remove the file if it is unusable or opens no key, else the other one."""
    text = settings.keys_passphrase.get_secret_value() if settings.keys_passphrase else ""
    try:
        in_file = read_passphrase(file)
    except BadPassphrase:
        return Fix(Kind.PASSPHRASE_TWICE, _without(given[FILE]))
    keep_text = _opens_a_key(settings, text) and not _opens_a_key(settings, in_file)
    return Fix(Kind.PASSPHRASE_TWICE, _without(given[FILE if keep_text else TEXT]))


def _of_file(file: Path, settings: Settings) -> Fix:
    name = quoted(file)
    if os.path.lexists(file) and not may_be_moved(file):
        return Fix(Kind.PASSPHRASE_UNUSABLE, f"{FILE}=FILE")
    try:
        read_passphrase(file)
    except BadPassphrase as error:
        if error.kind is Kind.PASSPHRASE_FILE_UNREADABLE:
            own, close = as_root(f"chown {os.geteuid()} {name}"), as_root(f"chmod 600 {name}")
            return Fix(error.kind, f"{own} && {close}")
    if _encrypted_keys(settings):
        return Fix(Kind.PASSPHRASE_LOST, f"install -m 600 BACKUP {name}")
    aside = (
        f"mv {name} {quoted(unused(f'{file.name}.aside', file.parent))} && " if os.path.lexists(file) else ""
    )
    folder = "" if file.parent.is_dir() else f"mkdir -p -m 700 {quoted(file.parent)} && "
    kind = Kind.PASSPHRASE_UNUSABLE if aside else Kind.PASSPHRASE_MISSING
    return Fix(kind, f"{aside}{folder}{make_file(file)}")


def _made_and_named(file: Path) -> str:
    return f"{make_file(file)} && (umask 077 && {NAMED}{quoted(file)} >> .env)"


def _without(given: RawSetting) -> str:
    """Return the command that removes a setting; a line of `.env` stays as a comment."""
    if given.line is None:
        return f"unset {given.spelled}"
    return commented(Path(".env"), given.line, given.line)


def _pems(settings: Settings) -> Iterator[bytes]:
    """Yield the private keys in a directory; those in the database cannot be read yet."""
    if settings.key_directory:
        directory = PemDirectory(settings.key_directory)
        with suppress(KeyUnavailable):
            for kid in sorted(directory.kept()):
                yield directory.read(kid)


def _encrypted_keys(settings: Settings) -> bool:
    return any(map(is_encrypted, _pems(settings)))


def _opens_a_key(settings: Settings, passphrase: str) -> bool:
    return any(opens(pem, passphrase) for pem in _pems(settings))
