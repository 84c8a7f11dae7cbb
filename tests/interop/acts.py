"""Python's OAuth libraries as clients and resource servers; `oauth/act.mjs` does the same on Node.js.

Expected results are in `test_clients`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import httpx2
from authlib.integrations.requests_client import OAuth2Session, OAuthError
from authlib.oauth2.rfc6750 import InvalidTokenError
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oauth2.rfc8414 import get_well_known_url
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import KeySet
from oauthlib.oauth2 import BackendApplicationClient, OAuth2Error
from requests_oauthlib import OAuth2Session as RequestsOauthlibSession
from support.servers import Installation

from jwks_verifier.testing import KeyPair

FIRST_PARTY = "first-party"


class Outcome(NamedTuple):
    """The result of one call of a library: the value that it returned, or the error that it raised."""

    result: Mapping[str, Any] | None = None
    error: str | None = None
    reason: str | None = None

    @property
    def success(self) -> Mapping[str, Any]:
        assert self.result is not None, self
        return self.result


Outcomes = Mapping[str, Outcome]


class Parties(NamedTuple):
    """A running issuer, its registered clients, and a log-in for sessions of a user."""

    issuer: Installation
    machine: tuple[str, str]
    """The id and secret of a client."""
    signer: str
    """The id of a client that signs assertions with `key`."""
    key: KeyPair
    log_in: Callable[[], Mapping[str, Any]]
    tokens: Mapping[str, str]
    """Tokens for the resource servers, by description."""


class Client(Protocol):
    """The calls of a library for one client."""

    def metadata(self) -> Mapping[str, Any]: ...
    def token(self) -> Mapping[str, Any]: ...
    def refresh(self, token: str) -> Mapping[str, Any]: ...
    def revoke(self, token: str) -> None: ...
    def introspect(self, token: str) -> Mapping[str, Any]: ...


class Authlib:
    """Authlib's session for requests."""

    def __init__(self, parties: Parties, method: str) -> None:
        where = get_well_known_url(parties.issuer.url, external=True)
        self._metadata = httpx2.get(where, trust_env=False).json()
        key = parties.key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        client_id, secret = {"none": (FIRST_PARTY, None), "private_key_jwt": (parties.signer, key)}.get(
            method, parties.machine
        )
        self._session = OAuth2Session(
            client_id,
            secret,
            token_endpoint_auth_method=method,
            revocation_endpoint_auth_method=method,
            token_endpoint=self._metadata["token_endpoint"],
        )
        # What the library calls the token endpoint becomes `aud`, which must be the issuer.
        self._session.register_client_auth_method(PrivateKeyJWT(self._metadata["issuer"]))

    def metadata(self) -> Mapping[str, Any]:
        return dict(self._metadata)

    def token(self) -> Mapping[str, Any]:
        return dict(self._session.fetch_token(grant_type="client_credentials"))

    def refresh(self, token: str) -> Mapping[str, Any]:
        return dict(self._session.refresh_token(refresh_token=token))

    def revoke(self, token: str) -> None:
        self._session.revoke_token(self._metadata["revocation_endpoint"], token=token).raise_for_status()

    def introspect(self, token: str) -> Mapping[str, Any]:
        answer = self._session.introspect_token(self._metadata["introspection_endpoint"], token=token)
        answer.raise_for_status()
        return dict(answer.json())


class RequestsOauthlib:
    """requests-oauthlib, which supports neither discovery nor assertions nor introspection."""

    def __init__(self, parties: Parties, method: str) -> None:
        self._metadata = httpx2.get(
            f"{parties.issuer.url}/.well-known/oauth-authorization-server", trust_env=False
        ).json()
        self._method = method
        client_id, secret = (FIRST_PARTY, None) if method == "none" else parties.machine
        self._secret: str | None = secret
        self._session = RequestsOauthlibSession(client=BackendApplicationClient(client_id))

    def metadata(self) -> Mapping[str, Any]:
        return dict(self._metadata)

    def token(self) -> Mapping[str, Any]:
        in_form = self._method == "client_secret_post"
        return dict(
            self._session.fetch_token(
                self._metadata["token_endpoint"],
                client_secret=self._secret,
                include_client_id=in_form or None,
            )
        )

    def refresh(self, token: str) -> Mapping[str, Any]:
        return dict(
            self._session.refresh_token(
                self._metadata["token_endpoint"], refresh_token=token, client_id=self._session.client_id
            )
        )

    def revoke(self, token: str) -> None:
        url, headers, body = self._session._client.prepare_token_revocation_request(
            self._metadata["revocation_endpoint"],
            token,
            token_type_hint="refresh_token",
            client_id=self._session.client_id,
        )
        self._session.post(url, data=body, headers=headers, withhold_token=True).raise_for_status()

    def introspect(self, token: str) -> Mapping[str, Any]:
        raise NotImplementedError


CLIENTS_IN_PYTHON: Mapping[str, Callable[[Parties, str], Client]] = {
    "Authlib": Authlib,
    "requests-oauthlib": RequestsOauthlib,
}
METHODS = ("client_secret_basic", "client_secret_post", "private_key_jwt")
LACKS = {("requests-oauthlib", "private_key_jwt"), ("requests-oauthlib", "introspection")}


def supports(library: str, what: str) -> bool:
    """Return whether a library supports an authentication method or introspection."""
    return (library, what) not in LACKS


def outcome(act: Callable[[], Mapping[str, Any] | None]) -> Outcome:
    """Return the outcome of a call of a Python library."""
    try:
        return Outcome(result=act() or {})
    except (OAuthError, OAuth2Error, InvalidTokenError) as error:
        return Outcome(error=error.error, reason=str(error.__cause__ or error))


def outcomes_of(library: str, parties: Parties) -> Outcomes:
    """Return the outcomes of all calls of a Python client library; `oauth/act.mjs` makes the same calls."""
    make = partial(CLIENTS_IN_PYTHON[library], parties)
    calls = {method: outcome(make(method).token) for method in METHODS if supports(library, method)}
    person, service = make("none"), make("client_secret_basic")
    calls["discovery"] = outcome(person.metadata)
    calls["refresh"] = outcome(lambda: person.refresh(parties.log_in()["refresh_token"]))
    access, refresh = (calls["refresh"].success[name] for name in ("access_token", "refresh_token"))
    asks = supports(library, "introspection")
    if asks:
        calls["introspection"] = outcome(lambda: service.introspect(access))
    calls["revocation"] = outcome(lambda: person.revoke(refresh))
    calls["refresh_afterwards"] = outcome(lambda: person.refresh(refresh))
    if asks:
        calls["introspection_afterwards"] = outcome(lambda: service.introspect(access))
    return calls


class AuthlibResourceServer(JWTBearerTokenValidator):  # type: ignore[misc]
    """Authlib's validator for RFC 9068, with the one method that users have to implement."""

    def get_jwks(self) -> KeySet:
        metadata = httpx2.get(get_well_known_url(self.issuer, external=True), trust_env=False).json()
        return KeySet.import_key_set(httpx2.get(metadata["jwks_uri"], trust_env=False).json())


def verify_by_authlib(parties: Parties, token: str) -> Mapping[str, Any]:
    """Return the claims of the token if Authlib accepts it."""
    validator = AuthlibResourceServer(parties.issuer.url, parties.issuer.service_url)
    claims = validator.authenticate_token(token)
    validator.validate_token(claims, scopes=[], request=None)
    return dict(claims)
