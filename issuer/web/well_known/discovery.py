"""The two discovery documents, RFC 8414 and OpenID Connect Discovery, computed from what is registered."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.routing import RouteContext, iter_route_contexts

from issuer.authorize.pkce import METHOD
from issuer.authorize.request import Prompt
from issuer.authorize.validation import supported_prompts
from issuer.clients.key_sets import ALGORITHMS
from issuer.grants.registry import GRANTS
from issuer.oauth import CONFIDENTIAL_METHODS, AuthMethod, ResponseMode, ResponseType, Unavailable
from issuer.services import Issuer
from issuer.sessions.session import Acr
from issuer.tokens import backchannel_logout
from issuer.tokens.claims import ID_TOKEN_CLAIMS
from issuer.tokens.id_tokens import SUBJECT_TYPE
from issuer.tokens.identity import USERINFO_CLAIMS, IdentityScope
from issuer.web.deps import IssuerDep
from issuer.web.http.endpoints import auth_methods_of
from issuer.web.http.errors import answered, documented
from issuer.web.pages.rendering import LANGUAGE
from issuer.web.well_known import jwks

router = APIRouter(tags=["verification"])

OAUTH, OPENID = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
_URL_MEMBERS = ("_endpoint", "_uri")
"""Endings of the names of metadata members that are URLs; a route with such a name is published under it."""

_AUTHENTICATING = ("token_endpoint", "revocation_endpoint", "introspection_endpoint")
"""The others authenticate clients as the token endpoint does, RFC 9126 section 2."""


def metadata(app: FastAPI, issuer: Issuer) -> dict[str, Any]:
    """Return the issuer's metadata, RFC 8414 section 2 and OpenID Connect Discovery section 3."""
    keys = issuer.keys.node.view.published_keys
    endpoints = _endpoints(app)
    return {
        "issuer": issuer.settings.url,
        **{name: f"{issuer.settings.url}{endpoint.path}" for name, endpoint in endpoints.items()},
        "grant_types_supported": sorted(issuer.tokens.pipeline.grants),
        **_client_authentication(endpoints),
        "id_token_signing_alg_values_supported": sorted({key.alg for key in keys}),
        "scopes_supported": list(dict.fromkeys((*IdentityScope, *issuer.settings.public_scopes.split()))),
        **_sign_in(supported_prompts(is_registration_open=issuer.settings.registration == "open")),
    }


def _sign_in(prompts: frozenset[Prompt]) -> dict[str, Any]:
    """Return what clients may request of a user who signs in, and what they are told."""
    return {
        "response_types_supported": list(ResponseType),
        "response_modes_supported": list(ResponseMode),
        "code_challenge_methods_supported": [METHOD],
        "authorization_response_iss_parameter_supported": True,  # RFC 9207
        "prompt_values_supported": [prompt for prompt in Prompt if prompt in prompts],
        "subject_types_supported": [SUBJECT_TYPE],
        "claims_supported": list(dict.fromkeys((*ID_TOKEN_CLAIMS, *USERINFO_CLAIMS))),
        "claims_parameter_supported": True,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,  # its default is true; pushed requests are another matter
        "acr_values_supported": list(Acr),
        "ui_locales_supported": [LANGUAGE],
        **backchannel_logout.METADATA,
    }


def _endpoints(app: FastAPI) -> dict[str, RouteContext]:
    """Return the routes that are metadata members, by the name of the member."""
    return {
        route.name: route
        for route in iter_route_contexts(app.routes)
        if route.name and route.name.endswith(_URL_MEMBERS)
    }


def _client_authentication(endpoints: Mapping[str, RouteContext]) -> dict[str, list[str]]:
    """Return how clients may authenticate at the endpoints for which there are members, RFC 8414 section 2."""
    members: dict[str, list[str]] = {}
    for name, route in endpoints.items():
        methods = auth_methods_of(route.endpoint)
        if methods and name in _AUTHENTICATING:
            members[f"{name}_auth_methods_supported"] = [method.value for method in methods]
            members[f"{name}_auth_signing_alg_values_supported"] = list(ALGORITHMS)
    return members


_EXAMPLE = "https://issuer.example"
_METADATA = {
    "issuer": _EXAMPLE,
    "authorization_endpoint": f"{_EXAMPLE}/oauth2/authorize",
    "pushed_authorization_request_endpoint": f"{_EXAMPLE}/oauth2/par",
    "token_endpoint": f"{_EXAMPLE}/oauth2/token",
    "userinfo_endpoint": f"{_EXAMPLE}/oauth2/userinfo",
    "end_session_endpoint": f"{_EXAMPLE}/oauth2/logout",
    "revocation_endpoint": f"{_EXAMPLE}/oauth2/revoke",
    "introspection_endpoint": f"{_EXAMPLE}/oauth2/introspect",
    "jwks_uri": f"{_EXAMPLE}{jwks.PATH}",
    "grant_types_supported": sorted(GRANTS),
    "token_endpoint_auth_methods_supported": list(AuthMethod),
    "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
    "revocation_endpoint_auth_methods_supported": list(AuthMethod),
    "revocation_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
    "introspection_endpoint_auth_methods_supported": list(CONFIDENTIAL_METHODS),
    "introspection_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
    "id_token_signing_alg_values_supported": ["RS256"],
    "scopes_supported": list(IdentityScope),
    **_sign_in(frozenset(Prompt)),
}

RESPONSES = answered(_METADATA) | documented(Unavailable)


@router.get(OAUTH, summary="Get the metadata (RFC 8414)", responses=RESPONSES)
@router.get(OPENID, summary="Get the metadata (OpenID Connect)", responses=RESPONSES)
async def discovery(request: Request, issuer: IssuerDep) -> JSONResponse:
    """Return the metadata of the issuer; both discovery URLs return the same document."""
    max_age = issuer.keys.node.view.max_age(issuer.policy, issuer.clock())
    cached = f"public, max-age={int(max_age.total_seconds())}"
    return JSONResponse(metadata(request.app, issuer), headers={"Cache-Control": cached})


def install_rfc8414_paths(app: FastAPI, prefix: str) -> None:
    """Add the locations of RFC 8414 section 3.1 for an issuer whose URL has a path, which comes last in them.

    They are outside of the issuer's URL, for a proxy that passes them on unchanged.
    """
    for path in (OAUTH, OPENID) if prefix else ():
        app.add_api_route(path + unquote(prefix), discovery, include_in_schema=False)
