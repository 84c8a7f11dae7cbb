"""ISSUER_URL with a path: the service answers below it, whether or not a proxy takes the path off.

Within the service paths are those of the routes, without it. Addresses that browsers and clients are given begin with
the path: documents are computed from ISSUER_URL, pages and cookies from the functions here.
"""

from urllib.parse import quote, unquote, urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send


def path_of(url: str) -> str:
    """Return the path in the issuer's URL as pages and cookies may hold it, without a slash at its end."""
    return quote(urlsplit(url).path.rstrip("/"), safe="/%:@!$&()*+,=~")


class StripPrefix:
    """ASGI middleware, outermost: takes the path of the issuer's URL off where no proxy did."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = unquote(prefix)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on with the path of a route."""
        if scope["type"] == "http" and scope["path"].startswith(f"{self._prefix}/"):
            path = scope["path"].removeprefix(self._prefix)
            scope = {**scope, "path": path, "raw_path": quote(path).encode()}
        await self._app(scope, receive, send)


class SetRootPath:
    """ASGI middleware, before the routing: puts the path back, as ASGI's `root_path`, which FastAPI's pages use."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = unquote(prefix)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on with the whole path and the part of it that is no route's."""
        if scope["type"] == "http":
            path = self._prefix + scope["path"]
            more = {"root_path": self._prefix, "path": path, "raw_path": quote(path).encode()}
            scope = {**scope, **more}
        await self._app(scope, receive, send)
