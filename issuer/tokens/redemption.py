"""Redeeming a refresh token: what is stored of it and of its successor, and what presenting it leads to.

The decision itself is made in `tokens`, what is done then in `sessions`.
"""

from datetime import datetime, timedelta

from issuer.digests import refresh_token_digest
from issuer.tokens.family_store import FamilyStore, Found
from issuer.tokens.refresh import Redemption, Renewal, Replayed, redemption, successor

NOT_VALID = "the refresh token is not valid; log in again"


def redeem(
    families: FamilyStore, presented: str, found: Found, site: str, now: datetime, skew: timedelta
) -> Renewal:
    """Return what the holder of the token `presented` from `site` gets.

    Raise InvalidGrant for an expired token or an ended session, Replayed for a token that must end its session.
    """
    token, family, _ = found
    following, issued = None, None
    if token.used_at is not None:
        following = successor(presented, token.successor_seed, family.id)
        issued = families.issued(refresh_token_digest(following))
    outcome = redemption(token, family, issued, site, now, skew)
    if outcome in (Redemption.REUSE, Redemption.ELSEWHERE):
        raise Replayed(NOT_VALID, family, elsewhere=outcome is Redemption.ELSEWHERE)
    return Renewal(presented, token, family, outcome, following)
