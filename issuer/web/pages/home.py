"""`GET /`: what this service is and where its documents are, as a page for browsers and as JSON for everything else.

It leads users to their account. The look of pages is in `rendering`.
"""

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from issuer.web.http.errors import documented, prefers_html
from issuer.web.pages import api_docs
from issuer.web.pages.rendering import render
from issuer.web.well_known import discovery, jwks

VARY = {"Vary": "Accept"}
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


def install(app: FastAPI, issuer: str) -> None:
    """Add the endpoint; links in JSON begin with the URL of the issuer."""
    paths = {
        "docs": api_docs.PAGE,
        "openapi": api_docs.DOCUMENT,
        "discovery": discovery.OAUTH,
        "jwks_uri": jwks.PATH,
    }
    body = {"issuer": issuer, **{name: issuer + path for name, path in paths.items()}}
    documents = [(path, Links.model_fields[name].description or "") for name, path in paths.items()]

    async def home(request: Request) -> Response:
        """Return the URLs of the documents of this issuer; a page with links for browsers."""
        if prefers_html(request.headers.get("accept", "")):
            return render(request, "home.html", headers=VARY, documents=documents)
        return JSONResponse(body, headers=VARY)

    responses: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {}}}, **documented()}
    app.add_api_route(
        "/", home, tags=["operation"], summary="Find the documents", response_model=Links, responses=responses
    )
