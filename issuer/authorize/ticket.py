"""Tickets: an authorization request on its way through the pages, signed, and bound to one browser.

Nothing is stored for a visitor who has not signed in. A ticket holds no progress: what is done is read from the
session and the consents, which are compared with the instant at which the request began. So the back button, several
tabs and several nodes need no care, and a ticket that is used again achieves nothing new.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from itsdangerous import BadSignature, URLSafeSerializer

from issuer.authorize.request import Parameters
from issuer.digests import digest

TICKET_LIFETIME = timedelta(hours=1)
"""An older ticket begins its request anew: what was done before does not count for `prompt` any more."""

SIGNATURE = {"digest_method": hashlib.sha256, "key_derivation": "hmac"}
"""The signature of tickets and form tokens; the library's default is SHA-1."""

Secrets = Callable[[datetime], list[bytes]]
"""Return the secrets that are accepted, oldest first; the newest signs."""


@dataclass(frozen=True)
class Ticket:
    """A request, and when it began."""

    parameters: Parameters = field(repr=False)
    started: datetime
    is_expired: bool = False
    """Whether it was older than `TICKET_LIFETIME`; `started` is then the present."""


class Tickets:
    """Signs and reads tickets. `device` is the device cookie of the browser, which is never empty."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def signed(self, parameters: Parameters, started: datetime, device: str, now: datetime) -> str:
        """Return the text of a ticket, for a URL."""
        content = [list(map(list, parameters)), started.timestamp(), digest(device).hex()]
        return self._serializer(now).dumps(content)

    def read(self, text: str, device: str, now: datetime) -> Ticket | None:
        """Return the ticket in `text`; None if it was changed, or is of another browser."""
        try:
            parameters, started, owner = self._serializer(now).loads(text)
        except BadSignature:
            return None
        if owner != digest(device).hex():
            return None
        began = datetime.fromtimestamp(started, UTC)
        is_expired = now - began > TICKET_LIFETIME
        sent = tuple((name, value) for name, value in parameters)
        return Ticket(sent, now if is_expired else began, is_expired)

    def _serializer(self, now: datetime) -> URLSafeSerializer:
        return URLSafeSerializer(self._secrets(now), salt="ticket", signer_kwargs=SIGNATURE)
