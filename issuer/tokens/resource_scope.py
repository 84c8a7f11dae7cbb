"""The scope of a token for resources that were requested by name, RFC 8707.

What is registered of resources is stored in `clients.resources`; scopes about the user are not theirs.
"""

from datetime import datetime

from issuer.clients.resources import Resources
from issuer.oauth import InvalidScope
from issuer.tokens.identity import IDENTITY_SCOPES


def scope_at(
    audience: tuple[str, ...], scope: frozenset[str], resources: Resources, now: datetime | None = None
) -> frozenset[str]:
    """Return what of `scope` a token for these resources may have: scopes about the user stay.

    Raise InvalidScope if nothing remains of a scope, or StoreError.
    """
    about_user = scope & IDENTITY_SCOPES
    allowed = resources.allowed_scope(scope - about_user, audience, now) | about_user
    if scope and not allowed:
        raise InvalidScope("none of the scopes is registered for the requested resource")
    return allowed
