"""Resources: equivalent URIs are equal, and anything else is refused."""

import base64
import json

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from issuer.administration.clients import register_client, require_audiences
from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.urls import BadURL, comparable, resource

TOKEN = "/oauth2/token"


@pytest.mark.parametrize(
    ("registered", "asked", "same"),
    [
        ("https://a.example", "https://a.example/", True),
        ("https://a.example/", "https://a.example", True),
        ("https://a.example", "https://A.Example:443/", True),
        ("https://a.example/%7Ex", "https://a.example/~x", True),
        ("https://a.example/%c3%bc", "https://a.example/%C3%BC", True),
        ("https://a.example/v1", "https://a.example/v1/", True),
        ("https://a.example", "http://a.example", False),
        ("https://a.example", "https://a.example:8443", False),
        ("https://a.example", "https://a.example/?", False),
        ("https://a.example/%2F", "https://a.example//", False),
        ("https://a.example/v1", "https://a.example/v1//", False),
        ("urn:a", "urn:a/", False),
        ("https://a.example", "https://x@a.example", False),
        ("https://a.example", "https://a.example#x", False),
        ("urn:a", "urn:A", False),
        ("https://a.example", "https://a.example.", False),
    ],
)
def test_equivalent_spellings_name_the_same_resource_as_it_is_registered(
    web: TestClient, issuer: Issuer, registered: str, asked: str, same: bool
) -> None:
    audiences = (registered, "https://other.example")
    client, secret = register_client(
        issuer.clients.store, "r", AuthMethod.BASIC, frozenset({"a"}), audiences, issuer.clock()
    )
    form = {"grant_type": "client_credentials", "resource": asked}
    answer = web.post(TOKEN, data=form, auth=(client.id, secret or ""))
    assert (answer.status_code == 200) is same
    if same:
        payload = answer.json()["access_token"].split(".")[1]
        assert json.loads(base64.urlsafe_b64decode(payload + "=="))["aud"] in (registered, [registered])


@given(st.text(max_size=60))
def test_any_text_has_a_comparable_form_which_is_its_own(text: str) -> None:
    assert comparable(comparable(text)) == comparable(text)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "notaurl", "//a.example", "/path", "https://", "https:///x", "https:a", "https://a b", "https://a#",
        "https://a#x", "https://u@a", "https://u:p@a", "https://a:0", "https://a:99999", "https://a:x", "https://[::1",
        "https://é", "https://a\x00", "https://a\u202e", "https://a/%", "https://a/%zz", "localhost:8001",
        "https://a<b>", "https://a\\b", "x" * 3000, "https://" + "a" * 3000, "1:2", ":x", "https://a\n/b",
        " https://a", "https://a\n", "\thttps://a",
    ],
)  # fmt: skip
def test_a_value_that_is_no_resource_is_refused(text: str) -> None:
    with pytest.raises(BadURL):
        resource(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://a",
        "http://127.0.0.1:8001",
        "https://[::1]:8443/x?y=z",
        "urn:example:api",
        "api:x",
    ],
)
def test_an_absolute_uri_is_a_resource(text: str) -> None:
    assert require_audiences([text], "https://default.example") == (text,)
