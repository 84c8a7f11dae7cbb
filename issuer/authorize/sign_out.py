"""Sign-out: what a logout request of a client asks for, whether the user has to confirm it, and its end.

OpenID Connect RP-Initiated Logout 1.0. Pages and redirects are in `web.oauth.end_session` and `web.pages.signout`;
clients are told by `tokens.backchannel_logout`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from issuer.clients.client import Client
from issuer.clients.store import ClientStore
from issuer.oauth import InvalidRequest
from issuer.sessions.logout_notice_store import LogoutNoticeStore
from issuer.sessions.session import BrowserSession
from issuer.sessions.store import BrowserSessionStore
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.hints import Hint, Hints
from issuer.urls import with_query


@dataclass(frozen=True)
class LogoutRequest:
    """A logout request that is valid, section 2."""

    client: Client | None = None
    sid: str | None = None
    """By which the client of the hint knows the session; None: the request has no hint."""
    redirect_uri: str | None = None
    """Where the client wants the user to return to; registered."""
    state: str | None = field(default=None, repr=False)

    @property
    def location(self) -> str | None:
        """The redirect URI with the state; a query that it has is kept."""
        if self.redirect_uri is None or self.state is None:
            return self.redirect_uri
        return with_query(self.redirect_uri, {"state": self.state})


class SignOut:
    """Ends browser sessions."""

    def __init__(
        self,
        clients: ClientStore,
        sessions: BrowserSessionStore,
        families: FamilyStore,
        notices: LogoutNoticeStore,
        hints: Hints,
    ) -> None:
        self._clients = clients
        self._sessions = sessions
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
        if hint:
            client_id = hint.client_id
        client = self._clients.find_enabled(client_id) if client_id is not None else None
        if client_id is not None and client is None:
            raise InvalidRequest("the client is unknown, or disabled")
        uri = parameters.get("post_logout_redirect_uri")
        if uri is not None and client is None:
            raise InvalidRequest("the parameter post_logout_redirect_uri needs id_token_hint or client_id")
        if uri is not None and client is not None and uri not in client.post_logout_redirect_uris:
            raise InvalidRequest("the post_logout_redirect_uri is not registered for this client")
        return LogoutRequest(client, hint.sid if hint else None, uri, parameters.get("state"))

    def needs_question(self, request: LogoutRequest, session: BrowserSession, now: datetime) -> bool:
        """Return whether the user has to confirm that a session ends.

        Not if a hint was issued for this very session; a request with any other is suspect, section 2.
        """
        hinted = self._sessions.by_sid(request.sid, now) if request.sid is not None else None
        return hinted is None or hinted.id != session.id

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
