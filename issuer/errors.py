"""The errors of the key ring and of private keys; the exit code of each is decided in `cli`."""

from datetime import datetime

from issuer.fixes import Fix


class KeyRingError(Exception):
    """An operation on the key ring that was refused or failed.

    KeyRingError
      Refused        a rule forbids it; `allowed_from` is the end of that, where waiting is enough
      UnknownKey     no key, or more than one, has a kid that begins so
      NothingToDo    the ring is already as requested
      NoRing         this database has no ring
      StaleView      this node has not seen the ring for so long that it must not sign
      WrongClock     the clock of this machine is too far from that of the database
      OlderRing      the ring in the database is older than the checkpoint with its private keys
      KeyUnavailable a private key is missing, damaged, unreadable or under another passphrase
        WrongPassphrase it is under another passphrase, or damaged
    """


class Refused(KeyRingError):
    """A rule forbids it; `allowed_from` is the instant from which it is allowed, if waiting is enough."""

    def __init__(self, message: str, allowed_from: datetime | None = None) -> None:
        super().__init__(message)
        self.allowed_from = allowed_from


class UnknownKey(KeyRingError):
    """No key, or more than one, has a kid that begins so."""


class NothingToDo(KeyRingError):
    """The ring is already as requested."""


class NoRing(KeyRingError):
    """The database has no ring: another one is meant, or the issuer has not started yet."""


class StaleView(KeyRingError):
    """The view that this node has of the ring is too old to act on."""


class WrongClock(KeyRingError):
    """The clock of this machine is too far from that of the database for any decision."""


class OlderRing(KeyRingError):
    """The ring in the database is older than the checkpoint; the message says which keys differ."""


class KeyUnavailable(KeyRingError):
    """A private key is missing, damaged, unreadable or under another passphrase; says which, and what to do.

    `fix` clears it, where a line does.
    """

    def __init__(self, message: str, fix: Fix | None = None) -> None:
        does = "run" if fix and fix.clears else "see"
        super().__init__(f"{message}; {does}: {fix}" if fix else message)
        self.message = message
        self.fix = fix


class WrongPassphrase(KeyUnavailable):
    """A private key does not open under the passphrase of the settings."""
