"""Checks of registered clients: which of them sign users in without PKCE, or may be unable to verify ID tokens."""

from collections.abc import Iterator

from issuer.checks.finding import Finding, warning
from issuer.clients.store import ClientStore
from issuer.fixes import Fix, Kind
from issuer.oauth import GrantType

MANDATORY_ALGORITHM = "RS256"


def without_pkce(clients: ClientStore) -> Iterator[Finding]:
    """Yield a warning for each client that may leave out PKCE, RFC 9700 section 2.1.1."""
    registered, _damaged = clients.all()
    for client in registered:
        if not client.requires_pkce and client.disabled_at is None:
            yield warning(
                f"the client {client.id} ({client.name}) may sign users in without PKCE (--no-pkce): who obtains one"
                " of its codes may use it to sign in there as the user, unless the application checks the nonce of ID"
                " tokens; if it can use PKCE, require it",
                Fix(Kind.CLIENT_WITHOUT_PKCE, f"issuer clients require-pkce {client.id}"),
            )


def without_rs256(clients: ClientStore, algorithm: str) -> Iterator[Finding]:
    """Yield a warning if clients sign users in and new keys are for an `algorithm` that they need not implement.

    OpenID Connect Core section 15.1 requires RS256 of every provider, and many clients verify nothing else.
    """
    registered, _damaged = clients.all()
    signing_in = [each for each in registered if GrantType.AUTHORIZATION_CODE in each.grant_types]
    active = [client for client in signing_in if client.disabled_at is None]
    if algorithm != MANDATORY_ALGORITHM and active:
        yield warning(
            f"ISSUER_ALGORITHM is {algorithm}, and {active[0].name} signs users in: OpenID Connect requires only"
            f" {MANDATORY_ALGORITHM} of clients; if one of them cannot verify {algorithm}, change it",
            Fix(Kind.CLIENTS_WITHOUT_RS256, f"ISSUER_ALGORITHM={MANDATORY_ALGORITHM}"),
        )
