"""The promises of the key ring, as assertions about a world at one instant.

The world itself, with its verifiers, is `ring_world`'s.
"""

from dataclasses import replace
from datetime import datetime

from issuer.errors import Refused
from issuer.keyring.heartbeat import Acknowledgement
from issuer.keyring.key import Key
from issuer.keyring.ring import KeyRing, Phase
from issuer.keyring.validation import invalid_reason
from support.ring_operator import no_room_is_left
from support.ring_world import Actor, Node, World


def judge(world: World, signed: dict[str, Key]) -> None:
    """Hold the world to what may be broken at any instant; `signed` is the key with which each node signs."""
    for node in world.nodes:
        if key := signed.get(node.name):
            _signs_with_the_key_of_the_ring(world, node, key)
    a_node_cut_off_stops_in_time_and_not_before(world, signed)
    every_valid_token_is_accepted(world)
    who_listens_holds_what_its_node_serves_and_no_document_for_longer_than_others(world)
    nothing_of_a_revoked_key_is_left_where_it_is_known(world, signed)
    if world.revoked:
        the_operator_sees_every_process_that_has_not_acknowledged(world, signed)
        no_cache_outlives_what_was_reported_to_the_operator(world)


def judge_what_was_saved(world: World, node: Node, actor: Actor) -> None:
    """Hold the world to what only a change could break, by the clock and view of `node` and decisions of `actor`."""
    now = world.now + node.offset
    one_key_is_current(world.saved, now)
    one_key_is_current(node.view.ring, now)
    every_change_leaves_enough_standbys(world)
    activations_are_a_period_apart(world)
    a_previous_key_leaves_when_it_was_said(world)
    the_first_keys_may_sign_at_once(world)
    the_ring_can_be_loaded_and_shows_which_keys_were_imported(world)
    nothing_is_overdue_before_its_period_is_over(world, node)
    no_change_is_dated_before_the_last(world)
    revoked_keys_stay_revoked(world, world.saved, now)
    tending_twice_changes_nothing(world, actor)
    if actor is node:
        one_wrong_clock_carries_no_other_along(world, actor)


def _signs_with_the_key_of_the_ring(world: World, node: Node, key: Key) -> None:
    assert key.kid in node.view.opened, f"{key.kid} does not open on {node.name}"
    assert key.kid not in world.destroyed, f"{key.kid} signs though its private key was destroyed"
    # By a clock that is behind, a key may sign that was superseded before the node came to need more of it.
    if key == node.view.ring.current(max(node.view.ring.changed_at, world.now + node.offset)):
        assert key.token_lifetime >= node.policy.token_lifetime, f"tokens of {node.name} end too early"
    # Who has seen a change knows that its instant has come, even by a clock that is behind.
    seen = node.view.ring.decision_instant(node.policy, world.now + node.offset)
    expected = world.saved.current(seen)
    if key.kid == expected.kid:
        return
    unseen = [at for version, at in world.by_hand if version > node.view.ring.version]
    assert unseen, (
        f"{node.name} signs with {key.kid} and not with {expected.kid} though no operator changed anything"
    )
    assert world.now <= unseen[0] + node.policy.node_timeout, f"{node.name} signs with {key.kid} for too long"


def a_node_cut_off_stops_in_time_and_not_before(world: World, signed: dict[str, Key]) -> None:
    """It signs for R after its last look and publishes for O; no cache outlives that by more than M."""
    for node in world.nodes:
        policy, blind = node.policy, world.now - node.looked_at
        left = policy.max_age + max(policy.outage_limit, policy.node_timeout) - blind
        assert world.serving.get(node.name, left) <= left, f"a key set of {node.name} is valid for too long"
        assert node.name not in signed or blind <= policy.node_timeout, f"{node.name} signs by an old view"
        if node.set_back:
            continue
        if blind <= policy.node_timeout and node.view.opened:
            assert node.name in signed, f"{node.name} does not sign though it has seen the ring"
        if blind <= policy.publish_without_database:
            assert world.serving.get(node.name) == policy.max_age, f"{node.name} does not publish any more"


def every_valid_token_is_accepted(world: World) -> None:
    """Every document lists each key with a valid token, but for the breakage that a command predicted."""
    up_to_date = [node for node in world.nodes if node.view.ring.version == world.saved.version]
    verifiers = world.verifiers
    for kid, end in verifiers.tokens.items():
        if kid in world.revoked:
            continue
        # Whoever asks again on an unknown kid does not even refuse a key that was forced.
        for node in up_to_date:
            assert kid in node.kids, f"{node.name} does not list {kid} before {end}"
        if world.now + world.ahead < world.predicted.get(kid, world.now):
            continue
        for kids in (*verifiers.caches, *verifiers.cooling, *verifiers.heard):
            assert kid in kids, f"a document {sorted(kids)} lacks {kid} though a token is valid until {end}"


def who_listens_holds_what_its_node_serves_and_no_document_for_longer_than_others(world: World) -> None:
    verifiers = world.verifiers
    for kids, end in verifiers.heard.items():
        assert end <= verifiers.caches.get(kids, world.now), f"who listened holds {sorted(kids)} for longer"
    for node in world.nodes:
        assert (node.name in verifiers.listening) == (node.name in world.serving)
        _, heard = verifiers.listening.get(node.name, (world.now, node.kids))
        assert heard == node.kids, f"who listens to {node.name} has another document"


def nothing_of_a_revoked_key_is_left_where_it_is_known(world: World, signed: dict[str, Key]) -> None:
    """A node that has refreshed past a revocation neither publishes nor signs with the key."""
    for kid, version in world.revoked.items():
        for node in world.nodes:
            if node.view.ring.version >= version:
                assert kid not in node.kids, f"{node.name} lists {kid} though it knows that it is revoked"
                assert node.name not in signed or signed[node.name].kid != kid, (
                    f"{node.name} signs with {kid}"
                )


def the_operator_sees_every_process_that_has_not_acknowledged(world: World, signed: dict[str, Key]) -> None:
    """What a command computes from heartbeats covers everything that a process behind the ring can do."""
    operator, beats = world.operator, list(world.beats.values())
    seen = Acknowledgement.of(beats, world.saved.version, operator.policy, world.now + operator.offset)
    for node in world.nodes:
        if node.view.ring.version < world.saved.version:
            assert node.name not in signed or node.beat in seen.waiting, f"{node.name} is not waited for"
            assert node.name not in world.serving or node.beat in seen.silent, f"{node.name} is not reported"
    _no_process_is_waited_for_without_need(world, seen)
    for kid, version in world.revoked.items():
        seen = Acknowledgement.of(beats, version, operator.policy, world.now + operator.offset)
        assert all(beat.version < version for beat in seen.silent), (
            "who knows by a later version is waited for"
        )
        end = seen.refused_from - world.ahead
        assert (
            end
            >= world.now
            + operator.offset
            - world.ahead
            + operator.policy.max_age
            + operator.policy.clock_skew
        )
        world.refused_from[kid] = min(end, world.refused_from.get(kid, end))


def _no_process_is_waited_for_without_need(world: World, seen: Acknowledgement) -> None:
    now = world.now + world.operator.offset - world.operator.policy.clock_skew
    assert all(beat.signs_until > now for beat in seen.waiting), (
        "a process that no longer signs is waited for"
    )
    assert all(beat.served_until > now for beat in seen.silent), "a process that no longer serves is reported"
    assert not world.left & {beat.id for beat in (*seen.done, *seen.silent)}, (
        "a process that ended is reported"
    )


def no_cache_outlives_what_was_reported_to_the_operator(world: World) -> None:
    for kids, end in world.verifiers.caches.items():
        for kid in kids & world.refused_from.keys():
            assert end <= world.refused_from[kid], (
                f"a cache holds the revoked {kid} for longer than was reported"
            )


def one_key_is_current(ring: KeyRing, now: datetime) -> None:
    phases = [ring.phase(key, now) for key in ring.keys]
    assert phases.count(Phase.CURRENT) == 1
    assert ring.current(now) not in ring.standbys(now)
    now = max(now, ring.changed_at)
    until = next((key.activates_at for key in ring.standbys(now)), None)
    assert ring.superseded_at(ring.current(now)) == until, (
        "the key that signs is superseded by another than the next"
    )
    begun_at = ring.current(ring.changed_at).activates_at
    assert begun_at is not None, "a key signs that has no activation time"
    assert begun_at <= ring.changed_at, "a key signs before its activation"


def every_change_leaves_enough_standbys(world: World) -> None:
    ring, policy = world.saved, world.decision.policy
    phases = [ring.phase(key, ring.changed_at) for key in ring.keys]
    assert phases.count(Phase.STANDBY) >= policy.standby_keys, "a change was saved without a standby after it"
    assert ring.shortfall(ring.changed_at, policy) == 0


def activations_are_a_period_apart(world: World) -> None:
    """No activation is early or late, and without a rotation period there is none."""
    decision, ring = world.decision, world.saved
    if _signs_and_waits(decision.before, decision.at) == _signs_and_waits(ring, decision.at):
        return
    activated_at = ring.current(decision.at).activates_at or decision.at
    for key in ring.standbys(decision.at):
        if key.activates_at and key.activates_at <= decision.at + key.margin:
            activated_at = key.activates_at  # too near to be moved
        elif not decision.policy.rotation_period:
            assert key.activates_at is None, f"{key.kid} has an activation time though only operators rotate"
        else:
            assert key.activates_at, f"{key.kid} is never activated"
            assert key.activates_at == max(activated_at + decision.policy.rotation_period, key.may_sign_from)
            activated_at = key.activates_at


def _signs_and_waits(ring: KeyRing, now: datetime) -> list[str]:
    return [key.kid for key in (ring.current(now), *ring.standbys(now))]


def a_previous_key_leaves_when_it_was_said(world: World) -> None:
    """What a command reported of it is changed by a rollback only, and no key stays for longer."""
    decision, before, ring = world.decision, world.decision.before, world.saved
    trusted = {key.kid: ring.leaves_at(key) for key in ring.keys if key.revoked_at is None}
    first = ring.leaves_at(next(key for key in ring.by_activation if key.kid in trusted))
    assert first is None or first > decision.at, "a key is kept though its last token is dead"
    if {key.kid for key in before.keys if key.rolled_back_from} != {
        key.kid for key in ring.keys if key.rolled_back_from
    }:
        return
    for key in before.keys:
        if before.phase(key, decision.at) is Phase.PREVIOUS and key.kid in trusted:
            assert trusted[key.kid] == before.leaves_at(key), (
                f"{key.kid} leaves at another time than was said"
            )


def the_first_keys_may_sign_at_once(world: World) -> None:
    for key in world.saved.keys:
        assert key.kid not in world.first or key.may_sign_from == key.published_at


def the_ring_can_be_loaded_and_shows_which_keys_were_imported(world: World) -> None:
    assert invalid_reason(world.saved) is None
    assert {key.kid for key in world.saved.keys if key.imported} <= world.imported
    assert all(key.imported for key in world.saved.keys if key.kid in world.imported)


def nothing_is_overdue_before_its_period_is_over(world: World, actor: Actor) -> None:
    now = world.now + actor.offset
    if since := world.saved.overdue_since(actor.policy, now):
        assert actor.policy.rotation_period, "a rotation is overdue though only operators rotate"
        assert since < now


def one_wrong_clock_carries_no_other_along(world: World, actor: Actor) -> None:
    """A key that a clock ahead activated waits for the other clocks, and is the next to be activated."""
    policy, clock = actor.policy, world.now + actor.offset
    ahead = clock + 3 * policy.clock_skew
    before = world.complete(world.saved, policy, ahead)
    try:
        ring = replace(before.promoted(policy, ahead, forced=True), changed_at=ahead)
    except Refused as refusal:  # by a ring that is full: that clock cannot activate a key
        no_room_is_left(before, policy, refusal, ahead)
        return
    now = ring.decision_instant(policy, clock)
    assert now <= clock + policy.clock_skew
    waiting = [key.may_sign_from for key in ring.standbys(now)]
    assert waiting == sorted(waiting), "a key waits that verifiers have known for longer than the next one"


def no_change_is_dated_before_the_last(world: World) -> None:
    assert world.saved.changed_at >= world.decision.before.changed_at


def revoked_keys_stay_revoked(world: World, ring: KeyRing, now: datetime) -> None:
    revoked = {kid for kid, version in world.revoked.items() if version <= ring.version}
    assert revoked <= {key.kid for key in ring.keys}, "a revoked key was forgotten, and could come back"
    assert not revoked & {key.kid for key in ring.published_keys(now)}, "a revoked key is published"


def tending_twice_changes_nothing(world: World, actor: Actor) -> None:
    now = world.saved.decision_instant(actor.policy, world.now + actor.offset)
    once = world.complete(world.saved, actor.policy, now)
    assert world.complete(once, actor.policy, now) == once
