"""`/`: what this service is and where its documents are, as a page for browsers and as JSON for everything else.

The security headers of the page are defined in `docs_page`.
"""

from html import escape

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field

from verifier_example import docs_page

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
<dl>
{links}
</dl>
</body>
</html>
"""


class Links(BaseModel):
    """Where the documents of this service are, and its issuer."""

    docs: str = Field(docs_page.PAGE, description="The documentation of the API, to read and to try.")
    openapi: str = Field(docs_page.DOCUMENT, description="The OpenAPI document.")
    metadata: str | None = Field(
        None,
        description="The metadata of this resource, RFC 9728.",
        examples=["/.well-known/oauth-protected-resource"],
    )
    issuer: str = Field(
        description="The issuer whose tokens this service accepts.", examples=["https://issuer.example"]
    )


def install(app: FastAPI, issuer: str, metadata_path: str | None) -> None:
    """Add the endpoint."""
    links = Links(issuer=issuer, metadata=metadata_path).model_dump(exclude_none=True)
    entries = [
        f'<dt><a href="{escape(link)}">{escape(link)}</a></dt>'
        f"<dd>{escape(Links.model_fields[name].description or '')}</dd>"
        for name, link in links.items()
    ]
    page = PAGE.format(title=escape(app.title), links="\n".join(entries))
    headers = docs_page.headers(docs_page.static_page_policy(page))

    @app.get(
        "/",
        tags=["discovery"],
        summary="Find the documents",
        response_model=Links,
        responses={200: {"content": {"text/html": {}}}},
    )
    async def home(request: Request) -> Response:
        """Return where the documents are; a page with links for browsers."""
        # Browsers name HTML in Accept, programs do not.
        if "text/html" in request.headers.get("accept", "").lower():
            return HTMLResponse(page, headers={"Vary": "Accept", **headers})
        return JSONResponse(links, headers={"Vary": "Accept"})
