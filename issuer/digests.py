"""Digests under which secrets are stored and looked up; passwords are hashed in `accounts.passwords`."""

import hashlib


def digest(secret: str) -> bytes:
    """Return the digest of a random secret or token, for storage: a plain fast hash, as it cannot be guessed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def named(*names: str) -> bytes:
    """Return a digest of `names`, so that the database does not hold the names themselves."""
    parts = [name.encode("utf-8", "surrogatepass") for name in names]
    return hashlib.sha256(b"".join(len(part).to_bytes(4) + part for part in parts)).digest()
