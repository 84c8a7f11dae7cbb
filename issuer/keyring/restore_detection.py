"""Whether a key ring comes after one that was seen before, and how the two become one again if it does not.

Who restores an older database brings back keys that were revoked since, and loses those made since. What was seen is
noted with the private keys, by `private_keys`; the way out is performed in `recovery`.
"""

from collections.abc import Collection
from dataclasses import replace

from issuer.clock import instant
from issuer.keyring.key import Key
from issuer.keyring.ring import KeyRing

WAY_OUT = "issuer keys recover --reason TEXT"


def comes_after(ring: KeyRing | None, noted: KeyRing) -> bool:
    """Whether `ring` can be `noted` or a later version of it.

    Versions only grow, a version never changes, and what is revoked stays revoked.
    """
    if ring is None or ring.version < noted.version:
        return False
    return _revoked(noted) <= _revoked(ring) and (ring.version > noted.version or _kids(ring) == _kids(noted))


def describe_conflict(ring: KeyRing | None, noted: KeyRing) -> str:
    """Return what is wrong with a ring that does not come after `noted`, for an operator."""
    seen = f"the note with the private keys has version {noted.version} of {instant(noted.changed_at)}"
    back = f"restore the key ring from the note with its private keys: {WAY_OUT}"
    if ring is None:
        return (
            f"there is no key ring in the database, and {seen}: restore the database, or correct"
            f" ISSUER_DATABASE_URL, or {back}; to start afresh, move the whole directory of keys away, or name"
            " an empty PKCS#11 token"
        )
    again = sorted(_revoked(noted) & _kids(ring) - _revoked(ring))
    lacking = sorted(_kids(noted) - _revoked(noted) - _kids(ring))
    told = [
        f"the database has the key ring at version {ring.version}, and {seen}",
        "an older backup was restored, or ISSUER_DATABASE_URL names another database",
        *([f"it would trust keys that were revoked since: {', '.join(again)}"] if again else []),
        *([f"it lacks keys made since: {', '.join(lacking)}"] if lacking else []),
        f"restore a newer backup, or {back}",
    ]
    return "; ".join(told)


def describe_missing_ring(private_keys: int) -> str:
    """Return why no ring is founded beside private keys of which nothing is noted."""
    return (
        f"there are {private_keys} private keys but no key ring in the database: restore the database or correct"
        " ISSUER_DATABASE_URL; to start afresh, move the keys away, or name an empty PKCS#11 token"
    )


def merged(ring: KeyRing | None, noted: KeyRing, here: Collection[str]) -> KeyRing:
    """Merge two divergent rings into a version that follows both.

    A key revoked in either is revoked, and the longer lifetimes win. A key that only `ring` holds is kept if it is
    revoked or its private key is `here`; otherwise it was retired since.
    """
    if ring is None:
        return replace(noted, version=noted.version + 1)
    others = {key.kid: key for key in ring.keys}
    known = _kids(noted)
    keys = [_worst(key, others.get(key.kid)) for key in noted.keys]
    keys += [key for key in ring.keys if key.kid not in known and (key.revoked_at or key.kid in here)]
    return KeyRing(
        version=max(ring.version, noted.version) + 1,
        changed_at=max(ring.changed_at, noted.changed_at),
        keys=tuple(keys),
        lead=max(ring.lead, noted.lead),
    )


def _worst(key: Key, other: Key | None) -> Key:
    """Return `key` revoked if the other is, and its tokens as long-lived as either says."""
    if other is None:
        return key
    revoked = key if key.revoked_at or not other.revoked_at else other
    return replace(
        key,
        token_lifetime=max(key.token_lifetime, other.token_lifetime),
        margin=max(key.margin, other.margin),
        lead=max(key.lead, other.lead),
        revoked_at=revoked.revoked_at,
        revoked_reason=revoked.revoked_reason,
        compromised=key.compromised or other.compromised,
    )


def _kids(ring: KeyRing) -> set[str]:
    return {key.kid for key in ring.keys}


def _revoked(ring: KeyRing) -> set[str]:
    return {key.kid for key in ring.keys if key.revoked_at}
