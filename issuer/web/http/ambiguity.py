"""Requests that name one thing twice: refused with 400, because a proxy and this service could each believe another.

Forms of OAuth endpoints are read in `forms`, which refuses repeated parameters likewise.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.params import Form
from fastapi.routing import APIRoute
from starlette._utils import AwaitableOrContextManagerWrapper
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from issuer.oauth import InvalidRequest
from issuer.strict_json import MemberRepeated, read_document
from issuer.web.http.body_limit import read_body
from issuer.web.http.errors import write
from issuer.web.http.forms import FIELDS_MOST, FORM, media_type, read_fields, require_once, require_type

SINGLE_HEADERS = frozenset(
    {
        b"access-control-request-headers",
        b"access-control-request-method",
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"host",
        b"origin",
    }
)
"""Headers with one value, on which an answer depends, RFC 9110 section 5.3."""


class RefuseRepeatedHeaders:
    """ASGI middleware: 400 for a request with two of a header that has one value."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] == "http":
            names = [name for name, _ in scope["headers"] if name in SINGLE_HEADERS]
            if len(names) != len(set(names)):
                repeated = sorted({name.decode() for name in names if names.count(name) > 1})
                error = InvalidRequest(f"the request has more than one header {', '.join(repeated)}")
                await (await write(Request(scope), error))(scope, receive, send)
                return
        await self._app(scope, receive, send)


class UnambiguousRequest(Request):
    """A request whose body is read before FastAPI does: an error in it is answered with its reason."""

    _document: Any = None

    async def read(self) -> None:
        """Read the form or the JSON document; raise InvalidRequest if it names a thing twice or is neither."""
        content_type = self.headers.get("content-type", "")
        self._body = await read_body(self)
        match media_type(content_type):
            case "application/x-www-form-urlencoded":
                fields: list[tuple[str, str | UploadFile]] = [*read_fields(content_type, self._body)]
                self._document = FormData(fields)
            case "multipart/form-data":
                self._document = await self._read_multipart()
                require_once((name for name, _ in self._document.multi_items()), "parameter")
            case "application/json":
                self._document = read_json(self._body)

    async def _read_multipart(self) -> FormData:
        try:
            return await super().form(max_fields=FIELDS_MOST, max_files=0)
        except HTTPException:
            raise InvalidRequest(
                f"the body is no multipart form of at most {FIELDS_MOST} parameters, none of them a file"
            ) from None

    async def json(self) -> Any:
        """Return the document that was read."""
        return self._document

    def form(self, **_limits: Any) -> AwaitableOrContextManagerWrapper[FormData]:
        """Return the form that was read; an empty one for a body that is none."""
        return AwaitableOrContextManagerWrapper(self._read_form())

    async def _read_form(self) -> FormData:
        return self._document if isinstance(self._document, FormData) else FormData()


class UnambiguousRoute(APIRoute):
    """A route whose query and body name each thing once."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler; it raises InvalidRequest before anything is done."""
        handle = super().get_route_handler()
        takes = _media_types(self)

        async def checked(request: Request) -> Response:
            require_once((name for name, _ in request.query_params.multi_items()), "query parameter")
            if not takes:
                return await handle(request)
            require_type(request.headers.get("content-type", ""), takes)
            read = UnambiguousRequest(request.scope, request.receive)
            await read.read()
            return await handle(read)

        return checked


def _media_types(route: APIRoute) -> tuple[str, ...]:
    """Return the media types of the bodies that `route` takes; none if it takes no body."""
    if route.body_field is None:
        return ()
    is_form = isinstance(route.body_field.field_info, Form)
    return (FORM, "multipart/form-data") if is_form else ("application/json",)


def read_json(body: bytes) -> Any:
    """Return the document in `body`; raise InvalidRequest, for a member named twice as well."""
    try:
        return read_document(body)
    except MemberRepeated as error:
        raise InvalidRequest(str(error)) from None
    except UnicodeDecodeError:
        raise InvalidRequest("the body is not UTF-8") from None
    except ValueError:
        raise InvalidRequest("the body is not a JSON document") from None
