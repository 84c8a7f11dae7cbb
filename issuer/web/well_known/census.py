"""What the census remembers of a request for the JWKS; the rules of the census are in `keyring.census`."""

from datetime import datetime

from fastapi import Request

from issuer.keyring.census import Census, Evidence, KeySet, Sighting, identify
from issuer.keyring.view import View
from issuer.web.deps import LABEL_MOST_CHARACTERS
from issuer.web.http.etags import known_tags


def remember_verifier(request: Request, view: View, etag: str, now: datetime, *, listening: bool) -> None:
    """Remember who asked, and that the answer is the published set of `view`, which has that ETag."""
    census: Census = request.app.state.issuer.keys.census
    sent = known_tags(request)
    if not census.is_on or ("*" in sent and etag not in sent):  # which set it holds is not known
        return
    evidence = Evidence.PRESENTED if etag in sent else Evidence.UPDATED if sent else Evidence.GIVEN
    name, instance = identify(request.headers.get("user-agent", "")[:LABEL_MOST_CHARACTERS])
    address = request.client.host if request.client else ""
    kids = tuple(key.kid for key in view.published_keys)
    census.remember(
        Sighting(name, address, instance, etag, evidence, now, listening),
        KeySet(etag, view.ring.version, kids, now),
    )
