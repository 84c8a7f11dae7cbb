"""The path of ISSUER_URL, if it has one: requests are served below it, whether or not a proxy removes it.

Inside the service paths are those of the routes, without the prefix. URLs for browsers and clients begin with it:
documents are computed from ISSUER_URL, pages and cookies from the functions here.
"""

from urllib.parse import quote, unquote, urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send


def path_of(url: str) -> str:
    """Return the path of the issuer's URL, escaped for pages and cookies, without a trailing slash."""
    return quote(urlsplit(url).path.rstrip("/"), safe="/%:@!$&()*+,=~")


class StripPrefix:
    """ASGI middleware, outermost: removes the prefix from the path, if no proxy did."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = unquote(prefix)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on with the path of the route."""
        if scope["type"] == "http" and f"{scope['path']}/".startswith(f"{self._prefix}/"):
            path = scope["path"].removeprefix(self._prefix) or "/"
            scope = {**scope, "path": path, "raw_path": quote(path).encode()}
        await self._app(scope, receive, send)


class SetRootPath:
    """ASGI middleware, before the routing: sets ASGI's `root_path` to the prefix, which FastAPI's pages use."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = unquote(prefix)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on with the full path, and the prefix as `root_path`."""
        if scope["type"] == "http":
            path = self._prefix + scope["path"]
            more = {"root_path": self._prefix, "path": path, "raw_path": quote(path).encode()}
            scope = {**scope, **more}
        await self._app(scope, receive, send)
