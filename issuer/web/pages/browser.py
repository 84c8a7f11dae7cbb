"""The browser that sends a request: its device cookie, its session cookie, and who is signed in with it.

Sessions are stored in `sessions`. Forms are protected by `form_tokens`.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated

import anyio.to_thread
from fastapi import Depends, Request, Response

from issuer.accounts.user import User
from issuer.sessions.session import BrowserSession
from issuer.throttling.origin import Origin
from issuer.web.account.device_cookie import DeviceDep, cookie_values
from issuer.web.deps import AccountsDep, ClockDep, SessionsDep, UrlDep
from issuer.web.http.prefix import path_of


@dataclass(frozen=True)
class Browser:
    """The browser of a request."""

    origin: Origin
    session: BrowserSession | None = None
    user: User | None = None
    """The user who is signed in: always with a session, and not disabled."""
    secret: str = field(default="", repr=False)
    """The value of the session cookie."""

    @property
    def device(self) -> str:
        """The device cookie that the browser sends, or will have after this response."""
        return self.origin.device or self.origin.given_device


def cookie_name(url: str) -> str:
    """Return the name of the session cookie of the issuer with this URL.

    `__Host-` demands the path `/`, so that issuers below several paths of a host get the cookies of all: a digest of
    the path in the name tells them apart, RFC 6265bis section 4.1.3.2.
    """
    path = path_of(url)
    name = f"issuer-session-{hashlib.sha256(path.encode()).hexdigest()[:8]}" if path else "issuer-session"
    return f"__Host-{name}" if url.startswith("https:") else name


async def get_browser(
    request: Request,
    sessions: SessionsDep,
    accounts: AccountsDep,
    clock: ClockDep,
    url: UrlDep,
    origin: DeviceDep,
    response: Response,
) -> Browser:
    """Return the browser of a request, and store that its session is in use.

    The response has to set its device cookie: `rendering.with_cookies`.
    """
    request.state.cookies = response.headers.getlist("set-cookie")
    values = cookie_values(request, cookie_name(url))
    if len(values) != 1 or not values[0]:
        return Browser(origin)

    def find() -> Browser:
        now = clock()
        session = sessions.store.find(values[0], now)
        user = accounts.store.by_id(session.user_id) if session else None
        if session is None or user is None or user.disabled_at is not None:
            return Browser(origin)
        sessions.store.touch(session, now)
        return Browser(origin, session, user, values[0])

    return await anyio.to_thread.run_sync(find)


BrowserDep = Annotated[Browser, Depends(get_browser)]


def set_session_cookie(
    response: Response, url: str, secret: str, remembered: timedelta = timedelta(0)
) -> None:
    """Set the session cookie on a response; it ends with the browser, or after the time that it is `remembered`."""
    secure, seconds = url.startswith("https:"), int(remembered.total_seconds()) if remembered else None
    response.set_cookie(
        cookie_name(url), secret, path="/", max_age=seconds, secure=secure, httponly=True, samesite="lax"
    )


def delete_session_cookie(response: Response, url: str) -> None:
    """Delete the session cookie."""
    secure = url.startswith("https:")
    response.delete_cookie(cookie_name(url), path="/", secure=secure, httponly=True, samesite="lax")
