"""Which verifiers know the next key, by what the census remembers: for operators, and never a gate.

What is remembered is left to `census`, how it is shown to `cli.verifiers`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Final

from issuer.keyring.census import Evidence, KeySet, Sighting

SEEN_WITHIN: Final = timedelta(hours=24)
"""Which verifiers are counted; those that asked longer ago are named."""
ENDED_AFTER: Final = timedelta(hours=1)
"""An instance has ended if it did not ask for so long while another one of its verifier did."""
NAMED_MOST = 5


class Knows(StrEnum):
    """Whether a verifier knows a key."""

    NO = "no"
    UNKNOWN = "unknown"
    YES = "yes"


WORST_FIRST = tuple(Knows)


@dataclass(frozen=True)
class Verifier:
    """The instances of one name at one address; if they differ, the one that holds the oldest set counts."""

    name: str
    address: str
    instances: int
    """At least so many; 1 for a verifier that does not say which instance asks."""
    version: int | None
    knows_next: Knows | None
    """None: there is no next key."""
    evidence: Evidence
    last_seen: datetime
    listening: bool

    def __str__(self) -> str:
        return f"{self.name or 'one without a name'} at {self.address or 'an unknown address'}"


def verifiers(
    sightings: Iterable[Sighting], key_sets: Mapping[str, KeySet], next_kid: str | None
) -> list[Verifier]:
    """Return the verifiers, those that would refuse the next key first, and of each kind the longest silent first."""

    def key(each: Sighting) -> tuple[str, str]:
        return each.name, each.address

    groups = (list(group) for _, group in groupby(sorted(sightings, key=key), key))
    found = [_verifier(group, key_sets, next_kid) for group in groups]
    return sorted(found, key=lambda each: (WORST_FIRST.index(each.knows_next or Knows.YES), each.last_seen))


def _verifier(instances: list[Sighting], key_sets: Mapping[str, KeySet], next_kid: str | None) -> Verifier:
    last_seen = max(each.seen_at for each in instances)
    running = [each for each in instances if last_seen - each.seen_at <= ENDED_AFTER]
    known = [_knows(each, key_sets.get(each.etag), next_kid) for each in running]
    held = [key_sets.get(each.etag) for each in running]
    worst = min(range(len(running)), key=lambda place: WORST_FIRST.index(known[place]))
    return Verifier(
        name=running[0].name,
        address=running[0].address,
        instances=len(running),
        version=None if None in held else min(each.version for each in held if each),
        knows_next=known[worst] if next_kid else None,
        evidence=running[worst].evidence,
        last_seen=last_seen,
        listening=all(each.listening for each in running),
    )


def _knows(sighting: Sighting, held: KeySet | None, kid: str | None) -> Knows:
    if held is None:
        return Knows.UNKNOWN
    if kid not in held.kids:
        return Knows.NO
    # The verifier of this project, which says its instance, uses a set as soon as it is given it.
    is_unproven = sighting.evidence is Evidence.GIVEN and not sighting.instance
    return Knows.UNKNOWN if is_unproven else Knows.YES


@dataclass(frozen=True)
class Summary:
    """How many of the verifiers seen within `SEEN_WITHIN` know the next key, and which do not, or are silent."""

    counts: Mapping[Knows, int]
    lacking: tuple[Verifier, ...]
    silent: tuple[Verifier, ...]

    @classmethod
    def of(cls, found: Iterable[Verifier], now: datetime) -> "Summary":
        """Return the summary of `verifiers` at `now`."""
        found = list(found)
        silent = tuple(each for each in found if now - each.last_seen > SEEN_WITHIN)
        recent = [each for each in found if each not in silent]
        counts = {knows: sum(each.knows_next is knows for each in recent) for knows in Knows}
        return cls(counts, tuple(each for each in recent if each.knows_next is Knows.NO), silent)

    @property
    def seen(self) -> int:
        """How many were seen."""
        return sum(self.counts.values())

    def words(self, now: datetime, key: str = "the next key") -> str:
        """Return the summary in a sentence."""
        hours = f"{SEEN_WITHIN // timedelta(hours=1)} h"
        if not self.seen and not self.silent:
            return f"no verifier was seen in {hours}, so whether they know {key} is not known"
        yes, unknown = self.counts[Knows.YES], self.counts[Knows.UNKNOWN]
        one = self.seen == 1
        return "; ".join(
            [
                f"{yes} of {self.seen} verifier{'' if one else 's'} seen in {hours} know{'s' if one else ''} {key}",
                *([f"for {unknown} this cannot be told, as no ETag was sent"] if unknown else []),
                *_named(
                    self.lacking, lambda each: f"{each} does not, last asked {ago(now - each.last_seen)}"
                ),
                *_named(self.silent, lambda each: f"{each} last asked {ago(now - each.last_seen)}"),
            ]
        )


def _named(found: tuple[Verifier, ...], says: Callable[[Verifier], str]) -> list[str]:
    more = len(found) - NAMED_MOST
    return [*map(says, found[:NAMED_MOST]), *([f"and {more} more"] if more > 0 else [])]


def ago(span: timedelta) -> str:
    """Return how long ago something was, in one unit."""
    seconds = max(0, int(span.total_seconds()))
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"
