"""The promises of the key ring over time: a state machine of ticks, moves, changed settings and verifiers.

A verifier caches a key set for as long as it was told and never asks again before; every token of an
unrevoked key must be in its set until it expires.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from issuer.keyring import KeyRing, NothingToDo, Phase, PublicKey, Refused
from issuer.policy import Policy

START = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(
    algorithm="RS256",
    token_lifetime=timedelta(seconds=20),
    rotation_period=timedelta(seconds=100),
    publish_lead=timedelta(seconds=40),
    max_age=timedelta(seconds=10),
    node_timeout=timedelta(seconds=5),
    outage_limit=timedelta(seconds=20),
    clock_skew=timedelta(seconds=3),
)


@dataclass(frozen=True)
class Token:
    kid: str
    expires_at: datetime


@dataclass(frozen=True)
class Cached:
    kids: frozenset[str]
    until: datetime


class RingOverTime(RuleBasedStateMachine):
    """One ring, tended now and then; tokens signed at every step; verifiers with caches of every age."""

    @initialize()
    def found(self) -> None:
        self.now = START
        self.policy = POLICY
        self.serial = count()
        self.ring = KeyRing.found([self._key(), self._key()], POLICY, START)
        self.tokens: list[Token] = []
        self.caches: list[Cached] = []
        self.emergencies: set[str] = set()
        self.tended_at = START
        self.revoked_kids: set[str] = set()

    def _key(self) -> PublicKey:
        kid = f"key-{next(self.serial):04}"
        return PublicKey(kid, "RS256", {"kid": kid})

    def _tend(self, ring: KeyRing) -> None:
        tended = ring.tended(self.policy, self.now)
        missing = tended.shortfall(self.now, self.policy)
        self.ring = tended.published([self._key() for _ in range(missing)], self.policy, self.now)
        self.tended_at = self.now

    @rule(seconds=st.integers(0, 30))
    def time_passes_and_a_node_reconciles(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self._tend(self.ring)

    @rule(seconds=st.integers(1, 400))
    def time_passes_and_nobody_looks(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def an_operator_rotates(self) -> None:
        self._tend(self.ring)
        standbys = self.ring.standbys(self.now)
        if any(self.ring.ripe_at(key) <= self.now for key in standbys):
            self._tend(self.ring.promoted(self.policy, self.now))
            return
        with pytest.raises(Refused) as refusal:
            self.ring.promoted(self.policy, self.now)
        assert refusal.value.allowed_from == min(self.ring.ripe_at(key) for key in standbys)

    @rule(pick=st.integers(0, 100))
    def an_operator_revokes(self, pick: int) -> None:
        self._tend(self.ring)
        key = self.ring.keys[pick % len(self.ring.keys)]
        was_current = key == self.ring.current(self.now)
        try:
            self._tend(self.ring.revoked(key.kid, "a reason", self.policy, self.now))
        except NothingToDo:
            return
        self.revoked_kids.add(key.kid)
        current = self.ring.current(self.now)
        if was_current and self.ring.ripe_at(current) > self.now:
            self.emergencies.add(current.kid)

    @rule(seconds=st.sampled_from([5, 20, 60]))
    def the_token_lifetime_changes(self, seconds: int) -> None:
        self.policy = replace(self.policy, token_lifetime=timedelta(seconds=seconds))
        self._tend(self.ring)

    @rule(lead_and_max_age=st.sampled_from([(20, 5), (40, 10), (80, 30)]))
    def the_lead_and_the_max_age_change(self, lead_and_max_age: tuple[int, int]) -> None:
        lead, max_age = (timedelta(seconds=seconds) for seconds in lead_and_max_age)
        self.policy = replace(self.policy, publish_lead=lead, max_age=max_age)
        self._tend(self.ring)

    @rule(seconds=st.sampled_from([0, 100, 300]))
    def the_rotation_period_changes(self, seconds: int) -> None:
        self.policy = replace(self.policy, rotation_period=timedelta(seconds=seconds))
        self._tend(self.ring)

    @rule()
    def a_verifier_fetches(self) -> None:
        kids = frozenset(key.kid for key in self.ring.published_keys(self.now))
        self.caches.append(Cached(kids, self.now + self.policy.max_age))

    @rule()
    def a_token_is_signed(self) -> None:
        key = self.ring.current(self.now)
        lifetime = min(self.policy.token_lifetime, key.token_lifetime)
        self.tokens.append(Token(key.kid, self.now + lifetime))

    @invariant()
    def exactly_one_key_is_current(self) -> None:
        phases = [self.ring.phase(key, self.now) for key in self.ring.keys]
        assert phases.count(Phase.CURRENT) == 1

    @invariant()
    def no_key_signs_before_the_lead_but_in_a_told_emergency(self) -> None:
        current = self.ring.current(self.now)
        ripe = self.ring.ripe_at(current) <= (current.activates_at or self.now)
        assert ripe or current.kid in self.emergencies

    @invariant()
    def every_live_token_of_an_unrevoked_key_is_accepted_by_every_cache(self) -> None:
        published = {key.kid for key in self.ring.published_keys(self.now)}
        self.caches = [cache for cache in self.caches if cache.until > self.now]
        self.tokens = [token for token in self.tokens if token.expires_at > self.now]
        for token in self.tokens:
            if token.kid in self.revoked_kids:
                continue
            assert token.kid in published
            for cache in self.caches:
                assert token.kid in cache.kids or token.kid in self.emergencies

    @invariant()
    def no_revoked_key_is_published_or_signs(self) -> None:
        published = {key.kid for key in self.ring.published_keys(self.now)}
        assert not published & self.revoked_kids
        assert self.ring.current(self.now).kid not in self.revoked_kids

    @invariant()
    def a_standby_exists_again_right_after_every_move(self) -> None:
        if self.tended_at == self.now:
            assert len(self.ring.standbys(self.now)) == self.policy.standby_keys

    @invariant()
    def tending_twice_changes_nothing(self) -> None:
        once = self.ring.tended(self.policy, self.now)
        assert once.tended(self.policy, self.now) == once


TestRingOverTime = RingOverTime.TestCase
TestRingOverTime.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
