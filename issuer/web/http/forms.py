"""Forms of OAuth endpoints: reads their parameters the same way for all of them, RFC 6749 section 3.2."""

import re
from collections.abc import Iterable, Mapping, Sequence
from email.message import Message
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import Depends, Request

from issuer.oauth import AuthMethod, InvalidRequest, OAuthRequest
from issuer.web.http.body_limit import read_body

FORM, MULTIPART, JSON = "application/x-www-form-urlencoded", "multipart/form-data", "application/json"
FIELDS_MOST = 50
UTF_8 = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
VERBATIM = frozenset({"password", "new_password"})
"""Parameters whose leading and trailing blanks are significant."""
TOKEN_SCHEMES = frozenset({"bearer", "dpop"})
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,64}")


def media_type(content_type: str) -> str:
    """Return the media type in a Content-Type header, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def require_type(content_type: str, accepted: Sequence[str]) -> None:
    """Raise InvalidRequest, which names the media type, unless it is one of the `accepted` ones."""
    kind = media_type(content_type)
    if kind not in accepted:
        raise wrong_type(kind, *accepted)


def wrong_type(kind: str, *accepted: str) -> InvalidRequest:
    """Return the error about a body of the media type `kind`, which says what is accepted."""
    sent = f"not {kind}" if _MEDIA_TYPE.fullmatch(kind) else "and name that in Content-Type"
    return InvalidRequest(f"send the body as {' or '.join(accepted)}, {sent}")


def require_once(names: Iterable[str], what: str) -> None:
    """Raise InvalidRequest if a name is repeated."""
    seen = list(names)
    if len(seen) != len(set(seen)):
        raise InvalidRequest(f"a {what} is repeated")


def read_fields(content_type: str, body: bytes) -> list[tuple[str, str]]:
    """Return the parameters of a form in their order; raise InvalidRequest, RFC 6749 section 3.2.

    A parameter without a value counts as omitted (section 3.1); only `resource` may be repeated (RFC 8707 section 2).
    Blanks and line ends around a value are removed, except in a password.
    """
    require_type(content_type, (FORM,))
    try:
        # Editors and shells add a line end after the last value; within a form it is always escaped.
        text = body.decode("utf-8-sig").rstrip("\r\n")
        fields = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MOST)
    except UnicodeDecodeError:
        raise InvalidRequest("the form is not UTF-8, RFC 6749 appendix B") from None
    except ValueError:
        raise InvalidRequest(f"the form has more than {FIELDS_MOST} parameters") from None
    _require_charset(content_type, fields)
    given = [(name, value if name in VERBATIM else value.strip(" \t\r\n")) for name, value in fields]
    given = [(name, value) for name, value in given if value]
    require_once((name for name, _ in given if name != "resource"), "parameter")
    return given


def read_verbatim(encoded: bytes) -> tuple[tuple[str, str], ...]:
    """Return the parameters in a query or a form as they were sent, in their order; raise InvalidRequest.

    A parameter without a value counts as omitted, and only `resource` may be repeated, RFC 6749 section 3.1.
    """
    try:
        fields = parse_qsl(
            encoded.decode(), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MOST
        )
    except UnicodeDecodeError:
        raise InvalidRequest("the parameters are not UTF-8, RFC 6749 appendix B") from None
    except ValueError:
        raise InvalidRequest(f"the request has more than {FIELDS_MOST} parameters") from None
    given = tuple((name, value) for name, value in fields if value)
    require_once((name for name, _ in given if name != "resource"), "parameter")
    return given


def _require_charset(content_type: str, fields: Iterable[tuple[str, str]]) -> None:
    """Raise InvalidRequest for a form in another charset whose characters could be misread as UTF-8."""
    message = Message()
    message["content-type"] = content_type
    charset = str(message.get_param("charset", "utf-8")).strip().lower()
    if charset not in UTF_8 and not all(name.isascii() and value.isascii() for name, value in fields):
        raise InvalidRequest("the form has characters beyond ASCII: send it with charset=UTF-8")


def read_form(content_type: str, body: bytes) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the parameters of a form and its `resource` values; raise InvalidRequest."""
    fields = read_fields(content_type, body)
    resources = tuple(value for name, value in fields if name == "resource")
    return {name: value for name, value in fields if name != "resource"}, resources


async def get_form(request: Request) -> OAuthRequest:
    """Return the form of a request."""
    parameters, resources = read_form(request.headers.get("content-type", ""), await read_body(request))
    return OAuthRequest(parameters, resources, authorization_of(request, parameters))


def authorization_of(request: Request, parameters: Mapping[str, str]) -> str | None:
    """Return the Authorization header; None for an empty one, and for an access token if the form names the client.

    Applications that add their access token to every request send it here, too. It does not authenticate the client,
    so it is ignored where the form does.
    """
    authorization = request.headers.get("authorization", "")
    scheme = authorization.partition(" ")[0].lower()
    names_client = parameters.keys() & {"client_id", "client_assertion"}
    return None if names_client and scheme in TOKEN_SCHEMES else authorization or None


FormDep = Annotated[OAuthRequest, Depends(get_form)]


SECURITY_SCHEMES: dict[str, Any] = {
    AuthMethod.BASIC.value: {
        "type": "http",
        "scheme": "basic",
        "description": "Client authentication by `client_id` and `client_secret` in the Authorization header. Clients"
        " with another method, such as `client_secret_post`, authenticate in the form.",
    }
}
"""What FastAPI does not know, as these endpoints read the header themselves."""
_CLIENT: dict[str, Any] = {
    "client_id": {
        "type": "string",
        "description": "Of every client that is not in the Authorization header.",
    },
    "client_secret": {"type": "string", "format": "password", "description": "For `client_secret_post`."},
    "client_assertion_type": {
        "type": "string",
        "description": "For `private_key_jwt`: `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.",
    },
    "client_assertion": {"type": "string", "description": "For `private_key_jwt`: a signed JWT, RFC 7523."},
}


def described(required: list[str], **properties: Any) -> dict[str, Any]:
    """Return the OpenAPI description of a form with these parameters and those that authenticate clients."""
    # An empty value counts as omitted; without this default Swagger UI sends the word "string" for each parameter.
    filled = {
        name: each if name in required else {"default": [] if each["type"] == "array" else "", **each}
        for name, each in {**properties, **_CLIENT}.items()
    }
    schema = {"type": "object", "required": required, "properties": filled}
    return {
        "requestBody": {"required": True, "content": {FORM: {"schema": schema}}},
        # Alternatives: the header, or nothing beside the form.
        "security": [{AuthMethod.BASIC.value: []}, {}],
    }
