"""`/docs`: Swagger UI from this origin only, and the security headers of every response.

Users enter passwords on the page, so no script of another origin may run in it and no other page may frame it.
"""

import json
import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path

import fastapi_offline
import httpx2
from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from verifier_example.connections.files import InMemoryFiles

DOCUMENT, PAGE, FILES = "/openapi.json", "/docs", "/static-offline-docs"
EVERYWHERE = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def install(app: FastAPI, issuer: str) -> None:
    """Add the OpenAPI document, the page with its log-in at `issuer`, and the headers."""
    html = get_swagger_ui_html(
        openapi_url=DOCUMENT,
        title=f"{app.title} - Swagger UI",
        swagger_js_url=f"{FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{FILES}/swagger-ui.css",
        swagger_favicon_url=f"{FILES}/favicon.png",
    )
    page, url = bytes(html.body).decode(), httpx2.URL(issuer)
    headers_of_page = headers(_policy(page, f"{url.scheme}://{url.netloc.decode()}"))  # an IDN in ASCII

    @cache  # rendering blocks the event loop for milliseconds
    def openapi_json() -> bytes:
        return json.dumps(app.openapi(), ensure_ascii=False, separators=(",", ":")).encode()

    @app.get(DOCUMENT, include_in_schema=False)
    async def document() -> Response:
        return Response(openapi_json(), media_type="application/json")

    @app.get(PAGE, include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page, headers=headers_of_page)

    app.mount(FILES, InMemoryFiles(directory=Path(fastapi_offline.__file__).parent / "static"))
    app.add_middleware(SecurityHeaders)


def headers(policy: str) -> dict[str, str]:
    """Return the headers of a page with a Content-Security-Policy."""
    return {
        "Content-Security-Policy": policy,
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
    }


def static_page_policy(page: str) -> str:
    """Return a Content-Security-Policy that allows, by digest, the inline styles of a page, and nothing else."""
    styles = " ".join(_digests(_STYLE, page))
    return (
        f"default-src 'none'; style-src {styles}; img-src data:; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    )


def _digests(inline: re.Pattern[str], page: str) -> list[str]:
    digests = (b64encode(sha256(text.encode()).digest()).decode() for text in inline.findall(page))
    return [f"'sha256-{digest}'" for digest in digests]


def _policy(page: str, login_origin: str) -> str:
    """Return the Content-Security-Policy, which allows the page's inline scripts by their digests."""
    scripts = " ".join(["'self'", *_digests(_SCRIPT, page)])
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'self'; img-src 'self' data:; font-src 'self';"
        f" connect-src 'self' {login_origin}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class SecurityHeaders:
    """ASGI middleware: adds the headers to every response, and answers HEAD like GET (RFC 9110 section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, and add the headers to its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_head = scope["method"] == "HEAD"

        async def send_safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *EVERYWHERE]
            elif is_head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"} if is_head else scope, receive, send_safe)
