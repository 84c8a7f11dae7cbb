"""When a user is asked for consent, and what is stored of the answer."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import pytest
from support.authorization import APP, REDIRECT_URI, SCOPE, a_request, app
from support.stores import NOW

from issuer.authorize.consent import (
    Consent,
    ConsentReason,
    ConsentState,
    Destination,
    Place,
    consent_state,
    consent_to,
    destination,
)
from issuer.authorize.request import AuthorizationRequest, Prompt
from issuer.oauth import AuthMethod

LATER = NOW + timedelta(minutes=5)
LOOPBACK, SCHEME = "http://127.0.0.1:1234/callback", "com.example.app:/callback"


def given(
    request: AuthorizationRequest, scope: frozenset[str] = SCOPE, before: Consent | None = None
) -> list[Consent]:
    resources = request.resources or ("",)
    return [consent_to(request, "alice", resource, scope, NOW, before) for resource in resources]


def reason(
    request: AuthorizationRequest, consents: Iterable[Consent], scope: frozenset[str] = SCOPE
) -> ConsentReason | None:
    """Why a request that begins after the consents is asked about."""
    return consent_state(request, scope, consents, LATER, LATER).reason


def test_a_user_is_asked_once_for_the_same_request() -> None:
    request = a_request()
    assert consent_state(request, SCOPE, [], NOW, LATER) == ConsentState(ConsentReason.FIRST, None, SCOPE)
    state = consent_state(request, SCOPE, given(request), LATER, LATER)
    assert not state.needed
    assert state.given_at == NOW


def test_a_user_is_asked_for_more_scope_and_told_which_is_new() -> None:
    request = a_request()
    more = SCOPE | {"items:write"}
    state = consent_state(request, more, given(request), LATER, LATER)
    assert state == ConsentState(ConsentReason.MORE_SCOPE, NOW, frozenset({"items:write"}))
    assert reason(request, given(request), frozenset({"openid"})) is None


def test_a_user_is_asked_for_another_resource() -> None:
    one, other = "https://api.example", "https://mail.example"
    consents = given(a_request(resources=(one,)))
    assert reason(a_request(resources=(one,)), consents) is None
    assert reason(a_request(resources=(other,)), consents) is ConsentReason.FIRST
    assert reason(a_request(resources=(one, other)), consents) is ConsentReason.MORE_RESOURCES
    assert reason(a_request(), consents) is ConsentReason.FIRST


def test_scope_counts_as_allowed_only_where_it_was_allowed_at_each_resource() -> None:
    one, other = "https://api.example", "https://mail.example"
    consents = [
        *given(a_request(resources=(one,))),
        *given(a_request(resources=(other,)), frozenset({"openid"})),
    ]
    state = consent_state(a_request(resources=(one, other)), SCOPE, consents, LATER, LATER)
    assert state == ConsentState(ConsentReason.MORE_SCOPE, NOW, frozenset({"items:read"}))


@pytest.mark.parametrize(
    "changed",
    [a_request(app(name="Shopping lists")), a_request(redirect_uri="https://other.example/callback")],
    ids=["name", "host"],
)
def test_a_user_is_asked_again_when_the_client_looks_different(changed: AuthorizationRequest) -> None:
    consents = given(a_request())
    assert reason(changed, consents) is ConsentReason.CLIENT_CHANGED
    assert reason(a_request(redirect_uri="https://app.example/another-path"), consents) is None


def test_what_was_allowed_to_a_client_that_looked_different_does_not_count_any_more() -> None:
    (before,) = given(a_request(), SCOPE | {"items:write"})
    (after,) = given(a_request(app(name="Shopping lists")), SCOPE, before)
    assert after.scope == SCOPE
    assert reason(a_request(), [after]) is ConsentReason.CLIENT_CHANGED


def test_later_consent_adds_to_what_was_allowed_before() -> None:
    (before,) = given(a_request())
    (after,) = given(a_request(), frozenset({"items:write"}), before)
    assert reason(a_request(), [after], SCOPE | {"items:write"}) is None


def test_a_client_may_demand_that_the_user_is_asked_again() -> None:
    request = a_request(prompt=Prompt.CONSENT)
    assert reason(request, given(request)) is ConsentReason.REQUESTED
    assert not consent_state(request, SCOPE, given(request), NOW, LATER).needed


@pytest.mark.parametrize("redirect_uri", [LOOPBACK, SCHEME, "http://localhost/callback", "http://[::1]:7/cb"])
def test_a_program_without_a_secret_on_the_computer_of_the_user_is_asked_about_each_time(
    redirect_uri: str,
) -> None:
    request = a_request(app(auth_method=AuthMethod.NONE), redirect_uri)
    assert reason(request, given(request)) is ConsentReason.UNPROVEN_CLIENT
    assert not consent_state(request, SCOPE, given(request), NOW, LATER).needed
    with_secret = a_request(APP, redirect_uri)
    assert reason(with_secret, given(with_secret)) is None
    on_the_web = a_request(app(auth_method=AuthMethod.NONE), REDIRECT_URI)
    assert reason(on_the_web, given(on_the_web)) is None


def test_consent_that_a_wrong_clock_dated_into_the_future_is_not_fresh_for_ever() -> None:
    request = a_request(prompt=Prompt.CONSENT)
    wrong = [replace(given(request)[0], given_at=NOW + timedelta(days=365))]
    assert consent_state(request, SCOPE, wrong, NOW, LATER).reason is ConsentReason.REQUESTED
    assert not consent_state(a_request(), SCOPE, wrong, NOW, LATER).needed


def test_consent_to_less_does_not_renew_what_must_be_asked_each_time() -> None:
    request = a_request(app(auth_method=AuthMethod.NONE), LOOPBACK)
    (before,) = given(request)
    less = consent_to(request, "alice", "", frozenset({"openid"}), LATER, before)
    assert consent_state(request, SCOPE, [less], LATER, LATER).reason is ConsentReason.MORE_SCOPE


@pytest.mark.parametrize("prompt", [None, Prompt.CONSENT])
@pytest.mark.parametrize("redirect_uri", [LOOPBACK, REDIRECT_URI])
def test_users_are_never_asked_about_a_trusted_client(prompt: Prompt | None, redirect_uri: str) -> None:
    trusted = app(is_trusted=True, auth_method=AuthMethod.NONE)
    assert not consent_state(a_request(trusted, redirect_uri, prompt=prompt), SCOPE, [], NOW, LATER).needed


@pytest.mark.parametrize(
    ("redirect_uri", "expected"),
    [
        ("https://App.Example:443/callback?a=b", Destination(Place.SITE, "app.example")),
        ("https://app.example:8443/callback", Destination(Place.SITE, "app.example:8443")),
        ("https://bücher.example/", Destination(Place.SITE, "xn--bcher-kva.example")),
        ("https://localhost.evil.example/", Destination(Place.SITE, "localhost.evil.example")),
        (LOOPBACK, Destination(Place.LOOPBACK, "")),
        ("http://localhost:7/", Destination(Place.LOOPBACK, "")),
        (SCHEME, Destination(Place.PRIVATE_SCHEME, "com.example.app")),
        ("cursor://anysphere.cursor-mcp/oauth/callback", Destination(Place.PRIVATE_SCHEME, "cursor")),
    ],
)
def test_the_destination_of_a_redirect_is_named_in_one_form(redirect_uri: str, expected: Destination) -> None:
    assert destination(redirect_uri) == expected
