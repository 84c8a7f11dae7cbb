"""Owns the targets: each row's name, what it compares, its baseline, target and stretch value.

`cases` measures them, `report` shows them.
"""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a measurement compares with its target."""

    STRETCH_MET = "stretch met"
    TARGET_MET = "target met"
    MISSED = "missed"
    SKIPPED = "not measured"


@dataclass(frozen=True)
class Target:
    """One row of the targets.

    `baseline` was measured once with the common FastAPI recipe; "" where there is none.
    """

    name: str
    what: str
    baseline: str
    target: float
    stretch: float
    unit: str = ""
    """Empty for a ratio."""

    @property
    def more_is_better(self) -> bool:
        """Whether larger values are better, by the order of target and stretch value."""
        return self.stretch > self.target

    def verdict(self, measured: float | None) -> Verdict:
        """Compare a measured value with the target."""
        if measured is None:
            return Verdict.SKIPPED
        sign = 1 if self.more_is_better else -1
        if sign * measured >= sign * self.stretch:
            return Verdict.STRETCH_MET
        return Verdict.TARGET_MET if sign * measured >= sign * self.target else Verdict.MISSED

    def shown(self, measured: float | None) -> str:
        """Return a value with its unit."""
        if measured is None:
            return "-"
        coarse = self.unit in {"ms", "MiB"}
        digits = 2 if not coarse else 1 if measured < 10 else 0  # noqa: PLR2004 - two significant digits
        return f"{measured:.{digits}f} {self.unit}".rstrip()


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
    Target("codes-sqlite", "codes redeemed, on SQLite, durable / oidc-provider's, in memory", "", 0.50, 0.75),
    Target("codes-postgresql", "the same, on PostgreSQL", "", 0.40, 0.60),
    Target("authorization", "authorization requests, to the sign-in page / oidc-provider's", "", 0.50, 1.0),
    Target("sign-in-page", "sign-in page / oidc-provider's development page", "", 0.50, 1.0),
    Target("memory", "idle memory per worker (PSS)", "73 MiB", 60, 50, "MiB"),
    Target("cold-start", "cold start to the first 200", "1.03 s", 0.8, 0.65, "s"),
)
