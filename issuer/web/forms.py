"""Forms of OAuth endpoints: one reading of their parameters for all of them, RFC 6749 section 3.2."""

from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import Depends, Request

from issuer.oauth import InvalidRequest
from issuer.web.bodies import read_body

FORM = "application/x-www-form-urlencoded"
FIELDS_MOST = 50


@dataclass(frozen=True)
class Form:
    """The parameters of a request, with the Authorization header that may go with them."""

    parameters: dict[str, str] = field(repr=False)
    resources: tuple[str, ...]
    authorization: str | None = field(repr=False)


def read_form(content_type: str, body: bytes) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the parameters of a form and its `resource` values; raise InvalidRequest, RFC 6749 section 3.2.

    A parameter without a value counts as left out; only `resource` may be repeated (RFC 8707 section 2).
    """
    if content_type.partition(";")[0].strip().lower() != FORM:
        raise InvalidRequest(f"send the parameters as {FORM}")
    try:
        fields = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MOST
        )
    except ValueError:  # no ASCII, no UTF-8 behind the percent signs, or too many fields
        raise InvalidRequest("the form is malformed") from None
    given = [(name, value) for name, value in fields if value and name != "resource"]
    parameters = dict(given)
    if len(parameters) != len(given):
        raise InvalidRequest("a parameter is repeated")
    return parameters, tuple(value for name, value in fields if name == "resource" and value)


async def get_form(request: Request) -> Form:
    """Return the form of a request."""
    parameters, resources = read_form(request.headers.get("content-type", ""), await read_body(request))
    return Form(parameters, resources, request.headers.get("authorization"))


FormDep = Annotated[Form, Depends(get_form)]

_CLIENT: dict[str, Any] = {
    "client_id": {"type": "string"},
    "client_secret": {"type": "string", "format": "password"},
    "client_assertion_type": {"type": "string"},
    "client_assertion": {"type": "string"},
}


def described(required: list[str], **properties: Any) -> dict[str, Any]:
    """Return the OpenAPI of a form with these parameters, and those by which clients authenticate."""
    schema = {"type": "object", "required": required, "properties": {**properties, **_CLIENT}}
    return {"requestBody": {"required": True, "content": {FORM: {"schema": schema}}}}
