"""PKCE, RFC 7636, by the method S256 only: the other, plain, would show the verifier to whoever reads the request.

That a client which has used it must go on using it is stored by `clients.store`.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode

from issuer.oauth import InvalidRequest

METHOD = "S256"
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


def requested_challenge(challenge: str | None, method: str | None, *, is_required: bool) -> str | None:
    """Return the challenge of a request, section 4.3; None if there is none and none is required.

    Raise InvalidRequest.
    """
    if challenge is None:
        if method is not None:
            raise InvalidRequest("code_challenge is missing, but code_challenge_method is not")
        if is_required:
            raise InvalidRequest("code_challenge is missing: this client must use PKCE (RFC 7636)")
        return None
    if method != METHOD:
        raise InvalidRequest("code_challenge_method must be S256")
    if not _CHALLENGE.fullmatch(challenge):
        raise InvalidRequest("code_challenge must be a SHA-256 digest in base64url: 43 characters")
    return challenge


def is_verified(challenge: str | None, verifier: str | None) -> bool:
    """Return whether `verifier` belongs to `challenge`, section 4.6; one without the other does not.

    A verifier without a challenge is the sign of an attack that removed the challenge, RFC 9700 section 4.8.2.
    """
    if challenge is None or verifier is None:
        return challenge is None and verifier is None
    if not _VERIFIER.fullmatch(verifier):
        return False
    computed = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    return hmac.compare_digest(computed, challenge.encode())
