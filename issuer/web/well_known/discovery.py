"""The two discovery documents, RFC 8414 and OpenID Connect Discovery, computed from what is registered."""

from typing import Any
from urllib.parse import unquote

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse

from issuer.clients.key_sets import ALGORITHMS
from issuer.oauth import AuthMethod
from issuer.web.deps import IssuerDep
from issuer.web.http.errors import documented
from issuer.wiring import Issuer

router = APIRouter(tags=["verification"])

OAUTH, OPENID = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
ENDPOINTS = ("jwks_uri", "token_endpoint", "revocation_endpoint", "introspection_endpoint")
"""Metadata members that are the URL of the route that bears their name."""


def metadata(app: FastAPI, issuer: Issuer) -> dict[str, Any]:
    """Return what clients and verifiers may know, RFC 8414 section 2 and OpenID Connect Discovery section 3.

    There is no authorization endpoint yet, and nothing is claimed in its stead: neither response types, nor an empty
    list of them (RFC 8414 section 3.2).
    """
    keys = issuer.keys.node.view.published_keys
    return {
        "issuer": issuer.settings.url,
        **_endpoints(app, issuer.settings.url),
        "grant_types_supported": sorted(issuer.tokens.pipeline.grants),
        **_authentication(),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": sorted({key.alg for key in keys}),
    }


def _authentication() -> dict[str, list[str]]:
    """Return how clients may authenticate at each endpoint where they do, RFC 8414 section 2."""
    every = [method.value for method in AuthMethod]
    proving = [method.value for method in AuthMethod if method is not AuthMethod.NONE]
    methods = {"token": every, "revocation": every, "introspection": proving}
    supported = {f"{name}_endpoint_auth_methods_supported": names for name, names in methods.items()}
    signing = {f"{name}_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS) for name in methods}
    return {**supported, **signing}


def _endpoints(app: FastAPI, url: str) -> dict[str, str]:
    return {name: url + app.url_path_for(name) for name in ENDPOINTS}


@router.get(OAUTH, responses=documented(503))
@router.get(OPENID, responses=documented(503))
async def discovery(request: Request, issuer: IssuerDep) -> JSONResponse:
    """Return the issuer's metadata; both discovery URLs return the same document."""
    max_age = issuer.keys.node.view.max_age(issuer.policy, issuer.clock())
    cached = f"public, max-age={int(max_age.total_seconds())}"
    return JSONResponse(metadata(request.app, issuer), headers={"Cache-Control": cached})


def install_inserted(app: FastAPI, prefix: str) -> None:
    """Answer where RFC 8414 section 3.1 puts the documents of an issuer with a path: the path comes last.

    That is outside of the issuer's URL, for a proxy that hands it on as it is.
    """
    for path in (OAUTH, OPENID) if prefix else ():
        app.add_api_route(path + unquote(prefix), discovery, include_in_schema=False)
