"""Redeeming a refresh token: what is stored of it and of its successor, and what presenting it leads to.

The decision itself is made in `tokens`, what is done then in `sessions`.
"""

from datetime import datetime, timedelta

from issuer.tokens.family_store import FamilyStore, Found
from issuer.tokens.refresh import Redemption, Renewal, ReuseDetected, possible_successors, redemption

NOT_VALID = "the refresh token is not valid; log in again"


def redeem(
    families: FamilyStore, presented: str, found: Found, site: str, now: datetime, skew: timedelta
) -> Renewal:
    """Return what the holder of the token `presented` from `site` gets.

    Raise InvalidGrant for an expired token or an ended session, ReuseDetected for a token that must end its session.
    """
    token, family, _ = found
    successors, issued = {}, None
    if token.used_at is not None:
        successors = possible_successors(presented, token.successor_seed, family.id)
        issued = families.issued(list(successors))
    outcome = redemption(token, family, issued, site, now, skew)
    if outcome in (Redemption.REUSE, Redemption.REUSE_FROM_OTHER_SITE):
        raise ReuseDetected(NOT_VALID, family, from_other_site=outcome is Redemption.REUSE_FROM_OTHER_SITE)
    following = successors[issued.digest] if issued else None
    return Renewal(presented, token, family, outcome, following)
