"""The file of an SQLite database: its creation, its permissions, and whether it is still the one that was opened.

Transactions are left to `database`, settings of connections to `engines`.
"""

import os
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from issuer.database.errors import DatabaseUnavailable
from issuer.database.url import of_file

FILE_MODE = 0o600
WAIT_SECONDS = 10
"""How long a connection waits for the lock of another process."""
RETRY_SECONDS = 0.05


class SQLiteFile:
    """One file, which may not exist; each method but `is_missing` raises DatabaseUnavailable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: tuple[int, int] | None = None
        """The device and inode of the file that connections use."""

    def __str__(self) -> str:
        return of_file(self.path.resolve())

    @property
    def is_missing(self) -> bool:
        """Whether the file does not exist; `is_empty` reports one without permission."""
        try:
            return not self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False

    def is_empty(self) -> bool:
        """Whether the file has no content yet; refuse one that is not regular."""
        try:
            facts = self.path.stat()
        except OSError as error:
            raise DatabaseUnavailable(f"the database {self} cannot be used: {error.strerror}") from error
        if not stat.S_ISREG(facts.st_mode):  # a migration would change the permissions of a device
            raise DatabaseUnavailable(f"the database {self} cannot be used: it is not a regular file")
        return not facts.st_size

    def create(self) -> None:
        """Create the file unless it exists, readable by its owner only, and set WAL mode.

        In WAL mode readers do not block the writer.
        """
        try:
            self.path.touch(mode=FILE_MODE, exist_ok=True)
            if self.path.stat().st_uid == os.geteuid():
                self.path.chmod(FILE_MODE)
            _set_wal_mode(self.path)
        except OSError as error:
            raise DatabaseUnavailable(f"cannot create the database {self}: {error.strerror}") from error
        except sqlite3.DatabaseError as error:
            raise DatabaseUnavailable(f"the database {self} cannot be used: {error}") from error

    def opened(self) -> None:
        """Record which file it is, when the first connection has been opened."""
        self._opened = self._opened or self._identity()

    def closed(self) -> None:
        """Forget which file it was: the next connection may open another one."""
        self._opened = None

    def require_in_place(self) -> None:
        """Refuse a file that was moved or replaced: changes by other processes would be missed.

        The connections stay open: when the last one is closed, SQLite removes the `-wal` file by its name, and by now
        that may belong to another database.
        """
        if self._opened and self._identity() != self._opened:
            raise DatabaseUnavailable(
                f"the database {self} cannot be used: its file was moved, removed or replaced while this process had"
                " it open; put it back, or restart the process"
            )

    def _identity(self) -> tuple[int, int] | None:
        try:
            facts = self.path.stat()
        except OSError:
            return None
        return facts.st_dev, facts.st_ino


def open_existing(path: Path) -> sqlite3.Connection:
    """Return a connection that reads an existing file, with or without permission to write."""
    writable = os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK)
    # In WAL mode SQLite writes files beside the database even to read it, unless it is declared immutable.
    is_open = Path(f"{path}-wal").exists()
    how = "mode=rw" if writable else "mode=ro" if is_open else "mode=ro&immutable=1"
    uri = f"file:{quote(str(path.absolute()))}?{how}"
    connection = sqlite3.connect(uri, uri=True, timeout=WAIT_SECONDS, check_same_thread=False)
    connection.text_factory = _decoded
    return connection


def _decoded(text: bytes) -> str | bytes:
    """Return text; or bytes that are not text, for `rows.checked`: the driver would fail for the whole query."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text


def _set_wal_mode(path: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    with closing(sqlite3.connect(path, timeout=0)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                # SQLite does not always wait for another process that does the same.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_SECONDS)
            else:
                return
