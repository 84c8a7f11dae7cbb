"""The cookie that names a device, so that wrong passwords tried elsewhere do not hold its owner up.

What the name is good for is decided in `grants.guard`.
"""

import re
import secrets
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Request, Response

from issuer.grants.means import Origin
from issuer.throttle import DEVICE_MEMORY
from issuer.web.deps import IssuerDep, OriginDep

_NAME = re.compile(r"[A-Za-z0-9_-]{43}")  # 256 random bits, base64url


async def get_device(request: Request, issuer: IssuerDep, origin: OriginDep, response: Response) -> Origin:
    """Return where a request came from with the name of its device, which a new one gets with the answer."""
    secure = issuer.settings.url.startswith("https:")
    cookie = "__Host-issuer_device" if secure else "issuer_device"
    brought = request.cookies.get(cookie, "")
    device = brought if _NAME.fullmatch(brought) else ""
    given = "" if device else secrets.token_urlsafe(32)
    response.set_cookie(
        cookie,
        device or given,
        max_age=int(DEVICE_MEMORY.total_seconds()),
        secure=secure,
        httponly=True,
        samesite="lax",
    )
    return replace(origin, device=device, given_device=given)


DeviceDep = Annotated[Origin, Depends(get_device)]
