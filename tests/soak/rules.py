"""Settings of one soak test: the timing rules of production in seconds, chosen by its seed.

Faults of the nodes are defined in `faults`.
"""

from dataclasses import dataclass
from random import Random
from typing import Self

AUDIENCE = "https://service.test"
PASSPHRASE = "eleven patient tortoises"
SPARE_SECONDS = (2, 3)
"""How much longer than the lead a key signs; in that time an operator may rotate."""


@dataclass(frozen=True)
class Pace:
    """What is required of a healthy node, depending on the load of the machine."""

    answer: float
    """The longest time for a simple answer, in seconds."""
    idle: float
    """The longest time between two tokens, in seconds."""
    recovery: float
    """The longest time from the end of a fault until it is ready, in seconds."""
    always_issues: bool
    """Whether a 503 because of a late refresh of the key ring is a failure."""
    as_in_production: bool
    """Whether each node starts with interpreters of its own, which takes seconds."""


QUIET = Pace(answer=1.0, idle=6.0, recovery=40.0, always_issues=True, as_in_production=True)
BUSY = Pace(answer=8.0, idle=60.0, recovery=240.0, always_issues=False, as_in_production=False)
"""For runs in parallel with other tests; the promises about keys do not depend on speed."""


@dataclass(frozen=True)
class Rules:
    """Durations in whole seconds; the lead is the shortest allowed."""

    token_lifetime: int
    max_age: int
    node_timeout: int
    outage_limit: int
    clock_skew: int
    spare: int
    standby_keys: int
    clock_offset: float
    """The constant offset of the second node's clock from the true time."""

    @classmethod
    def random(cls, seed: int) -> Self:
        """Return the rules for `seed`."""
        draw = Random(seed)  # noqa: S311 - reproducible, not secret
        node_timeout = draw.choice((2, 3))
        return cls(
            token_lifetime=draw.choice((4, 6, 9)),
            max_age=draw.choice((1, 3)),  # who may cache for 3 seconds may listen for one
            node_timeout=node_timeout,
            outage_limit=draw.choice((node_timeout, 60)),  # with this lead both have the same effect
            clock_skew=2,
            spare=draw.choice(SPARE_SECONDS),
            standby_keys=draw.choice((1, 1, 2)),
            clock_offset=draw.choice((2.0, -2.0)),
        )

    @property
    def lead(self) -> int:
        """The shortest lead: no verifier may hold a document without the new key for longer."""
        return self.max_age + self.node_timeout + self.clock_skew

    def settings(self, url: str, database_url: str) -> dict[str, str]:
        """Return the settings of a node of the issuer at `url`."""
        return {
            "ISSUER_URL": url,
            "ISSUER_AUDIENCE": AUDIENCE,
            "ISSUER_DATABASE_URL": database_url,
            "ISSUER_KEYS": "database",
            "ISSUER_KEYS_PASSPHRASE": PASSPHRASE,
            "ISSUER_ACCESS_TOKEN_LIFETIME": f"{self.token_lifetime}s",
            "ISSUER_JWKS_MAX_AGE": f"{self.max_age}s",
            "ISSUER_NODE_TIMEOUT": f"{self.node_timeout}s",
            "ISSUER_OUTAGE_LIMIT": f"{self.outage_limit}s",
            "ISSUER_CLOCK_SKEW": f"{self.clock_skew}s",
            "ISSUER_PUBLISH_LEAD": f"{self.lead}s",
            "ISSUER_ROTATION_PERIOD": f"{self.lead + self.spare}s",
            "ISSUER_STANDBY_KEYS": f"{self.standby_keys}",
        }
