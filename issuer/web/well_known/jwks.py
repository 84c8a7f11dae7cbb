"""`GET /.well-known/jwks.json`: the public keys, RFC 7517, rendered once for each set of keys."""

import json
from collections.abc import Iterable

from fastapi import APIRouter, Request, Response

from issuer.errors import StaleView
from issuer.keyring.key import Key
from issuer.oauth import Unavailable
from issuer.web.deps import get_issuer
from issuer.web.http.errors import answered, documented
from issuer.web.http.etags import etag_of, is_known
from issuer.web.instruments import Instruments
from issuer.web.well_known.census import remember_verifier

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
    """Return the public keys that verify this issuer's tokens, including the keys that will sign next."""
    issuer = await get_issuer(request)
    now = issuer.clock()
    view = issuer.keys.node.view
    instruments = Instruments.of(request)
    try:
        max_age = view.max_age(issuer.policy, now)
    except StaleView:
        instruments.jwks_requested("503", view.ring.version)
        raise
    body, etag = request.app.state.key_set.of(view.published_keys)
    headers = {
        "ETag": etag,
        "Cache-Control": f"public, max-age={int(max_age.total_seconds())}",
    }
    remember_verifier(request, view, etag, now, listening=False)
    if is_known(request, etag):
        instruments.jwks_requested("304", view.ring.version)
        return Response(status_code=304, headers=headers)
    instruments.jwks_requested("200", view.ring.version)
    return Response(body, media_type="application/json", headers=headers)


FAST_PATHS = {("GET", PATH): jwks}
