"""`issuer keys verifiers`, and what `keys plan` and `keys rotate` say of verifiers: it informs, and decides nothing.

What is remembered of verifiers is defined in `keyring.census`, which of them know a key in `keyring.verifiers`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from issuer.cli.output import Access, Json, opened, show
from issuer.cli.tables import Row
from issuer.clock import instant
from issuer.database.errors import DatabaseDamaged
from issuer.keyring.ring import KeyRing
from issuer.keyring.verifiers import Summary, Verifier, ago, verifiers
from issuer.services import Issuer

OFF = "the census is off (ISSUER_CENSUS=off): verifiers are not remembered"
EMPTY = (
    "no verifier has asked for the key set in 48 hours, as far as this database knows: none runs, no issuer serves,"
    " or a CDN or proxy in front answers from its cache and hides who is behind it"
)


@dataclass(frozen=True)
class Census:
    """The verifiers, and whether they know the next key; empty where the census is off."""

    verifiers: Sequence[Verifier]
    summary: Summary
    next_kid: str | None
    now: datetime
    is_on: bool
    damaged: Sequence[DatabaseDamaged] = ()

    @classmethod
    def of(cls, issuer: Issuer, ring: KeyRing) -> "Census":
        """Return what is known at this instant; the next key is the standby of `ring` that signs first."""
        now, is_on = issuer.clock(), issuer.settings.census == "on"
        next_kid = next((key.kid for key in ring.standbys(max(now, ring.changed_at))), None)
        sightings, key_sets, damaged = issuer.keys.census_store.load(now) if is_on else ([], {}, [])
        found = verifiers(sightings, key_sets, next_kid)
        return cls(found, Summary.of(found, now), next_kid, now, is_on, damaged)

    def words(self, key: str = "the next key") -> str:
        """Return who knows the key that signs next, in a sentence; empty if there is nothing to say."""
        return self.summary.words(self.now, key) if self.is_on and self.next_kid else ""

    def document(self) -> Mapping[str, object]:
        """Return the numbers for scripts."""
        counts = {knows.value: number for knows, number in self.summary.counts.items()}
        return {
            "next_kid": self.next_kid,
            "seen": self.summary.seen,
            "knows_next": counts if self.next_kid else None,
            "lacking": list(map(str, self.summary.lacking)),
            "silent": list(map(str, self.summary.silent)),
        }


def show_verifiers(*, as_json: Json = False) -> None:
    """Show each verifier that asked for the key set in the last 48 hours, and whether it knows the next key.

    Names are what verifiers say of themselves. Those that would refuse the next key come first.
    """
    with opened(Access.READ) as issuer:
        ring = issuer.keys.rotation.ring()
        census = Census.of(issuer, ring)
        message = census.words() if census.verifiers else EMPTY if census.is_on else OFF
        show(
            {
                "version": ring.version,
                **census.document(),
                "verifiers": list(map(_described, census.verifiers)),
                "message": message,
            },
            as_json=as_json,
            rows=[_brief(each, census.now) for each in census.verifiers],
            message=message,
            wrap=True,
            damaged=census.damaged,
        )


def _described(verifier: Verifier) -> Mapping[str, object]:
    knows = verifier.knows_next
    return {
        "name": verifier.name,
        "address": verifier.address,
        "instances": verifier.instances,
        "version": verifier.version,
        "knows_next": knows.value if knows else None,
        "evidence": verifier.evidence.value,
        "last_seen": instant(verifier.last_seen),
        "listening": verifier.listening,
    }


def _brief(verifier: Verifier, now: datetime) -> Row:
    """Return the columns, with headings that leave room for names and addresses in 80 columns."""
    knows = verifier.knows_next
    return {
        "says": verifier.name or "nothing",
        "address": verifier.address,
        "at least": verifier.instances,
        "version": "unknown" if verifier.version is None else verifier.version,
        "next key": knows.value if knows else None,
        "asked": ago(now - verifier.last_seen),
        "listens": "yes" if verifier.listening else "no",
    }
