"""The authorization endpoint as a use case: from the parameters of a request to the next step.

Requests are validated by `validation`, the step is decided by `decision`. Pages do their work elsewhere and come back
with the ticket of the request; everything is validated again at each step.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from issuer.accounts.user import User
from issuer.authorize.code import code_for, new_code
from issuer.authorize.code_store import CodeStore
from issuer.authorize.consent import scope_to_allow
from issuer.authorize.consent_store import Consents
from issuer.authorize.decision import Ask, Facts, Page, Reason, Refuse, next_step
from issuer.authorize.errors import InvalidRequestURI, LoginRequired, NoRedirect
from issuer.authorize.pushed import URN, PushedRequests
from issuer.authorize.request import AuthorizationRequest, Parameters, Prompt, scope_of_user
from issuer.authorize.response import AuthorizationResponse, refusal, success
from issuer.authorize.ticket import Ticket, Tickets
from issuer.authorize.validation import Rules, require_client, return_address, validated
from issuer.clients.client import Client
from issuer.digests import digest
from issuer.oauth import AccessDenied, InvalidRequest, OAuthError
from issuer.sessions.session import BrowserSession
from issuer.sessions.store import BrowserSessionStore, SessionDeleted
from issuer.throttling.guard import Guard
from issuer.throttling.origin import Origin


@dataclass(frozen=True)
class Visitor:
    """The browser that a request comes from."""

    device: str = field(repr=False)
    """Its device cookie, which tickets are bound to."""
    session: BrowserSession | None = None
    user: User | None = None
    """The user who is signed in: always with a session."""


@dataclass(frozen=True)
class Pending:
    """A valid request that waits for the user, as pages show it."""

    request: AuthorizationRequest
    started: datetime
    ticket: str = field(repr=False)


@dataclass(frozen=True)
class ToPage:
    """The step to a page, with the ticket of the request."""

    page: Page
    ticket: str = field(repr=False)
    reason: Reason | None = None


Step = ToPage | AuthorizationResponse


@dataclass(frozen=True)
class _Begun:
    """A request whose client and parameters are known."""

    client: Client
    carried: Parameters
    """What a ticket carries: the parameters of the request, or the name of a pushed one."""
    parameters: Parameters
    started: datetime
    pushed: bytes | None = None
    is_expired: bool = False


class Flow:
    """Takes authorization requests through their steps. Every method may block."""

    def __init__(
        self,
        rules: Rules,
        find_client: Callable[[str], Client | None],
        tickets: Tickets,
        sessions: BrowserSessionStore,
        codes: CodeStore,
        pushed: PushedRequests,
        consents: Consents,
        guard: Guard,
    ) -> None:
        self.rules = rules
        self._find_client = find_client
        self._tickets = tickets
        self._sessions = sessions
        self._codes = codes
        self._pushed = pushed
        self._consents = consents
        self._guard = guard

    def begin(self, parameters: Parameters, visitor: Visitor, now: datetime) -> Step:
        """Return the first step of a request; raise NoRedirect if it must be shown as a page."""
        return self._next(self._resolved(parameters, now, now, in_ticket=False), visitor, now)

    def resume(self, ticket: str, visitor: Visitor, now: datetime) -> Step:
        """Return the next step of the request in a ticket; raise NoRedirect if it must be shown as a page."""
        read = self._tickets.read(ticket, visitor.device, now)
        if read is None:
            raise NoRedirect(
                "the request is of another browser, or was changed; go back to the application and start again"
            )
        return self._next(self._of_ticket(read, now), visitor, now)

    def pending(self, ticket: str, device: str, now: datetime) -> Pending | None:
        """Return the request in a ticket, for a page; None if it is unreadable, or no longer valid."""
        read = self._tickets.read(ticket, device, now)
        if read is None:
            return None
        try:
            begun = self._of_ticket(read, now)
            to = return_address(begun.parameters, begun.client)
            request = validated(to, begun.parameters, self.rules, now, begun.pushed)
        except OAuthError:
            return None
        return Pending(request, begun.started, ticket)

    def denied(self, pending: Pending) -> AuthorizationResponse:
        """Return the response for a user who does not consent."""
        error = AccessDenied("the user did not consent")
        return refusal(pending.request.returns_to, error, self.rules.issuer)

    def push(self, client: Client, parameters: Parameters, origin: Origin, now: datetime) -> str:
        """Store a request of an authenticated client; return its `request_uri`. Raise OAuthError, RFC 9126 section 2.

        It is validated as at the authorization endpoint.
        """
        if "request_uri" in dict(parameters):
            raise InvalidRequest("request_uri must not be pushed (RFC 9126 section 2.1)")
        to = return_address(parameters, client)
        # The digest is not known yet; that there is one satisfies clients that must push.
        validated(to, parameters, self.rules, now, pushed=b"")
        if not client.is_confidential:
            self._guard.push(origin, now)
        return self._pushed.add(client.id, parameters, now)

    def _of_ticket(self, ticket: Ticket, now: datetime) -> _Begun:
        begun = self._resolved(ticket.parameters, ticket.started, now, in_ticket=True)
        return _Begun(
            begun.client, begun.carried, begun.parameters, begun.started, begun.pushed, ticket.is_expired
        )

    def _resolved(
        self, parameters: Parameters, started: datetime, now: datetime, *, in_ticket: bool
    ) -> _Begun:
        """Return a request with the parameters that were pushed for it, if they were; raise NoRedirect."""
        client = require_client(parameters, self._find_client)
        request_uri = dict(parameters).get("request_uri", "")
        if not request_uri.startswith(URN):
            return _Begun(client, parameters, parameters, started)
        found = self._pushed.find(request_uri, client.id, now, in_ticket=in_ticket)
        if found is None:
            raise InvalidRequestURI
        # RFC 9101 section 6.3: parameters beside a pushed request are ignored.
        carried = (("client_id", client.id), ("request_uri", request_uri))
        return _Begun(client, carried, found, started, digest(request_uri))

    def _next(self, begun: _Begun, visitor: Visitor, now: datetime) -> Step:
        to = return_address(begun.parameters, begun.client)
        try:
            request = validated(to, begun.parameters, self.rules, now, begun.pushed)
            return self._decided(request, begun, visitor, now)
        except NoRedirect:
            raise
        except OAuthError as error:
            return refusal(to, error, self.rules.issuer)

    def _decided(self, request: AuthorizationRequest, begun: _Begun, visitor: Visitor, now: datetime) -> Step:
        scope = scope_of_user(request.scope, visitor.user.effective_scope if visitor.user else frozenset())

        def needs_consent(session: BrowserSession) -> bool:
            asked = scope_to_allow(request, scope)
            return self._consents.covers(session.user_id, request, asked, begun.started, now).needed

        match next_step(request, Facts(visitor.session, needs_consent, begun.started, now)):
            case Ask(page, reason):
                if begun.is_expired and page is not Page.CONSENT:
                    reason = Reason.EXPIRED
                ticket = self._tickets.signed(begun.carried, begun.started, visitor.device, now)
                return ToPage(page, ticket, reason)
            case Refuse(error):
                return refusal(request.returns_to, error, self.rules.issuer)
            case decided:
                return self._answered(request, decided.session, scope, begun, visitor, now)

    def _answered(
        self,
        request: AuthorizationRequest,
        session: BrowserSession,
        scope: frozenset[str],
        begun: _Begun,
        visitor: Visitor,
        now: datetime,
    ) -> Step:
        """Issue a code. If the user signed out or withdrew the consent meanwhile, the sign-in starts again."""
        code = new_code()

        def is_consented() -> bool:
            asked = scope_to_allow(request, scope)
            return not self._consents.covers(session.user_id, request, asked, begun.started, now).needed

        with suppress(SessionDeleted):
            sid = self._sessions.sid(session, request.client.id)
            stored = code_for(request, session, scope, sid, digest(code), now)
            if self._codes.add(stored, request.pushed, now, is_consented):
                return success(request.returns_to, code, self.rules.issuer)
        if Prompt.NONE in request.prompt:
            raise LoginRequired
        if request.pushed is not None:
            raise InvalidRequestURI
        ticket = self._tickets.signed(begun.carried, begun.started, visitor.device, now)
        return ToPage(Page.SIGN_IN, ticket, Reason.SESSION_ENDED)
