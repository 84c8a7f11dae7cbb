"""Authorization requests and the clients that send them, for tests of what follows their validation."""

from dataclasses import replace
from typing import Any

from issuer.authorize.request import AuthorizationRequest, Parameters, Prompt, ReturnAddress
from issuer.clients.client import Client
from issuer.oauth import AuthMethod, GrantType, ResponseType
from support.stores import NOW

REDIRECT_URI = "https://app.example/callback"
SCOPE = frozenset({"openid", "items:read"})

APP = Client(
    id="9a0f1a4e-7a43-4b1e-94a8-3c6d3c8f2a11",
    name="Shopping list",
    auth_method=AuthMethod.BASIC,
    scope=frozenset({"items:read", "items:write"}),
    created_at=NOW,
    grant_types=frozenset({GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN}),
    response_types=frozenset({ResponseType.CODE}),
    redirect_uris=(REDIRECT_URI,),
)


def app(**changes: Any) -> Client:
    return replace(APP, **changes)


def a_request(
    client: Client = APP,
    redirect_uri: str = REDIRECT_URI,
    scope: frozenset[str] = SCOPE,
    resources: tuple[str, ...] = (),
    prompt: Prompt | None = None,
    parameters: Parameters = (),
) -> AuthorizationRequest:
    return AuthorizationRequest(
        returns_to=ReturnAddress(client, redirect_uri, "a state"),
        scope=scope,
        audience=resources or ("https://api.example",),
        resources=resources,
        prompt=frozenset({prompt} if prompt else ()),
        parameters=parameters,
    )
