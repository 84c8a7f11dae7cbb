"""Digests under which secrets are stored and looked up; passwords are hashed in `accounts.passwords`."""

import hashlib


def digest(secret: str) -> bytes:
    """Return what is stored of a random secret: a plain fast hash, as there is nothing to guess."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def named(*names: str) -> bytes:
    """Return a digest that stands for `names` without telling them to who reads the database."""
    parts = [name.encode("utf-8", "surrogatepass") for name in names]
    return hashlib.sha256(b"".join(len(part).to_bytes(4) + part for part in parts)).digest()


def refresh_token_digest(token: str) -> bytes:
    """Return what a refresh token is looked up by: a plain fast hash, as there is nothing to guess."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
