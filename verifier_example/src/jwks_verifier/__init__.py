"""Verifies access tokens (RFC 9068) with the published keys of their issuer, without blocking the event loop.

    verifier = TokenVerifier(JwksCache("https://issuer.example"), audience="https://api.example")
    async with verifier:  # for as long as the service runs
        token = await verifier.verify(bearer_token)  # or InvalidToken: a 401; KeysUnavailable: a 503

`SyncTokenVerifier` does the same in services without an event loop, such as those of Flask and Django.

Dependencies for FastAPI are in `fastapi`, tokens for tests in `testing`; neither is imported here. The folder also
works as a copy, under any name: it needs `PyJWT[crypto]` and `httpx2`.
"""

from .cache import JwksCache
from .claims import AccessToken, Claims
from .errors import InvalidToken, KeysUnavailable, Reason
from .events import Event, State
from .sync import SyncTokenVerifier
from .timings import Timings
from .verifier import TokenVerifier

__all__ = [
    "AccessToken",
    "Claims",
    "Event",
    "InvalidToken",
    "JwksCache",
    "KeysUnavailable",
    "Reason",
    "State",
    "SyncTokenVerifier",
    "Timings",
    "TokenVerifier",
]
