"""Methods without an endpoint: HEAD wherever there is GET, OPTIONS, and the Allow header of a 405 response.

Preflight requests of browsers (CORS) are answered in `cors`.
"""

from collections.abc import Collection, Iterable, Iterator

from fastapi import Response
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_IS_HEAD = "issuer.is_head"
WITHOUT_HEAD = frozenset({"/oauth2/authorize", "/oauth2/logout"})
"""Where GET changes something: HEAD, as sent by programs that preview links, would issue a code or sign out."""


class CommonMethods:
    """ASGI middleware: answers HEAD as GET without the body, and `OPTIONS *`, RFC 9110 sections 9.3.2 and 9.3.7."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass HEAD on as GET where that is safe, and drop the body."""
        if scope["type"] == "http" and (scope["method"], scope["path"]) == ("OPTIONS", "*"):
            await Response(status_code=204)(scope, receive, send)
            return
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        method = "HEAD" if scope["path"] in WITHOUT_HEAD else "GET"

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": method, _IS_HEAD: True}, receive, send_head)


def is_head(scope: Scope) -> bool:
    """Return whether a request that is answered as GET was sent as HEAD."""
    return _IS_HEAD in scope


def allowed(routes: Iterable[BaseRoute], scope: Scope) -> str:
    """Return the value of Allow for the path in `scope`, RFC 9110 section 10.2.1."""
    methods = {"OPTIONS"}
    for path, of_route in _methods(routes, scope):
        methods.update(of_route)
        if "GET" in of_route and path not in WITHOUT_HEAD:
            methods.add("HEAD")
    return ", ".join(sorted(methods))


def _methods(routes: Iterable[BaseRoute], scope: Scope) -> Iterator[tuple[str | None, Collection[str]]]:
    for route in iter_route_contexts(list(routes)):
        found, _ = route.matches(scope)
        if found is not Match.NONE:
            yield route.path, getattr(route, "methods", None) or ()
