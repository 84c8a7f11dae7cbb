"""The promises of the key ring over time: random histories of nodes, operators, settings and clocks.

What there is in them is `ring_world`'s, what operators do `ring_operator`'s, and what must hold `ring_promises`'.
"""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from support import ring_promises
from support.ring_history import INSTANTS, History
from support.ring_operator import CHANGES, LONG, POLICY, QUICK, SHORT, SLOW, STARTS, Change, changed
from support.ring_world import HALF_SECOND, World, seconds

from issuer.errors import Refused

offsets = st.one_of(
    st.permutations([1.5, 1.5, -1.5]).map(lambda nodes: [*nodes, -1.5]),
    st.lists(st.sampled_from([-1.5, 1.5]), min_size=4, max_size=4),
)
"""As far apart as S allows: whatever lies between breaks less, and most breaks where the operator's is behind."""
nodes = st.integers(0, 2)
some_nodes = st.sampled_from([(), (0,), (1,), (2,), (0, 1), (2, 1), (0, 1, 2), (2, 0, 1)])
seldom = st.sampled_from([False, False, False, True])
"""Moves are forced now and then only: the breakage that they predict hides any other."""
operations = st.sampled_from(["rotate", "roll back"])
meanwhiles = st.sampled_from(["refresh", "rotate", "roll back", "revoke"])
orders = st.sampled_from([(0, 1, 2), (2, 1, 0), (1, 2, 0)])
nudges = st.sampled_from([-1, 0, 1, -2, 2, 4])
"""How many half seconds before or after the instant that matters."""
pauses = st.integers(0, 3)
"""How many half seconds pass between a decision and its saving; after more than two it is made anew."""

FEW = 6
"""Keys in a ring; with many, a history takes long."""


class RingOverTime(History):
    """Three nodes, an operator and verifiers of every kind; a node that is not refreshed is cut off or stopped."""

    @initialize(
        offsets=offsets,
        start=st.sampled_from([*STARTS, LONG, LONG]),
        others=st.sampled_from([{}, SHORT, SHORT, LONG]),
        hurried=st.booleans(),
    )
    def create(self, offsets: list[float], start: Change, others: Change, hurried: bool) -> None:
        """If `hurried`, an operator rotates past the first keys, and the node that created them is not refreshed."""
        self.steps = 0
        self.rolled_back_from = set()
        policy = replace(POLICY, **start)
        self.world = World([seconds(offset) for offset in offsets], policy, ring_promises.judge)
        self.the_promises_hold()
        self.world.start(changed(policy, others))
        for _ in range(2 * hurried):
            self._go_to("a key may sign", 3, 0)
            self._refresh((1, 2))
            self._operate("rotate")

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
        self.world.refresh(self.world.nodes[node], heartbeat_arrives=False)
        self.world.look()

    @rule(node=nodes, pause=pauses, operation=meanwhiles, forced=seldom)
    def a_node_is_slow_to_save_and_meanwhile_an_operator_acts(
        self, node: int, pause: int, operation: str, forced: bool
    ) -> None:
        slow, other = self.world.nodes[node], self.world.nodes[node - 1]

        def meanwhile() -> None:
            self.world.go_to(self.world.now + pause * HALF_SECOND)
            if operation == "refresh":
                self.world.refresh(other)
            else:
                self._operate(operation, forced=forced)

        self.world.refresh(slow, meanwhile=meanwhile)
        self.world.look()

    @rule(order=orders)
    def when_time_stands_still_the_nodes_come_to_an_agreement(self, order: tuple[int, ...]) -> None:
        for _ in range(3):
            self._refresh(order)
        agreed = self.world.saved
        self._refresh(order)
        assert self.world.saved == agreed, "nodes of different settings rewrite the ring for ever"

    @rule(node=nodes, half_seconds=st.integers(1, 60))
    def the_clock_of_a_node_is_set_back_while_it_is_cut_off(self, node: int, half_seconds: int) -> None:
        stopped = self.world.nodes[node]
        stopped.offset -= seconds(3600)
        stopped.set_back = True
        self.world.go_to(self.world.now + half_seconds * HALF_SECOND)
        stopped.offset += seconds(3600)
        stopped.set_back = False

    @rule(node=nodes, half_seconds=st.integers(1, 10))
    def a_node_can_open_no_key_for_a_while(self, node: int, half_seconds: int) -> None:
        closed = self.world.nodes[node]
        closed.opens = False
        self._refresh((node,))
        self.world.go_to(self.world.now + half_seconds * HALF_SECOND)
        closed.opens = True
        self._refresh((node,))

    # Operators

    @rule(
        operation=operations,
        forced=seldom,
        pause=pauses,
        refreshed=some_nodes,
    )
    def an_operator_acts(self, operation: str, forced: bool, pause: int, refreshed: tuple[int, ...]) -> None:
        self._operate(operation, forced=forced, pause=pause, refreshed=refreshed)

    @rule(operation=operations, rival=operations, forced=st.booleans())
    def two_operators_act_at_once(self, operation: str, rival: str, forced: bool) -> None:
        self._operate(operation, forced=forced, rival=rival)

    @rule(pick=st.integers(0, 9), pause=pauses, refreshed=some_nodes)
    def an_operator_revokes_a_key(self, pick: int, pause: int, refreshed: tuple[int, ...]) -> None:
        self._operate(
            "revoke", kid=self._pick(pick), compromised=bool(pick % 2), pause=pause, refreshed=refreshed
        )

    @rule(times=st.integers(1, 3))
    def an_operator_revokes_all_that_may_sign_while_no_key_can_be_made(self, times: int) -> None:
        self.world.lacking = True
        for _ in range(times):
            self._operate("revoke")
        if not self.world.saved.standbys(self.world.decision.at):
            self._operate("rotate", forced=True)
        self.world.lacking = False
        self.world.change(self.world.operator, lambda ring, _now: ring)
        self._refresh((0, 1, 2))

    @rule(steps=st.lists(operations, min_size=2, max_size=4))
    def an_operator_goes_back_and_forth(self, steps: list[str]) -> None:
        for operation in ("rotate", *steps):
            self._operate(operation, forced=True)
        self._operate("roll back")

    @rule(
        operation=st.sampled_from(["rotate", "rotate", "roll back", "revoke"]),
        forced=seldom,
        missing=nodes,
        first=nodes,
        leaves=st.booleans(),
        nudge=st.sampled_from([0, 0, 1, -1]),
        change=st.sampled_from([{}, SLOW, SLOW, QUICK, QUICK]),
    )
    def a_node_looks_right_before_a_slow_operation_is_saved_and_another_is_the_first_to_see_what_follows(
        self, operation: str, forced: bool, missing: int, first: int, leaves: bool, nudge: int, change: Change
    ) -> None:
        if change:
            self._settle_on(change, (0, 1, 2))
        if operation == "rotate" and not forced:
            self._go_to("a key may sign", 3, 0)
        self._refresh((0, 1, 2))
        leaving = self._current()
        self._operate(operation, forced=forced, pause=2, refreshed=(missing,))
        ring = self.world.saved
        newest = max(ring.keys, key=lambda key: key.published_at)
        known = {key.kid for key in ring.keys}
        matters = (
            ring.leaves_at(ring.find(leaving.kid)) if leaves and leaving.kid in known else newest.activates_at
        )
        self._go_to_instant(matters, first, nudge)
        self._refresh((first,))

    @rule(
        node=nodes,
        pause=pauses,
        forced=seldom,
        nudge=nudges,
        instant=st.sampled_from(list(INSTANTS)[1:3]),
        past=st.sampled_from([0, 0, 30, 36, 36]),
    )
    def a_node_lets_a_key_go_while_an_operator_goes_back_to_it(
        self, node: int, pause: int, forced: bool, nudge: int, instant: str, past: int
    ) -> None:
        """Or `past` another that was rotated to so many half seconds after it, and is distrusted meanwhile."""
        self._go_to("a key may sign", 3, 0)
        self._refresh((0, 1, 2))
        self._operate("rotate")
        self._refresh((0, 1, 2))
        if past:
            self.world.go_to(self.world.now + past * HALF_SECOND)
            self._refresh((0, 1, 2))
            self._operate("rotate", forced=True)
            self._refresh((0, 1, 2))
            instant, nudge = "a key leaves", abs(nudge)
        self._go_to(instant, node, nudge)

        def meanwhile() -> None:
            self.world.go_to(self.world.now + pause * HALF_SECOND)
            if past:
                passed = self._current().kid
                self._operate("roll back", forced=True)
                self._operate("revoke", kid=passed)
            self._operate("roll back", forced=forced)

        self.world.refresh(self.world.nodes[node], meanwhile=meanwhile)
        self._refresh((0, 1, 2))

    @rule()
    def an_operator_imports_a_key(self) -> None:
        policy = self.world.operator.policy
        public = self.world.made(policy)
        self.world.imported.add(public.kid)
        self.world.perform_operation(lambda ring, now: ring.imported(public, policy, now))

    @rule(pick=st.integers(0, 9))
    def an_operator_imports_a_key_that_the_ring_has(self, pick: int) -> None:
        policy = self.world.operator.policy
        with pytest.raises(Refused, match="already"):
            self.world.perform_operation(
                lambda ring, now: ring.imported(ring.keys[pick % len(ring.keys)], policy, now)
            )

    @rule(change=st.sampled_from(CHANGES))
    def the_settings_change_and_no_node_knows_yet(self, change: Change) -> None:
        self._set(change)

    @rule(node=nodes, leaves=st.booleans())
    def a_node_is_restarted(self, node: int, leaves: bool) -> None:
        self._restart(node, leaves=leaves)

    @rule(
        change=st.sampled_from(CHANGES),
        restarted=some_nodes,
        operation=st.sampled_from(["rotate", "roll back", "revoke", ""]),
        forced=seldom,
        leaves=st.booleans(),
    )
    def the_settings_change_and_an_operator_acts_at_once(
        self, change: Change, restarted: tuple[int, ...], operation: str, forced: bool, leaves: bool
    ) -> None:
        self._set(change)
        for node in restarted:
            self._restart(node, leaves=leaves)
        if operation:
            self._operate(operation, forced=forced)

    @rule(
        period=st.sampled_from([20, 100, 300, 0]),
        timeout=st.sampled_from([3, 5, 8]),
        before=st.integers(1, 26),
        order=orders,
        slower=st.booleans(),
    )
    def the_rotation_period_changes_right_before_an_activation(
        self, period: int, timeout: int, before: int, order: tuple[int, ...], slower: bool
    ) -> None:
        restarted, *others = order
        if slower:
            self._settle_on(SLOW, others)
            timeout, before = (
                3,
                21,
            )  # the activation is just beyond its own margin, and well within that of the others
        self._go_to("a key is activated", restarted, -before)
        self._refresh(tuple(others))
        self._set({"rotation_period": seconds(period), "node_timeout": seconds(timeout)})
        self._restart(restarted, leaves=True)
        self.world.go_to(self.world.now + seconds(8))

    @rule(half_seconds=st.integers(1, 10))
    def tokens_become_shorter_and_one_key_after_another_signs(self, half_seconds: int) -> None:
        for lifetime in (60, 5):
            self._settle_on({"token_lifetime": seconds(lifetime)}, (0, 1, 2))
        for _ in range(4):
            self._operate("rotate", forced=True)
            self.world.go_to(self.world.now + half_seconds * HALF_SECOND)
        self.world.go_to(self.world.now + seconds(20))
        self._refresh((0, 1, 2))

    @rule(order=orders, imported=st.integers(1, 2), pause=pauses)
    def a_node_of_longer_settings_is_cut_off_and_keys_are_published_by_shorter_ones(
        self, order: tuple[int, ...], imported: int, pause: int
    ) -> None:
        missing, *others = order
        self._settle_on(LONG, [missing])
        self._settle_on(SHORT, others)
        for _ in range(imported):
            self.an_operator_imports_a_key()
            self.world.go_to(self.world.now + pause * HALF_SECOND)
        self._go_to("a key may sign", 3, 0)
        self._refresh(tuple(others))
        self._operate("rotate")

    @precondition(lambda self: len(self.world.saved.keys) < FEW)
    @rule()
    def a_key_made_long_after_the_settings_became_shorter_waits_no_longer_than_they_say(self) -> None:
        self._settle_on(SHORT, (0, 1, 2))
        for _ in range(2):
            self.an_operator_imports_a_key()
            ring = self.world.saved
            waits = max(key.may_sign_from for key in ring.keys) - ring.changed_at
            self.world.go_to(self.world.now + waits + seconds(3))
            self._refresh((0, 1, 2))
        assert waits == self.world.operator.policy.publish_lead

    @invariant()
    def the_promises_hold(self) -> None:
        """At every instant they were judged already; what is left is what only a change could break."""
        world = self.world
        # All in turn: looking at each of them after each step would take most of the time.
        self.steps += 1
        node = world.nodes[self.steps % len(world.nodes)]
        ring_promises.judge_what_was_saved(world, node, world.operator if self.steps % 4 else node)


TestRingOverTime = RingOverTime.TestCase
TestRingOverTime.settings = settings(
    max_examples=10_000 if settings.get_current_profile_name() == "long" else 50,
    stateful_step_count=50,
    deadline=None,
    derandomize=False,  # also where a profile for CI would: each run tries other histories
    print_blob=True,
)
