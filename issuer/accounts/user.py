"""Users, and which names and passwords are acceptable.

Passwords are hashed by `passwords`, users stored by `store`.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from issuer.accounts.weak_passwords import is_easy
from issuer.oauth import InvalidRequest

USERNAME_LENGTH = 64
PASSWORD_LEAST_CHARACTERS = 12
PASSWORD_MOST_BYTES = 1024
VERIFIED_MOST_BYTES = 4096
"""Of a password that is verified: imported accounts may have longer ones than are accepted here."""
# Letters, marks, numbers; no separators (which look like spaces), control or format characters.
_NAME_CATEGORIES = ("L", "M", "N")
_NAME_PUNCTUATION = frozenset("._-@+")


@dataclass(frozen=True)
class User:
    """A user account; `id` is the stable `sub` of its tokens, `username` is for display."""

    id: str
    username: str
    password_hash: str = field(repr=False)
    scope: frozenset[str]
    """Granted to the user alone; see `effective_scope`."""
    created_at: datetime
    disabled_at: datetime | None = None
    name: str | None = None
    """The full name, as it is displayed."""
    email: str | None = None
    email_verified: bool = False
    invited_at: datetime | None = None
    """When the user was invited to choose a first password; None: there is a password."""
    updated_at: datetime | None = None
    """When name or email were last changed; None: never."""
    signed_in_at: datetime | None = None
    """The last sign-in with a password, stored to a few minutes; None: never."""
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Set by operators, for claims of access tokens."""
    roles: frozenset[str] = frozenset()
    role_scope: frozenset[str] = frozenset()
    """The scopes of the roles, as they are now."""

    @property
    def effective_scope(self) -> frozenset[str]:
        """What tokens of the user may have: the own scopes and those of the roles."""
        return self.scope | self.role_scope


@dataclass(frozen=True)
class VerifiedPassword:
    """The hash that a password was verified against, and what to store in its place if its scheme is outdated."""

    current_hash: str = field(repr=False)
    upgraded_hash: str | None = field(default=None, repr=False)


def canonical_username(username: str) -> str:
    """Return the form in which two spellings of one name are equal: NFKC, case-folded."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())


def account_name(username: str) -> str:
    """Return the name under which attempts are counted for all spellings, whether the account exists or not."""
    return canonical_username(username) if hashable(username) else username


def require_username(username: str) -> str:
    """Return `username` as it will be shown (NFKC); raise InvalidRequest for an unacceptable one."""
    # Normalising is quadratic in a run of combining marks: never before the length is known.
    name = unicodedata.normalize("NFKC", username[: 4 * USERNAME_LENGTH])
    if not 1 <= len(name) <= USERNAME_LENGTH or len(username) > 4 * USERNAME_LENGTH:
        raise InvalidRequest(f"username must have 1 to {USERNAME_LENGTH} characters")
    for character in name:
        if character not in _NAME_PUNCTUATION and unicodedata.category(character)[0] not in _NAME_CATEGORIES:
            raise InvalidRequest("username may hold letters, digits and any of . _ - @ +")
    if not any(map(str.isalnum, name)):  # `..` would be a path for services that build one from it
        raise InvalidRequest("username must hold a letter or a digit")
    if not name.isascii():
        # Only here: its tables take 18 MiB, and most names need none of it.
        from issuer.accounts.confusables import require_plain  # noqa: PLC0415

        require_plain(name)
    return name


def canonical_password(password: str) -> str:
    """Return a hashable `password` in the form that is hashed (NFC): keyboards compose characters differently."""
    return unicodedata.normalize("NFC", password)


def require_password(password: str, username: str, common: frozenset[str]) -> str:
    """Return `password` as it is hashed; raise InvalidRequest for one too short, too long or too easy.

    No composition rules, as NIST SP 800-63B section 3.1.1.2 advises.
    """
    if not hashable(password):
        raise InvalidRequest(f"password must be valid Unicode of at most {PASSWORD_MOST_BYTES} bytes")
    chosen = canonical_password(password)
    if len(chosen) < PASSWORD_LEAST_CHARACTERS:
        raise InvalidRequest(f"password must have at least {PASSWORD_LEAST_CHARACTERS} characters")
    if canonical_username(chosen) == canonical_username(username):
        raise InvalidRequest("password must differ from username")
    if is_easy(chosen, canonical_username(username), common):
        raise InvalidRequest(
            "password is among the most common ones, or a common word with little added; choose another"
        )
    return chosen


def hashable(password: str, most_bytes: int = PASSWORD_MOST_BYTES) -> bool:
    """Return whether `password` can be hashed: it is encodable, and not so long that hashing it is an attack."""
    try:
        return len(password.encode()) <= most_bytes and "\0" not in password
    except UnicodeEncodeError:
        return False
