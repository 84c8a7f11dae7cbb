"""One key: its public key, and the instants and durations of its life. `ring` derives its phase among other keys.

Making keys and signing with them is left to `signing`.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

from issuer.clock import duration, instant
from issuer.errors import Refused
from issuer.keyring.policy import Policy
from issuer.signing.public_key import PublicKey


@dataclass(frozen=True)
class Key(PublicKey):
    """The facts about one key. It signs from `activates_at` until its successor's `activates_at`."""

    published_at: datetime
    activates_at: datetime | None
    """None: published, and activated by manual rotation only."""
    token_lifetime: timedelta
    """The longest lifetime that any node was allowed to give a token signed by this key."""
    margin: timedelta
    """The longest in force while it could sign; see `Policy.margin`."""
    lead: timedelta
    """How long it is published before it may sign; zero in the ring's first save."""
    revoked_at: datetime | None = None
    revoked_reason: str | None = None
    compromised: bool = False
    """Revoked because an attacker may have the private key."""
    imported: bool = False
    """Its private key was made outside of this program."""
    rolled_back_from: bool = False
    """A rollback replaced it: a later rollback does not return to it unless forced."""

    @property
    def may_sign_from(self) -> datetime:
        """The earliest instant at which the key may sign: from then on every cached key set contains it.

        The lead is that of the settings at publication: shorter settings since then do not apply to key sets that
        are already cached.
        """
        return self.published_at + self.lead

    @property
    def retention(self) -> timedelta:
        """How long the key stays published after it was superseded: until its last token has expired everywhere."""
        return self.token_lifetime + self.margin

    def activated_by(self, now: datetime) -> bool:
        """Whether the key had begun to sign at `now`; a key revoked before its activation never does."""
        if self.activates_at is None or self.activates_at > now:
            return False
        return self.revoked_at is None or self.revoked_at > self.activates_at

    @property
    def ever_activated(self) -> bool:
        """Whether the key has signed or will sign: it has an activation time and was not revoked before it."""
        return self.activates_at is not None and self.activated_by(self.activates_at)

    @classmethod
    def standby(cls, public: PublicKey, policy: Policy, now: datetime, lead: timedelta) -> Self:
        """Return `public` as a key published at `now`, without an activation time."""
        return cls(public.kid, public.alg, public.jwk, now, None, policy.token_lifetime, policy.margin, lead)

    def raised(self, policy: Policy) -> Self:
        """Return the key with the longest lifetime and margin of its own and of the current policy."""
        return replace(
            self,
            token_lifetime=max(self.token_lifetime, policy.token_lifetime),
            margin=max(self.margin, policy.margin),
        )

    def require_lead(self, now: datetime) -> None:
        """Refuse a key that a verifier may not know yet."""
        if self.may_sign_from > now:
            raise Refused(
                f"not before {instant(self.may_sign_from)}: {self.kid} was published at {instant(self.published_at)},"
                f" and a verifier may hold a key set without it for {duration(self.lead)} (ISSUER_PUBLISH_LEAD)",
                self.may_sign_from,
            )

    def require_not_rolled_back(self) -> None:
        """Refuse a key that a rollback replaced."""
        if self.rolled_back_from:
            raise Refused(
                f"{self.kid} was rolled back; rotate to the next key instead: issuer keys rotate"
                " (or use --force and --reason)"
            )
