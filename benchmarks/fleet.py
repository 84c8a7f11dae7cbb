"""A fleet of verifiers that fetch the JWKS through a CDN, second by second, with its random choices seeded.

It owns the model; `scaling` chooses the cases and shows the results.

Edges of a CDN are independent of each other, so some of them are simulated, each with all of its verifiers, and stand
for all. Time passes in seconds; events within a second are spread evenly over it.
"""

import random
from dataclasses import dataclass, field
from math import inf

from jwks_verifier import Timings

LATENCY_SECONDS = 0.1
"""From an edge to the origin and back; a refused connection takes as long."""
MET_WITHIN_SECONDS = 2
"""After a revocation, until a busy verifier meets the first token of the new key: each node looks every second."""
_SHIPPED = Timings()


@dataclass(frozen=True)
class Verifier:
    """How a verifier keeps its keys fresh, in seconds and shares of the ttl; the default is the example's way."""

    refresh_from: float = _SHIPPED.refresh_from
    refresh_to: float = _SHIPPED.refresh_to
    floor: float = _SHIPPED.ttl_floor
    ceiling: float = _SHIPPED.ttl_ceiling
    heeds_age: bool = True
    backoff_first: float = _SHIPPED.backoff_first
    backoff_last: float = _SHIPPED.backoff_last
    backoff_from: float = 0.5
    """Each pause is multiplied by a random share from here to 1."""
    cooldown: float = _SHIPPED.cooldown

    def ttl(self, max_age: float, age: float) -> float:
        """Return for how long an answer is trusted."""
        return min(max(max_age - (age if self.heeds_age else 0), self.floor), self.ceiling)


EXAMPLE = Verifier()
RECIPE = Verifier(1, 1, floor=0, ceiling=inf, heeds_age=False, backoff_last=1, backoff_from=1, cooldown=0)
"""Fetches when what it holds has expired, counted from its own fetch; after a failure again every second."""


@dataclass(frozen=True)
class Cdn:
    """Points of presence between the verifiers and the origin."""

    points: int = 200
    coalescing: bool = True
    """Whether requests that come while the origin is being asked wait for that one answer."""
    edge_ttl: float | None = None
    """For how long an edge keeps a document; None: as long as max-age says."""


@dataclass(frozen=True)
class Case:
    """What is simulated."""

    verifier: Verifier = EXAMPLE
    cdn: Cdn | None = field(default_factory=Cdn)
    """None: every verifier asks the origin."""
    max_age: float = 300
    seconds: int = 1800
    together: bool = False
    """Whether all start in the first second, as by a deploy; otherwise they are in the midst of their work."""
    outage: range = range(0)
    """The seconds in which the origin answers nobody."""
    revoked_at: float = inf
    announced: bool = True
    """Whether the key that signs after the revocation was known to every verifier before."""
    purged_at: float = inf
    """When every edge gets the instruction to delete its copy."""


@dataclass
class Outcome:
    """What happened: requests of the whole fleet by second, failed ones included, and when each process knew."""

    edge: list[float]
    """Requests that verifiers made, wherever they went."""
    origin: list[float]
    known_after: list[float]
    """Seconds from the revocation to the first fetch of a document made after it, in ascending order."""
    fresh_after: list[float]
    """Seconds from the end of the outage to the first success of each that had failed, in ascending order."""


class Fleet:
    """So many verifiers, of which one in `scale` is simulated."""

    def __init__(self, case: Case, verifiers: int, scale: int, seed: int) -> None:
        self._case = case
        self._scale = scale
        simulated = verifiers // scale
        self._random = random.Random(seed)  # noqa: S311 - repeatable, and nobody guesses it
        low, high = case.verifier.refresh_from, case.verifier.refresh_to
        self._share = [self._random.uniform(low, high) for _ in range(simulated)]
        points = case.cdn.points // scale if case.cdn else 1
        self._calendar: list[dict[int, list[int]]] = [{} for _ in range(points)]
        self._copy: list[float] = [-inf] * points
        """When each edge took its copy from the origin."""
        self._due = [0.0] * simulated
        self._asked = [-inf] * simulated
        self._failures: dict[int, int] = {}
        self._known: dict[int, float] = {}
        self._fresh: dict[int, float] = {}
        self._outcome = Outcome([0.0] * case.seconds, [0.0] * case.seconds, [], [])
        life = case.verifier.ttl(case.max_age, 0)
        for process in range(simulated):
            start = 0.0 if case.together else self._random.uniform(0, life * self._share[process])
            self._book(process, start)
        if not case.together:
            self._copy = [-self._edge_ttl * point / points for point in range(points)]

    @property
    def _edge_ttl(self) -> float:
        cdn = self._case.cdn
        return self._case.max_age if cdn is None or cdn.edge_ttl is None else cdn.edge_ttl

    def run(self) -> Outcome:
        """Let the time of the case pass."""
        for now in range(self._case.seconds):
            if now == self._case.revoked_at and not self._case.announced:
                self._meet(now)
            if now == self._case.purged_at:
                self._copy = [-inf] * len(self._copy)
            for point, calendar in enumerate(self._calendar):
                due = calendar.pop(now, None)
                if due:
                    self._ask(now, point, due)
        self._outcome.known_after = sorted(self._known.values())
        self._outcome.fresh_after = sorted(self._fresh.values())
        return self._outcome

    def _book(self, process: int, when: float, earliest: int = 0) -> None:
        self._due[process] = when
        self._calendar[process % len(self._calendar)].setdefault(max(int(when), earliest), []).append(process)

    def _meet(self, now: int) -> None:
        """Let every process meet a token of a key that it does not know."""
        for calendar in self._calendar:
            calendar.clear()
        cooldown = self._case.verifier.cooldown
        for process, due in enumerate(self._due):
            met = now + self._random.uniform(0, MET_WITHIN_SECONDS)
            self._book(process, min(due, max(met, self._asked[process] + cooldown)))

    def _ask(self, now: int, point: int, due: list[int]) -> None:
        """Let the processes that are due at one edge ask it."""
        requests = len(due)
        self._outcome.edge[now] += requests * self._scale
        answered = True
        if self._case.cdn is None:
            self._outcome.origin[now] += requests * self._scale
            answered, self._copy[point] = now not in self._case.outage, now
        elif now - self._copy[point] >= self._edge_ttl:
            answered = now not in self._case.outage
            self._outcome.origin[now] += self._missed(requests, answered=answered) * self._scale
            if answered:
                self._copy[point] = now
        if answered:
            self._serve(now, point, due)
        elif self._case.verifier.backoff_from < 1:
            self._fail(now, due)
        else:
            self._fail_alike(now, point, due)

    def _missed(self, requests: int, *, answered: bool) -> float:
        """Return how many of the requests of one second at one edge reach the origin."""
        coalescing = self._case.cdn is not None and self._case.cdn.coalescing
        if not answered:  # one after the other, or all of them
            return min(requests, 1 / LATENCY_SECONDS) if coalescing else requests
        return 1 if coalescing else max(1, requests * LATENCY_SECONDS)

    def _serve(self, now: int, point: int, due: list[int]) -> None:
        case = self._case
        ttl = case.verifier.ttl(case.max_age, int(now - self._copy[point]))
        if now >= case.revoked_at:
            if self._copy[point] >= case.revoked_at:
                for process in due:
                    self._known.setdefault(process, now - case.revoked_at)
            elif not case.announced:  # still the old keys, while token after token names the new one
                ttl = min(ttl, case.verifier.cooldown)
        if self._failures:
            for process in due:
                if self._failures.pop(process, 0):
                    self._fresh.setdefault(process, now - case.outage.stop)
        calendar, dues, asked, shares = self._calendar[point], self._due, self._asked, self._share
        hurried = ttl == case.verifier.cooldown
        for process in due:
            asked[process] = now
            dues[process] = when = dues[process] + (ttl if hurried else ttl * shares[process])
            calendar.setdefault(int(when), []).append(process)

    def _fail(self, now: int, due: list[int]) -> None:
        way = self._case.verifier
        for process in due:
            failures = self._failures.get(process, 0)
            self._failures[process] = failures + 1
            self._asked[process] = now
            pause = min(way.backoff_first * 2.0 ** min(failures, 16), way.backoff_last)
            again = self._due[process] + pause * self._random.uniform(way.backoff_from, 1)
            self._book(process, again, earliest=now + 1)  # the second that passes is over

    def _fail_alike(self, now: int, point: int, due: list[int]) -> None:
        """Do the same for a way whose pauses are all alike: who fails together comes again together."""
        again = now + int(self._case.verifier.backoff_last)
        self._calendar[point].setdefault(again, []).extend(due)
        if again >= self._case.outage.stop:
            self._failures.update(dict.fromkeys(due, 1))
            for process in due:
                self._due[process] = float(again)
