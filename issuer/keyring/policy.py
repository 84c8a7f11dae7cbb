"""The timing rules of the key ring: which combinations of settings are refused, and the durations that follow.

What they mean for each key is decided in `ring`.
"""

from dataclasses import dataclass
from datetime import timedelta

from issuer.clock import duration
from issuer.fixes import Fix, Kind

REFRESH_INTERVAL = timedelta(seconds=1)
"""How often a node loads the ring: every node sees a change within two seconds."""

DECISION_LIFETIME = timedelta(seconds=1)
"""How long after a decision about the ring it may be saved; after that, the decision is repeated."""

PUBLISHED_MOST = 64
"""The most keys in one key set: verifiers read a bounded number (some 64, some clouds 100) and refuse larger sets."""

PLANNED_MOST = 60
"""The most keys that the timer alone may publish; the rest is reserved for operators."""


class BadPolicy(Exception):
    """The settings contradict each other; the message shows the arithmetic, and `fix` is a setting that works."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = Fix(Kind.POLICY, fix)


@dataclass(frozen=True)
class Policy:
    """The timing rules; each field is a setting."""

    algorithm: str
    token_lifetime: timedelta
    """T: how long an access token lives."""
    rotation_period: timedelta
    """How long a key signs; zero means that only an operator rotates."""
    publish_lead: timedelta
    """How long a key is published before it may sign."""
    max_age: timedelta
    """M: the max-age served with the JWKS."""
    node_timeout: timedelta
    """R: after this every node has seen a change or has stopped signing."""
    outage_limit: timedelta
    """O, as configured: how long a node without a database connection continues to publish the JWKS."""
    clock_skew: timedelta
    """S: how far clocks may differ."""
    standby_keys: int = 1

    def __post_init__(self) -> None:
        least = self.max_age + self.node_timeout + self.clock_skew
        if self.publish_lead < least:
            raise BadPolicy(
                f"ISSUER_PUBLISH_LEAD is {duration(self.publish_lead)} but must be at least ISSUER_JWKS_MAX_AGE"
                f" {duration(self.max_age)} + ISSUER_NODE_TIMEOUT {duration(self.node_timeout)} +"
                f" ISSUER_CLOCK_SKEW {duration(self.clock_skew)} = {duration(least)}: a verifier may hold a"
                " document without the new key for that long",
                f"ISSUER_PUBLISH_LEAD={duration(least)}",
            )
        if self.rotation_period and self.rotation_period < self.publish_lead:
            raise BadPolicy(
                f"ISSUER_ROTATION_PERIOD is {duration(self.rotation_period)} but must be 0 (only manual rotation) or"
                f" at least ISSUER_PUBLISH_LEAD {duration(self.publish_lead)}: each key is published that long"
                " before it signs",
                f"ISSUER_ROTATION_PERIOD={duration(self.publish_lead)}",
            )
        if self.outage_limit < self.node_timeout:
            raise BadPolicy(
                f"ISSUER_OUTAGE_LIMIT is {duration(self.outage_limit)} but must be at least"
                f" ISSUER_NODE_TIMEOUT {duration(self.node_timeout)}: a node that signs must publish its key",
                f"ISSUER_OUTAGE_LIMIT={duration(self.node_timeout)}",
            )
        if self.node_timeout < 2 * REFRESH_INTERVAL:
            raise BadPolicy(
                f"ISSUER_NODE_TIMEOUT is {duration(self.node_timeout)} but must be at least"
                f" {duration(2 * REFRESH_INTERVAL)}: nodes look at the key ring every {duration(REFRESH_INTERVAL)}",
                f"ISSUER_NODE_TIMEOUT={duration(2 * REFRESH_INTERVAL)}",
            )

        self._require_few_keys()

    def _require_few_keys(self) -> None:
        """Refuse settings under which the timer publishes more keys than verifiers read."""
        if not self.rotation_period:
            return  # only operators rotate, and `key_count` refuses a rotation too many
        if self.planned_keys > PLANNED_MOST:
            room = PLANNED_MOST - 1 - self.standby_keys
            period = max(self.publish_lead, -(-self.retention // room))
            raise BadPolicy(
                f"ISSUER_ROTATION_PERIOD is {duration(self.rotation_period)} but must be at least {_rounded(period)}:"
                f" a replaced key is published for ISSUER_ACCESS_TOKEN_LIFETIME {duration(self.token_lifetime)} +"
                f" ISSUER_NODE_TIMEOUT {duration(self.node_timeout)} + 2 x ISSUER_CLOCK_SKEW"
                f" {duration(self.clock_skew)} + {duration(DECISION_LIFETIME)} = {duration(self.retention)}, which"
                f" makes {self.planned_keys - 1 - self.standby_keys} replaced keys + the current key +"
                f" ISSUER_STANDBY_KEYS {self.standby_keys} = {self.planned_keys} keys, and verifiers read at most"
                f" {PUBLISHED_MOST}, of which {PUBLISHED_MOST - PLANNED_MOST} are for rotations and imports by an"
                " operator",
                f"ISSUER_ROTATION_PERIOD={_rounded(period)}",
            )

    @property
    def retention(self) -> timedelta:
        """How long a replaced key stays published."""
        return self.token_lifetime + self.margin

    @property
    def planned_keys(self) -> int:
        """The most keys that are published at once when only the timer rotates."""
        replaced = -(-self.retention // self.rotation_period) if self.rotation_period else 0
        return replaced + 1 + self.standby_keys

    @property
    def margin(self) -> timedelta:
        """How long after a key was superseded, by the clock of a verifier, a token may still be signed with it.

        A node that loaded the ring right before the change was saved may sign with it for R. If the node's clock is
        ahead by S, its tokens live S longer for a verifier, and it also drops the key S too early.
        """
        return DECISION_LIFETIME + self.node_timeout + 2 * self.clock_skew

    @property
    def heartbeat_interval(self) -> timedelta:
        """How often a node sends a heartbeat if nothing changed."""
        return self.node_timeout / 3

    @property
    def publish_without_database(self) -> timedelta:
        """O as it is in force: reduced under a short lead, so that no stale key set outlives the lead.

        Never below R, as a node that signs must publish its key.
        """
        most = self.publish_lead - self.max_age - self.clock_skew - DECISION_LIFETIME
        return max(self.node_timeout, min(self.outage_limit, most))


def _rounded(span: timedelta) -> str:
    """Return `span`, rounded up to a whole number of its largest fitting unit."""
    seconds = -(-span // timedelta(seconds=1))
    unit, length = next(
        (each for each in (("d", 86400), ("h", 3600), ("m", 60)) if seconds > 3 * each[1]), ("s", 1)
    )
    return f"{-(-seconds // length)}{unit}"
