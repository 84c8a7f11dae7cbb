"""What a soak found: tokens, counts, what happened when, and every promise that was broken, with the facts.

Who looks, and what breaks a promise, is told in the files beside this one.
"""

import statistics
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jwt

TOLD = 40
"""How many broken promises are kept in full; the rest are counted."""


@dataclass(frozen=True)
class Token:
    """An access token as its client knows it; instants in seconds since 1970, `received_at` in true time."""

    text: str = field(repr=False)
    kid: str
    issued_at: int
    expires_at: int
    node: str
    received_at: float

    @classmethod
    def read(cls, text: str, node: str) -> "Token":
        """Return `text`, just received from `node`, with what it says of itself."""
        claims = jwt.decode(text, options={"verify_signature": False})
        kid = str(jwt.get_unverified_header(text)["kid"])
        return cls(text, kid, claims["iat"], claims["exp"], node, time.time())


class Findings:
    """Everything that was found."""

    def __init__(self) -> None:
        self.began_at = time.time()
        self.counts: Counter[str] = Counter()
        self.broken: list[str] = []
        self.issued: dict[str, list[Token]] = {}
        """All tokens, by the node that issued them."""
        self.pauses: dict[str, float] = {}
        """The longest pause in what is to go on all the time, in seconds."""
        self.recoveries: dict[str, list[float]] = {}
        """By node: how long after each promotion of a replica it issued a token again, in seconds."""
        self._recovering: dict[str, float] = {}
        self.refusals: Counter[str] = Counter()
        """Which verifier refused a token, and why: those that are not good, and any valid one, which is a defect."""
        self._alive: list[Token] = []
        self._expired: deque[Token] = deque(maxlen=200)
        self._last: dict[str, float] = {}
        self._events: deque[str] = deque(maxlen=16)

    @property
    def age(self) -> float:
        """How long the soak has run, in seconds."""
        return time.time() - self.began_at

    @property
    def kids(self) -> list[str]:
        """The kids that signed, in the order in which they were first seen."""
        tokens = sorted(
            (token for each in self.issued.values() for token in each), key=lambda it: it.received_at
        )
        return list(dict.fromkeys(token.kid for token in tokens))

    @property
    def rotations(self) -> int:
        """How often another key was seen to sign."""
        return max(0, len(self.kids) - 1)

    def clock_offset(self, node: str, other: str) -> float:
        """Return how far the clock of `node` was from that of `other`, as the tokens of both tell."""
        behind = {
            name: statistics.median(token.issued_at - token.received_at for token in self.issued[name])
            for name in (node, other)
        }
        return behind[node] - behind[other]

    def count(self, what: str) -> None:
        """Count one more of it."""
        self.counts[what] += 1

    def add(self, token: Token) -> None:
        """Take up a token; from now on its key is to be published and every verifier is to accept it."""
        self.issued.setdefault(token.node, []).append(token)
        self._alive.append(token)
        if (promoted_at := self._recovering.pop(token.node, None)) is not None:
            self.recoveries.setdefault(token.node, []).append(token.received_at - promoted_at)
        self.goes_on("tokens issued")

    def refused(self, token: str, by: str, reason: str) -> None:
        """Count a refusal of some kind of token; of a reason, only its first words."""
        self.refusals[f"{token}, by {by}: {reason.partition(':')[0]}"] += 1

    def failed_over(self) -> None:
        """Note that a replica was promoted just now; from here on the nodes are to recover."""
        self._recovering = dict.fromkeys(self.issued, time.time())

    def goes_on(self, what: str) -> None:
        """Count one more of what is to go on all the time."""
        self.count(what)
        now = time.time()
        pause = now - self._last.get(what, self.began_at)
        self._last[what] = now
        self.pauses[what] = max(pause, self.pauses.get(what, 0.0))

    def alive(self) -> list[Token]:
        """Return the tokens that have not expired by the true time."""
        now = time.time()
        self._expired.extend(token for token in self._alive if token.expires_at <= now)
        self._alive = [token for token in self._alive if token.expires_at > now]
        return list(self._alive)

    def spoiled(self, leeway: float, kids: Sequence[str]) -> dict[str, str]:
        """Return tokens of known `kids` that are to be refused, by what is wrong with them."""
        expired = [
            token
            for token in self._expired
            if token.expires_at + leeway + 1 < time.time() and token.kid in kids
        ]
        alive = [token for token in self._alive if token.kid in kids]
        spoiled = {"expired": expired[-1].text} if expired else {}
        return {**spoiled, "tampered with": _tampered(alive[-1].text)} if alive else spoiled

    def event(self, what: str) -> None:
        """Remember what happened, to be told with a promise that is broken soon after."""
        self._events.append(f"{self.since_start(time.time()):.2f} {what}")

    def since_start(self, instant: float) -> float:
        """Return `instant` in seconds since the soak began, as all facts are told."""
        return round(instant - self.began_at, 3)

    def violation(self, promise: str, **facts: Any) -> None:
        """Record a broken promise."""
        self.count(f"BROKEN: {promise}")
        if len(self.broken) < TOLD:
            told = "".join(f"\n    {name}: {fact}" for name, fact in facts.items())
            events = "".join(f"\n    | {event}" for event in self._events)
            self.broken.append(f"at {self.since_start(time.time()):.2f} {promise}{told}{events}")

    def described(self, token: Token) -> str:
        """Return the facts about a token."""
        iat, exp, received = map(self.since_start, (token.issued_at, token.expires_at, token.received_at))
        return f"kid {token.kid[:8]} from {token.node}, iat {iat}, exp {exp}, received {received}"


def _tampered(token: str) -> str:
    """Return `token` with another character within its signature."""
    at = len(token) - 20
    return token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
