"""Owns the targets: each row's name, what it compares, its baseline, target and stretch value.

They are measured by `cases` and shown by `report`.
"""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a measurement compares with its target."""

    AIM = "stretch met"
    REACHED = "target met"
    MISSED = "missed"
    SKIPPED = "not measured"


@dataclass(frozen=True)
class Target:
    """One row: `reach` is the target, `aim` the stretch value.

    `usual` is the baseline, measured once with the common FastAPI recipe; "" where there is none.
    """

    name: str
    what: str
    usual: str
    reach: float
    aim: float
    unit: str = ""
    """Empty for a ratio."""

    @property
    def more_is_better(self) -> bool:
        """Tell the direction, which the two figures show."""
        return self.aim > self.reach

    def verdict(self, figure: float | None) -> Verdict:
        """Judge a figure."""
        if figure is None:
            return Verdict.SKIPPED
        sign = 1 if self.more_is_better else -1
        if sign * figure >= sign * self.aim:
            return Verdict.AIM
        return Verdict.REACHED if sign * figure >= sign * self.reach else Verdict.MISSED

    def shown(self, figure: float | None) -> str:
        """Write a figure of this row."""
        if figure is None:
            return "-"
        digits = 0 if self.unit in {"ms", "MiB"} and figure >= 10 else 1 if self.unit in {"ms", "MiB"} else 2  # noqa: PLR2004
        return f"{figure:.{digits}f} {self.unit}".rstrip()


TARGETS = (
    Target("tokens", "`client_credentials` req/s, 1 worker / openssl one-core sign rate", "0.40", 0.50, 0.60),
    Target("tokens-two-workers", "the same, 2 workers", "0.70", 0.90, 1.05),
    Target("token-cpu", "server CPU per token / raw sign", "2.5", 2.0, 1.65),
    Target("tokens-peer", "tokens per CPU-second / oidc-provider's", "0.9", 1.2, 1.4),
    Target("tokens-p99", "p99 / oidc-provider's p99", "0.94", 0.7, 0.55),
    Target("jwks", "JWKS requests per CPU-second / nginx static file", "0.08", 0.14, 0.35),
    Target("verification", "verification function / raw verify", "5.2", 1.6, 1.4),
    Target("me", "`GET /me` req/s / the PyJWKClient recipe", "1", 3.0, 3.5),
    Target("log-ins", "log-ins per second / raw argon2 on the same threads", "0.56", 0.95, 0.98),
    Target("storm", "JWKS p99 during a log-in storm", "254 ms", 15, 6, "ms"),
    Target(
        "refresh-sqlite", "refresh on SQLite, durable, rotating / `client_credentials`", "0.17", 0.75, 0.90
    ),
    Target("refresh-postgresql", "refresh on PostgreSQL / `client_credentials`", "", 0.50, 0.70),
    Target("memory", "idle memory per worker (PSS)", "73 MiB", 60, 50, "MiB"),
    Target("cold-start", "cold start to the first 200", "1.03 s", 0.8, 0.65, "s"),
)
