"""What a client may still have of what a session, a code or an access token of it holds.

Operators narrow clients while sessions last: each use of a session is bounded by what its client may have by then.
What a user has is bounded by the grants, and what a client may request at all by `authorize.validation`.
"""

from dataclasses import dataclass
from datetime import datetime

from issuer.clients.client import FIRST_PARTY_ID, Client, matched
from issuer.clients.resources import Resources
from issuer.oauth import GrantType
from issuer.tokens.identity import IDENTITY_SCOPES, IdentityScope
from issuer.tokens.refresh import Family


@dataclass(frozen=True)
class Entitlements:
    """Bounds what is held by what a client may have now. The built-in client may have whatever its users have."""

    resources: Resources
    default_audience: tuple[str, ...]
    """The audience of clients that have none of their own."""
    issuer: str
    """Its URL: sessions that were started for no resource have it as an audience."""

    def scope(self, client: Client, held: frozenset[str]) -> frozenset[str]:
        """Return what of a scope the client may have."""
        return held if client.id == FIRST_PARTY_ID else held & scope_limit(client)

    def audience(self, client: Client, held: tuple[str, ...], now: datetime | None = None) -> tuple[str, ...]:
        """Return which audiences the client may have, as they are registered now; raise StoreError.

        With `now`, open resources may be as they were a second before: see `clients.resources`.
        Empty if all were taken away, or all but the issuer: tokens for userinfo alone would be of no use to the
        client, which has to sign the user in again.
        """
        if client.id == FIRST_PARTY_ID:
            return held
        own = (*(client.audiences or self.default_audience), self.issuer)
        allowed = {matched(each): each for each in reversed(own)}
        others = tuple(each for each in held if matched(each) not in allowed)
        if others:
            allowed.update({matched(each): each for each in self.resources.opened(others, now)})
        kept = tuple(dict.fromkeys(allowed[matched(each)] for each in held if matched(each) in allowed))
        is_for_services = any(each != self.issuer for each in held)
        return () if is_for_services and all(each == self.issuer for each in kept) else kept

    def holds_more(self, client: Client, scope: frozenset[str], audience: tuple[str, ...]) -> bool:
        """Return whether a scope and an audience are more than the client may have; raise StoreError."""
        kept = {matched(each) for each in self.audience(client, audience)}
        return self.scope(client, scope) != scope or {matched(each) for each in audience} != kept


def scope_limit(client: Client) -> frozenset[str]:
    """Return the most that a client may have in the name of a user: its scope, and what users grant alone."""
    allowed = client.scope | IDENTITY_SCOPES
    if GrantType.REFRESH_TOKEN not in client.grant_types:
        allowed -= {IdentityScope.OFFLINE_ACCESS}  # OpenID Connect Core section 11
    return allowed


def may_keep(client: Client, family: Family) -> bool:
    """Return whether a client may still use a session: not one from a sign-in if it may not sign users in."""
    return family.sign_in is None or GrantType.AUTHORIZATION_CODE in client.grant_types
