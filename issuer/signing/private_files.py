"""Files that only their owner may access: their mode, atomic writing, locking, and why no more could be stored.

Which files there are is left to `pem_directory`.
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from issuer.errors import KeyUnavailable
from issuer.fixes import Fix, Kind, as_root, quoted

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600
OTHERS: Final = 0o077
LEAST_FREE_BYTES: Final = 1024 * 1024


def replace(path: Path, content: bytes) -> None:
    """Write a file atomically: a crash leaves the old or the new one, and perhaps a temporary file."""
    descriptor, temporary = tempfile.mkstemp(".new", f"{path.stem}.", path.parent)  # made 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink()
        raise
    sync(path.parent)


def read(path: Path, most: int) -> bytes:
    """Return the content of a file; refuse a device, a pipe or a link, which may be endless or lead elsewhere."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > most:
            raise KeyUnavailable(f"{path} is not a file of at most {most} bytes: remove it")
        return file.read(most + 1)


def sync(directory: Path) -> None:
    """Make changes of names in the directory survive a power failure."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock the directory itself, if it exists, so that no other process changes its files meanwhile."""
    if not directory.exists():
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def require_private(path: Path, mode: int) -> None:
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


def storage_error(directory: Path) -> KeyUnavailable | None:
    """Return why no new file could be stored in the directory, or None; an error of permissions is not reported."""
    try:
        # The directory is made with the first key.
        parents = directory.absolute().parents
        place = directory if directory.exists() else next(filter(os.path.lexists, parents))
        if not place.is_dir():
            return KeyUnavailable(
                f"no new key can be stored: {place} is not a directory; correct ISSUER_KEYS"
            )
        facts = os.statvfs(place)
    except OSError:
        return None  # `require_private` reports it
    if facts.f_flag & os.ST_RDONLY:
        return KeyUnavailable(
            f"no new key can be stored: {directory} is on a file system that is mounted read-only",
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
            f"no new key can be stored: the disk of {directory} is full",
            Fix(Kind.DISK_FULL, f"df -h {quoted(directory)}", clears=False),
        )
    return None


def _mount_point(path: Path) -> Path:
    real = path.resolve()
    return next(each for each in (real, *real.parents) if each.is_mount() or each == each.parent)
