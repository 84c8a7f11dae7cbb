"""The text of refresh tokens: how they are made, how each follows from the one before, and which family they name.

A refresh token is 64 bytes in base64url: a secret of its own (32), a proof that all tokens of its family carry (16),
and the id of the family (16). What presenting one leads to is decided in `refresh`.
"""

import base64
import hashlib
import hmac
import secrets
import uuid

_PROOF_BYTES = 16
_TOKEN_CHARACTERS = 86


def new_refresh_token(family_id: str) -> str:
    """Return the first refresh token of a family, with a proof of 128 and a secret of 256 random bits."""
    return _composed(family_id, secrets.token_bytes(_PROOF_BYTES), secrets.token_bytes(32))


def family_and_proof(token: str) -> tuple[str, bytes] | None:
    """Return the id of the family that `token` claims to belong to, and the digest of its proof; None without one.

    Only a holder of a token of that family knows the proof: access tokens carry the id, but not the proof.
    """
    decoded = _decoded(token)
    if decoded is None:
        return None
    family, proof = decoded
    return str(family), hashlib.sha256(proof).digest()


def successor(token: str, seed: bytes, family_id: str) -> str:
    """Return the token after `token`: a MAC keyed with the token itself, so that only its holder can compute it.

    A lost response can thus be repeated, and the database holds no token.
    """
    return _composed(family_id, proof_of(token), _mac(token, seed))


def proof_of(token: str) -> bytes:
    """Return the proof in a token of this issuer; raise ValueError for any other text."""
    decoded = _decoded(token)
    if decoded is None:
        raise ValueError("not in the form of a refresh token")
    return decoded[1]


def _mac(token: str, message: bytes) -> bytes:
    return hmac.digest(token.encode("utf-8", "surrogatepass"), message, "sha256")


def _composed(family_id: str, proof: bytes, secret: bytes) -> str:
    return base64.urlsafe_b64encode(secret + proof + uuid.UUID(family_id).bytes).rstrip(b"=").decode()


def _decoded(token: str) -> tuple[uuid.UUID, bytes] | None:
    """Return family and proof of a token that is exactly in the form that `_composed` writes, else None."""
    if len(token) != _TOKEN_CHARACTERS:
        return None
    try:
        raw = base64.b64decode(token + "==", altchars=b"-_", validate=True)
    except ValueError:
        return None
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != token:
        return None
    return uuid.UUID(bytes=raw[48:]), raw[32:48]
