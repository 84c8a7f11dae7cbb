"""Small key rings for tests of its rules: `a` is current and `b` waits, or `a` was replaced by `b` and `c` waits."""

from datetime import UTC, datetime, timedelta

from issuer.keyring.policy import Policy
from issuer.keyring.ring import KeyRing, Phase
from issuer.signing.public_key import PublicKey

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
POLICY = Policy(
    algorithm="RS256",
    token_lifetime=timedelta(minutes=10),
    rotation_period=30 * DAY,
    publish_lead=DAY,
    max_age=timedelta(minutes=5),
    node_timeout=timedelta(seconds=30),
    outage_limit=timedelta(hours=1),
    clock_skew=timedelta(seconds=30),
)


def public(kid: str) -> PublicKey:
    return PublicKey(kid, "RS256", {"kty": "RSA", "kid": kid, "alg": "RS256"})


def new_ring(policy: Policy = POLICY) -> KeyRing:
    return KeyRing.create([public("a"), public("b")], policy, START)


def phases(ring: KeyRing, now: datetime) -> dict[str, Phase]:
    return {key.kid: ring.phase(key, now) for key in ring.keys}


def rotated() -> KeyRing:
    """a was superseded by b a day after the start; c waits."""
    return new_ring().promoted(POLICY, START + DAY).published([public("c")], POLICY, START + DAY)
