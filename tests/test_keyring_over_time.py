"""The promises of the key ring over time: random histories of nodes, operators, settings and clocks.

What there is in them is `ring_world`'s, what operators do `ring_operator`'s, and what must hold `ring_promises`'.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

import ring_promises
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from ring_operator import CHANGES, LONG, POLICY, SHORT, STARTS, Change, changed, revoke, roll_back, rotate
from ring_world import HALF_SECOND, World, seconds

from issuer.key import Key
from issuer.keyring import KeyRing
from issuer.refusal import NothingToDo, UnknownKey

INSTANTS: dict[str, Callable[[KeyRing], list[datetime | None]]] = {
    "a turn comes": lambda ring: [key.activates_at for key in ring.keys],
    "a key leaves": lambda ring: [ring.leaves_at(key) for key in ring.keys],
    "a rollback becomes impossible": lambda ring: [
        end - key.margin for key in ring.keys if (end := ring.leaves_at(key))
    ],
    "a key is ripe": lambda ring: [ring.ripe_at(key) for key in ring.keys],
}
"""What matters about a ring, by some clock."""

offsets = st.lists(st.sampled_from([-1.5, 1.5]), min_size=4, max_size=4)
"""As far apart as S allows: whatever lies between breaks less."""
nodes = st.integers(0, 2)
some_nodes = st.sampled_from([(), (0,), (1,), (2,), (0, 1), (2, 1), (0, 1, 2), (2, 0, 1)])
seldom = st.sampled_from([False, False, False, True])
"""Moves are forced now and then only: the breakage that they predict hides any other."""
meanwhiles = st.sampled_from(["refresh", "rotate", "roll back", "revoke"])
orders = st.sampled_from([(0, 1, 2), (2, 1, 0), (1, 2, 0)])
nudges = st.sampled_from([-1, 0, 1, -2, 2, 4])
"""How many half seconds before or after the instant that matters."""
pauses = st.integers(0, 3)
"""How many half seconds pass between a decision and its saving; after more than two it is taken again."""


class RingOverTime(RuleBasedStateMachine):
    """Three nodes, an operator and verifiers of every kind; a node that is not refreshed is cut off or stopped."""

    @initialize(offsets=offsets, start=st.sampled_from(STARTS))
    def found(self, offsets: list[float], start: Change) -> None:
        self.steps = 0
        self.withdrawn: set[str] = set()
        policy = replace(POLICY, **start)
        self.world = World([seconds(offset) for offset in offsets], policy, ring_promises.judge)

    # Time

    @rule(
        instant=st.sampled_from([*INSTANTS, "a node is stale"]),
        which=st.integers(0, 3),
        nudge=nudges,
        refreshed=some_nodes,
    )
    def time_passes_to_an_instant_that_matters(
        self, instant: str, which: int, nudge: int, refreshed: tuple[int, ...]
    ) -> None:
        self._go_to(instant, which, nudge)
        self._refresh(refreshed)

    def _go_to(self, instant: str, which: int, nudge: int) -> None:
        """Let time pass to the next such instant by the clock of node `which` (or the operator), and the nudge."""
        world = self.world
        offset = [*world.nodes, world.operator][which].offset
        known = INSTANTS[instant](world.saved) if instant in INSTANTS else []
        matters = [each for each in known if each] or [
            node.view.refreshed_at - node.offset + node.policy.node_timeout + offset for node in world.nodes
        ]
        future = [each for each in matters if each - offset > world.now]
        self._go_to_instant(min(future, default=None), which, nudge)

    def _go_to_instant(self, instant: datetime | None, which: int, nudge: int) -> None:
        world = self.world
        if instant:
            offset = [*world.nodes, world.operator][which].offset
            world.go_to(max(world.now, instant - offset + nudge * HALF_SECOND))

    def _current(self) -> Key:
        operator = self.world.operator
        return self.world.saved.current(
            self.world.saved.decision_instant(operator.policy, self.world.now + operator.offset)
        )

    @rule(half_seconds=st.integers(1, 60), refreshed=some_nodes)
    def time_passes(self, half_seconds: int, refreshed: tuple[int, ...]) -> None:
        self.world.go_to(self.world.now + half_seconds * HALF_SECOND)
        self._refresh(refreshed)

    @rule(span=st.integers(1, 4), refreshed=some_nodes)
    def a_long_time_passes(self, span: int, refreshed: tuple[int, ...]) -> None:
        self.world.go_to(self.world.now + span * seconds(60))
        self._refresh(refreshed)

    # Nodes

    @rule(refreshed=some_nodes)
    def nodes_refresh(self, refreshed: tuple[int, ...]) -> None:
        self._refresh(refreshed)

    @rule(node=nodes)
    def a_node_refreshes_and_loses_the_database_before_its_heartbeat(self, node: int) -> None:
        self.world.refresh(self.world.nodes[node], told=False)
        self.world.look()

    @rule(node=nodes, pause=pauses, move=meanwhiles, forced=seldom)
    def a_node_is_slow_to_save_and_meanwhile_somebody_moves(
        self, node: int, pause: int, move: str, forced: bool
    ) -> None:
        slow, other = self.world.nodes[node], self.world.nodes[node - 1]

        def meanwhile() -> None:
            self.world.go_to(self.world.now + pause * HALF_SECOND)
            if move == "refresh":
                self.world.refresh(other)
            else:
                self._move(move, forced=forced)

        self.world.refresh(slow, meanwhile=meanwhile)
        self.world.look()

    @rule(order=orders)
    def when_time_stands_still_the_nodes_come_to_an_agreement(self, order: tuple[int, ...]) -> None:
        for _ in range(3):
            self._refresh(order)
        agreed = self.world.saved
        self._refresh(order)
        assert self.world.saved == agreed, "nodes of different settings rewrite the ring for ever"

    # Operators

    @rule(
        move=st.sampled_from(["rotate", "roll back"]),
        forced=seldom,
        pause=pauses,
        refreshed=some_nodes,
    )
    def an_operator_moves(self, move: str, forced: bool, pause: int, refreshed: tuple[int, ...]) -> None:
        self._move(move, forced=forced, pause=pause, refreshed=refreshed)

    @rule(pick=st.integers(0, 9), pause=pauses, refreshed=some_nodes)
    def an_operator_revokes_a_key(self, pick: int, pause: int, refreshed: tuple[int, ...]) -> None:
        self._move("revoke", pick=pick, pause=pause, refreshed=refreshed)

    @rule(
        move=st.sampled_from(["rotate", "rotate", "roll back", "revoke"]),
        forced=seldom,
        missing=nodes,
        first=nodes,
        leaves=st.booleans(),
        nudge=st.sampled_from([0, 0, 1, -1]),
    )
    def a_node_looks_right_before_a_slow_move_is_saved_and_another_is_the_first_to_see_what_follows(
        self, move: str, forced: bool, missing: int, first: int, leaves: bool, nudge: int
    ) -> None:
        if move == "rotate" and not forced:
            self._go_to("a key is ripe", 3, 0)
        self._refresh((0, 1, 2))
        leaving = self._current()
        self._move(move, forced=forced, pause=2, refreshed=(missing,))
        ring = self.world.saved
        newest = max(ring.keys, key=lambda key: key.published_at)
        known = {key.kid for key in ring.keys}
        matters = (
            ring.leaves_at(ring.find(leaving.kid)) if leaves and leaving.kid in known else newest.activates_at
        )
        self._go_to_instant(matters, first, nudge)
        self._refresh((first,))

    @rule(node=nodes, pause=pauses, forced=seldom, nudge=nudges, instant=st.sampled_from(list(INSTANTS)[1:3]))
    def a_node_lets_a_key_go_while_an_operator_goes_back_to_it(
        self, node: int, pause: int, forced: bool, nudge: int, instant: str
    ) -> None:
        self._go_to("a key is ripe", 3, 0)
        self._refresh((0, 1, 2))
        self._move("rotate")
        self._refresh((0, 1, 2))
        self._go_to(instant, node, nudge)

        def meanwhile() -> None:
            self.world.go_to(self.world.now + pause * HALF_SECOND)
            self._move("roll back", forced=forced)

        self.world.refresh(self.world.nodes[node], meanwhile=meanwhile)
        self._refresh((0, 1, 2))

    @rule()
    def an_operator_imports_a_key(self) -> None:
        policy = self.world.operator.policy
        public = self.world.made(policy)
        self.world.moved_by_hand(lambda ring, now: ring.joined(public, policy, now))

    @rule(change=st.sampled_from(CHANGES))
    def the_settings_change_and_no_node_knows_yet(self, change: Change) -> None:
        self._set(change)

    @rule(node=nodes, leaves=st.booleans())
    def a_node_is_restarted(self, node: int, leaves: bool) -> None:
        self.world.restart(self.world.nodes[node], self.world.operator.policy, leaves=leaves)
        self.world.look()

    @rule(
        change=st.sampled_from(CHANGES),
        restarted=some_nodes,
        move=st.sampled_from(["rotate", "roll back", "revoke", ""]),
        forced=seldom,
        leaves=st.booleans(),
    )
    def the_settings_change_and_an_operator_moves_at_once(
        self, change: Change, restarted: tuple[int, ...], move: str, forced: bool, leaves: bool
    ) -> None:
        self._set(change)
        for node in restarted:
            self.a_node_is_restarted(node, leaves)
        if move:
            self._move(move, forced=forced)

    @rule(
        period=st.sampled_from([20, 100, 300, 0]),
        timeout=st.sampled_from([3, 5, 8]),
        before=st.integers(1, 26),
        order=orders,
    )
    def the_rotation_period_changes_right_before_a_turn(
        self, period: int, timeout: int, before: int, order: tuple[int, ...]
    ) -> None:
        restarted, *others = order
        self._go_to("a turn comes", restarted, -before)
        self._refresh(tuple(others))
        self._set({"rotation_period": seconds(period), "node_timeout": seconds(timeout)})
        self.a_node_is_restarted(restarted, leaves=True)
        self.world.go_to(self.world.now + seconds(8))

    @rule(order=orders, imported=st.integers(1, 2), pause=pauses)
    def a_node_of_longer_settings_is_cut_off_and_keys_are_published_by_shorter_ones(
        self, order: tuple[int, ...], imported: int, pause: int
    ) -> None:
        missing, *others = order
        self._set(LONG)
        self.a_node_is_restarted(missing, leaves=True)
        self._set(SHORT)
        for node in others:
            self.a_node_is_restarted(node, leaves=True)
        for _ in range(imported):
            self.an_operator_imports_a_key()
            self.world.go_to(self.world.now + pause * HALF_SECOND)
        self._go_to("a key is ripe", 3, 0)
        self._refresh(tuple(others))
        self._move("rotate")

    def _refresh(self, numbers: tuple[int, ...]) -> None:
        for number in numbers:
            self.world.refresh(self.world.nodes[number])
        if numbers:
            self.world.look()

    def _set(self, change: Change) -> None:
        operator = self.world.operator
        operator.policy = changed(operator.policy, change)

    def _move(
        self,
        name: str,
        *,
        forced: bool = False,
        pick: int = 0,
        pause: int = 0,
        refreshed: tuple[int, ...] = (),
    ) -> None:
        """Let an operator decide; the `refreshed` nodes look just before it is saved, `pause` half seconds later."""
        world = self.world

        def meanwhile() -> None:
            world.go_to(world.now + pause * HALF_SECOND)
            self._refresh(refreshed)

        policy = world.operator.policy
        move = {
            "rotate": rotate(policy, forced=forced),
            "roll back": roll_back(policy, self.withdrawn, forced=forced),
            "revoke": revoke(policy, self._pick(pick), compromised=bool(pick % 2)),
        }[name]
        with suppress(NothingToDo, UnknownKey):
            world.moved_by_hand(move, forced=forced, meanwhile=meanwhile)
            if name == "roll back":
                self.withdrawn.add(world.decision.before.current(world.decision.at).kid)
            self.withdrawn.discard(world.saved.current(world.decision.at).kid)

    def _pick(self, number: int) -> str:
        current = self._current()
        keys = [current, *(key for key in self.world.saved.keys if key != current)]
        return keys[number % len(keys)].kid

    @invariant()
    def the_promises_hold(self) -> None:
        """At every instant they were judged already; what is left is what only a change could break."""
        world = self.world
        # All in turn: looking at each of them after each step would take most of the time.
        self.steps += 1
        node = world.nodes[self.steps % len(world.nodes)]
        ring_promises.one_key_is_current(world.saved, world.now + node.offset)
        ring_promises.one_key_is_current(node.view.ring, world.now + node.offset)
        ring_promises.every_change_leaves_enough_standbys(world)
        ring_promises.turns_follow_each_other_by_a_period(world)
        ring_promises.no_change_is_dated_before_the_last(world)
        ring_promises.revoked_keys_stay_revoked(world, world.saved, world.now + node.offset)
        ring_promises.tending_twice_changes_nothing(world, world.operator if self.steps % 4 else node)


TestRingOverTime = RingOverTime.TestCase
TestRingOverTime.settings = settings(
    max_examples=500 * (20 if settings.get_current_profile_name() == "long" else 1),
    stateful_step_count=50,
    deadline=None,
    derandomize=False,  # also where a profile for CI would: each run tries other histories
    print_blob=True,
)
