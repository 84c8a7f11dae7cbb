"""Checks of registered clients: which of them sign users in without PKCE."""

from collections.abc import Iterator

from issuer.checks.finding import Finding, warning
from issuer.clients.store import ClientStore
from issuer.fixes import Fix, Kind


def without_pkce(clients: ClientStore) -> Iterator[Finding]:
    """Yield a warning for each client that may leave out PKCE, RFC 9700 section 2.1.1."""
    registered, _damaged = clients.all()
    for client in registered:
        if not client.requires_pkce and client.disabled_at is None:
            yield warning(
                f"the client {client.id} ({client.name}) was registered with --no-pkce and has never used PKCE: who"
                " obtains one of its codes may use it to sign in there as the user, unless the application checks the"
                " nonce of ID tokens; if it can use PKCE, require it",
                Fix(Kind.CLIENT_WITHOUT_PKCE, f"issuer clients require-pkce {client.id}"),
            )
