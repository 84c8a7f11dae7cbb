"""Hashing passwords: the only file that knows passlib.

Which passwords are acceptable is decided in `accounts`, and on which threads they are hashed in `hashing_pool`.
"""

import secrets
import warnings
from pathlib import Path
from typing import Any, Final

from passlib.context import CryptContext

COMMON = frozenset((Path(__file__).parent / "common_passwords.txt").read_text("utf-8").split())
"""Passwords of twelve characters or more that lead every list of leaked ones."""

SCHEMES: Final = ("argon2", "scrypt", "bcrypt", "bcrypt_sha256", "pbkdf2_sha256", "pbkdf2_sha512")
"""What is verified; the first is what is made."""
MEMORY_MOST_KIB: Final = 256 * 1024
"""What a hash from elsewhere may take to verify: as many at once as there are cores must fit."""
WORK_MOST_KIB: Final = 4 * MEMORY_MOST_KIB
"""Its memory times its passes; about a second."""
MOST_ROUNDS: Final = {
    "bcrypt": 14,
    "bcrypt_sha256": 14,
    "pbkdf2_sha256": 4_000_000,
    "pbkdf2_sha512": 2_000_000,
}
"""About a second, too; of bcrypt it is the exponent of two."""
HASH_MOST_CHARACTERS: Final = 512


class WrongPassword(Exception):
    """The password does not match, or there is no such account."""


class BadHash(ValueError):
    """No password can be verified by this hash, or not within bounds; says why, and nothing of the hash."""


class Passwords:
    """Hashes with argon2id (19 MiB, 2 passes, 1 lane); verifies older schemes, so that users can move in."""

    def __init__(self, memory_kib: int = 19456, passes: int = 2) -> None:
        self._context = CryptContext(
            schemes=list(SCHEMES),
            deprecated="auto",
            argon2__type="ID",
            argon2__memory_cost=memory_kib,
            argon2__time_cost=passes,
            argon2__parallelism=1,
        )
        self._dummy = self._unanswerable()

    def _unanswerable(self) -> str:
        """Return a hash that no password has, and that takes as long to verify as any: salt and digest are random."""
        scheme = self._context.handler("argon2")
        salt, digest = secrets.token_bytes(16), secrets.token_bytes(32)
        return str(scheme(salt=salt, checksum=digest, use_defaults=True).to_string())

    def hash(self, password: str) -> str:
        """Return the hash to keep of `password`."""
        return str(self._context.hash(password))

    def verify(self, password: str, password_hash: str | None) -> str | None:
        """Return a better hash to keep in place of `password_hash`, or None if it is up to date.

        Raise WrongPassword otherwise; for None, an unknown user, after the same work.
        """
        try:
            matches, better = self._context.verify_and_update(password, password_hash or self._dummy)
        except ValueError:  # a hash of no known scheme, or a password its scheme cannot take
            self._context.verify(password, self._dummy)
            matches, better = False, None
        if not matches or password_hash is None:
            raise WrongPassword
        return None if better is None else str(better)

    def require_verifiable(self, password_hash: str) -> None:
        """Raise BadHash for a hash from elsewhere that verifies no password, or takes too long or too much memory.

        Each log-in by it would do that work, whoever asks and whether the password is right or not.
        """
        scheme = self._context.identify(password_hash)
        if scheme is None or len(password_hash) > HASH_MOST_CHARACTERS:
            raise BadHash(
                f"the hash is of no known scheme; known are {', '.join(SCHEMES)}, as passlib writes them"
            )
        try:
            parsed = _parsed(self._context.handler(scheme), password_hash)
        except (ValueError, TypeError):  # passlib's message may quote the hash
            raise BadHash(f"the {scheme} hash is malformed: no password can match it") from None
        if scheme in MOST_ROUNDS:
            is_bearable = parsed.rounds <= MOST_ROUNDS[scheme]
        else:
            memory, work = _memory_and_work(parsed)
            is_bearable = memory <= MEMORY_MOST_KIB and work <= WORK_MOST_KIB
        if not is_bearable:
            raise BadHash(f"the {scheme} hash costs too much to verify: each log-in would take that long")


def _parsed(scheme: Any, password_hash: str) -> Any:
    """Return what passlib makes of a hash; raise ValueError or TypeError where it could not verify by it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it would put right is not the same afterwards
        parsed = scheme.from_string(password_hash)
        if parsed.checksum is None or parsed.to_string() != password_hash:
            raise ValueError("no digest, or not in the one form")
    if scheme.name == "argon2":  # what the library below refuses, only when it verifies
        memory_least, digest_least = 8 * parsed.parallelism, 4  # RFC 9106 section 3.1
        if parsed.memory_cost < memory_least or len(parsed.checksum) < digest_least or parsed.data:
            raise ValueError("parameters that do not exist")
    return parsed


def _memory_and_work(parsed: Any) -> tuple[int, int]:
    """Return the KiB that an argon2 or scrypt hash takes, and these times how often it goes through them."""
    if parsed.name == "argon2":
        return parsed.memory_cost, parsed.memory_cost * parsed.rounds
    memory: int = 2**parsed.rounds * parsed.block_size // 8  # 128 bytes a block, RFC 7914 section 2
    return memory, memory * parsed.parallelism
