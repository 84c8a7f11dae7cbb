"""The OpenID Foundation's configuration plan: the discovery document and the JWKS."""

from typing import Any

import jwt
import pytest
from fastapi.testclient import TestClient
from support.endpoints import ISSUER

KNOWN_TO_THE_SUITE = frozenset(
    {
        *("issuer", "authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri"),
        *("end_session_endpoint", "registration_endpoint", "pushed_authorization_request_endpoint"),
        *("scopes_supported", "response_types_supported", "response_modes_supported"),
        *("grant_types_supported", "acr_values_supported", "subject_types_supported"),
        *("id_token_signing_alg_values_supported", "claims_supported", "claims_parameter_supported"),
        *("request_parameter_supported", "request_uri_parameter_supported", "ui_locales_supported"),
        *("code_challenge_methods_supported", "prompt_values_supported"),
        *("authorization_response_iss_parameter_supported", "require_pushed_authorization_requests"),
        *("backchannel_logout_supported", "backchannel_logout_session_supported", "claim_types_supported"),
        *("revocation_endpoint", "introspection_endpoint"),
        *(
            f"{endpoint}_endpoint_auth_{what}_supported"
            for endpoint in ("token", "revocation", "introspection")
            for what in ("methods", "signing_alg_values")
        ),
    }
)
"""Members that it knows; it warns at others."""
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@pytest.fixture
def metadata(web: TestClient) -> dict[str, Any]:
    answer = web.get(f"{ISSUER}/.well-known/openid-configuration")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    document: dict[str, Any] = answer.json()
    return document


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("response_types_supported", "code"),
        ("subject_types_supported", "public"),
        ("id_token_signing_alg_values_supported", "RS256"),
        ("scopes_supported", "openid"),
        ("claims_supported", "sub"),
        ("grant_types_supported", "authorization_code"),
        ("code_challenge_methods_supported", "S256"),
        ("response_modes_supported", "form_post"),
        ("token_endpoint_auth_methods_supported", "client_secret_basic"),
        ("prompt_values_supported", "none"),
    ],
)
def test_a_list_of_the_discovery_document_has_what_the_plan_demands(
    metadata: dict[str, Any], member: str, value: str
) -> None:
    assert isinstance(metadata[member], list)
    assert value in metadata[member]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("issuer", ISSUER),
        ("claims_parameter_supported", True),
        ("request_parameter_supported", False),
        ("request_uri_parameter_supported", False),
        ("authorization_response_iss_parameter_supported", True),
        ("backchannel_logout_supported", True),
    ],
)
def test_a_value_of_the_discovery_document_is_as_the_plan_demands(
    metadata: dict[str, Any], member: str, value: str | bool
) -> None:
    assert metadata[member] == value


def test_every_endpoint_is_a_url_of_the_issuer(metadata: dict[str, Any]) -> None:
    urls = {name: value for name, value in metadata.items() if name.endswith(("_endpoint", "_uri"))}
    assert urls.keys() >= {"authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri"}
    assert {url for url in urls.values() if not url.startswith(f"{ISSUER}/")} == set()


def test_no_member_is_null_empty_or_unknown(metadata: dict[str, Any]) -> None:
    assert [name for name, value in metadata.items() if value in (None, "", [], {})] == []
    assert metadata.keys() <= KNOWN_TO_THE_SUITE


def test_the_keys_are_usable_public_and_have_different_kids(
    web: TestClient, metadata: dict[str, Any]
) -> None:
    keys = web.get(metadata["jwks_uri"]).json()["keys"]
    assert len({key["kid"] for key in keys}) == len(keys) > 0
    for key in keys:
        assert not PRIVATE_MEMBERS.intersection(key)
        assert jwt.PyJWK(key).algorithm_name == "RS256"
