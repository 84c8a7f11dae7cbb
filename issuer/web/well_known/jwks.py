"""`GET /.well-known/jwks.json`: the public keys, RFC 7517, rendered once for each set of keys.

A client that has the set may wait for the next one; who waits, and for how long, is left to `listening`.
"""

import json
import time
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from fastapi import APIRouter, Request, Response

from issuer.errors import StaleView
from issuer.keyring.key import Key
from issuer.keyring.view import View
from issuer.oauth import Unavailable
from issuer.services import Issuer
from issuer.web.deps import get_issuer
from issuer.web.http.errors import answered, documented, respond_to
from issuer.web.http.etags import etag_of, is_known, is_named
from issuer.web.http.methods import is_head
from issuer.web.instruments import Instruments
from issuer.web.well_known.census import remember_verifier
from issuer.web.well_known.listening import Listeners, requested_wait

router = APIRouter(tags=["verification"])

PATH = "/.well-known/jwks.json"


class RenderedKeySet:
    """The body and the ETag of the latest key set, rendered again only when its keys change."""

    def __init__(self) -> None:
        self._rendered: tuple[tuple[str, ...], bytes, str] = ((), b"", "")

    def of(self, keys: Iterable[Key]) -> tuple[bytes, str]:
        """Return the body and the strong ETag (RFC 9110 section 8.8.3) for `keys`."""
        keys = tuple(keys)
        kids = tuple(key.kid for key in keys)
        if self._rendered[0] != kids:
            body = json.dumps({"keys": [dict(key.jwk) for key in keys]}, separators=(",", ":")).encode()
            self._rendered = (kids, body, etag_of(body))
        return self._rendered[1:]


class Published(NamedTuple):
    """The key set as this process may serve it now."""

    body: bytes
    etag: str
    max_age: int
    view: View

    @classmethod
    def by(cls, issuer: Issuer, rendered: RenderedKeySet) -> "Published":
        """Return the set of the process's view; raise StaleView when it must not be served any more."""
        view = issuer.keys.node.view
        max_age = view.max_age(issuer.policy, issuer.clock())
        return cls(*rendered.of(view.published_keys), int(max_age.total_seconds()), view)


def served_etag(issuer: Issuer, rendered: RenderedKeySet) -> str | None:
    """Return the ETag of the set that is served now, or None if none may be."""
    try:
        return Published.by(issuer, rendered).etag
    except StaleView:
        return None


@router.get(
    PATH,
    name="jwks_uri",
    summary="Get the public keys",
    responses={
        **answered(
            {"keys": [{"kty": "RSA", "n": "…", "e": "AQAB", "use": "sig", "alg": "RS256", "kid": "…"}]}
        ),
        304: {"description": "The key set has the ETag in If-None-Match."},
        **documented(Unavailable),
    },
    response_class=Response,
)
async def jwks(request: Request) -> Response:
    """Return the public keys that verify this issuer's tokens, including the keys that will sign next.

    With `Prefer: wait=25` and the ETag of the set in If-None-Match the answer comes when the set has changed, and
    after 25 seconds at the latest (RFC 7240).
    """
    issuer = await get_issuer(request)
    rendered: RenderedKeySet = request.app.state.key_set
    instruments = Instruments.of(request)
    try:
        published = Published.by(issuer, rendered)
        is_unchanged, granted = is_known(request, published.etag), 0
        if is_unchanged and "prefer" in request.headers:
            granted = await _wait_for_another(published, request, issuer.clock())
            published = Published.by(issuer, rendered)
            is_unchanged = is_known(request, published.etag)
    except StaleView as error:
        instruments.jwks_requested("503", issuer.keys.node.view.ring.version)
        response = await respond_to(request, error)
        response.headers["Vary"] = "Prefer"
        return response
    headers = {
        "ETag": published.etag,
        "Cache-Control": f"public, max-age={published.max_age}",
        "Vary": "Prefer",
    }
    if granted:
        headers["Preference-Applied"] = f"wait={granted}"
    # Also one that this process answered early, as it stops.
    listens = hasattr(request.state, "waited_seconds")
    remember_verifier(request, published.view, published.etag, issuer.clock(), listening=listens)
    if is_unchanged:
        instruments.jwks_requested("304", published.view.ring.version)
        return Response(status_code=304, headers=headers)
    instruments.jwks_requested("200", published.view.ring.version)
    return Response(published.body, media_type="application/json", headers=headers)


async def _wait_for_another(published: Published, request: Request, now: datetime) -> int:
    """Wait for another set than `published` if the client has that one and asks for it.

    Return the granted seconds, or 0 if it did not wait, or not as long as was granted.
    """
    seconds = requested_wait(request)
    if not seconds or is_head(request.scope) or not is_named(request, published.etag):
        return 0
    remember_verifier(request, published.view, published.etag, now, listening=True)
    listeners: Listeners = request.app.state.listeners
    began = time.perf_counter()
    is_granted = await listeners.wait(seconds, request.receive)
    # For the access log, which has the duration of the work.
    request.state.waited_seconds = time.perf_counter() - began
    return seconds if is_granted else 0


FAST_PATHS = {("GET", PATH): jwks}
