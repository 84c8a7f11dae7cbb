"""Password hashes: made and verified, with bounds on the cost of imported ones. Only this module imports passlib.

Which passwords are acceptable is decided in `user`; `hashing_pool` has the threads.
"""

import re
import secrets
import warnings
from pathlib import Path
from typing import Any, Final

from passlib.context import CryptContext

from issuer.accounts.user import canonical_password

COMMON = frozenset((Path(__file__).parent / "common_passwords.txt").read_text("utf-8").split())
"""Passwords of twelve characters or more that lead every list of leaked ones."""

SCHEMES: Final = ("argon2", "scrypt", "bcrypt", "bcrypt_sha256", "pbkdf2_sha256", "pbkdf2_sha512")
"""Accepted schemes; new hashes use the first."""
BCRYPT_IDENTS: Final = ("$2$", "$2a$", "$2b$", "$2y$")
BCRYPT_MOST_BYTES: Final = 72
"""bcrypt reads no more of a password. Most programs truncate longer ones there silently."""
MEMORY_MOST_KIB: Final = 256 * 1024
"""Of memory to verify an imported hash: as many verifications as there are cores must fit at once."""
LANES_MOST: Final = 16
"""Lanes of argon2; each is a thread while a password is verified."""
SECONDS_MOST: Final = 1.25
"""Of one core for one verification, computed with the costs below, which were measured on such a core."""
KIB_SECONDS: Final = {"argon2": SECONDS_MOST / 2**20, "scrypt": 3.2e-6}
"""Seconds for each KiB of memory and pass over it; scrypt makes one pass, which reads and writes twice."""
THREAD_SECONDS: Final = 2e-5
"""Seconds to start and join a thread; with several lanes argon2 does so for each lane in each slice of a pass."""
SLICES: Final = 4
ROUND_SECONDS: Final = {
    "bcrypt": SECONDS_MOST / 2**14,
    "bcrypt_sha256": SECONDS_MOST / 2**14,
    "pbkdf2_sha256": SECONDS_MOST / 4_000_000,
    "pbkdf2_sha512": SECONDS_MOST / 2_000_000,
}
"""bcrypt has 2 to the power of its cost rounds."""
HASH_MOST_CHARACTERS: Final = 512
FOREIGN_FORMS: Final = (
    (r"\{[A-Za-z0-9@._-]+\}", "of Spring Security or LDAP, with the scheme in braces"),
    (r"(?:pbkdf2_sha\d+|bcrypt|bcrypt_sha256|argon2|scrypt|md5|sha1)\$", "of Django"),
    (r"(?:pbkdf2:|scrypt:)", "of Werkzeug"),
    (r"\$2x\$", "$2x$ of bcrypt, which marks hashes that a bug made"),
    (r"\$(?:P|H)\$", "of phpass"),
    (r"\$(?:1|5|6|7|y|gy|apr1|sm3|md5|sha1)\$", "of crypt"),
    (r"(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64}|[0-9a-fA-F]{128})\Z", "of a plain digest"),
)
"""Hash formats of other programs that are not accepted: a pattern for the beginning, and a name."""
UNVERIFIABLE: Final = (ValueError, TypeError, NotImplementedError)
"""What passlib and its backends raise for a hash or a password that they cannot process."""


class WrongPassword(Exception):
    """The password does not match, or there is no such account."""


class BadHash(ValueError):
    """No password can be verified against this hash, or not within bounds. The message holds nothing of the hash."""


class Passwords:
    """Hashes with argon2id (19 MiB, 2 passes, 1 lane); verifies older schemes, so that users can be imported."""

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
        self._never = secrets.token_hex(8).encode()
        """Before a password, it makes one that no account has."""

    def _unanswerable(self) -> str:
        """Return a hash that no password has, and that takes as long to verify as any: salt and digest are random."""
        scheme = self._context.handler("argon2")
        salt, digest = secrets.token_bytes(16), secrets.token_bytes(32)
        return str(scheme(salt=salt, checksum=digest, use_defaults=True).to_string())

    def hash(self, password: str) -> str:
        """Return the hash to keep of `password`."""
        return str(self._context.hash(password))

    def verify(self, password: str, password_hash: str | None, decoy: str | None = None) -> str | None:
        """Verify a password; return the hash to store in place of an outdated one, else None. Raise WrongPassword.

        If `password_hash` is None, for an unknown user or one who must not log in, do the work of `decoy`, the hash
        of an account, and raise WrongPassword. Nothing can match then: an upgraded hash would take time that shows
        the match.
        """
        chosen, verified = canonical_password(password), password_hash or decoy or self._dummy
        # As it is hashed here, and as typed: other programs hash that. Both are tried in any case, so that the time
        # shows nothing.
        before = self._never if password_hash is None else b""
        tried = [_secret(form, verified, before) for form in dict.fromkeys([chosen, password])]
        outcomes = [self._verify(secret, verified) for secret in tried]
        if password_hash is None or not any(matches for matches, _ in outcomes):
            raise WrongPassword
        matches, better = outcomes[0]
        if matches and tried[0] == chosen.encode():
            return better
        return self.hash(chosen)  # it matched as typed; from now on the canonical form counts

    def _verify(self, secret: bytes, password_hash: str) -> tuple[bool, str | None]:
        try:
            matches, better = self._context.verify_and_update(secret, password_hash)
        except UNVERIFIABLE:  # a hash of no known scheme, or a password its scheme cannot take
            self._context.verify(b"x", self._dummy)
            return False, None
        return bool(matches), None if better is None else str(better)

    def require_verifiable(self, password_hash: str) -> None:
        """Raise BadHash for an imported hash that verifies no password, or takes too much time or memory.

        Every attempt to log in to that account would do this work.
        """
        scheme = self._context.identify(password_hash)
        form = next((form for start, form in FOREIGN_FORMS if re.match(start, password_hash)), None)
        if scheme is None or form is not None or len(password_hash) > HASH_MOST_CHARACTERS:
            what = f"in the form {form}, which is not known here" if form else "of no known scheme"
            raise BadHash(f"the hash is {what}; known are {', '.join(SCHEMES)}, as passlib writes them")
        try:
            parsed = _parsed(self._context.handler(scheme), password_hash)
        except UNVERIFIABLE:  # passlib's message may quote the hash
            raise BadHash(f"the {scheme} hash is malformed: no password can match it") from None
        if parsed.name == "argon2" and parsed.parallelism > LANES_MOST:
            raise BadHash(
                f"the {scheme} hash costs too much to verify: more than {LANES_MOST} threads at once"
            )
        if _memory_kib(parsed) > MEMORY_MOST_KIB:
            most = f"more than {MEMORY_MOST_KIB // 1024} MiB of memory"
            raise BadHash(f"the {scheme} hash costs too much to verify: {most}")
        if _seconds(parsed) > SECONDS_MOST:
            raise BadHash(
                f"the {scheme} hash costs too much to verify: more than about a second at each log-in"
            )


def _secret(password: str, password_hash: str, before: bytes) -> bytes:
    """Return the bytes to verify: the password with `before` in front, no longer than without, cut as bcrypt does."""
    secret = password.encode()
    secret = (before + secret)[: max(len(before), len(secret))]
    return secret[:BCRYPT_MOST_BYTES] if password_hash.startswith(BCRYPT_IDENTS) else secret


def _parsed(scheme: Any, password_hash: str) -> Any:
    """Return a hash as passlib parses it; raise one of UNVERIFIABLE if it could not verify a password."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what passlib corrects: it then differs from the hash below
        parsed = scheme.from_string(password_hash)
        if scheme.name == "argon2":  # the version before the last is written or left out
            password_hash = password_hash.replace("$v=16$", "$", 1)
        if parsed.checksum is None or parsed.to_string() != password_hash:
            raise ValueError("no digest, or not in the one form")
    if scheme.name == "argon2":  # what argon2-cffi would refuse at the first verification
        memory_least, digest_least, salt_least = 8 * parsed.parallelism, 4, 8  # RFC 9106 section 3.1
        short = len(parsed.checksum) < digest_least or len(parsed.salt) < salt_least
        if parsed.memory_cost < memory_least or short or parsed.data:
            raise ValueError("parameters that do not exist")
    return parsed


def _memory_kib(parsed: Any) -> int:
    """Return the KiB of memory that one verification takes."""
    match parsed.name:
        case "argon2":
            memory: int = parsed.memory_cost
        case "scrypt":  # the blocks of all lanes, and the table of one, RFC 7914 section 6
            memory = (2**parsed.rounds + parsed.parallelism) * parsed.block_size * 128 // 1024
        case _:
            memory = 0
    return memory


def _seconds(parsed: Any) -> float:
    """Return roughly how many seconds of one core a verification takes."""
    match parsed.name:
        case "argon2":
            lanes = parsed.parallelism
            threads = SLICES * lanes * parsed.rounds if lanes > 1 else 0
            return float(
                parsed.memory_cost * parsed.rounds * KIB_SECONDS["argon2"] + threads * THREAD_SECONDS
            )
        case "scrypt":
            kib = (2**parsed.rounds + 1) * parsed.parallelism * parsed.block_size * 128 / 1024
            return float(kib * KIB_SECONDS["scrypt"])
        case "bcrypt" | "bcrypt_sha256":
            return float(2**parsed.rounds * ROUND_SECONDS[parsed.name])
    return float(parsed.rounds * ROUND_SECONDS[parsed.name])
