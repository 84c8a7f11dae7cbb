"""The rules of one soak: the timing rules of production in seconds, drawn from its seed.

What a node makes of them is the issuer's; what happens to the nodes is told in `faults`.
"""

from dataclasses import dataclass
from random import Random
from typing import Self

AUDIENCE = "https://service.test"
PASSPHRASE = "eleven patient tortoises"
SPARE_SECONDS = (2, 3)
"""How much longer a key signs than the lead: in that time an operator may rotate."""


@dataclass(frozen=True)
class Pace:
    """What is asked of a node that nothing is wrong with: how much depends on what else the machine does."""

    idle: float
    """It issues at least one token in so many seconds."""
    healed: float
    """It is ready again so many seconds after a fault, at the latest."""
    always_issues: bool
    """Whether it may never be so late to look at the ring that it has to answer 503."""


QUIET = Pace(idle=6.0, healed=40.0, always_issues=True)
BUSY = Pace(idle=60.0, healed=240.0, always_issues=False)
"""Beside other tests: promises about keys must hold all the same, as they know nothing of speed."""


@dataclass(frozen=True)
class Rules:
    """Whole seconds, but for the clocks; the lead is the least that is allowed."""

    token_lifetime: int
    max_age: int
    node_timeout: int
    outage_limit: int
    clock_skew: int
    spare: int
    standby_keys: int
    clock_offset: float
    """How far the clock of the second node is from the true time, for its whole life."""

    @classmethod
    def drawn(cls, seed: int) -> Self:
        """Return the rules for `seed`."""
        draw = Random(seed)  # noqa: S311 - to be drawn again, not to be secret
        node_timeout = draw.choice((2, 3))
        return cls(
            token_lifetime=draw.choice((4, 6, 9)),
            max_age=draw.choice((1, 2)),
            node_timeout=node_timeout,
            outage_limit=draw.choice((node_timeout, 60)),  # with this lead it shrinks to the same
            clock_skew=2,
            spare=draw.choice(SPARE_SECONDS),
            standby_keys=draw.choice((1, 1, 2)),
            clock_offset=draw.choice((2.0, -2.0)),
        )

    @property
    def lead(self) -> int:
        """The least lead: no verifier may hold a document without the key for longer."""
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
