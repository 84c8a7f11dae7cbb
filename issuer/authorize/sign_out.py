"""Sign-out: what a logout request of a client asks for, whether the user has to confirm it, and its end.

OpenID Connect RP-Initiated Logout 1.0. Pages and redirects are in `web.oauth.end_session` and `web.pages.signout`;
clients are told by `tokens.backchannel_logout`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from urllib.parse import urlencode

from issuer.clients.client import Client
from issuer.clients.store import ClientStore
from issuer.oauth import InvalidRequest
from issuer.sessions.logout_notice_store import LogoutNoticeStore
from issuer.sessions.session import BrowserSession
from issuer.tokens.family_store import FamilyStore


class Hint(Protocol):
    """Whom an ID token of this issuer was issued for."""

    @property
    def sub(self) -> str:
        """The user."""

    @property
    def client_id(self) -> str:
        """The client, its `aud`."""


class HintReader(Protocol):
    """Reads ID tokens of this issuer, expired ones as well."""

    def read(self, token: str, now: datetime) -> Hint:
        """Return what is in a token; raise ValueError unless this issuer signed it."""


@dataclass(frozen=True)
class LogoutRequest:
    """A logout request that is valid, section 2."""

    client: Client | None = None
    user_id: str | None = None
    """The user of the hint; None: the request has none."""
    redirect_uri: str | None = None
    """Where the client wants the user to return to; registered."""
    state: str | None = field(default=None, repr=False)

    @property
    def location(self) -> str | None:
        """The redirect URI with the state; a query that it has is kept."""
        if self.redirect_uri is None or self.state is None:
            return self.redirect_uri
        separator = "&" if "?" in self.redirect_uri else "?"
        return f"{self.redirect_uri}{separator}{urlencode({'state': self.state})}"

    def is_from_user_of(self, session: BrowserSession) -> bool:
        """Return whether a hint proves that the client signed in the user of a session: no need to ask, section 2."""
        return self.user_id == session.user_id


class SignOut:
    """Ends browser sessions."""

    def __init__(
        self, clients: ClientStore, families: FamilyStore, notices: LogoutNoticeStore, hints: HintReader
    ) -> None:
        self._clients = clients
        self._families = families
        self._notices = notices
        self._hints = hints

    def request(self, parameters: Mapping[str, str], now: datetime) -> LogoutRequest:
        """Return the request with these parameters; raise InvalidRequest.

        `logout_hint` and `ui_locales` are accepted without effect, unknown parameters as well.
        """
        hint = self._hint(parameters.get("id_token_hint"), now)
        client_id = parameters.get("client_id")
        if hint and client_id not in {None, hint.client_id}:
            raise InvalidRequest("the id_token_hint was issued to another client than client_id")
        client = self._client(hint.client_id if hint else client_id)
        uri = parameters.get("post_logout_redirect_uri")
        if uri is not None and client is None:
            raise InvalidRequest("the parameter post_logout_redirect_uri needs id_token_hint or client_id")
        if uri is not None and client is not None and uri not in client.post_logout_redirect_uris:
            raise InvalidRequest("the post_logout_redirect_uri is not registered for this client")
        return LogoutRequest(client, hint.sub if hint else None, uri, parameters.get("state"))

    def recipients(self, session: BrowserSession) -> list[str]:
        """Return the names of the clients that will be told when a session ends."""
        return self._notices.recipients(session.id)

    def end(self, session: BrowserSession, now: datetime) -> None:
        """End a browser session, with all that ends with it, and queue the notices to its clients."""
        self._families.end_browser_session(session.id, now)

    def _hint(self, token: str | None, now: datetime) -> Hint | None:
        if token is None:
            return None
        try:
            return self._hints.read(token, now)
        except ValueError:
            raise InvalidRequest("the id_token_hint is not an ID token of this issuer") from None

    def _client(self, client_id: str | None) -> Client | None:
        if client_id is None:
            return None
        is_plain = client_id.isascii() and client_id.isprintable()
        client = self._clients.by_id(client_id) if is_plain else None
        if client is None or client.disabled_at is not None:
            raise InvalidRequest("the client is unknown, or disabled")
        return client
