"""The number of published keys: never more than verifiers read, whatever the timer and operators do."""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from support.example_rings import DAY, POLICY, START, new_ring, public

from issuer.errors import Refused
from issuer.keyring.key_count import DOCUMENT_MOST_BYTES
from issuer.keyring.plan import completed
from issuer.keyring.policy import PUBLISHED_MOST, Policy
from issuer.keyring.ring import KeyRing
from issuer.signing.public_key import PublicKey
from jwks_verifier.http_client import MAX_BODY
from jwks_verifier.jwk import MAX_KEYS

HOUR = timedelta(hours=1)
MANUAL = replace(POLICY, token_lifetime=5 * DAY, rotation_period=timedelta(0))
TIMED = replace(POLICY, token_lifetime=5 * DAY, rotation_period=3 * HOUR, publish_lead=HOUR)
FULL = replace(POLICY, token_lifetime=57 * DAY, rotation_period=DAY)


def test_the_bound_is_within_the_limit_of_the_verifier() -> None:
    assert PUBLISHED_MOST <= MAX_KEYS
    assert DOCUMENT_MOST_BYTES <= MAX_BODY


@pytest.mark.parametrize(
    "policy", [MANUAL, TIMED, FULL], ids=["only by an operator", "by the timer", "nearly full"]
)
def test_forced_rotations_are_refused_before_the_key_set_is_too_large_and_allowed_at_the_stated_time(
    policy: Policy,
) -> None:
    ring, _ = completed(new_ring(policy), policy, START)
    refusals = most = 0
    allowed_from = None
    step = max(HOUR, policy.rotation_period // 2)
    for count in range(200):
        now = allowed_from or START + count * step
        ring, _ = completed(ring, policy, now)
        try:
            ring = ring.promoted(policy, now, forced=True)
            assert not allowed_from or allowed_from == now
            allowed_from = None
        except Refused as refusal:
            assert allowed_from is None, "it was refused at the instant from which it is allowed"
            refusals += 1
            allowed_from = refusal.allowed_from
        ring, _ = completed(ring, policy, now)
        most = max(most, len(ring.published_keys(now)))
    assert most <= PUBLISHED_MOST
    assert refusals
    assert peak_by_timer(ring, policy) <= PUBLISHED_MOST


def peak_by_timer(ring: KeyRing, policy: Policy) -> int:
    now = ring.changed_at
    now = max(
        key.activates_at for key in ring.keys if key.activates_at and key.activates_at <= START + 400 * DAY
    )
    most = 0
    for _ in range(200):
        now += max(HOUR, policy.rotation_period // 2)
        ring, _ = completed(ring, policy, now)
        most = max(most, len(ring.published_keys(now)))
    return most


def test_a_stolen_key_is_revoked_however_full_the_key_set_is() -> None:
    policy, now = MANUAL, START
    ring, _ = completed(new_ring(policy), policy, now)
    with suppress(Refused):
        while True:
            now += HOUR
            ring = completed(ring.promoted(policy, now, forced=True), policy, now)[0]
    before = len(ring.published_keys(now))
    stolen = ring.current(now)
    ring, _ = completed(ring.revoked(stolen.kid, "stolen", policy, now), policy, now)
    assert ring.current(now) != stolen
    assert len(ring.published_keys(now)) == before == PUBLISHED_MOST


def test_imported_keys_are_refused_before_the_key_set_is_too_large_in_number_or_in_bytes() -> None:
    policy = replace(POLICY, rotation_period=timedelta(0))
    ring = new_ring(policy)
    with pytest.raises(Refused, match=f"{PUBLISHED_MOST} keys"):
        filled(ring, policy, public("small"))
    large = public("large")
    with pytest.raises(Refused, match="64 KiB"):
        filled(ring, policy, replace(large, jwk={**large.jwk, "n": "n" * 1366}))


def filled(ring: KeyRing, policy: Policy, key: PublicKey) -> None:
    for number in range(2, PUBLISHED_MOST + 1):
        assert len(ring.published_keys(START)) == number
        ring = ring.imported(replace(key, kid=f"{key.kid} {number}"), policy, START)
