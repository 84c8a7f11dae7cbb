"""A visit to a page on the way to an application: which application, and why the user is asked.

The request of the application is read by `authorize`; where a visit goes on is decided there as well.
"""

from dataclasses import dataclass, field

from fastapi import Request
from fastapi.responses import RedirectResponse

from issuer.authorize.consent import destination
from issuer.authorize.flow import Flow
from issuer.web.pages import paths
from issuer.web.pages.page_request import PageRequest
from issuer.web.pages.rendering import redirect
from issuer.web.pages.words import words_for


@dataclass(frozen=True)
class Application:
    """The application that asks, as users read it."""

    name: str
    destination: str
    """Where its redirect URI leads."""
    login_hint: str = ""


@dataclass(frozen=True)
class Visit:
    """A visit; without an application it goes on to the account of the user."""

    application: Application | None = None
    ticket: str = field(default="", repr=False)
    reason: str = ""
    is_lost: bool = False
    """Whether it came with a ticket of another browser, or one that is no longer valid."""

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters with which another page continues this visit."""
        return {"ticket": self.ticket} if self.ticket else {}

    def leave(self, request: Request) -> RedirectResponse:
        """Return the redirect to what the visit was for."""
        return redirect(request, paths.AUTHORIZE if self.ticket else paths.ACCOUNT, **self.parameters)


def visit_of(page: PageRequest, flow: Flow, ticket: str, reason: str) -> Visit:
    """Return the visit that the parameters of a page describe; raise StoreError."""
    if not ticket:
        return Visit(reason=reason)
    pending = flow.pending(ticket, page.browser.device, page.now)
    if pending is None:
        return Visit(reason=reason, is_lost=True)
    asks = pending.request
    to = destination(asks.returns_to.redirect_uri)
    application = Application(asks.client.name, words_for(to), asks.login_hint)
    return Visit(application, ticket, reason)
