"""The discovery documents list exactly what is registered."""

import pytest
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from support.defaults import ALICE, Build
from support.endpoints import ISSUER, verified

from issuer.clients.key_sets import ALGORITHMS
from issuer.oauth import AuthMethod
from issuer.settings.settings import Settings
from issuer.web.app import create_app

DOCUMENTS = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_discovery_document_lists_the_registered_endpoints_and_nothing_else(
    web: TestClient, path: str
) -> None:
    answer = web.get(path)
    every = ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]
    assert answer.json() == {
        "issuer": ISSUER,
        "jwks_uri": f"{ISSUER}/.well-known/jwks.json",
        "token_endpoint": f"{ISSUER}/oauth2/token",
        "token_endpoint_auth_methods_supported": every,
        "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "revocation_endpoint": f"{ISSUER}/oauth2/revoke",
        "revocation_endpoint_auth_methods_supported": every,
        "revocation_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "introspection_endpoint": f"{ISSUER}/oauth2/introspect",
        "introspection_endpoint_auth_methods_supported": every[:-1],
        "introspection_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "grant_types_supported": ["authorization_code", "client_credentials", "password", "refresh_token"],
        "authorization_endpoint": f"{ISSUER}/oauth2/authorize",
        "pushed_authorization_request_endpoint": f"{ISSUER}/oauth2/par",
        "userinfo_endpoint": f"{ISSUER}/oauth2/userinfo",
        "end_session_endpoint": f"{ISSUER}/oauth2/logout",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "prompt_values_supported": ["none", "login", "consent", "select_account", "create"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": [
            *("iss", "sub", "aud", "exp", "iat", "auth_time", "sid", "acr", "amr", "at_hash", "nonce"),
            *("name", "preferred_username", "updated_at", "email", "email_verified"),
        ],
        "claims_parameter_supported": True,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "acr_values_supported": ["1"],
        "ui_locales_supported": ["en"],
        "backchannel_logout_supported": True,
        "backchannel_logout_session_supported": True,
    }
    assert answer.headers["access-control-allow-origin"] == "*"


def test_every_url_is_that_of_an_endpoint(web: TestClient) -> None:
    paths = {route.path for route in iter_route_contexts(web.app.routes)}  # type: ignore[attr-defined]
    urls = [
        value for name, value in web.get(DOCUMENTS[0]).json().items() if name.endswith(("_uri", "_endpoint"))
    ]
    assert len(urls) == 8
    assert {url.removeprefix(ISSUER) for url in urls} <= paths


def test_every_listed_endpoint_authenticates_clients_as_listed(
    web: TestClient, machine: tuple[str, str]
) -> None:
    document = web.get(DOCUMENTS[0]).json()
    endpoints = [name.removesuffix("_auth_methods_supported") for name in document if "_auth_methods" in name]
    assert endpoints == ["token_endpoint", "revocation_endpoint", "introspection_endpoint"]
    form = {"grant_type": "client_credentials", "token": "a token"}
    for endpoint in endpoints:
        path, methods = (
            document[endpoint].removeprefix(ISSUER),
            document[f"{endpoint}_auth_methods_supported"],
        )
        secret = dict(zip(("client_id", "client_secret"), machine, strict=True))
        by = {
            AuthMethod.BASIC: web.post(path, data=form, auth=machine),
            AuthMethod.POST: web.post(path, data={**form, **secret}),
            AuthMethod.NONE: web.post(path, data={**form, "client_id": "first-party"}),
        }
        for method, answer in by.items():
            assert (answer.json().get("error") if answer.content else None) in (
                {None, "unauthorized_client"} if method in methods else {"invalid_client"}
            )


def test_discovery_has_no_empty_member(made: Build, settings: Settings) -> None:
    for changes in ({}, {"password_login": "off"}, {"algorithm": "ES256"}):
        with TestClient(create_app(made(settings.model_copy(update=changes)))) as web:
            document = web.get(DOCUMENTS[1]).json()
        assert [name for name, value in document.items() if value in ([], "", None)] == []
        lists = [value for value in document.values() if isinstance(value, list)]
        assert all(len(each) == len(set(each)) for each in lists)


def test_prompt_create_is_listed_only_while_registration_is_open(made: Build, settings: Settings) -> None:
    with TestClient(create_app(made(settings.model_copy(update={"registration": "closed"})))) as web:
        prompts = web.get(DOCUMENTS[1]).json()["prompt_values_supported"]
    assert prompts == ["none", "login", "consent", "select_account"]


def test_of_the_scopes_of_services_those_that_are_public_are_listed(made: Build, settings: Settings) -> None:
    public = settings.model_copy(update={"public_scopes": "email items:read"})
    with TestClient(create_app(made(public))) as web:
        listed = [web.get(path).json()["scopes_supported"] for path in DOCUMENTS]
    assert listed == [["openid", "profile", "email", "offline_access", "items:read"]] * 2


def test_the_issuer_url_is_never_taken_from_the_host_header(web: TestClient, alice: str) -> None:
    answer = web.get(DOCUMENTS[1], headers={"Host": "evil.example"})
    assert "evil" not in answer.text
    token = web.post("/login", data=ALICE, headers={"Host": "evil.example"}).json()["access_token"]
    assert verified(web, token)["iss"] == ISSUER
