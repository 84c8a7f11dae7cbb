"""Private keys as PEM files in one directory, readable by their owner only, each written atomically.

The content of the files is defined in `pem`.
"""

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from issuer.errors import KeyUnavailable
from issuer.fixes import Fix, Kind, as_root, quoted
from issuer.signing.public_key import is_kid

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
OTHERS = 0o077
LEAST_FREE_BYTES = 1024 * 1024
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
            self._directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            self._close_to_others()
            self._replace(self._pending(kid), pem)

    def rewrite(self, kid: str, pem: bytes) -> None:
        """Replace the file, permanent or pending, unless it was removed meanwhile."""
        with self._translated(), self._locked():
            for path in (self._kept(kid), self._pending(kid)):
                if path.exists():
                    self._replace(path, pem)

    def keep(self, kid: str) -> None:
        """Rename the pending file."""
        # There may be nothing to rename: another process did it, or it was permanent before.
        with self._translated(), self._locked(), suppress(FileNotFoundError):
            if self._kept(kid).exists():  # perhaps under another passphrase by now
                self._pending(kid).unlink()
            else:
                self._pending(kid).replace(self._kept(kid))
            self._sync()

    def read(self, kid: str) -> bytes:
        """Return the content of the file; refuse one that others may read or write."""
        with self._translated():
            # A process that stopped between saving the ring and the rename left the file pending.
            for path in (self._kept(kid), self._pending(kid), self._kept(kid)):
                with suppress(FileNotFoundError):
                    self._require_private(path, FILE_MODE)
                    # After the file: a directory without files of this program may be anything, for example `/etc`.
                    self._require_private(self._directory, DIRECTORY_MODE)
                    return _content(path, PEM_MOST_BYTES)
        raise KeyUnavailable(
            f"the private key {self._kept(kid)} is missing: restore it from the backup; the issuer never"
            " makes another key in its place"
        )

    def remove(self, kid: str) -> bool:
        """Unlink the file."""
        removed = False
        with self._translated(), self._locked():
            for path in (self._pending(kid), self._kept(kid)):
                with suppress(FileNotFoundError):
                    path.unlink()
                    removed = True
            if removed:
                self._sync()
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
        for path, mode in [(self._directory, DIRECTORY_MODE)] * bool(paths) + [
            (path, FILE_MODE) for path in paths
        ]:
            try:
                with self._translated(), suppress(FileNotFoundError):
                    self._require_private(path, mode)
            except KeyUnavailable as error:
                yield error

    def storage_error(self) -> KeyUnavailable | None:
        """Return why no new key could be stored, or None. The next rotation would fail."""
        try:
            place = self._directory if self._directory.exists() else self._nearest()
            if not place.is_dir():
                return KeyUnavailable(
                    f"no new key can be stored: {place} is not a directory; correct ISSUER_KEYS"
                )
            facts = os.statvfs(place)
        except OSError:
            return None  # `permission_errors` reports it
        if facts.f_flag & os.ST_RDONLY:
            return KeyUnavailable(
                f"no new key can be stored: {self._directory} is on a file system that is mounted read-only",
                Fix(Kind.KEYS_READ_ONLY, f"mount -o remount,rw {quoted(_mount_point(place))}"),
            )
        if not os.access(place, os.W_OK | os.X_OK):
            return KeyUnavailable(
                f"no new key can be stored: {place} may not be written",
                Fix(Kind.KEYS_CLOSED, f"chmod u+rwx {quoted(place)}"),
            )
        # Some file systems do not count inodes, and report 0 of 0.
        if facts.f_bavail * facts.f_frsize < LEAST_FREE_BYTES or (facts.f_files and not facts.f_favail):
            return KeyUnavailable(
                f"no new key can be stored: the disk of {self._directory} is full",
                Fix(Kind.DISK_FULL, f"df -h {quoted(self._directory)}", clears=False),
            )
        return None

    def _nearest(self) -> Path:
        """Return the nearest existing parent, where the directory is made with the first key."""
        return next(each for each in self._directory.absolute().parents if os.path.lexists(each))

    def read_checkpoints(self) -> Sequence[bytes]:
        """Return the checkpoint, or nothing."""
        with self._translated(), suppress(FileNotFoundError):
            return [_content(self._directory / CHECKPOINT, CHECKPOINT_MOST_BYTES)]
        return []

    def write_checkpoint(self, text: bytes, replaces: Callable[[bytes], bool]) -> None:
        """Replace the checkpoint, if the directory holds private keys: any other was named by mistake."""
        if self.kept() or self.pending():
            with self._translated(), self._locked():
                if all(map(replaces, self.read_checkpoints())):
                    self._replace(self._directory / CHECKPOINT, text)

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

    def _replace(self, path: Path, pem: bytes) -> None:
        """Write a file atomically: a crash leaves the old or the new one, and perhaps a temporary file."""
        descriptor, temporary = tempfile.mkstemp(".new", f"{path.stem}.", self._directory)  # made 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink()
            raise
        self._sync()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the directory itself, so that no other process changes the files of keys meanwhile."""
        if not self._directory.exists():
            yield
            return
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

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

    def _sync(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _close_to_others(self) -> None:
        """Make the directory private if it holds only keys: after a checkout its mode is 0755.

        Another program that stores its certificates there would lose access to them.
        """
        entries = [path for path in self._entries() if path.name not in _OF_THE_FILE_SYSTEM]
        if all(map(_is_own, entries)):
            kept = stat.S_IMODE(self._directory.stat().st_mode) & ~OTHERS
            self._directory.chmod(kept | DIRECTORY_MODE)
        self._require_private(self._directory, DIRECTORY_MODE)

    @staticmethod
    def _require_private(path: Path, mode: int) -> None:
        """Refuse what another user owns or may access; setgid and the sticky bit are ignored."""
        facts = path.lstat() if mode == FILE_MODE else path.stat()
        if stat.S_ISLNK(facts.st_mode):
            raise KeyUnavailable(
                f"{path} is a symbolic link: the file that it leads to would remain when the key is removed",
                Fix(Kind.KEY_LINK, f"cp -p --remove-destination {quoted(path.resolve())} {quoted(path)}"),
            )
        if not stat.S_ISREG(facts.st_mode) and not stat.S_ISDIR(facts.st_mode):
            raise KeyUnavailable(
                f"{path} is not a file: remove it, and restore the key from the backup",
                Fix(Kind.KEY_NO_FILE, f"mv {quoted(path)} {quoted(f'{path}.aside')}"),
            )
        if facts.st_uid != os.geteuid():
            raise KeyUnavailable(
                f"{path} belongs to user {facts.st_uid}, not to {os.geteuid()}",
                Fix(Kind.KEYS_OWNER, as_root(f"chown {os.geteuid()} {quoted(path)}")),
            )
        if stat.S_IMODE(facts.st_mode) & OTHERS:
            raise KeyUnavailable(
                f"{path} may be read or changed by others (mode {stat.S_IMODE(facts.st_mode):04o})",
                Fix(Kind.KEYS_EXPOSED, f"chmod {mode:o} {quoted(path)}"),
            )


def _is_own(path: Path) -> bool:
    """Whether a file has a name that this program gives: `KID.pem` and not just any `.pem`."""
    return path.name in _OWN_NAMES or (path.suffix in _OWN_SUFFIXES and is_kid(path.name.partition(".")[0]))


def _required(kid: str) -> str:
    """Return `kid`; raise KeyUnavailable for text of another form, which could lead out of the directory."""
    if not is_kid(kid):
        raise KeyUnavailable(f"{kid[:50]!r} is not the kid of a key (RFC 7638): no file has such a name")
    return kid


def _content(path: Path, most: int) -> bytes:
    """Return the content of a file; refuse a device, a pipe or a link, which may be endless or lead elsewhere."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > most:
            raise KeyUnavailable(f"{path} is not a file of at most {most} bytes: remove it")
        return file.read(most + 1)


def _mount_point(path: Path) -> Path:
    real = path.resolve()
    return next(each for each in (real, *real.parents) if each.is_mount() or each == each.parent)
