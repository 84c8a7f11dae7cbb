"""Security headers for browsers: no sniffing of content types, no frames, no scripts of other origins.

A page with scripts of its own sets its Content-Security-Policy by `page_policy`; see `pages.api_docs`.
"""

import re
from base64 import b64encode
from hashlib import sha256

from starlette.types import ASGIApp, Message, Receive, Scope, Send

EVERYWHERE = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
"""Unless the response sets them itself: of two referrer policies browsers apply the last."""
PAGES = [
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]
"""For HTML, unless the response sets them itself."""
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


class SecurityHeaders:
    """ASGI middleware: adds the headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and add the headers that the response does not have."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _with_security(message.get("headers", ()))
            await send(message)

        await self._app(scope, receive, send_safe)


def _with_security(given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    is_page = any(name == b"content-type" and value.startswith(b"text/html") for name, value in given)
    names = {name for name, _ in given}
    defaults = [*EVERYWHERE, *(PAGES if is_page else ())]
    return [*given, *((name, value) for name, value in defaults if name not in names)]


def page_policy(page: str) -> str:
    """Return a Content-Security-Policy that allows this origin and, by digest, the inline scripts of a page."""
    scripts = " ".join(["'self'", *_digests(_SCRIPT, page)])
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'self'; img-src 'self' data:; font-src 'self';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def allowing_scripts(policy: str, page: str) -> str:
    """Return a Content-Security-Policy with the inline scripts of a page allowed by digest."""
    return f"{policy}; script-src {' '.join(_digests(_SCRIPT, page))}"


def _digests(inline: re.Pattern[str], page: str) -> list[str]:
    digests = (b64encode(sha256(text.encode()).digest()).decode() for text in inline.findall(page))
    return [f"'sha256-{digest}'" for digest in digests]
