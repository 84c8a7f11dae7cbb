"""Redemption of a refresh token: reads what the decision needs. `refresh` decides, and `families` applies it."""

from datetime import datetime

from issuer.digests import digest
from issuer.tokens.family_queries import Found
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.refresh import Grace, Redemption, Renewal, ReuseDetected, redemption
from issuer.tokens.refresh_text import successor


def redeem(
    families: FamilyStore, presented: str, found: Found, subnet: str, now: datetime, grace: Grace
) -> Renewal:
    """Return what presenting a token from `subnet` leads to.

    Raise InvalidGrant for an expired token or an ended family, ReuseDetected for one that must end its family.
    """
    token, family, _ = found
    following, issued = None, None
    if token.used_at is not None:
        following = successor(presented, token.successor_seed, family.id)
        issued = families.issued(digest(following))
    outcome = redemption(token, family, issued, subnet, now, grace)
    if outcome in (Redemption.REUSE, Redemption.REUSE_FROM_OTHER_ADDRESS):
        raise ReuseDetected(family, from_other_address=outcome is Redemption.REUSE_FROM_OTHER_ADDRESS)
    return Renewal(presented, token, family, outcome, following)
