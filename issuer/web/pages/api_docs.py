"""`GET /openapi.json`, and `GET /docs`: Swagger UI, with all files served from this origin.

What browsers may load is limited by `http.security_headers`.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html, get_swagger_ui_oauth2_redirect_html
from fastapi.responses import HTMLResponse

from issuer.connections.files import InMemoryFiles
from issuer.web.http.forms import SECURITY_SCHEMES
from issuer.web.http.security_headers import page_policy

DOCUMENT, PAGE, REDIRECT, FILES = "/openapi.json", "/docs", "/docs/oauth2-redirect", "/static-offline-docs"


def install(app: FastAPI, prefix: str) -> None:
    """Add the document, the page and its files; their URLs for browsers begin with `prefix`."""
    page = get_swagger_ui_html(
        openapi_url=f"{prefix}{DOCUMENT}",
        title=f"{app.title} - Swagger UI",
        oauth2_redirect_url=f"{prefix}{REDIRECT}",
        swagger_js_url=f"{prefix}{FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{prefix}{FILES}/swagger-ui.css",
        swagger_favicon_url=f"{prefix}{FILES}/favicon.png",
    )
    redirect = get_swagger_ui_oauth2_redirect_html()
    app.mount(FILES, InMemoryFiles(directory=Path(fastapi_offline.__file__).parent / "static"))
    for path, html in ((PAGE, page), (REDIRECT, redirect)):
        app.add_api_route(path, _page_endpoint(html), include_in_schema=False, response_class=HTMLResponse)
    app.add_api_route(DOCUMENT, _document_endpoint(app), include_in_schema=False)
    _complete_security_schemes(app, prefix)


def _page_endpoint(html: HTMLResponse) -> Any:
    text = bytes(html.body).decode()
    headers = {"Content-Security-Policy": page_policy(text)}

    async def answer() -> HTMLResponse:
        return HTMLResponse(text, headers=headers)

    return answer


def _document_endpoint(app: FastAPI) -> Any:
    @cache  # rendering takes milliseconds, in which the event loop is blocked
    def rendered() -> bytes:
        return json.dumps(app.openapi(), ensure_ascii=False, separators=(",", ":")).encode()

    async def answer() -> Response:
        return Response(rendered(), media_type="application/json")

    return answer


def _complete_security_schemes(app: FastAPI, prefix: str) -> None:
    """Add schemes that no dependency declares, and the prefix to `tokenUrl`, which pages resolve at the origin."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        document = described()
        schemes = document["components"]["securitySchemes"]
        schemes.update(SECURITY_SCHEMES)
        for scheme in schemes.values():
            for flow in scheme.get("flows", {}).values():
                if "tokenUrl" in flow:
                    flow["tokenUrl"] = prefix + flow["tokenUrl"].removeprefix(prefix)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
