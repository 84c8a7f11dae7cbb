"""The applications that a user is connected with: those that were allowed something, or have a session of the user.

Consents are stored by `consent_store`, sessions by `tokens.family_store`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from issuer.authorize.consent import Consent
from issuer.clients.client import FIRST_PARTY_ID, Client
from issuer.tokens.refresh import Family

UsedFamily = tuple[Family, datetime]
"""A family, and when it was last refreshed."""


@dataclass(frozen=True)
class Application:
    """A client as its user knows it."""

    client_id: str
    name: str | None
    """None: the client was removed."""
    scope: frozenset[str]
    """What it was allowed at any resource, or has tokens for."""
    since: datetime
    used_at: datetime | None
    """When it last got a token; None: it has no session."""


def connected(
    consents: Iterable[Consent], families: Iterable[UsedFamily], client: Callable[[str], Client | None]
) -> list[Application]:
    """Return the applications, those that were used last first; without the built-in client.

    Users are not asked about trusted clients, whose sessions they still can end.
    """
    allowed: dict[str, list[Consent]] = {}
    used: dict[str, list[UsedFamily]] = {}
    for consent in consents:
        allowed.setdefault(consent.client_id, []).append(consent)
    for family in families:
        used.setdefault(family[0].client_id, []).append(family)
    ids = [each for each in dict.fromkeys([*allowed, *used]) if each != FIRST_PARTY_ID]
    found = [_application(each, client(each), allowed.get(each, []), used.get(each, [])) for each in ids]
    return sorted(found, key=lambda each: each.used_at or each.since, reverse=True)


def _application(
    client_id: str, client: Client | None, consents: list[Consent], families: list[UsedFamily]
) -> Application:
    scopes = [consent.scope for consent in consents] + [family.scope for family, _ in families]
    began = [consent.given_at for consent in consents] + [family.created_at for family, _ in families]
    return Application(
        client_id=client_id,
        name=client.name if client else None,
        scope=frozenset().union(*scopes),
        since=min(began),
        used_at=max((used_at for _, used_at in families), default=None),
    )
