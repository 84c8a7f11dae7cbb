"""Verifies access tokens (RFC 9068) of one issuer with its published keys, without blocking the event loop.

    verifier = TokenVerifier(JwksCache("https://issuer.example"), audience="https://api.example")
    async with verifier:  # for as long as the service runs
        token = await verifier.verify(bearer_token)  # or InvalidToken: a 401; KeysUnavailable: a 503

Dependencies for FastAPI are in `fastapi`, tokens for tests in `testing`; neither is imported here. The folder also
works as a copy, under any name: it needs `PyJWT[crypto]` and `httpx2`.
"""

from .cache import JwksCache
from .claims import AccessToken
from .errors import InvalidToken, KeysUnavailable, Reason
from .events import Event, State
from .timings import Timings
from .verifier import TokenVerifier

__all__ = [
    "AccessToken",
    "Event",
    "InvalidToken",
    "JwksCache",
    "KeysUnavailable",
    "Reason",
    "State",
    "Timings",
    "TokenVerifier",
]
