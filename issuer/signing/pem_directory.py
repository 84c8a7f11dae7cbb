"""Private keys as PEM files in one directory, readable by their owner only, each written atomically.

The content of the files is defined in `pem`; how they are written, and who may access them, in `private_files`.
"""

import errno
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from issuer.errors import KeyUnavailable
from issuer.signing import private_files
from issuer.signing.public_key import is_kid

_OWN_SUFFIXES = frozenset({".pem", ".pending", ".new"})
CHECKPOINT = "ring.json"
"""The file of the checkpoint, see `keyring.checkpoint`."""
CHECKPOINT_MOST_BYTES = 32 * 1024 * 1024
PEM_MOST_BYTES = 64 * 1024
_OWN_NAMES = frozenset({"README.md", ".gitignore", CHECKPOINT})
_OF_THE_FILE_SYSTEM = frozenset({"lost+found", ".snapshot", ".zfs"})
"""Entries that a file system adds to its root directory, and that the owner of the directory cannot move away."""


class PemDirectory:
    """PEM files `KID.pem` in one directory, mode 0600 in 0700; `KID.pending` until the ring holds the key.

    Every method raises KeyUnavailable for an error of the file system.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, kid: str, pem: bytes) -> None:
        """Write as pending."""
        with self._translated():
            self._directory.mkdir(mode=private_files.DIRECTORY_MODE, parents=True, exist_ok=True)
            self._close_to_others()
            private_files.replace(self._pending(kid), pem)

    def rewrite(self, kid: str, pem: bytes) -> None:
        """Replace the file, permanent or pending, unless it was removed meanwhile."""
        with self._translated(), private_files.locked(self._directory):
            for path in (self._kept(kid), self._pending(kid)):
                if path.exists():
                    private_files.replace(path, pem)

    def keep(self, kid: str) -> None:
        """Rename the pending file."""
        # There may be nothing to rename: another process did it, or it was permanent before.
        with self._translated(), private_files.locked(self._directory), suppress(FileNotFoundError):
            if self._kept(kid).exists():  # perhaps under another passphrase by now
                self._pending(kid).unlink()
            else:
                self._pending(kid).replace(self._kept(kid))
            private_files.sync(self._directory)

    def read(self, kid: str) -> bytes:
        """Return the content of the file; refuse one that others may read or write."""
        with self._translated():
            # A process that stopped between saving the ring and the rename left the file pending.
            for path in (self._kept(kid), self._pending(kid), self._kept(kid)):
                with suppress(FileNotFoundError):
                    private_files.require_private(path, private_files.FILE_MODE)
                    # After the file: a directory without files of this program may be anything, for example `/etc`.
                    private_files.require_private(self._directory, private_files.DIRECTORY_MODE)
                    return private_files.read(path, PEM_MOST_BYTES)
        raise KeyUnavailable(
            f"the private key {self._kept(kid)} is missing: restore it from the backup; the issuer never"
            " makes another key in its place"
        )

    def remove(self, kid: str) -> bool:
        """Unlink the file."""
        removed = False
        with self._translated(), private_files.locked(self._directory):
            for path in (self._pending(kid), self._kept(kid)):
                with suppress(FileNotFoundError):
                    path.unlink()
                    removed = True
            if removed:
                private_files.sync(self._directory)
        return removed

    def kept(self) -> frozenset[str]:
        """Return the kids of all permanent files."""
        return self._stems(".pem")

    def pending(self) -> frozenset[str]:
        """Return the kids of all pending files."""
        return self._stems(".pending")

    def orphans(self, kids: Collection[str]) -> list[str]:
        """Return the names of files that belong to none of `kids`."""
        own = {f"{kid}{suffix}" for kid in kids for suffix in (".pem", ".pending")}
        expected = own | _OWN_NAMES | _OF_THE_FILE_SYSTEM
        with self._translated():
            return sorted(path.name for path in self._entries() if path.name not in expected)

    def permission_errors(self) -> Iterator[KeyUnavailable]:
        """Yield what is wrong with the owner, mode or type of the directory and of each file of this program."""
        try:
            with self._translated():
                paths = [path for path in self._entries() if _is_own(path) and path.name != "README.md"]
        except KeyUnavailable as error:
            yield error
            return
        for path, mode in [(self._directory, private_files.DIRECTORY_MODE)] * bool(paths) + [
            (path, private_files.FILE_MODE) for path in paths
        ]:
            try:
                with self._translated(), suppress(FileNotFoundError):
                    private_files.require_private(path, mode)
            except KeyUnavailable as error:
                yield error

    def storage_error(self) -> KeyUnavailable | None:
        """Return why no new key could be stored, or None. The next rotation would fail."""
        return private_files.storage_error(self._directory)

    def read_checkpoints(self) -> Sequence[bytes]:
        """Return the checkpoint, or nothing."""
        with self._translated(), suppress(FileNotFoundError):
            return [private_files.read(self._directory / CHECKPOINT, CHECKPOINT_MOST_BYTES)]
        return []

    def write_checkpoint(self, text: bytes, replaces: Callable[[bytes], bool]) -> None:
        """Replace the checkpoint, if the directory holds private keys: any other was named by mistake."""
        if self.kept() or self.pending():
            with self._translated(), private_files.locked(self._directory):
                if all(map(replaces, self.read_checkpoints())):
                    private_files.replace(self._directory / CHECKPOINT, text)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise KeyUnavailable(
                f"cannot use {self._directory} for private keys: {error.strerror}; correct ISSUER_KEYS, or"
                " the permissions of the directory"
            ) from error

    def _stems(self, suffix: str) -> frozenset[str]:
        with self._translated():
            names = [path.stem for path in self._entries() if path.suffix == suffix]
        return frozenset(filter(is_kid, names))

    def _entries(self) -> list[Path]:
        try:
            return list(self._directory.iterdir())
        except FileNotFoundError:
            if self._directory.is_symlink():
                raise NotADirectoryError(errno.ENOTDIR, "it is a symbolic link without a target") from None
            return []

    def _kept(self, kid: str) -> Path:
        return self._directory / f"{_required(kid)}.pem"

    def _pending(self, kid: str) -> Path:
        return self._directory / f"{_required(kid)}.pending"

    def _close_to_others(self) -> None:
        """Make the directory private if it holds only keys: after a checkout its mode is 0755.

        Another program that stores its certificates there would lose access to them.
        """
        entries = [path for path in self._entries() if path.name not in _OF_THE_FILE_SYSTEM]
        if all(map(_is_own, entries)):
            kept = stat.S_IMODE(self._directory.stat().st_mode) & ~private_files.OTHERS
            self._directory.chmod(kept | private_files.DIRECTORY_MODE)
        private_files.require_private(self._directory, private_files.DIRECTORY_MODE)


def _is_own(path: Path) -> bool:
    """Whether a file has a name that this program gives: `KID.pem` and not just any `.pem`."""
    return path.name in _OWN_NAMES or (path.suffix in _OWN_SUFFIXES and is_kid(path.name.partition(".")[0]))


def _required(kid: str) -> str:
    """Return `kid`; raise KeyUnavailable for text of another form, which could lead out of the directory."""
    if not is_kid(kid):
        raise KeyUnavailable(f"{kid[:50]!r} is not the kid of a key (RFC 7638): no file has such a name")
    return kid
