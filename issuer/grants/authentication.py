"""Client authentication at the token endpoint, RFC 6749 section 2.3: which client, and is it really.

How secrets are compared is `clients`' work.
"""

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import unquote_plus

from issuer.clients import Client, secret_matches
from issuer.oauth import AuthMethod, InvalidClient, InvalidRequest
from issuer.store.clients import ClientStore

_ALIKE = "client authentication failed"


def authenticate(parameters: Mapping[str, str], authorization: str | None, clients: ClientStore) -> Client:
    """Return the client of a request; raise InvalidClient alike for unknown, disabled and wrong.

    More than one method at once is InvalidRequest, section 2.3.
    """
    if authorization is not None:
        if "client_secret" in parameters:
            raise InvalidRequest("use one method of client authentication, not two")
        client_id, secret = _basic(authorization)
        if parameters.get("client_id", client_id) != client_id:
            raise InvalidRequest("client_id differs from the one in the Authorization header")
        method = AuthMethod.BASIC
    else:
        client_id, secret = parameters.get("client_id", ""), parameters.get("client_secret", "")
        method = AuthMethod.POST if secret else AuthMethod.NONE
    if not client_id:
        raise InvalidClient("client_id is missing; for tokens from /login it is first-party")
    client = clients.by_id(client_id) if client_id.isascii() and client_id.isprintable() else None
    # Basic and post carry the same secret, and a client with a secret may use either.
    by_secret = method is not AuthMethod.NONE
    proven = secret_matches(client, secret) if by_secret else True
    if client is None or not proven or client.disabled_at is not None:
        raise InvalidClient(_ALIKE)
    if by_secret is (client.auth_method is AuthMethod.NONE):
        raise InvalidClient(_ALIKE)
    return client


def _basic(authorization: str) -> tuple[str, str]:
    """Return id and secret of a Basic header; both are form-encoded inside it, section 2.3.1."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise InvalidClient(_ALIKE)
    try:
        pair = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise InvalidClient(_ALIKE) from None
    client_id, _, secret = pair.partition(":")
    return unquote_plus(client_id), unquote_plus(secret)
