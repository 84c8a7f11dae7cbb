"""Fixes of problems, as a line to run or to set: every kind of fix that this program prints.

The modules that find a problem decide on its fix. A test breaks an installation for each kind, runs the printed line
and checks again.
"""

import os
import shlex
import stat
from dataclasses import dataclass
from enum import StrEnum
from os import PathLike
from pathlib import Path


class Kind(StrEnum):
    """The problem that a fix is for."""

    # Settings
    SETTING_VALUE = "a setting has a value that cannot be used"
    POLICY = "settings contradict each other"
    METRICS_TOKEN_SHORT = "the token for /metrics is too short"  # noqa: S105 - a description
    METRICS_TOKEN_MISSING = "there is no token for /metrics"  # noqa: S105 - a description
    MISSPELT_IN_FILE = "a name in .env is a misspelt setting"
    UNKNOWN_IN_FILE = "a name in .env is not a setting"
    UNKNOWN_IN_ENVIRONMENT = "a name in the environment is not a setting"
    TWICE_IN_ENVIRONMENT = "the environment has a setting under two spellings"
    OVERRIDDEN_LINE = "a line of .env is overridden by a later one"
    URL_NOT_HTTPS = "ISSUER_URL is plain http"
    URL_WITH_PATH = "ISSUER_URL has a path"
    NO_TRUSTED_PROXY = "a proxy is needed, and none is trusted"
    AUDIENCE_IS_ISSUER = "ISSUER_AUDIENCE equals ISSUER_URL"
    NO_ROTATION = "automatic rotation is off"
    OPEN_REGISTRATION = "anyone may register"
    CA_FILE = "ISSUER_CA_FILE cannot be used"
    LOGO = "ISSUER_LOGO cannot be used"
    # The file .env
    ENV_OWNER = ".env belongs to another user"
    ENV_WRITABLE = "others may write to .env"
    ENV_READABLE = "others may read secrets in .env"
    ENV_NOT_A_FILE = ".env is not a regular file"
    ENV_UNREADABLE = ".env cannot be read"
    ENV_ENCODING = ".env is not UTF-8"
    ENV_BYTE_ORDER_MARK = ".env begins with a byte order mark"
    ENV_LINE = "a line of .env cannot be read"
    # The passphrase
    PASSPHRASE_MISSING = "there is no passphrase, and there are no private keys yet"  # noqa: S105
    PASSPHRASE_LOST = "there is no passphrase, and private keys are encrypted"  # noqa: S105
    PASSPHRASE_TWICE = "there are two passphrases"  # noqa: S105
    PASSPHRASE_UNUSABLE = "the passphrase cannot be used"  # noqa: S105
    PASSPHRASE_FILE_UNREADABLE = "the passphrase file cannot be read"  # noqa: S105
    PASSPHRASE_FILE_EXPOSED = "others may read the passphrase file"  # noqa: S105
    PASSPHRASE_FILE_BYTE_ORDER_MARK = "the passphrase file begins with a byte order mark"  # noqa: S105
    PASSPHRASE_SHORT = "the passphrase is short"  # noqa: S105
    PASSPHRASE_WRONG = "a private key cannot be decrypted with the passphrase"  # noqa: S105
    KEYS_NOT_ENCRYPTED = "private keys are not encrypted, and there is a passphrase"
    KEYS_ENCRYPTED_WEAKLY = "private keys are encrypted by an older, weaker derivation"
    OTHER_USER = "this command runs as root, and the installation belongs to another user"
    # The key directory
    KEYS_LINK = "the key directory is a symbolic link"
    KEYS_NO_DIRECTORY = "the key directory is not a directory"
    KEYS_CLOSED = "the key directory is not accessible"
    KEYS_OWNER = "the key directory, or a file in it, belongs to another user"
    KEYS_EXPOSED = "others may access the key directory, or read a file in it"
    KEYS_READ_ONLY = "the key directory is on a read-only file system"
    KEY_NO_FILE = "a private key is not a regular file"
    KEY_LINK = "a private key is a symbolic link"
    KEY_MISSING = "a private key is missing"
    KEY_SWAPPED = "a private key does not match its public key"
    KEY_STRAY = "a file in the key directory belongs to no key of the ring"
    KEY_STRAY_ELSEWHERE = "a private key in the database or token belongs to no key of the ring"
    CHECKPOINT_DAMAGED = "the checkpoint of the key ring is damaged"
    CHECKPOINT_MISSING = "the token has no checkpoint of the key ring"
    # PKCS#11
    PKCS11_SETTINGS = "settings for PKCS#11 are missing"
    PKCS11_MODULE = "the PKCS#11 module does not exist"
    PKCS11_TOKEN = "the PKCS#11 token cannot be opened"  # noqa: S105 - a description
    PKCS11_KEY = "a private key is not in the PKCS#11 token"
    PKCS11_PACKAGE = "the package python-pkcs11 is not installed"
    # The database
    DATABASE_URL = "ISSUER_DATABASE_URL cannot be used"
    DATABASE_MISSING = "there is no database yet"
    DATABASE_OUTDATED = "the database has the schema of an older version"
    DATABASE_RESTORE = "the database is damaged, or of a newer version"
    DATABASE_UNREACHABLE = "the database cannot be reached"
    DATABASE_ENCODING = "the database has another encoding"
    DATABASE_FOREIGN = "the database belongs to another program"
    DATABASE_POOLER = "a connection pooler drops the time limits of sessions"
    HEARTBEATS_DAMAGED = "the heartbeats of nodes are damaged"
    DATABASE_OWNER = "the database file belongs to another user"
    DATABASE_UNREADABLE = "the database file is not accessible"
    DATABASE_EXPOSED = "others may read the database file"
    DATABASE_FOLDER_CLOSED = "the folder of the database is not writable"
    DATABASE_FOLDER_EXPOSED = "others may write in the folder of the database"
    DATABASE_MOVED = "the database was moved"
    DISK_FULL = "a disk is nearly full"
    SEVERAL_HOSTS_SQLITE = "several hosts use one SQLite file"
    SEVERAL_HOSTS_DIRECTORY = "several hosts use a directory of keys"
    # The key ring
    RING_MISSING = "there is no key ring yet"
    RING_OLDER = "the key ring is older than its keys"
    AUDIT_SHORT = "recorded entries of the audit log are missing"
    RING_NEEDS_A_NODE = "a change of the key ring is overdue, because no issuer runs"
    TOO_MANY_KEYS = "more keys will be published than verifiers accept"
    SETTINGS_DIFFER = "a node of this installation has other settings"
    CLOCK = "the clock is wrong"
    # Mail
    MAIL_SERVER = "the mail server cannot be used"
    # Clients
    CLIENTS_WITHOUT_RS256 = "ID tokens are not signed by RS256, which every client can verify"
    CLIENT_WITHOUT_PKCE = "a client may sign users in without PKCE"


@dataclass(frozen=True)
class Fix:
    """A command for a shell, or a line `NAME=value` for the environment or `.env`.

    Operators replace words in capitals, such as BACKUP, FILE and HOST.
    """

    kind: Kind
    line: str
    clears: bool = True
    """False if no command on this machine can fix the problem; the line then shows its cause."""

    def __str__(self) -> str:
        return self.line


@dataclass(frozen=True)
class ConfigWarning:
    """Something that works but is probably a mistake, with its fix."""

    message: str
    fix: Fix


def setting(kind: Kind, name: str, value: str) -> Fix:
    """Return the fix that sets `name`."""
    return Fix(kind, assignment(name, value))


def assignment(name: str, value: str) -> str:
    """Return `NAME=value` as a line that means the same in a shell and in `.env`, which differ in escaping quotes."""
    if "'" in value and not set(value) & set('"$`\\!'):
        return f'{name}="{value}"'
    return f"{name}={shlex.quote(value)}"


def excess_permissions(facts: os.stat_result) -> int:
    """Return the permission bits of a file that let others read or change it.

    A file of root may be readable by a group of this process, as secrets of services often are.
    """
    ours = {os.getegid(), *os.getgroups()}
    is_for_us = facts.st_uid == 0 and os.geteuid() != 0 and facts.st_gid in ours
    return facts.st_mode & (0o037 if is_for_us else 0o077)


def as_root(command: str) -> str:
    """Return a command that runs as root."""
    return command if os.geteuid() == 0 else f"sudo {command}"


def may_be_moved(path: Path) -> bool:
    """Whether the file at `path` may be moved: not a device or mount point, and not in /dev, /proc or /sys."""
    place = path.absolute()
    kind = place.lstat().st_mode
    folders = {str(each) for each in (place.parent.resolve(), *place.parent.resolve().parents)}
    return not (
        stat.S_ISBLK(kind)
        or stat.S_ISCHR(kind)
        or os.path.ismount(place)
        or folders & {"/dev", "/proc", "/sys"}
    )


def remove_byte_order_mark(path: str | PathLike[str]) -> str:
    """Return the command that removes the UTF-8 byte order mark at the beginning of a file."""
    return rf"sed -i '1s/^\xEF\xBB\xBF//' {quoted(path)}"


def quoted(path: str | PathLike[str]) -> str:
    """Return `path` quoted for bash in one line, and so that a leading dash is not read as an option."""
    text = str(path)
    text = f"./{text}" if text.startswith("-") else text
    if text.isprintable():
        return shlex.quote(text)
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}"  # noqa: PLR2004 - ASCII
        for byte in os.fsencode(text)
    )
    return f"$'{escaped}'"
