"""Refuses requests with a repeated header, parameter or member: a proxy and this service could use different values.

Forms of OAuth endpoints are read by `forms`, which refuses repeated parameters as well.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.params import Form
from fastapi.routing import APIRoute
from python_multipart.multipart import parse_options_header
from starlette._utils import AwaitableOrContextManagerWrapper
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from issuer.oauth import InvalidRequest
from issuer.strict_json import MemberRepeated, read_document
from issuer.web.http import forms
from issuer.web.http.body_limit import read_body
from issuer.web.http.errors import respond_to
from issuer.web.http.forms import FIELDS_MOST, UTF_8, media_type, read_fields, require_once, require_type

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
"""Headers with a single value that responses depend on, RFC 9110 section 5.3."""


class RefuseRepeatedHeaders:
    """ASGI middleware: responds with 400 to a request that repeats a header with a single value."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] == "http":
            names = [name for name, _ in scope["headers"] if name in SINGLE_HEADERS]
            if len(names) != len(set(names)):
                repeated = sorted({name.decode() for name in names if names.count(name) > 1})
                error = InvalidRequest(f"the request has more than one header {', '.join(repeated)}")
                await (await respond_to(Request(scope), error))(scope, receive, send)
                return
        await self._app(scope, receive, send)


class UnambiguousRequest(Request):
    """A request whose body is read before FastAPI reads it, so that errors in it have our descriptions."""

    _document: Any = None

    async def read(self) -> None:
        """Read the form or the JSON document; raise InvalidRequest if it is malformed or repeats a name."""
        content_type = self.headers.get("content-type", "")
        self._body = await read_body(self)
        match media_type(content_type):
            case forms.FORM:
                fields: list[tuple[str, str | UploadFile]] = [*read_fields(content_type, self._body)]
                self._document = FormData(fields)
            case forms.MULTIPART:
                self._document = await self._read_multipart(content_type)
                require_once((name for name, _ in self._document.multi_items()), "parameter")
            case forms.JSON:
                self._document = read_json(self._body)

    async def _read_multipart(self, content_type: str) -> FormData:
        # As the library reads it, which would decode by any codec of Python; some raise what it does not expect.
        charset = parse_options_header(content_type)[1].get(b"charset", b"utf-8").decode("latin-1")
        if charset.lower() not in UTF_8 or not _is_utf8(self._body):
            raise InvalidRequest("the multipart form is not UTF-8")
        try:
            return await super().form(max_fields=FIELDS_MOST, max_files=0)
        except HTTPException:
            raise InvalidRequest(
                f"the body is not a multipart form of at most {FIELDS_MOST} parameters without files"
            ) from None

    async def json(self) -> Any:
        """Return the parsed document."""
        return self._document

    def form(self, **_limits: Any) -> AwaitableOrContextManagerWrapper[FormData]:
        """Return the parsed form; an empty one for a body that is not a form."""
        return AwaitableOrContextManagerWrapper(self._read_form())

    async def _read_form(self) -> FormData:
        return self._document if isinstance(self._document, FormData) else FormData()


class UnambiguousRoute(APIRoute):
    """A route that refuses repeated names in query and body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, which raises InvalidRequest before it calls the endpoint."""
        handle = super().get_route_handler()
        accepted = _media_types(self)

        async def checked(request: Request) -> Response:
            require_once((name for name, _ in request.query_params.multi_items()), "query parameter")
            if not accepted:
                return await handle(request)
            require_type(request.headers.get("content-type", ""), accepted)
            read = UnambiguousRequest(request.scope, request.receive)
            await read.read()
            return await handle(read)

        return checked


def _media_types(route: APIRoute) -> tuple[str, ...]:
    """Return the media types that `route` accepts; none if it has no body."""
    if route.body_field is None:
        return ()
    is_form = isinstance(route.body_field.field_info, Form)
    return (forms.FORM, forms.MULTIPART) if is_form else (forms.JSON,)


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def read_json(body: bytes) -> Any:
    """Return the document in `body`; raise InvalidRequest if it is malformed or repeats a member."""
    try:
        return read_document(body)
    except MemberRepeated as error:
        raise InvalidRequest(str(error)) from None
    except UnicodeDecodeError:
        raise InvalidRequest("the body is not UTF-8") from None
    except ValueError:
        raise InvalidRequest("the body is not a JSON document") from None
