"""The census: which verifiers asked a process for the key set, within bounds.

Names are what verifiers say of themselves; nothing is decided by them. The table is left to `census_store`, which
verifiers know the next key to `verifiers`.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from functools import lru_cache
from itertools import islice
from threading import Lock
from typing import Final

from issuer.throttling.limits import subnet

MOST: Final = 10_000
"""Verifiers that a process, and the table, remembers."""
ADDRESS_MOST: Final = 20
"""Names and instances of one address that a process remembers; an IPv6 subnet counts as one address."""
FLUSH_MOST: Final = 1000
NAME_MOST_CHARACTERS: Final = 80
KEPT: Final = timedelta(hours=48)
"""How long verifiers and key sets are remembered after the last request."""

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_AGENT = re.compile(rf"({_WORD}(?:/{_WORD})?)(?:[ \t]+\(([^()]*)\))?")
"""The first product and its comment, RFC 9110 section 10.1.5."""
_OWN = re.compile(r"jwks-verifier/[^/]+")
_OWN_COMMENT = re.compile(r"(?:([\w.-]{1,64}); )?([0-9a-f]{8})", re.ASCII)
"""The name and the instance in the comment of the verifier of this project."""


class Evidence(StrEnum):
    """How it is known which key set a verifier holds."""

    PRESENTED = "presented"
    """It sent the ETag of the set."""
    UPDATED = "updated"
    """It sent another ETag, and was given the set."""
    GIVEN = "given"
    """It sent no ETag, and was given the set: it may not use it at once."""


@dataclass(frozen=True)
class Sighting:
    """The latest request of one instance of a verifier."""

    name: str
    address: str
    instance: str
    """Empty: it does not say which."""
    etag: str
    """Of the key set that it holds."""
    evidence: Evidence
    seen_at: datetime
    listening: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells instances apart."""
        return self.name, self.address, self.instance


@dataclass(frozen=True)
class KeySet:
    """A key set that was served: its ETag, its kids, the version of the ring, and when it was last served."""

    etag: str
    version: int
    kids: tuple[str, ...]
    served_at: datetime


class _Rank(IntEnum):
    """In which order entries are evicted."""

    ONCE = 0
    RETURNING = 1
    LISTENING = 2


_Key = tuple[str, str, str]
Save = Callable[[list[Sighting], list[KeySet]], None]


class Census:
    """What one process remembers; any thread may call it.

    If there are too many entries, those that asked once go first, then those that returned, listeners last; of each
    kind the one that was seen longest ago. An address never evicts entries of others before it has `ADDRESS_MOST`.
    """

    def __init__(
        self, save: Save, *, is_on: bool = True, most: int = MOST, address_most: int = ADDRESS_MOST
    ) -> None:
        self.is_on = is_on
        self._save = save
        self._most, self._address_most = most, address_most
        self._ranks = {rank: OrderedDict[_Key, Sighting]() for rank in _Rank}
        self._of_address: dict[str, dict[_Key, _Rank]] = {}
        self._unsaved: set[_Key] = set()
        self._key_sets: dict[str, KeySet] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return sum(map(len, self._ranks.values()))

    def __contains__(self, key: object) -> bool:
        return any(key in entries for entries in self._ranks.values())

    def remember(self, sighting: Sighting, key_set: KeySet) -> None:
        """Remember that a verifier asked, and the key set that it was answered from."""
        if not self.is_on:
            return
        key = sighting.key
        with self._lock:
            self._key_sets[key_set.etag] = key_set
            own = self._of_address.setdefault(_subnet(sighting.address), {})
            before = own.get(key)
            if before is not None:
                del self._ranks[before][key]
            rank = _rank(sighting, is_new=before is None)
            own[key] = rank
            self._ranks[rank][key] = sighting
            self._unsaved.add(key)
            if len(own) > self._address_most:
                self._evict(min((each for each in own if each != key), key=self._order(own)))
            elif len(self) > self._most:
                self._evict(next(next(iter(entries)) for entries in self._ranks.values() if entries))

    def flush(self, now: datetime) -> None:
        """Save what is new, at most `FLUSH_MOST` verifiers, listeners first; raise what saving raises.

        What could not be saved is saved by the next call.
        """
        with self._lock:
            self._forget(now - KEPT)
            entries = (each for rank in reversed(_Rank) for each in self._ranks[rank].items())
            batch = list(islice((each for each in entries if each[0] in self._unsaved), FLUSH_MOST))
            self._unsaved.difference_update(key for key, _ in batch)
            key_sets, self._key_sets = self._key_sets, {}
        if not batch:
            return
        try:
            self._save([sighting for _, sighting in batch], list(key_sets.values()))
        except Exception:
            with self._lock:
                self._unsaved.update(key for key, _ in batch if key in self)
                self._key_sets = {**key_sets, **self._key_sets}
            raise

    def _order(self, own: Mapping[_Key, _Rank]) -> Callable[[_Key], tuple[_Rank, datetime]]:
        return lambda key: (own[key], self._ranks[own[key]][key].seen_at)

    def _forget(self, before: datetime) -> None:
        for entries in self._ranks.values():
            while entries and next(iter(entries.values())).seen_at < before:
                self._evict(next(iter(entries)))

    def _evict(self, key: _Key) -> None:
        own = self._of_address[_subnet(key[1])]
        del self._ranks[own.pop(key)][key]
        self._unsaved.discard(key)
        if not own:
            del self._of_address[_subnet(key[1])]


def _rank(sighting: Sighting, *, is_new: bool) -> _Rank:
    if sighting.listening:
        return _Rank.LISTENING
    return _Rank.ONCE if is_new else _Rank.RETURNING


_subnet = lru_cache(4096)(subnet)


@lru_cache(4096)
def identify(user_agent: str) -> tuple[str, str]:
    """Return the name and the instance that a verifier says of itself; both may be empty.

    The name is the first product of `User-Agent` with its comment, without control characters, and cut. The verifier
    of this project says `jwks-verifier/VERSION (NAME; INSTANCE)`, and is called by that name.
    """
    text = "".join(filter(str.isprintable, user_agent)).strip()
    found = _AGENT.match(text)
    if not found:
        return text[:NAME_MOST_CHARACTERS], ""
    product, comment = found[1], found[2] or ""
    own = _OWN_COMMENT.fullmatch(comment) if _OWN.fullmatch(product) else None
    if own:
        return own[1] or product[:NAME_MOST_CHARACTERS], own[2]
    return (f"{product} ({comment})" if comment else product)[:NAME_MOST_CHARACTERS], ""
