"""State machine of one session: owner, second tab, thief and crashes, at two nodes with wrong clocks."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import settings as tried
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import func, select
from support.defaults import REFRESH_GRACE
from support.two_nodes import HERE, HOUR, OWNER, THERE, Time, two_nodes

from issuer.maintenance.pruning import prune
from issuer.oauth import InvalidGrant
from issuer.tokens.refresh import ReuseDetected
from issuer.tokens.refresh_rotation import refresh_tokens


@dataclass(frozen=True)
class Used:
    """A used token: its successor, when and where it was used, and whether it was repeated."""

    token: str
    successor: str
    at: datetime
    subnet: str
    repeated: bool = False


NODES = st.sampled_from([0, 1])
ADDRESSES = st.sampled_from([HERE, HERE, HERE, THERE])


class OneSession(RuleBasedStateMachine):
    """One session at two nodes, whose clocks are within the skew or temporarily an hour off."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.time = Time()
        self.nodes = two_nodes(f"sqlite:///{self.folder.name}/issuer.db", self.time)
        self.is_set = False
        """Whether a clock was ever set: then a second tab may be logged out, but a replay is still detected."""

    @initialize(node=NODES)
    def log_in(self, node: int) -> None:
        self.newest = self.nodes[node].log_in()
        self.used: list[Used] = []
        self.is_living = True

    @rule(node=NODES, address=ADDRESSES, lost=st.booleans())
    def refresh(self, node: int, address: str, *, lost: bool) -> None:
        """Owner or thief uses the newest token; the process may crash after the commit."""
        if not self.is_living:
            assert self.nodes[node].refuses(self.newest, address)
            return
        given = self.nodes[node].refresh(self.newest, address)
        if given == self.newest:
            return
        used = Used(self.newest, given, self.time.now, address)
        self.used.append(used)
        self.newest = given
        if lost and not self.is_set:  # a client without an answer asks again
            assert self.nodes[1 - node].refresh(used.token, address) == given
            self.used[-1] = replace(used, repeated=True)

    @precondition(lambda self: self.used)
    @rule(data=st.data(), node=NODES, address=ADDRESSES)
    def present_a_used_token(self, data: Any, node: int, address: str) -> None:
        back = data.draw(st.integers(1, min(len(self.used), 12)))
        used = self.used[-back]
        is_late = self.time.now - used.at > REFRESH_GRACE
        ends = is_late or used.subnet != address
        try:
            given = self.nodes[node].refresh(used.token, address)
        except InvalidGrant as refusal:
            if self.is_living and not ends:
                assert used.repeated or self.is_set
            if ends or (self.is_set and isinstance(refusal, ReuseDetected)):
                self.is_living = False
        else:
            assert self.is_living
            assert not ends
            assert not used.repeated
            assert given == used.successor
            self.used[-back] = replace(used, repeated=True)

    @rule(seconds=st.sampled_from([1, 4, 10, 29, 31, 60, 600, 3600]))
    def wait(self, seconds: int) -> None:
        self.time.now += timedelta(seconds=seconds)

    @rule(node=NODES, step=st.sampled_from([-HOUR, HOUR]))
    def set_a_clock(self, node: int, step: timedelta) -> None:
        self.nodes[node].off += step
        self.is_set = True

    @rule(node=NODES)
    def prune(self, node: int) -> None:
        prune(self.nodes[node].database, self.nodes[node].now)

    @precondition(lambda self: self.is_living)
    @rule(node=NODES)
    def log_out(self, node: int) -> None:
        self.nodes[node].families.end_all(self.nodes[node].now, OWNER.id)
        self.is_living = False

    @precondition(lambda self: not self.is_living)
    @rule(node=NODES)
    def log_in_again(self, node: int) -> None:
        self.log_in(node)

    @invariant()
    def few_rows_are_kept(self) -> None:
        if not self.is_set and self.is_living:
            with self.nodes[0].database.read() as connection:
                kept = select(func.count()).select_from(refresh_tokens)
                session = select(refresh_tokens.c.family_id).order_by(refresh_tokens.c.expires_at.desc())
                kept = kept.where(refresh_tokens.c.family_id.in_(session.limit(1)))
                assert (connection.scalar(kept) or 0) <= 40

    def teardown(self) -> None:
        for node in self.nodes:
            node.database.close()
        self.folder.cleanup()


TestOneSession = OneSession.TestCase
TestOneSession.settings = tried(max_examples=30, stateful_step_count=40, deadline=None)
