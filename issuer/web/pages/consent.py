"""`/consent`: a user allows an application what it asks for, or does not.

When users are asked is decided in `authorize.consent`; which page or response follows, in `web.oauth.authorize`.
"""

import json
from dataclasses import dataclass
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response

from issuer.accounts.user import User
from issuer.authorize.consent import ConsentReason, ConsentState, Place, destination, scope_to_allow
from issuer.authorize.flow import Pending
from issuer.authorize.request import scope_of_user
from issuer.authorize.scope_texts import in_words
from issuer.services import Authorize
from issuer.web.deps import AuthorizeDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.endpoints import renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.oauth.authorize import respond
from issuer.web.pages import paths
from issuer.web.pages.errors import PageError, message, render_error
from issuer.web.pages.page_request import PageRequest, PageRequestDep
from issuer.web.pages.rendering import LEAVING_POLICY, redirect, render
from issuer.web.pages.signin import SWITCH
from issuer.web.pages.words import date_of, words_for

router = APIRouter(route_class=UnambiguousRoute, include_in_schema=False)

PURPOSE = "consent"
ALLOW, DENY = "allow", "deny"
_REASONS = {
    ConsentReason.CLIENT_CHANGED: "Its name or its address has changed since.",
    ConsentReason.MORE_RESOURCES: "Now it asks for access to another service.",
    ConsentReason.MORE_SCOPE: "Now it asks for more.",
    ConsentReason.REQUESTED: "It asks you to confirm this again.",
    ConsentReason.UNPROVEN_CLIENT: "Any program on your computer can use this name, so you are asked each time.",
}
"""Why a user is asked who allowed something before."""
CHANGED = PageError("This page had changed since it was shown, so nothing was allowed. Please answer again.")


@dataclass(frozen=True)
class Asked:
    """What a user is asked, and who."""

    pending: Pending
    user: User
    scope: frozenset[str]
    state: ConsentState

    @property
    def shown(self) -> str:
        """What a form must have shown for its answer to count."""
        request = self.pending.request
        names = request.client.id, request.client.name, request.returns_to.redirect_uri, self.user.id
        return json.dumps([*names, self.pending.ticket, request.resources, sorted(self.scope)])


@router.get(paths.CONSENT)
@renders_errors(render_error)
async def show(
    page: PageRequestDep, authorize: AuthorizeDep, ticket: Annotated[str, Query()] = ""
) -> Response:
    """Ask the user, or go back to the request if there is nothing to ask."""
    asked = await anyio.to_thread.run_sync(_asked, page, authorize, ticket)
    if not isinstance(asked, Asked):
        return _without(page.request, asked, ticket)
    if not asked.state.needed:
        return redirect(page.request, paths.AUTHORIZE, ticket=asked.pending.ticket)
    return await anyio.to_thread.run_sync(_page, page, asked)


@router.post(paths.CONSENT)
@renders_errors(render_error)
async def answer(page: PageRequestDep, authorize: AuthorizeDep, sent: FormDep) -> Response:
    """Store the answer and go on; one to a form that showed something else is asked again."""
    ticket, decision = sent.parameters.get("ticket", ""), sent.parameters.get("decision")
    asked = await anyio.to_thread.run_sync(_asked, page, authorize, ticket)
    if not isinstance(asked, Asked):
        return _without(page.request, asked, ticket)

    def decide() -> Response:
        valid = page.sent_own_form(sent, PURPOSE, asked.shown)
        if not valid or decision not in {ALLOW, DENY}:
            return _page(page, asked, (CHANGED,))
        pending = asked.pending
        if decision == DENY:
            return respond(page.request, authorize.flow.denied(pending))
        authorize.consents.give(asked.user.id, pending.request, asked.scope, pending.started, page.now)
        return redirect(page.request, paths.AUTHORIZE, ticket=pending.ticket)

    return await anyio.to_thread.run_sync(decide)


def _asked(page: PageRequest, authorize: Authorize, ticket: str) -> Asked | Pending | None:
    """Return what the user is asked; the request alone if nobody is signed in, None if the ticket is not valid."""
    now, user = page.now, page.browser.user
    pending = authorize.flow.pending(ticket, page.browser.device, now)
    if pending is None or user is None:
        return pending
    scope = scope_to_allow(pending.request, scope_of_user(pending.request.scope, user.effective_scope))
    state = authorize.consents.covers(user.id, pending.request, scope, pending.started, now)
    return Asked(pending, user, scope, state)


def _without(request: Request, pending: Pending | None, ticket: str) -> Response:
    """Return the response to a browser without a session, or without a valid ticket."""
    if pending is not None:
        return redirect(request, paths.AUTHORIZE, ticket=ticket)
    text = "Its address was changed, or it belongs to another browser. Go back to the application, and start again."
    return message(request, "This page is not valid", text, status=400, link=(paths.ACCOUNT, "Your account"))


def _page(page: PageRequest, asked: Asked, errors: tuple[PageError, ...] = ()) -> Response:
    asks, state = asked.pending.request, asked.state
    client, to = asks.client, destination(asks.returns_to.redirect_uri)
    return render(
        page.request,
        "consent.html",
        status=400 if errors else 200,
        policy=LEAVING_POLICY,
        errors=errors,
        client_name=client.name,
        first_seen=date_of(client.created_at) if client.created_at else None,
        destination=words_for(to),
        is_program=to.place is not Place.SITE,
        scopes=in_words(asked.scope),
        new=state.new if state.given_at else frozenset(),
        resources=asks.resources,
        allowed_at=date_of(state.given_at) if state.given_at else None,
        why=_REASONS.get(state.reason) if state.reason else None,
        user=asked.user,
        ticket=asked.pending.ticket,
        switch=SWITCH,
        form_token=page.form_token(PURPOSE, asked.shown),
    )
