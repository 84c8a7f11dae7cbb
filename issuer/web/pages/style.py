"""What pages load: `GET /pages/style.css`, `/pages/icon.svg` and, with ISSUER_LOGO, `/pages/logo`, from memory.

The pages themselves are rendered by `rendering`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from fastapi import FastAPI, Request, Response

from issuer.settings import logo as logos
from issuer.web.http.etags import etag_of, is_known

STYLE, ICON, LOGO = "/pages/style.css", "/pages/icon.svg", "/pages/logo"
MAX_AGE_SECONDS = 3600
IMAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""For an SVG that is opened by itself: no script in it may run, https://www.w3.org/TR/SVG2/conform.html."""


@dataclass(frozen=True)
class Asset:
    """A file that pages load."""

    content: bytes = field(repr=False)
    media_type: str

    @property
    def version(self) -> str:
        """What changes with the content; pages name it in the URL, so that caches never serve an older file."""
        return etag_of(self.content).strip('"')[:8]


@cache
def style() -> Asset:
    """Return the stylesheet."""
    return Asset(_file("style.css"), "text/css")


def install(app: FastAPI, logo: logos.Logo | None) -> None:
    """Add the endpoints."""
    assets = {STYLE: style(), ICON: Asset(_file("icon.svg"), "image/svg+xml")}
    if logo:
        assets[LOGO] = Asset(logo.content, logo.media_type)
    for path, asset in assets.items():
        app.add_api_route(path, _endpoint(asset), include_in_schema=False)


def _endpoint(asset: Asset) -> Callable[[Request], Awaitable[Response]]:
    etag = etag_of(asset.content)
    headers = {"ETag": etag, "Cache-Control": f"public, max-age={MAX_AGE_SECONDS}"}
    if asset.media_type.startswith("image/"):
        headers["Content-Security-Policy"] = IMAGE_POLICY

    async def answer(request: Request) -> Response:
        if is_known(request, etag):
            return Response(status_code=304, headers=headers)
        return Response(asset.content, media_type=asset.media_type, headers=headers)

    return answer


def _file(name: str) -> bytes:
    return files("issuer.web.pages").joinpath(name).read_bytes()
