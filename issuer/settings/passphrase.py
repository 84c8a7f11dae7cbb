"""The passphrase of the private keys: reading it from its file, and checking it and the file.

Which setting has it is decided in `settings`; encryption is in `signing.encryption`.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from issuer.fixes import ConfigWarning, Fix, Kind, excess_permissions, quoted, remove_byte_order_mark
from issuer.settings.env_file import BYTE_ORDER_MARK
from issuer.settings.sources import RawSetting

MOST_BYTES = 1023  # the limit of OpenSSL
LEAST_CHARACTERS = 16
FILE_MOST_BYTES = 64 * 1024
MADE_BY = "openssl rand -base64 32"


class BadPassphrase(ValueError):
    """The passphrase cannot be used, or its file cannot be read; the message has the reason, never the passphrase."""

    def __init__(self, message: str, kind: Kind = Kind.PASSPHRASE_UNUSABLE) -> None:
        super().__init__(message)
        self.kind = kind


def read_passphrase(path: Path, name: str = "ISSUER_KEYS_PASSPHRASE_FILE") -> str:
    """Return the passphrase in a file, without a byte order mark and the end of its line; raise BadPassphrase.

    `name` is the setting or option that names the file, for messages.
    """
    try:
        if path.exists() and not path.is_file():
            raise BadPassphrase(f"cannot read {name}: {path} is not a regular file")
        with path.open("rb") as file:
            content = file.read(FILE_MOST_BYTES)
        text = content.decode("utf-8").removeprefix(BYTE_ORDER_MARK).rstrip("\r\n")
    except FileNotFoundError:
        raise BadPassphrase(f"cannot read {name}: there is no file {path}") from None
    except PermissionError as error:
        raise BadPassphrase(
            f"cannot read {name} {path}: {error.strerror}", Kind.PASSPHRASE_FILE_UNREADABLE
        ) from error
    except UnicodeDecodeError:
        raise BadPassphrase(f"cannot read {name}: {path} is not UTF-8") from None
    except (OSError, ValueError) as error:
        if isinstance(error, BadPassphrase):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadPassphrase(f"cannot read {name} {path}: {reason}") from error
    if not text.strip():
        raise BadPassphrase(f"cannot read {name}: the passphrase in {path} is empty")
    return text


def require_usable(passphrase: str) -> None:
    """Raise BadPassphrase for one that OpenSSL cannot encrypt with."""
    try:
        usable = passphrase.strip() and len(passphrase.encode()) <= MOST_BYTES and "\0" not in passphrase
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise BadPassphrase(
            f"the passphrase must be valid Unicode of 1 to {MOST_BYTES} bytes, and not only spaces"
        )


def read_usable(written: str | None, file: Path | None) -> str | None:
    """Return the passphrase that is written in the settings or in the file that they name; None: there is none.

    Raise BadPassphrase also if they are different passphrases.
    """
    passphrase = read_passphrase(file) if file else written
    if passphrase is not None:
        require_usable(passphrase)
    if written is not None and passphrase != written:
        raise BadPassphrase(
            "ISSUER_KEYS_PASSPHRASE and ISSUER_KEYS_PASSPHRASE_FILE are different passphrases: set one of them,"
            " not both"
        )
    return passphrase


def file_warnings(path: Path) -> Iterator[ConfigWarning]:
    """Yield warnings if others can read the passphrase file, or if it begins with a byte order mark."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):  # it is refused elsewhere, and reading it may never end
            return
        with path.open("rb") as file:
            begins = file.read(len(BYTE_ORDER_MARK.encode()))
    except OSError:  # reported by `read_passphrase`
        return
    if excess_permissions(facts):
        yield ConfigWarning(
            f"others can read {path} (mode {stat.S_IMODE(facts.st_mode):04o}), the passphrase of the private keys",
            Fix(Kind.PASSPHRASE_FILE_EXPOSED, f"chmod 600 {quoted(path)}"),
        )
    if begins == BYTE_ORDER_MARK.encode():
        yield ConfigWarning(
            f"{path} begins with a UTF-8 byte order mark, which is not part of the passphrase",
            Fix(Kind.PASSPHRASE_FILE_BYTE_ORDER_MARK, remove_byte_order_mark(path)),
        )


def is_short(passphrase: str) -> bool:
    """Whether a passphrase can be guessed by anyone who has a copy of the encrypted keys."""
    return len(passphrase) < LEAST_CHARACTERS


def length_warnings(
    passphrase: str | None, file: Path | None, raw: RawSetting | None, directory: Path | None
) -> Iterator[ConfigWarning]:
    """Yield a warning for a passphrase that is short; for the other arguments see `longer`."""
    if passphrase is not None and is_short(passphrase):
        yield ConfigWarning(
            f"the passphrase of the private keys has fewer than {LEAST_CHARACTERS} characters, and can be guessed by"
            " anyone who has a copy of the keys",
            longer(file, raw, directory),
        )


def make_file(path: Path) -> str:
    """Return the command that creates a file with a new passphrase; it fails if the file has any content."""
    name = quoted(path)
    return f"(umask 077 && [ ! -s {name} ] && {MADE_BY} > {name} && chmod 600 {name})"


def unused(name: str, folder: Path = Path()) -> Path:
    """Return the first of NAME, NAME.2, NAME.3… that does not exist."""
    path, number = folder / name, 1
    while os.path.lexists(path):
        number += 1
        path = folder / f"{name}.{number}"
    return path


def longer(file: Path | None, raw: RawSetting | None, directory: Path | None) -> Fix:
    """Return the commands that encrypt the private keys with a new passphrase and store it in place of the old one.

    The old one is in `file`, or in the setting `raw`; the keys are in `directory`; None: in the database.
    """
    new = unused(f"{file.name if file else 'passphrase'}.new", file.parent if file else Path())
    steps = [make_file(new)]
    if directory is None or any(directory.glob("*.pem")):
        steps.append(f"issuer keys rewrap --new-passphrase-file {quoted(new)}")
    if file:
        steps.append(f"mv {quoted(new)} {quoted(file)}")
    elif raw and raw.line is not None:
        steps.append(f"sed -i '{raw.line}s/.*/ISSUER_KEYS_PASSPHRASE_FILE={new}/' .env")
    else:
        steps.append(f"unset ISSUER_KEYS_PASSPHRASE && export ISSUER_KEYS_PASSPHRASE_FILE={quoted(new)}")
    return Fix(Kind.PASSPHRASE_SHORT, " && ".join(steps))
