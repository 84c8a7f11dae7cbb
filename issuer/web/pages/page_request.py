"""A request for a page: the browser that sends it, and what protects the forms of the page."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request

from issuer.clock import Clock
from issuer.oauth import OAuthRequest
from issuer.web.deps import ClockDep, UrlDep
from issuer.web.pages.browser import Browser, BrowserDep
from issuer.web.pages.errors import PageError
from issuer.web.pages.form_tokens import FIELD, FormTokens, FormTokensDep

FORM_REFUSED = PageError(
    "This form was too old, or did not come from this page. Nothing was lost: send it again."
)
COOKIES_NEEDED = PageError(
    "Your browser sent no cookie. Allow cookies for this site, then send the form again."
)


@dataclass(frozen=True)
class PageRequest:
    """A request, and what every page needs to answer it."""

    request: Request
    browser: Browser
    forms: FormTokens
    clock: Clock
    issuer_url: str

    @property
    def now(self) -> datetime:
        """The time, read anew."""
        return self.clock()

    def form_token(self, purpose: str, shown: str = "") -> str:
        """Return the token of a form; `shown` is what must not have changed when it is sent. Raise StoreError."""
        return self.forms.token(self.browser, purpose, self.clock(), shown)

    def sent_own_form(self, sent: OAuthRequest, purpose: str, shown: str = "") -> bool:
        """Return whether this browser sent the form from its page here; raise StoreError."""
        token = sent.parameters.get(FIELD, "")
        return self.forms.is_valid(self.request, token, self.browser, purpose, self.clock(), shown)

    @property
    def form_refused(self) -> PageError:
        """Why a form was not accepted, in words."""
        return FORM_REFUSED if self.browser.origin.device else COOKIES_NEEDED


async def get_page_request(
    request: Request, browser: BrowserDep, forms: FormTokensDep, clock: ClockDep, url: UrlDep
) -> PageRequest:
    """Return the request with what every page needs."""
    return PageRequest(request, browser, forms, clock, url)


PageRequestDep = Annotated[PageRequest, Depends(get_page_request)]
