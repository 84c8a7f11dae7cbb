"""A small world around the pure ring: true time, nodes with clocks and views of their own, operators, verifiers.

What must hold in it is defined in `ring_promises`, which histories are tried in `test_promises_over_time`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from issuer.errors import KeyUnavailable, StaleView
from issuer.keyring.heartbeat import Heartbeat
from issuer.keyring.key import Key
from issuer.keyring.policy import DECISION_LIFETIME, Policy
from issuer.keyring.ring import KeyRing
from issuer.keyring.view import View
from issuer.signing.public_key import PublicKey
from support.defaults import START
from support.token_lifetimes import longest_lifetime

Operation = Callable[[KeyRing, datetime], KeyRing]
HALF_SECOND = timedelta(milliseconds=500)
LONGEST_WAIT = timedelta(seconds=30)
"""For how long a node lets verifiers listen."""
COOLDOWN = timedelta(seconds=7)
"""For how long the verifiers that ask again on an unknown kid do not ask again: at most any lead - R - S."""


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@dataclass
class Actor:
    """Whoever decides about the ring, by a clock and settings of their own."""

    offset: timedelta
    policy: Policy


@dataclass
class Node(Actor):
    """One process that serves."""

    name: str
    view: View
    looked_at: datetime
    """The true time of this view."""
    kids: frozenset[str] = frozenset()
    """What it publishes by this view."""
    beat: Heartbeat | None = None
    opens: bool = True
    """Whether it can open private keys."""
    set_back: bool = False
    """Whether its clock was, since it looked."""

    def sees(self, ring: KeyRing, looked_at: datetime, seen_at: datetime) -> None:
        """Take up a ring as of `seen_at`, by its clock; it opens all that may sign then."""
        may_sign = (ring.current(seen_at), *ring.standbys(seen_at)) if self.opens else ()
        self.view = View(ring, looked_at + self.offset, frozenset(key.kid for key in may_sign))
        self.looked_at = looked_at
        self.kids = frozenset(key.kid for key in self.view.published_keys)


@dataclass(frozen=True)
class Decision:
    """A change decided and not saved yet."""

    before: KeyRing
    after: KeyRing
    policy: Policy
    at: datetime
    made_at: datetime
    """The true time."""


@dataclass
class Verifiers:
    """All that verifiers may hold: of documents with the same keys, and tokens of one key, only the last to end."""

    tokens: dict[str, datetime] = field(default_factory=dict)
    caches: dict[frozenset[str], datetime] = field(default_factory=dict)
    """Documents held for as long as their max-age allows; nothing is asked before."""
    cooling: dict[frozenset[str], datetime] = field(default_factory=dict)
    """Documents of a node that was ready, held by who does not ask for an unknown kid again so soon."""
    listening: dict[str, tuple[datetime, frozenset[str]]] = field(default_factory=dict)
    """Since when a verifier listens to a node, by its name, and to the change of which document."""
    heard: dict[frozenset[str], datetime] = field(default_factory=dict)
    """Documents held by those that listened, for as long as their max-age allows since they began to."""

    def expire(self, now: datetime) -> None:
        self.tokens = {kid: end for kid, end in self.tokens.items() if end > now}
        self.caches = {kids: end for kids, end in self.caches.items() if end > now}
        self.cooling = {kids: end for kids, end in self.cooling.items() if end > now}
        self.heard = {kids: end for kids, end in self.heard.items() if end > now}

    def listen(self, name: str, kids: frozenset[str], now: datetime, max_age: timedelta | None) -> None:
        """Let a node answer the one that listens to it, if it is time; without a max-age it serves nothing."""
        if max_age is None:
            self.listening.pop(name, None)  # 503: it keeps what it has
            return
        since, heard = self.listening.get(name, (now, frozenset()))
        if kids != heard or now - since >= LONGEST_WAIT:
            _last(self.heard, kids, since + max_age)
            self.listening[name] = (now, kids)


def _last(held: dict[Any, datetime], what: Any, until: datetime) -> None:
    held[what] = max(until, held.get(what, until))


class World:
    """Everything there is; `judge` looks at it at each instant at which something may have gone wrong.

    At first there is only the node that creates the ring; see `start`.
    """

    def __init__(
        self, offsets: list[timedelta], policy: Policy, judge: Callable[["World", dict[str, Key]], None]
    ) -> None:
        *nodes, operator = offsets
        self.now = START
        self.judge = judge
        self.ahead = max(offsets)
        self.behind = min(offsets)
        """By the clock of the verifier that is the most behind, tokens live the longest."""
        self.serial = count()
        self.operator = Actor(operator, policy)
        first = [self.made(policy) for _ in range(1 + policy.standby_keys)]
        self.saved = KeyRing.create(first, policy, START + nodes[0])
        self.first = {key.kid for key in first}
        before = replace(self.saved, keys=self.saved.keys[:1])
        self.decision = Decision(before, self.saved, policy, self.saved.changed_at, START)
        """What made the saved ring."""
        self.lacking = False
        """Whether no key can be made."""
        self.imported: set[str] = set()
        self.verifiers = Verifiers()
        self.beats: dict[str, Heartbeat] = {}
        self.left: set[str] = set()
        """The processes that ended and said so."""
        self.predicted: dict[str, datetime] = {}
        """Until when a command said that verifiers may refuse a key, by kid."""
        self.revoked: dict[str, int] = {}
        """Which version revoked a key, by kid."""
        self.refused_from: dict[str, datetime] = {}
        """From when, by the first clock, a command said that no verifier accepts a key, by kid."""
        self.by_hand: list[tuple[int, datetime]] = []
        """The versions that operations of operators made, and when."""
        self.destroyed: set[str] = set()
        self.serving: dict[str, timedelta] = {}
        """The nodes that serve documents at the latest look, and their max-age."""
        self.nodes: list[Node] = []
        unseen = View(self.saved, START, frozenset())
        creator, *self._others = [
            Node(offset, policy, f"node-{number}", unseen, START) for number, offset in enumerate(nodes)
        ]
        self.nodes = [creator]
        self._send_heartbeat(creator, self.saved.version, START + creator.offset)
        creator.sees(self.saved, START, START + creator.offset)
        self.look()

    def start(self, policy: Policy) -> None:
        """Let the other nodes start, before the first has looked again."""
        self.operator.policy = policy
        for node in self._others:
            node.policy = policy
            self.nodes.append(node)
            self.refresh(node, starting=True)

    # Time

    def go_to(self, target: datetime) -> None:
        """Let time pass, with a look at each instant at which a node begins or ceases to do something."""
        for instant in sorted({each for each in self._happenings() if self.now < each < target}):
            self.now = instant
            self.look()
        self.now = max(self.now, target)
        self.look()

    def _happenings(self) -> Iterator[datetime]:
        for node in self.nodes:
            last = node.view.refreshed_at - node.offset
            yield last + node.policy.node_timeout
            yield last + node.policy.publish_without_database
            for key in node.view.ring.keys:
                if key.activates_at:
                    yield key.activates_at - node.offset
        for may_sign_from in self.predicted.values():
            yield may_sign_from - self.ahead

    def look(self) -> None:
        """Let every node sign and serve all that it will, and judge the world."""
        self.verifiers.expire(self.now)
        signed = {}
        self.serving = {}
        for node in self.nodes:
            clock = self.now + node.offset
            try:
                key = node.view.signing_key(node.policy, clock)
            except (StaleView, KeyUnavailable):
                ready = False
            else:
                ready = True
                signed[node.name] = key
                expires_at = clock + longest_lifetime(node.policy, key)
                _last(self.verifiers.tokens, key.kid, expires_at - self.behind)
            try:
                max_age = node.view.max_age(node.policy, clock)
            except StaleView:
                self.verifiers.listen(node.name, node.kids, self.now, None)
                continue
            self.verifiers.listen(node.name, node.kids, self.now, max_age)
            self.serving[node.name] = max_age
            _last(self.verifiers.caches, node.kids, self.now + max_age)
            if ready:
                _last(self.verifiers.cooling, node.kids, self.now + COOLDOWN)
        self.judge(self, signed)

    # Changing the ring, as `Rotation` does

    def made(self, policy: Policy) -> PublicKey:
        kid = f"key-{next(self.serial):04}"
        return PublicKey(kid, policy.algorithm, {"kid": kid, "alg": policy.algorithm})

    def decide(self, actor: Actor, operation: Operation) -> Decision:
        before = self.saved
        at = before.decision_instant(actor.policy, self.now + actor.offset)
        after = self.complete(operation(self.complete(before, actor.policy, at), at), actor.policy, at)
        return Decision(before, after, actor.policy, at, self.now)

    def complete(self, ring: KeyRing, policy: Policy, at: datetime) -> KeyRing:
        maintained = ring.maintained(policy, at)
        missing = 0 if self.lacking else maintained.shortfall(at, policy)
        return maintained.published([self.made(policy) for _ in range(missing)], policy, at)

    def save(self, decision: Decision) -> KeyRing | None:
        """Return the ring as saved, or None if the decision is old or somebody was faster."""
        before, after = decision.before, decision.after
        if before == after and not _activated_since(before, decision.at):
            return before
        if self.now - decision.made_at > DECISION_LIFETIME:
            return None
        # Before it is known who wins: a crash after the save would leave private keys behind.
        self.destroyed |= {key.kid for key in before.keys} - {key.kid for key in after.keys}
        if self.saved is not before:
            return None
        self.saved = replace(after, version=after.version + 1, changed_at=decision.at)
        self.decision = decision
        return self.saved

    def change(
        self, actor: Actor, operation: Operation, meanwhile: Callable[[], None] = lambda: None
    ) -> KeyRing:
        """Decide, let something happen, and save; the loser decides again."""
        decision = self.decide(actor, operation)
        meanwhile()
        while (saved := self.save(decision)) is None:
            decision = self.decide(actor, operation)
        return saved

    def perform_operation(
        self, operation: Operation, *, forced: bool = False, meanwhile: Callable[[], None] = lambda: None
    ) -> KeyRing:
        """Perform an operator's operation, and keep what the command printed; raise what it raises."""
        saved = self.change(self.operator, operation, meanwhile)
        self.by_hand.append((saved.version, self.now))
        revoked = [key.kid for key in saved.keys if key.revoked_at and key.kid not in self.revoked]
        self.revoked |= dict.fromkeys(revoked, saved.version)
        if forced or revoked:  # any other command says by its silence that nothing breaks
            current = saved.current(saved.changed_at)
            self.predicted[current.kid] = current.may_sign_from
        self.look()
        return saved

    # What a process does, like `node.Node`

    def refresh(
        self,
        node: Node,
        *,
        starting: bool = False,
        heartbeat_arrives: bool = True,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Reconcile, send a heartbeat if it is due, and use the view; sending fails unless `heartbeat_arrives`."""
        looked_at, seen_at = self.now, self.now + node.offset
        policy = node.policy
        if node.beat is None or seen_at - node.beat.refreshed_at >= policy.heartbeat_interval:
            # Before it loads the ring: an operator who revokes a key right after that must know of this process.
            self._send_heartbeat(node, 0 if starting else node.view.ring.version, seen_at)
        ring = self.change(
            node, lambda ring, now: ring.scheduled(policy, now) if starting else ring, meanwhile
        )
        if node.beat and node.beat.version != ring.version:
            if not heartbeat_arrives:
                node.sees(ring, node.looked_at, seen_at)
                return
            self._send_heartbeat(node, ring.version, seen_at)
        node.sees(ring, looked_at, seen_at)

    def _send_heartbeat(self, node: Node, version: int, at: datetime) -> None:
        if node.beat is None:
            for other in list(self.beats.values()):
                if other.served_until + node.policy.clock_skew < at:
                    del self.beats[other.id]
        identity = node.beat.id if node.beat else f"process-{next(self.serial)}"
        node.beat = self.beats[identity] = Heartbeat.of(identity, node.name, version, node.policy, at)

    def restart(self, node: Node, policy: Policy, *, leaves: bool) -> None:
        """Start a node anew by other settings; one that `leaves` sends a last heartbeat, another does not."""
        if node.beat and leaves:
            self.beats[node.beat.id] = node.beat.last(self.now + node.offset)
            self.left.add(node.beat.id)
        node.beat = None
        node.policy = policy
        self.refresh(node, starting=True)


def _activated_since(ring: KeyRing, at: datetime) -> bool:
    """Whether a key was activated since the last change: the audit records it in a version of its own."""
    return any(
        key.activates_at and ring.changed_at < key.activates_at <= at and key.activated_by(at)
        for key in ring.keys
    )
