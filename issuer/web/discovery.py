"""The two discovery documents, RFC 8414 and OpenID Connect Discovery, computed from what is registered."""

from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.routing import NoMatchFound

from issuer.grants.client_keys import ALGORITHMS
from issuer.oauth import AuthMethod
from issuer.web.deps import IssuerDep
from issuer.web.errors import documented
from issuer.web.jwks import ANY_ORIGIN
from issuer.wiring import Issuer

router = APIRouter(tags=["verification"])

# Metadata members that are the URL of the route that bears their name.
ENDPOINTS = ("jwks_uri", "token_endpoint", "revocation_endpoint", "introspection_endpoint")


def metadata(app: FastAPI, issuer: Issuer) -> dict[str, Any]:
    """Return what clients and verifiers may know, RFC 8414 section 2 and OpenID Connect Discovery section 3."""
    keys = issuer.node.view.published_keys
    return {
        "issuer": issuer.settings.url,
        **_endpoints(app, issuer.settings.url),
        "grant_types_supported": sorted(issuer.grants.pipeline.grants),
        **_authentication(),
        "response_types_supported": [],
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
    found = {}
    for name in ENDPOINTS:
        try:
            found[name] = url + app.url_path_for(name)
        except NoMatchFound:  # not part of this version
            continue
    return found


@router.head("/.well-known/oauth-authorization-server", include_in_schema=False)
@router.head("/.well-known/openid-configuration", include_in_schema=False)
@router.get("/.well-known/oauth-authorization-server", responses=documented(503))
@router.get("/.well-known/openid-configuration", responses=documented(503))
async def discovery(request: Request, issuer: IssuerDep) -> JSONResponse:
    """Return where everything is and what is supported; the same document under both names."""
    max_age = issuer.node.view.max_age(issuer.policy, issuer.clock())
    cached = f"public, max-age={int(max_age.total_seconds())}"
    return JSONResponse(metadata(request.app, issuer), headers={"Cache-Control": cached, **ANY_ORIGIN})
