"""`/docs`: Swagger UI from this origin only, and the security headers of every response.

Users enter passwords on the page, so no script of another origin may run in it and no other page may frame it.
"""

import json
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import fastapi_offline
import httpx2
from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html, get_swagger_ui_oauth2_redirect_html
from fastapi.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from verifier_example.browser_sign_in import BrowserSignIn
from verifier_example.connections.files import InMemoryFiles

DOCUMENT, PAGE, REDIRECT, FILES = "/openapi.json", "/docs", "/docs/oauth2-redirect", "/static-offline-docs"
EVERYWHERE = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def install(app: FastAPI, issuer: str, sign_in: BrowserSignIn | None) -> None:
    """Add the OpenAPI document, the page with its log-in at `issuer`, and the headers."""
    html = get_swagger_ui_html(
        openapi_url=DOCUMENT,
        title=f"{app.title} - Swagger UI",
        oauth2_redirect_url=REDIRECT,
        init_oauth=sign_in.options if sign_in else None,
        swagger_js_url=f"{FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{FILES}/swagger-ui.css",
        swagger_favicon_url=f"{FILES}/favicon.png",
    )
    url = httpx2.URL(issuer)
    login_origin = f"{url.scheme}://{url.netloc.decode()}"  # an IDN in ASCII
    _add_page(app, PAGE, html, login_origin, "same-origin-allow-popups" if sign_in else "same-origin")
    # The page at the end of the sign-in passes the code to the window that opened it: no policy may separate them.
    _add_page(app, REDIRECT, get_swagger_ui_oauth2_redirect_html(), login_origin, "unsafe-none")
    _add_document(app, sign_in)
    app.mount(FILES, InMemoryFiles(directory=Path(fastapi_offline.__file__).parent / "static"))
    app.add_middleware(SecurityHeaders)


def _add_page(app: FastAPI, path: str, html: HTMLResponse, login_origin: str, opener: str) -> None:
    page = bytes(html.body).decode()
    page_headers = {**headers(_policy(page, login_origin)), "Cross-Origin-Opener-Policy": opener}

    @app.get(path, include_in_schema=False)
    async def answer() -> HTMLResponse:
        return HTMLResponse(page, headers=page_headers)


def _add_document(app: FastAPI, sign_in: BrowserSignIn | None) -> None:
    rendered: list[bytes] = []  # rendering blocks the event loop for milliseconds

    @app.get(DOCUMENT, include_in_schema=False)
    async def document() -> Response:
        if rendered:
            return Response(rendered[0], media_type="application/json")
        described, is_final = app.openapi(), True
        if sign_in:
            described, is_final = await sign_in.described(described)
        text = json.dumps(described, ensure_ascii=False, separators=(",", ":")).encode()
        rendered.extend([text] * is_final)
        return Response(text, media_type="application/json")


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
