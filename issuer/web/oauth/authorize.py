"""`GET` and `POST /oauth2/authorize`: the authorization endpoint, RFC 6749 section 3.1, and its responses to clients.

What a request leads to is decided in `authorize.flow`. Pages send the browser back here with the ticket of its
request.
"""

from urllib.parse import urlencode

import anyio.to_thread
from fastapi import APIRouter, Request, Response

from issuer.authorize.errors import NoRedirect
from issuer.authorize.flow import Flow, Step, ToPage, Visitor
from issuer.authorize.request import Parameters
from issuer.authorize.response import AuthorizationResponse
from issuer.clients.redirect_uris import difference
from issuer.clock import Clock
from issuer.oauth import InvalidRequest, ResponseMode
from issuer.urls import is_loopback
from issuer.web.deps import AuthorizeDep, ClockDep, UrlDep
from issuer.web.http.body_limit import read_body
from issuer.web.http.endpoints import renders_errors
from issuer.web.http.errors import NO_STORE
from issuer.web.http.forms import FORM, read_verbatim, require_type
from issuer.web.http.security_headers import allowing_scripts
from issuer.web.instruments import Instruments
from issuer.web.pages.browser import BrowserDep
from issuer.web.pages.errors import message, render_error
from issuer.web.pages.paths import AUTHORIZE
from issuer.web.pages.rendering import LEAVING_POLICY, redirect, render, with_cookies

router = APIRouter(include_in_schema=False)

REQUEST_MOST_BYTES = 7 * 1024
"""A longer request can be pushed, RFC 9126. It travels in a ticket, and servers accept URLs of 8 KiB."""
_TICKET_MOST_BYTES = 8 * 1024
_UNFRAMED = {"X-Frame-Options": "DENY", "Content-Security-Policy": "frame-ancestors 'none'"}
"""Headers of redirects: no frame may show where they lead, OAuth 2.1 section 7.11."""

_FOR_POPUPS = {"Cross-Origin-Opener-Policy": "unsafe-none"}
"""The application may have opened a window for the sign-in, and must find it again when it has returned."""


@router.get(AUTHORIZE, name="authorization_endpoint")
@renders_errors(render_error)
async def authorize(
    request: Request, domain: AuthorizeDep, browser: BrowserDep, clock: ClockDep, url: UrlDep
) -> Response:
    """Take an authorization request, or the one in a ticket, to its next step."""
    encoded = request.scope["query_string"]
    visitor = Visitor(browser.device, browser.session, browser.user)

    def step() -> Step:
        return _step(domain.flow, _parameters(encoded), visitor, clock)

    try:
        taken = await anyio.to_thread.run_sync(step)
    except NoRedirect as error:
        return _refused(request, error, url)
    if isinstance(taken, ToPage):
        to = redirect(request, taken.page, ticket=taken.ticket, reason=taken.reason or "")
        to.headers.update(_UNFRAMED)
        return to
    return respond(request, taken)


@router.post(AUTHORIZE)
@renders_errors(render_error)
async def authorize_by_form(request: Request, browser: BrowserDep, url: UrlDep) -> Response:
    """Redirect to the same request as a GET: browsers send no session cookie with a POST from another site."""
    del browser  # for the device cookie
    require_type(request.headers.get("content-type", ""), (FORM,))
    try:
        query = urlencode(_parameters((await read_body(request)).rstrip(b"\r\n")))
        _require_short(query)  # it may have become longer: a form need not escape everything
    except NoRedirect as error:
        return _refused(request, error, url)
    to = redirect(request, AUTHORIZE)
    to.headers["Location"] += f"?{query}"
    to.headers.update(_UNFRAMED)
    return to


def respond(request: Request, response: AuthorizationResponse) -> Response:
    """Send a response to its client: by redirect, or by a page whose form is sent to it (Form Post section 2)."""
    if response.returns_to.response_mode is ResponseMode.FORM_POST:
        page = render(request, "form_post.html", policy=LEAVING_POLICY, response=response)
        # The form is sent by a script; without scripts, by its button.
        page.headers["Content-Security-Policy"] = allowing_scripts(LEAVING_POLICY, bytes(page.body).decode())
        page.headers.update(_FOR_POPUPS)
        return page
    headers = {**NO_STORE, **_UNFRAMED, "Location": response.url}
    return with_cookies(request, Response(status_code=303, headers=headers))


def _step(flow: Flow, parameters: Parameters, visitor: Visitor, clock: Clock) -> Step:
    given = dict(parameters)
    if "ticket" in given and "client_id" not in given:
        return flow.resume(given["ticket"], visitor, clock())
    return flow.begin(parameters, visitor, clock())


def _parameters(encoded: bytes) -> Parameters:
    """Return the parameters of a request; raise NoRedirect: what is ambiguous names no certain client."""
    _require_short(encoded, _TICKET_MOST_BYTES if encoded.startswith(b"ticket=") else REQUEST_MOST_BYTES)
    try:
        return read_verbatim(encoded)
    except InvalidRequest as error:
        raise NoRedirect(error.description) from None


def _require_short(encoded: bytes | str, most: int = REQUEST_MOST_BYTES) -> None:
    if len(encoded) > most:
        raise NoRedirect(f"the request is larger than {REQUEST_MOST_BYTES} bytes; push it instead (RFC 9126)")


def _refused(request: Request, error: NoRedirect, issuer_url: str) -> Response:
    """Return a page for an error that must not be sent to a client; developers see more, on their own computer."""
    Instruments.of(request).request_refused(request.scope, error.code)
    details = [("Error", error.description)]
    if error.sent and is_loopback(issuer_url):
        details.append(("Sent", error.sent))
        if error.registered:
            details += [
                ("Registered", error.registered),
                ("Difference", difference(error.sent, error.registered)),
            ]
    return message(
        request,
        "This sign-in cannot start",
        "Go back to the application that you came from and start again. If that does not help, tell its operator.",
        status=error.status,
        details=details,
    )
