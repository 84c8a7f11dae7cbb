"""What the key ring says no with; which of them ends a command how is `cli`'s business."""

from datetime import datetime

from issuer.fixes import Fix


class KeyRingError(Exception):
    """Anything the ring says no to.

    KeyRingError
      Refused        a guard holds; `allowed_from` says until when, where waiting is enough
      UnknownKey     no key, or more than one, answers to that name
      NothingToDo    the ring is already as asked
      NoRing         this database has no ring
      StaleView      this node has not seen the ring for so long that it must not sign
      WrongClock     the clock of this machine is too far from that of the database
      OlderRing      the database has an older ring than its private keys have seen
      KeyUnavailable a private key is missing, damaged, unreadable or under another passphrase
        WrongPassphrase it is under another passphrase, or damaged
    """


class Refused(KeyRingError):
    """A guard holds; `allowed_from` is the instant from which the same move is allowed, if waiting is enough."""

    def __init__(self, message: str, allowed_from: datetime | None = None) -> None:
        super().__init__(message)
        self.allowed_from = allowed_from


class UnknownKey(KeyRingError):
    """No key, or more than one, answers to that name."""


class NothingToDo(KeyRingError):
    """The ring is already as asked."""


class NoRing(KeyRingError):
    """The database has no ring: another one is meant, or the issuer has not started yet."""


class StaleView(KeyRingError):
    """The view that this node has of the ring is too old to act on."""


class WrongClock(KeyRingError):
    """The clock of this machine is too far from that of the database to decide anything by it."""


class OlderRing(KeyRingError):
    """The database has an older ring than its private keys have seen; says what it would bring back and lose."""


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
