"""The results of a soak test: tokens, counts, events, and every broken promise with its facts.

The promises are checked in the other modules of this package.
"""

import statistics
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jwt

MAX_REPORTED = 40
"""Broken promises that are reported in full; the others are counted."""


@dataclass(frozen=True)
class Token:
    """An access token as received; instants in seconds since 1970, `received_at` in true time."""

    text: str = field(repr=False)
    kid: str
    issued_at: int
    expires_at: int
    node: str
    received_at: float

    @classmethod
    def read(cls, text: str, node: str) -> "Token":
        """Parse `text`, just received from `node`."""
        claims = jwt.decode(text, options={"verify_signature": False})
        kid = str(jwt.get_unverified_header(text)["kid"])
        return cls(text, kid, claims["iat"], claims["exp"], node, time.time())


class Findings:
    """Everything that was counted and recorded."""

    def __init__(self) -> None:
        self.began_at = time.time()
        self.counts: Counter[str] = Counter()
        self.broken: list[str] = []
        self.issued: dict[str, list[Token]] = {}
        """All tokens by issuing node."""
        self.pauses: dict[str, float] = {}
        """By continuous activity: its longest pause, in seconds."""
        self.recoveries: dict[str, list[float]] = {}
        """By node: seconds from each promotion of a replica to the next token."""
        self._recovering: dict[str, float] = {}
        self.refusals: Counter[str] = Counter()
        """Rejections by token, verifier and reason; the rejection of a valid token is a defect."""
        self._unexpired: list[Token] = []
        self._expired: deque[Token] = deque(maxlen=200)
        self._last: dict[str, float] = {}
        self._events: deque[str] = deque(maxlen=16)

    @property
    def age(self) -> float:
        """Seconds since the start."""
        return time.time() - self.began_at

    @property
    def kids(self) -> list[str]:
        """The kids of signing keys, in the order of their first token."""
        tokens = sorted(
            (token for each in self.issued.values() for token in each), key=lambda it: it.received_at
        )
        return list(dict.fromkeys(token.kid for token in tokens))

    @property
    def rotations(self) -> int:
        """The number of changes of the signing key."""
        return max(0, len(self.kids) - 1)

    def clock_offset(self, node: str, other: str) -> float:
        """Return by how many seconds the clock of `node` is ahead of that of `other`, from their tokens."""
        behind = {
            name: statistics.median(token.issued_at - token.received_at for token in self.issued[name])
            for name in (node, other)
        }
        return behind[node] - behind[other]

    def count(self, what: str) -> None:
        """Count an event."""
        self.counts[what] += 1

    def add(self, token: Token) -> None:
        """Record a token; from now on its key must be published, and every verifier must accept it."""
        self.issued.setdefault(token.node, []).append(token)
        self._unexpired.append(token)
        if (promoted_at := self._recovering.pop(token.node, None)) is not None:
            self.recoveries.setdefault(token.node, []).append(token.received_at - promoted_at)
        self.continued("tokens issued")

    def refused(self, token: str, by: str, reason: str) -> None:
        """Count a rejection by kind of token, verifier and the first part of the reason."""
        self.refusals[f"{token}, by {by}: {reason.partition(':')[0]}"] += 1

    def failed_over(self) -> None:
        """Record that a replica was just promoted, from which each node's recovery is measured."""
        self._recovering = dict.fromkeys(self.issued, time.time())

    def continued(self, what: str) -> None:
        """Count a continuous activity, and measure its longest pause."""
        self.count(what)
        now = time.time()
        pause = now - self._last.get(what, self.began_at)
        self._last[what] = now
        self.pauses[what] = max(pause, self.pauses.get(what, 0.0))

    def unexpired(self) -> list[Token]:
        """Return the tokens that have not expired in true time."""
        now = time.time()
        self._expired.extend(token for token in self._unexpired if token.expires_at <= now)
        self._unexpired = [token for token in self._unexpired if token.expires_at > now]
        return list(self._unexpired)

    def invalid_tokens(self, leeway: float, kids: Sequence[str]) -> dict[str, str]:
        """Return tokens with one of `kids` that must be rejected, by the reason."""
        expired = [
            token
            for token in self._expired
            if token.expires_at + leeway + 1 < time.time() and token.kid in kids
        ]
        unexpired = [token for token in self._unexpired if token.kid in kids]
        invalid_tokens = {"expired": expired[-1].text} if expired else {}
        return (
            {**invalid_tokens, "tampered with": _tampered(unexpired[-1].text)}
            if unexpired
            else invalid_tokens
        )

    def event(self, what: str) -> None:
        """Record an event, to be reported with promises that are broken soon after."""
        self._events.append(f"{self.since_start(time.time()):.2f} {what}")

    def since_start(self, instant: float) -> float:
        """Return `instant` in seconds since the start, as in all reports."""
        return round(instant - self.began_at, 3)

    def violation(self, promise: str, **facts: Any) -> None:
        """Record a broken promise."""
        self.count(f"BROKEN: {promise}")
        if len(self.broken) < MAX_REPORTED:
            details = "".join(f"\n    {name}: {fact}" for name, fact in facts.items())
            events = "".join(f"\n    | {event}" for event in self._events)
            self.broken.append(f"at {self.since_start(time.time()):.2f} {promise}{details}{events}")

    def described(self, token: Token) -> str:
        """Return a description of a token."""
        iat, exp, received = map(self.since_start, (token.issued_at, token.expires_at, token.received_at))
        return f"kid {token.kid[:8]} from {token.node}, iat {iat}, exp {exp}, received {received}"


def _tampered(token: str) -> str:
    """Return `token` with one character of its signature changed."""
    at = len(token) - 20
    return token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
