"""Digests by which random secrets are stored and looked up.

Passwords are hashed in `accounts.passwords`.
"""

import hashlib


def digest(secret: str) -> bytes:
    """Return the digest of a random secret; a fast hash is enough, because such a secret cannot be guessed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def named(*names: str) -> bytes:
    """Return a digest of `names`, which does not reveal them to a reader of the database."""
    parts = [name.encode("utf-8", "surrogatepass") for name in names]
    return hashlib.sha256(b"".join(len(part).to_bytes(4) + part for part in parts)).digest()


def refresh_token_digest(token: str) -> bytes:
    """Return the digest by which a refresh token is looked up; a fast hash, as for every random secret."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
