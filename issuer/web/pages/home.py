"""`GET /`: what this service is and where its documents are, as a page for browsers and as JSON for everything else.

What browsers may load is limited by `http.security_headers`.
"""

from html import escape
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field

from issuer.web.http.errors import documented
from issuer.web.http.security_headers import static_page_policy
from issuer.web.pages import api_docs
from issuer.web.well_known import discovery, jwks

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }}
body {{ max-width: 36rem; margin: 3rem auto; padding: 0 1rem }}
dt {{ margin-top: 1rem }}
dd {{ margin: 0 }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{description}</p>
<dl>
{links}
</dl>
</body>
</html>
"""

EXAMPLE = "https://issuer.example"


class Links(BaseModel):
    """The URLs of the documents of this issuer."""

    issuer: str = Field(description="The `iss` of its tokens.", examples=[EXAMPLE])
    docs: str = Field(
        description="The documentation of the API, to read and to try.", examples=[EXAMPLE + api_docs.PAGE]
    )
    openapi: str = Field(description="The OpenAPI document.", examples=[EXAMPLE + api_docs.DOCUMENT])
    discovery: str = Field(description="The metadata, RFC 8414.", examples=[EXAMPLE + discovery.OAUTH])
    jwks_uri: str = Field(
        description="The public keys that verify its tokens.", examples=[EXAMPLE + jwks.PATH]
    )


def install(app: FastAPI, issuer: str, prefix: str) -> None:
    """Add the endpoint; the links of the page begin with `prefix`, those in JSON with the URL of the issuer."""
    paths = {
        "docs": api_docs.PAGE,
        "openapi": api_docs.DOCUMENT,
        "discovery": discovery.OAUTH,
        "jwks_uri": jwks.PATH,
    }
    body = {"issuer": issuer, **{name: issuer + path for name, path in paths.items()}}
    entries = [
        f'<dt><a href="{escape(prefix + path)}">{escape(path)}</a></dt>'
        f"<dd>{escape(Links.model_fields[name].description or '')}</dd>"
        for name, path in paths.items()
    ]
    page = PAGE.format(
        title=escape(app.title),
        description="Issues access tokens, and publishes the keys that verify them.",
        links="\n".join(entries),
    )
    headers = {"Vary": "Accept", "Content-Security-Policy": static_page_policy(page)}

    async def home(request: Request) -> Response:
        """Return the URLs of the documents of this issuer; a page with links for browsers."""
        if prefers_html(request.headers.get("accept", "")):
            return HTMLResponse(page, headers=headers)
        return JSONResponse(body, headers={"Vary": "Accept"})

    responses: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {}}}, **documented()}
    app.add_api_route(
        "/", home, tags=["operation"], summary="Find the documents", response_model=Links, responses=responses
    )


def prefers_html(accept: str) -> bool:
    """Return whether an Accept header is that of a browser: it names HTML, which programs do not."""
    return "text/html" in accept.lower()
