"""The device cookie: a device that has logged in before is not throttled because of failures elsewhere.

The limits of known devices are defined in `throttling.guard`.
"""

import re
import secrets
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Request, Response

from issuer.throttling.limits import DEVICE_MEMORY
from issuer.throttling.origin import Origin
from issuer.web.deps import OriginDep, UrlDep
from issuer.web.http.prefix import path_of

_DEVICE_ID = re.compile(r"[A-Za-z0-9_-]{43}")  # 256 random bits, base64url


async def get_device(request: Request, url: UrlDep, origin: OriginDep, response: Response) -> Origin:
    """Return the origin of a request with its device id; a new device is sent an id with the response."""
    secure, path = url.startswith("https:"), path_of(url)
    # __Host- requires the path /, but issuers below other paths may share the host: RFC 6265bis section 4.1.3.
    cookie = f"{('__Secure-' if path else '__Host-') if secure else ''}issuer_device"
    values = cookie_values(request, cookie)
    device = values[0] if len(values) == 1 and _DEVICE_ID.fullmatch(values[0]) else ""
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


def cookie_values(request: Request, cookie: str) -> list[str]:
    """Return all values of a cookie; if there are two, another host of the domain may have set one."""
    pairs = [
        pair.strip().partition("=")
        for header in request.headers.getlist("cookie")
        for pair in header.split(";")
    ]
    return [value.strip() for name, _, value in pairs if name.strip() == cookie]


DeviceDep = Annotated[Origin, Depends(get_device)]
