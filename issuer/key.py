"""One key: its public half, and the facts about its life; what follows from them among others is `keyring`'s."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from issuer.policy import Policy


@dataclass(frozen=True)
class PublicKey:
    """The public half of a key: `kid` is the RFC 7638 SHA-256 thumbprint of `jwk` (RFC 7517)."""

    kid: str
    alg: str
    jwk: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Key(PublicKey):
    """The facts about one key. It signs from `activates_at` until its successor's `activates_at`."""

    published_at: datetime
    activates_at: datetime | None
    """None: published, and activated by an operator's hand only."""
    token_lifetime: timedelta
    """The longest life that any node was allowed to give a token this key signed."""
    margin: timedelta
    """The longest in force while it could sign; see `Policy.margin`."""
    lead: timedelta
    """How long it is published before it may sign; zero in the ring's first save."""
    revoked_at: datetime | None = None
    revoked_reason: str | None = None
    compromised: bool = False
    """Revoked because somebody else may have the private half."""
    imported: bool = False
    """Made elsewhere: its private half was outside once."""
    withdrawn: bool = False
    """A rollback took its place: going back does not lead to it again."""

    def activated_by(self, now: datetime) -> bool:
        """Tell whether the key had begun to sign at `now`; one revoked before its turn never did."""
        if self.activates_at is None or self.activates_at > now:
            return False
        return self.revoked_at is None or self.revoked_at > self.activates_at

    @property
    def ever_activated(self) -> bool:
        """Tell whether the key has a turn that was not, and will not be, forestalled by its revocation."""
        return self.activates_at is not None and self.activated_by(self.activates_at)

    @classmethod
    def standby(cls, public: PublicKey, policy: Policy, now: datetime, lead: timedelta) -> Self:
        """Return `public` as a key published at `now`, whose turn is not set."""
        return cls(public.kid, public.alg, public.jwk, now, None, policy.token_lifetime, policy.margin, lead)
