"""The discovery documents list exactly what is registered."""

import pytest
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
        "grant_types_supported": ["client_credentials", "password", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }
    assert answer.headers["access-control-allow-origin"] == "*"


def test_every_url_is_that_of_an_endpoint(web: TestClient) -> None:
    paths = web.get("/openapi.json").json()["paths"]
    urls = [
        value for name, value in web.get(DOCUMENTS[0]).json().items() if name.endswith(("_uri", "_endpoint"))
    ]
    assert len(urls) == 4
    assert {url.removeprefix(ISSUER) for url in urls} <= paths.keys()


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
        assert "response_types_supported" not in document  # RFC 8414 section 3.2: no claim with zero elements


def test_the_issuer_url_is_never_taken_from_the_host_header(web: TestClient, alice: str) -> None:
    answer = web.get(DOCUMENTS[1], headers={"Host": "evil.example"})
    assert "evil" not in answer.text
    token = web.post("/login", data=ALICE, headers={"Host": "evil.example"}).json()["access_token"]
    assert verified(web, token)["iss"] == ISSUER
