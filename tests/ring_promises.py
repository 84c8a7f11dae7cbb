"""The promises of the key ring, as assertions about a world at one instant.

The world itself, with its verifiers, is `ring_world`'s.
"""

from datetime import datetime

from ring_world import Actor, Node, World

from issuer.key import Key
from issuer.keyring import KeyRing, Phase
from issuer.nodes import Acknowledgement


def judge(world: World, signed: dict[str, Key]) -> None:
    """Hold the world to what may be broken at any instant; `signed` tells which node signs with which key."""
    for node in world.nodes:
        if key := signed.get(node.name):
            _signs_with_the_key_of_the_ring(world, node, key)
    every_live_token_is_accepted(world)
    nothing_of_a_revoked_key_is_left_where_it_is_known(world, signed)
    if world.revoked:
        the_operator_is_told_who_does_not_know_yet(world, signed)
        no_cache_outlives_what_the_operator_was_told(world)


def _signs_with_the_key_of_the_ring(world: World, node: Node, key: Key) -> None:
    assert key.kid not in world.destroyed, f"{key.kid} signs though its private half was destroyed"
    # By a clock that is behind, a key may sign that was superseded before the node came to need more of it.
    if key == node.view.ring.current(max(node.view.ring.changed_at, world.now + node.offset)):
        assert key.token_lifetime >= node.policy.token_lifetime, f"tokens of {node.name} end too early"
    # Who has seen a change knows that its instant has come, even by a clock that is behind.
    seen = node.view.ring.decision_instant(node.policy, world.now + node.offset)
    expected = world.saved.current(seen)
    if key.kid == expected.kid:
        return
    unseen = [at for version, at in world.by_hand if version > node.view.ring.version]
    assert unseen, f"{node.name} signs with {key.kid} and not with {expected.kid} though nobody moved by hand"
    assert world.now <= unseen[0] + node.policy.node_timeout, f"{node.name} signs with {key.kid} for too long"


def every_live_token_is_accepted(world: World) -> None:
    """Every document lists each key with a live token, but for the breakage that a command predicted."""
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
        for kids in (*verifiers.caches, *verifiers.cooling):
            assert kid in kids, f"a document {sorted(kids)} lacks {kid} though a token lives until {end}"


def nothing_of_a_revoked_key_is_left_where_it_is_known(world: World, signed: dict[str, Key]) -> None:
    """A node that has refreshed past a revocation neither publishes nor signs with the key."""
    for kid, version in world.revoked.items():
        for node in world.nodes:
            if node.view.ring.version >= version:
                assert kid not in node.kids, f"{node.name} lists {kid} though it knows that it is revoked"
                assert node.name not in signed or signed[node.name].kid != kid, (
                    f"{node.name} signs with {kid}"
                )


def the_operator_is_told_who_does_not_know_yet(world: World, signed: dict[str, Key]) -> None:
    """What a command reckons of the heartbeats covers all that a process which has not heard can do."""
    operator, beats = world.operator, list(world.beats.values())
    told = Acknowledgement.of(beats, world.saved.version, operator.policy, world.now + operator.offset)
    for node in world.nodes:
        if node.view.ring.version < world.saved.version:
            assert node.name not in signed or node.beat in told.waiting, f"{node.name} is not waited for"
            assert node.name not in world.serving or node.beat in told.silent, f"{node.name} is not told of"
    for kid, version in world.revoked.items():
        told = Acknowledgement.of(beats, version, operator.policy, world.now + operator.offset)
        end = told.refused_from - world.ahead
        world.refused_from[kid] = min(end, world.refused_from.get(kid, end))


def no_cache_outlives_what_the_operator_was_told(world: World) -> None:
    for kids, end in world.verifiers.caches.items():
        for kid in kids & world.refused_from.keys():
            assert end <= world.refused_from[kid], f"a cache holds the revoked {kid} for longer than was told"


def one_key_is_current(ring: KeyRing, now: datetime) -> None:
    phases = [ring.phase(key, now) for key in ring.keys]
    assert phases.count(Phase.CURRENT) == 1
    assert ring.current(now) not in ring.standbys(now)
    begun_at = ring.current(ring.changed_at).activates_at
    assert begun_at is not None, "a key signs that has no turn"
    assert begun_at <= ring.changed_at, "a key signs whose turn has not come"


def every_change_leaves_enough_standbys(world: World) -> None:
    standbys = world.saved.standbys(world.saved.changed_at)
    assert len(standbys) >= world.decision.policy.standby_keys, (
        "a change was saved without a standby after it"
    )


def turns_follow_each_other_by_a_period(world: World) -> None:
    """Wherever turns are set: no standby waits for ever, none is early, and without a period none has a turn."""
    decision, ring = world.decision, world.saved
    known = {key.kid for key in decision.before.keys}
    if all(key.kid in known for key in ring.keys):
        return
    turn = ring.current(decision.at).activates_at or decision.at
    for key in ring.standbys(decision.at):
        if key.activates_at and key.activates_at <= decision.at + key.margin:
            turn = key.activates_at  # too near to be moved
        elif not decision.policy.rotation_period:
            assert key.activates_at is None, f"{key.kid} has a turn though only operators rotate"
        else:
            assert key.activates_at, f"{key.kid} never has its turn"
            assert key.activates_at >= max(turn + decision.policy.rotation_period, ring.ripe_at(key))
            turn = key.activates_at


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
