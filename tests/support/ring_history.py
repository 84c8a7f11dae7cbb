"""One history of the key ring: what its steps are made of, by which time passes, nodes look and operators operation.

Which histories are tried is defined in `test_promises_over_time`.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

from hypothesis.stateful import RuleBasedStateMachine

from issuer.errors import NothingToDo, UnknownKey
from issuer.keyring.key import Key
from issuer.keyring.ring import KeyRing
from support.ring_operator import Change, as_seen, changed, revoke, roll_back, rotate
from support.ring_world import HALF_SECOND, World

INSTANTS: dict[str, Callable[[KeyRing], list[datetime | None]]] = {
    "a key is activated": lambda ring: [key.activates_at for key in ring.keys],
    "a key leaves": lambda ring: [ring.leaves_at(key) for key in ring.keys],
    "a rollback becomes impossible": lambda ring: [
        end - key.margin for key in ring.keys if (end := ring.leaves_at(key))
    ],
    "a key may sign": lambda ring: [key.may_sign_from for key in ring.keys],
}
"""What matters about a ring, by some clock."""


class History(RuleBasedStateMachine):
    """A world, and what was done in it."""

    world: World
    rolled_back_from: set[str]
    """The keys that were rolled back from."""

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

    def _refresh(self, numbers: tuple[int, ...]) -> None:
        for number in numbers:
            self.world.refresh(self.world.nodes[number])
        if numbers:
            self.world.look()

    def _set(self, change: Change) -> None:
        operator = self.world.operator
        operator.policy = changed(operator.policy, change)

    def _restart(self, node: int, *, leaves: bool) -> None:
        self.world.restart(self.world.nodes[node], self.world.operator.policy, leaves=leaves)
        self.world.look()

    def _settle_on(self, change: Change, numbers: Sequence[int]) -> None:
        self._set(change)
        for number in numbers:
            self._restart(number, leaves=True)

    def _operate(
        self,
        name: str,
        *,
        forced: bool = False,
        kid: str = "",
        compromised: bool = False,
        pause: int = 0,
        refreshed: tuple[int, ...] = (),
        rival: str = "",
    ) -> None:
        """Let an operator decide; the `refreshed` nodes look just before it is saved, `pause` half seconds later.

        A `rival` is the operation of another operator, who is faster.
        """
        world = self.world

        def meanwhile() -> None:
            world.go_to(world.now + pause * HALF_SECOND)
            self._refresh(refreshed)
            if rival:
                self._operate(rival, forced=forced)

        policy = world.operator.policy
        seen = self._current().kid
        operation = {
            "rotate": as_seen(seen, rotate(policy, forced=forced)),
            "roll back": as_seen(seen, roll_back(policy, self.rolled_back_from, forced=forced)),
            "revoke": revoke(policy, kid or seen, compromised=compromised),
        }[name]
        with suppress(NothingToDo, UnknownKey):
            world.perform_operation(operation, forced=forced, meanwhile=meanwhile)
            if name == "roll back":
                self.rolled_back_from.add(world.decision.before.current(world.decision.at).kid)
            self.rolled_back_from.discard(world.saved.current(world.decision.at).kid)

    def _pick(self, number: int) -> str:
        current = self._current()
        keys = [current, *(key for key in self.world.saved.keys if key != current)]
        return keys[number % len(keys)].kid
