"""Signing in with a browser on `/docs`: the authorization code flow with PKCE in the OpenAPI document.

The endpoints are those of the issuer's metadata. The page itself is `docs_page`.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from jwks_verifier.discovery import find_metadata
from jwks_verifier.encoding import MALFORMED
from jwks_verifier.http_client import HttpClient, check_url

SCHEME = "issuer"
"""The security scheme of the protected routes, which gets another flow."""
IDENTITY_SCOPES = {"openid": "Sign in", "profile": "Read name and username"}
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BrowserSignIn:
    """Describes the flow for the client `client_id`, which is registered with the redirect URI of the page."""

    client_id: str
    issuer: str
    client: HttpClient
    allow_http: bool

    async def described(self, document: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Return an OpenAPI document with the flow, and whether its endpoints were found; without them, unchanged."""
        try:
            endpoints = await find_metadata(self.client, self.issuer, self._endpoints)
        except (httpx2.HTTPError, *MALFORMED) as error:
            logger.warning("/docs cannot offer the sign-in by browser: no metadata of the issuer: %s", error)
            return document, False
        schemes = document["components"]["securitySchemes"]
        flows = schemes[SCHEME]["flows"]
        flow = {**endpoints, "scopes": {**IDENTITY_SCOPES, **flows["password"]["scopes"]}}
        described = {**schemes[SCHEME], "flows": {**flows, "authorizationCode": flow}}
        components = {**document["components"], "securitySchemes": {**schemes, SCHEME: described}}
        return {**document, "components": components}, True

    def _endpoints(self, metadata: Mapping[str, Any], _location: httpx2.URL) -> dict[str, str]:
        names = {"authorizationUrl": "authorization_endpoint", "tokenUrl": "token_endpoint"}
        return {
            name: str(check_url(metadata.get(member), allow_http=self.allow_http))
            for name, member in names.items()
        }

    @property
    def options(self) -> dict[str, Any]:
        """What Swagger UI is configured with."""
        return {
            "clientId": self.client_id,
            "scopes": " ".join(IDENTITY_SCOPES),
            "usePkceWithAuthorizationCodeGrant": True,
        }
