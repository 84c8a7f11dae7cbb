"""Errors of the key ring.

The exit code of a command for each of them is decided in `cli.output`.
"""

from datetime import datetime

from issuer.fixes import Fix


class KeyRingError(Exception):
    """Base of the errors of the key ring.

    KeyRingError
      Refused        a rule forbids the operation; `allowed_from` is set if it only has to wait
      UnknownKey     no key, or more than one, matches the kid
      NothingToDo    the ring is already in the requested state
      NoRing         the database has no key ring
      StaleView      this node has not read the ring for so long that it must not sign
      WrongClock     the clock of this machine differs too much from that of the database
      OlderRing      the ring in the database is older than the one its private keys belong to
      KeyUnavailable a private key is missing, damaged, unreadable or encrypted with another passphrase
        WrongPassphrase it is encrypted with another passphrase, or damaged
    """


class Refused(KeyRingError):
    """A rule forbids the operation; `allowed_from` is when it will be allowed, if it only has to wait."""

    def __init__(self, message: str, allowed_from: datetime | None = None) -> None:
        super().__init__(message)
        self.allowed_from = allowed_from


class UnknownKey(KeyRingError):
    """No key, or more than one, matches the kid."""


class NothingToDo(KeyRingError):
    """The ring is already in the requested state."""


class NoRing(KeyRingError):
    """The database has no key ring: it is the wrong database, or the issuer has not been started yet."""


class StaleView(KeyRingError):
    """The view of the ring is too old to sign or publish."""


class WrongClock(KeyRingError):
    """The clock of this machine differs too much from that of the database."""


class OlderRing(KeyRingError):
    """The ring in the database is older than the one its private keys belong to; the message lists differences."""


class KeyUnavailable(KeyRingError):
    """A private key is missing, damaged, unreadable or encrypted with another passphrase; it may have a `fix`."""

    def __init__(self, message: str, fix: Fix | None = None) -> None:
        verb = "run" if fix and fix.clears else "see"
        super().__init__(f"{message}; {verb}: {fix}" if fix else message)
        self.message = message
        self.fix = fix


class WrongPassphrase(KeyUnavailable):
    """A private key cannot be decrypted with the passphrase of the settings."""
