"""What may be registered of a client that users sign in to with a browser."""

import pytest
from support.defaults import START

from issuer.administration.clients import ClientOptions, register_client
from issuer.clients.client import Client
from issuer.oauth import AuthMethod, GrantType, InvalidRequest, ResponseType
from issuer.services import Issuer

CALLBACK = "https://app.example/callback"


def added(issuer: Issuer, auth_method: AuthMethod = AuthMethod.BASIC, **options: object) -> Client:
    typed: ClientOptions = {**options}  # type: ignore[typeddict-item] # of each test
    client, _ = register_client(
        issuer.clients.store, "an app", auth_method, frozenset({"items:read"}), (), START, **typed
    )
    assert issuer.clients.store.by_id(client.id) == client
    return client


@pytest.mark.parametrize("auth_method", [AuthMethod.BASIC, AuthMethod.NONE])
def test_a_client_with_a_redirect_uri_signs_users_in(issuer: Issuer, auth_method: AuthMethod) -> None:
    client = added(issuer, auth_method, redirect_uris=[CALLBACK])
    assert client.redirect_uris == (CALLBACK,)
    assert client.grant_types == {GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN}
    assert client.response_types == {ResponseType.CODE}
    assert client.requires_pkce
    assert not client.is_trusted


def test_a_client_without_a_redirect_uri_is_a_machine(issuer: Issuer) -> None:
    client = added(issuer)
    assert client.grant_types == {GrantType.CLIENT_CREDENTIALS, GrantType.REFRESH_TOKEN}
    assert client.response_types == frozenset()


def test_all_options_are_stored(issuer: Issuer) -> None:
    client = added(
        issuer,
        redirect_uris=[CALLBACK],
        post_logout_redirect_uris=["https://app.example/"],
        backchannel_logout_uri="https://app.example/logout",
        grant_types=frozenset({GrantType.AUTHORIZATION_CODE}),
        is_trusted=True,
        requires_pkce=False,
        requires_par=True,
        id_token_claims=["email", "email_verified", "email"],
    )
    assert client.post_logout_redirect_uris == ("https://app.example/",)
    assert client.backchannel_logout_uri == "https://app.example/logout"
    assert client.grant_types == {GrantType.AUTHORIZATION_CODE}
    assert (client.is_trusted, client.requires_pkce, client.requires_par) == (True, False, True)
    assert client.id_token_claims == ("email", "email_verified")


@pytest.mark.parametrize(
    ("auth_method", "options", "reason"),
    [
        (AuthMethod.BASIC, {"grant_types": {GrantType.AUTHORIZATION_CODE}}, "needs a redirect URI"),
        (AuthMethod.BASIC, {"grant_types": frozenset()}, "needs a grant"),
        (AuthMethod.BASIC, {"grant_types": {GrantType.PASSWORD}}, "built-in client only"),
        (AuthMethod.NONE, {"grant_types": {GrantType.CLIENT_CREDENTIALS}}, "that authenticates"),
        (AuthMethod.NONE, {"redirect_uris": [CALLBACK], "requires_pkce": False}, "must use PKCE"),
        (
            AuthMethod.BASIC,
            {"redirect_uris": [CALLBACK], "grant_types": {GrantType.CLIENT_CREDENTIALS}},
            "authorization_code",
        ),
        (AuthMethod.BASIC, {"is_trusted": True}, "authorization_code"),
        (AuthMethod.BASIC, {"requires_pkce": False}, "authorization_code"),
        (AuthMethod.BASIC, {"requires_par": True}, "authorization_code"),
        (AuthMethod.BASIC, {"post_logout_redirect_uris": [CALLBACK]}, "authorization_code"),
        (AuthMethod.BASIC, {"id_token_claims": ["email"]}, "authorization_code"),
        (
            AuthMethod.BASIC,
            {"redirect_uris": [CALLBACK], "id_token_claims": ["sub"]},
            "'sub' of id_tokens must be one of name",
        ),
        (AuthMethod.BASIC, {"redirect_uris": [f"{CALLBACK}/{each}" for each in range(21)]}, "at most 20"),
        (AuthMethod.BASIC, {"redirect_uris": ["http://app.example/"]}, "redirect URI 'http://app.example/'"),
        (
            AuthMethod.BASIC,
            {"redirect_uris": [CALLBACK], "post_logout_redirect_uris": ["javascript:x"]},
            "redirect URI 'javascript:x'",
        ),
        (
            AuthMethod.BASIC,
            {"redirect_uris": [CALLBACK], "backchannel_logout_uri": "http://app.example/"},
            "back-channel log-out URI",
        ),
    ],
)
def test_contradictions_and_unsafe_uris_are_refused_with_the_reason(
    issuer: Issuer, auth_method: AuthMethod, options: dict[str, object], reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        added(issuer, auth_method, **options)
    assert issuer.clients.store.all() == ([], [])
