"""Client authentication, RFC 6749 section 2.3, the same at every endpoint.

Secrets are compared by `client`, assertions verified by `assertion`.
"""

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import unquote_plus

from issuer.blocking import require_blocking_allowed
from issuer.clients.assertion import ASSERTION_TYPE, Assertion
from issuer.clients.client import SECRET_METHODS, Client, secret_matches
from issuer.clients.key_sets import ClientKeys
from issuer.clients.store import ClientStore
from issuer.oauth import AuthMethod, InvalidClient, InvalidRequest, OAuthRequest
from issuer.throttling.guard import Guard
from issuer.throttling.origin import Origin

BASIC_MOST_CHARACTERS = 2048


class ClientAuthentication:
    """Authenticates the client of a request."""

    def __init__(
        self,
        clients: ClientStore,
        keys: ClientKeys,
        guard: Guard,
        audiences: tuple[str, ...],
        leeway: timedelta,
    ) -> None:
        self._clients = clients
        self._keys = keys
        self._guard = guard
        self._audiences = audiences
        self._leeway = leeway

    def client(self, form: OAuthRequest, origin: Origin, now: datetime) -> Client:
        """Return the client of a request; raise InvalidClient, alike for unknown, disabled and wrong.

        More than one method at once is InvalidRequest, section 2.3.
        """
        parameters = form.parameters
        given = [form.authorization, parameters.get("client_secret"), parameters.get("client_assertion")]
        if sum(each is not None for each in given) > 1:
            raise InvalidRequest("use one method of client authentication, not two")
        with self._guard.limit_credentials(origin, now):
            if "client_assertion" in parameters:
                return self._by_assertion(parameters, now)
            return self._by_secret(parameters, form.authorization, now)

    def confidential(self, form: OAuthRequest, origin: Origin, now: datetime) -> Client:
        """Return the client of a request; raise InvalidClient for a public one, which proves nothing."""
        client = self.client(form, origin, now)
        if client.auth_method is AuthMethod.NONE:
            raise InvalidClient("this endpoint requires client authentication")
        return client

    def _by_secret(self, parameters: Mapping[str, str], authorization: str | None, now: datetime) -> Client:
        if authorization is not None:
            client_id, secret = _basic(authorization)
            if parameters.get("client_id", client_id) != client_id:
                raise InvalidRequest("client_id differs from the one in the Authorization header")
        else:
            client_id, secret = parameters.get("client_id", ""), parameters.get("client_secret", "")
        if not client_id:
            raise InvalidClient("client_id is missing; for tokens from /login it is first-party")
        given = secret or None  # libraries send a public client as Basic with nothing behind the colon
        # A cached client may only grant access. A refusal is always decided on a fresh read, so that a secret that
        # was rotated a moment ago works, and an unknown client costs the same work as a wrong secret.
        for find in (self._clients.recent, self._find):
            if client := _proven(find(client_id, now), given, now):
                return client
        raise InvalidClient

    def _by_assertion(self, parameters: Mapping[str, str], now: datetime) -> Client:
        require_blocking_allowed()  # the database knows whether the assertion was used before
        if parameters.get("client_assertion_type") != ASSERTION_TYPE:
            raise InvalidRequest(f"client_assertion_type must be {ASSERTION_TYPE}")
        assertion = Assertion.read(parameters["client_assertion"])
        if parameters.get("client_id", assertion.client_id) != assertion.client_id:
            raise InvalidRequest("client_id differs from sub of client_assertion")
        client = self._find(assertion.client_id, now)
        if client is None or client.disabled_at or client.auth_method is not AuthMethod.PRIVATE_KEY_JWT:
            raise InvalidClient
        keys = self._keys.keys(client, assertion.kid, now)
        jti, expires_at = assertion.verify(keys, self._audiences, self._leeway, now)
        if not self._clients.use_assertion(client.id, jti, expires_at):
            raise InvalidClient("client_assertion was used before: each is accepted once (jti)")
        return client

    def _find(self, client_id: str, now: datetime) -> Client | None:
        plain = client_id.isascii() and client_id.isprintable()
        return self._clients.by_id(client_id, now) if plain else None


def _proven(client: Client | None, secret: str | None, now: datetime) -> Client | None:
    """Return the client if `secret`, or none, authenticates it, else None; the same work for an unknown client.

    A client with a secret may send it by Basic or in the form.
    """
    matches = secret is None or secret_matches(client, secret, now)
    allowed = {AuthMethod.NONE} if secret is None else SECRET_METHODS
    if client is None or client.disabled_at or not matches or client.auth_method not in allowed:
        return None
    return client


def _basic(authorization: str) -> tuple[str, str]:
    """Return id and secret of a Basic header; both are form-encoded inside it, section 2.3.1."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic" or len(encoded) > BASIC_MOST_CHARACTERS:
        raise InvalidClient
    try:
        pair = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise InvalidClient from None
    client_id, _, secret = pair.rstrip("\r\n").partition(":")  # `echo id:secret | base64` encodes a line end
    return unquote_plus(client_id), unquote_plus(secret)
