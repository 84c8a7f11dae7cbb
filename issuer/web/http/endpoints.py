"""What an endpoint declares beside its FastAPI route: the renderer of its errors, and the authentication of clients.

`errors` renders errors accordingly, and `well_known.discovery` publishes the methods of authentication.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request, Response

from issuer.oauth import AuthMethod

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_RENDERER, _AUTH_METHODS = "error_renderer", "client_auth_methods"


@dataclass(frozen=True)
class ErrorResponse:
    """An error, ready to be rendered."""

    status: int
    code: str
    description: str
    headers: Mapping[str, str]


Renderer = Callable[[Request, ErrorResponse], Response]


def renders_errors(renderer: Renderer) -> Callable[[Endpoint], Endpoint]:
    """Declare the renderer of an endpoint's errors, where they are not JSON."""
    return _declaring(_RENDERER, renderer)


def renderer_of(endpoint: object) -> Renderer | None:
    """Return the renderer that an endpoint declares."""
    renderer: Renderer | None = getattr(endpoint, _RENDERER, None)
    return renderer


def authenticates_clients(methods: Sequence[AuthMethod]) -> Callable[[Endpoint], Endpoint]:
    """Declare by which methods clients authenticate at an endpoint."""
    return _declaring(_AUTH_METHODS, tuple(methods))


def auth_methods_of(endpoint: object) -> tuple[AuthMethod, ...]:
    """Return the methods that an endpoint declares; none if clients do not authenticate there."""
    methods: tuple[AuthMethod, ...] = getattr(endpoint, _AUTH_METHODS, ())
    return methods


def _declaring(name: str, value: object) -> Callable[[Endpoint], Endpoint]:
    def declare(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, name, value)
        return endpoint

    return declare
