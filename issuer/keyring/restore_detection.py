"""Whether a key ring is older than one that was seen before, and how two diverged rings are merged.

Restoring an older database brings back keys that were revoked since, and loses keys made since. What was seen is the
checkpoint, which `checkpoint` writes beside the private keys; `recovery` performs the merge.
"""

from collections.abc import Collection
from dataclasses import replace

from issuer.clock import instant
from issuer.keyring.key import Key
from issuer.keyring.ring import KeyRing

RECOVER_COMMAND = "issuer keys recover --reason TEXT"


def comes_after(ring: KeyRing | None, seen: KeyRing) -> bool:
    """Whether `ring` can be `seen` or a later version of it.

    Versions only grow, a version never changes, and what is revoked stays revoked.
    """
    if ring is None or ring.version < seen.version:
        return False
    return _revoked(seen) <= _revoked(ring) and (ring.version > seen.version or _kids(ring) == _kids(seen))


def describe_conflict(ring: KeyRing | None, seen: KeyRing) -> str:
    """Return how a ring that does not come after `seen` differs from it, and what to do."""
    checkpoint = (
        f"the checkpoint with the private keys has version {seen.version} of {instant(seen.changed_at)}"
    )
    recover = f"restore the key ring from the checkpoint with its private keys: {RECOVER_COMMAND}"
    if ring is None:
        return (
            f"there is no key ring in the database, and {checkpoint}: restore the database, or correct"
            f" ISSUER_DATABASE_URL, or {recover}; to start afresh, move the whole directory of keys away, or name"
            " an empty PKCS#11 token"
        )
    trusted_again = sorted(_revoked(seen) & _kids(ring) - _revoked(ring))
    lost = sorted(_kids(seen) - _revoked(seen) - _kids(ring))
    parts = [
        f"the database has the key ring at version {ring.version}, and {checkpoint}",
        "an older backup was restored, or ISSUER_DATABASE_URL names another database",
        *(
            [f"it would trust keys that were revoked since: {', '.join(trusted_again)}"]
            if trusted_again
            else []
        ),
        *([f"it lacks keys made since: {', '.join(lost)}"] if lost else []),
        f"restore a newer backup, or {recover}",
    ]
    return "; ".join(parts)


def describe_missing_ring(private_keys: int) -> str:
    """Return why no ring is created where there are private keys without a checkpoint."""
    return (
        f"there are {private_keys} private keys but no key ring in the database: restore the database or correct"
        " ISSUER_DATABASE_URL; to start afresh, move the keys away, or name an empty PKCS#11 token"
    )


def merged(ring: KeyRing | None, seen: KeyRing, private_keys: Collection[str]) -> KeyRing:
    """Merge two diverged rings into a version that follows both.

    A key revoked in either is revoked, and the longer lifetimes win. A key that only `ring` holds is kept if it is
    revoked or among the `private_keys`; otherwise it was retired since.
    """
    if ring is None:
        return replace(seen, version=seen.version + 1)
    others = {key.kid: key for key in ring.keys}
    known = _kids(seen)
    keys = [_merged_key(key, others.get(key.kid)) for key in seen.keys]
    keys += [key for key in ring.keys if key.kid not in known and (key.revoked_at or key.kid in private_keys)]
    return KeyRing(
        version=max(ring.version, seen.version) + 1,
        changed_at=max(ring.changed_at, seen.changed_at),
        keys=tuple(keys),
        lead=max(ring.lead, seen.lead),
    )


def _merged_key(key: Key, other: Key | None) -> Key:
    """Return `key`, revoked if the other is, with the longer durations of both."""
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
