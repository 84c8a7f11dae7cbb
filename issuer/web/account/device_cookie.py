"""The cookie that names a device, so that wrong passwords tried elsewhere do not hold its owner up.

What the name allows is decided in `throttling.guard`.
"""

import re
import secrets
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Request, Response

from issuer.throttling.limits import DEVICE_MEMORY
from issuer.throttling.origin import Origin
from issuer.web.deps import IssuerDep, OriginDep
from issuer.web.http.prefix import path_of

_NAME = re.compile(r"[A-Za-z0-9_-]{43}")  # 256 random bits, base64url


async def get_device(request: Request, issuer: IssuerDep, origin: OriginDep, response: Response) -> Origin:
    """Return where a request came from with the name of its device, which a new one gets with the answer."""
    secure, path = issuer.settings.url.startswith("https:"), path_of(issuer.settings.url)
    # __Host- is for the whole of a host, which another issuer may share: RFC 6265bis section 4.1.3.
    cookie = f"{('__Secure-' if path else '__Host-') if secure else ''}issuer_device"
    brought = _values(request, cookie)
    device = brought[0] if len(brought) == 1 and _NAME.fullmatch(brought[0]) else ""
    given = "" if device else secrets.token_urlsafe(32)
    response.set_cookie(
        cookie,
        device or given,
        path=path or "/",
        max_age=int(DEVICE_MEMORY.total_seconds()),
        secure=secure,
        httponly=True,
        samesite="lax",
    )
    return replace(origin, device=device, given_device=given)


def _values(request: Request, cookie: str) -> list[str]:
    """Return each value that the request has for a cookie; of two, another host may have set one."""
    pairs = [
        pair.strip().partition("=")
        for header in request.headers.getlist("cookie")
        for pair in header.split(";")
    ]
    return [value.strip() for name, _, value in pairs if name.strip() == cookie]


DeviceDep = Annotated[Origin, Depends(get_device)]
