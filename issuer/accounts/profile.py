"""What an account says about its user to applications: name and e-mail address, OpenID Connect Core 1.0 section 5.1.

Who may read it is decided by the scopes `profile` and `email` of a token.
"""

import re
from dataclasses import dataclass

from issuer.oauth import InvalidRequest

NAME_MOST_CHARACTERS = 200
EMAIL_MOST_CHARACTERS = 254
"""RFC 5321 section 4.5.3.1.3, without the angle brackets."""
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"(?!.*=\?)[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{_LABEL}(?:\.{_LABEL})*")
"""The form that browsers accept in a field for an e-mail address, HTML section 4.10.5.1.5, without encoded words (RFC
2047): mail programs would decode them to another address."""


@dataclass(frozen=True)
class Profile:
    """Name and e-mail address of a user; None: not known."""

    name: str | None = None
    email: str | None = None
    email_verified: bool = False
    """Whether the operator knows that the address is the user's."""


NO_PROFILE = Profile()


def canonical_email(email: str | None) -> str | None:
    """Return the form in which two spellings of an address are taken for the same: no provider tells them apart."""
    return email.lower() if email else None


def is_email(text: str) -> bool:
    """Return whether a text is an e-mail address that accounts may have."""
    return len(text) <= EMAIL_MOST_CHARACTERS and _EMAIL.fullmatch(text) is not None


def require_profile(name: str | None, email: str | None, *, email_verified: bool = False) -> Profile:
    """Return a profile, in which an empty text is None; raise InvalidRequest for a value that is not accepted."""
    name, email = (name or "").strip() or None, (email or "").strip() or None
    if name and len(name) > NAME_MOST_CHARACTERS:
        raise InvalidRequest(f"a name has at most {NAME_MOST_CHARACTERS} characters")
    if name and not name.isprintable():
        raise InvalidRequest("the name contains characters that cannot be displayed")
    if email and not is_email(email):
        raise InvalidRequest(f"{email[:80]!r} is not an e-mail address such as alice@example.com")
    if email_verified and not email:
        raise InvalidRequest("there is no e-mail address that could be verified")
    return Profile(name, email, email_verified)
