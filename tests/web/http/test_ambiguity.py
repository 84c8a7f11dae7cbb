"""What may be sent twice, and how: requests that are ambiguous are refused, those that are merely untidy accepted."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as runs
from hypothesis import strategies as st
from support.defaults import ALICE, bearer
from support.endpoints import FORM, GRANT, TOKEN, refusal

ENDPOINTS = [
    ("GET", "/users/me"),
    ("GET", "/users/me/sessions"),
    ("DELETE", "/users/me/sessions/x"),
    ("POST", "/logout"),
    ("POST", "/login"),
    ("POST", "/users"),
    ("POST", TOKEN),
    ("POST", "/oauth2/revoke"),
    ("POST", "/oauth2/introspect"),
    ("GET", "/metrics"),
    ("GET", "/.well-known/jwks.json"),
]


def test_a_header_with_one_value_comes_once(web: TestClient) -> None:
    for method, path in ENDPOINTS:
        for name in ("Authorization", "Content-Type", "Origin", "aUTHORIZATION"):
            answer = web.request(method, path, headers=[(name, "Bearer a"), (name.lower(), "Bearer a")])
            assert name.lower() in refusal(answer)


@pytest.mark.parametrize("name", ["username", "scope", "client_id", "anything"])
def test_a_form_names_each_parameter_once(web: TestClient, machine: tuple[str, str], name: str) -> None:
    form = f"{GRANT}&token=x&username=a&password=b&{name}=c&{name[0]}%{ord(name[1]):x}{name[2:]}=c"
    for path in ("/login", TOKEN, "/oauth2/revoke", "/oauth2/introspect"):
        answer = web.post(path, content=form, headers={"Content-Type": FORM}, auth=machine)
        assert "repeated" in refusal(answer)


def test_a_multipart_log_in_names_each_parameter_once(web: TestClient) -> None:
    parts = [(name, (None, value)) for name, value in (*ALICE.items(), ("username", "bob"))]
    assert "repeated" in refusal(web.post("/login", files=parts))


@pytest.mark.parametrize(
    ("charset", "value"),
    [("undefined", b"a"), ("punycode", b"a"), ("utf-7", b"+AGE-"), ("latin-1", b"\xe9"), ("utf-8", b"\xe9")],
)
def test_a_multipart_log_in_is_utf_8_whatever_its_charset_says(
    web: TestClient, charset: str, value: bytes
) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="username"\r\n\r\n' + value + b"\r\n--x--\r\n"
    kind = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    assert refusal(web.post("/login", content=part, headers=kind)) == "the multipart form is not UTF-8"


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate, gzip", "br", "identity, identity"])
def test_a_compressed_body_is_refused_with_the_supported_encodings(web: TestClient, coding: str) -> None:
    for path in ("/login", "/users", TOKEN, "/oauth2/revoke", "/oauth2/introspect"):
        answer = web.post(path, content=b"x", headers={"Content-Type": FORM, "Content-Encoding": coding})
        if path != "/users":
            assert answer.status_code == 415
    kind = {"Content-Type": "application/json", "Content-Encoding": coding}
    answer = web.post("/users", content=b"{}", headers=kind)
    assert (answer.status_code, answer.json()["error"]) == (415, "invalid_request")
    assert answer.headers["Accept-Encoding"] == "identity"
    plain = web.post("/users", content=b"{}", headers={**kind, "Content-Encoding": "identity"})
    assert "username is missing" in refusal(plain)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"[]", "the body must be an object"),
        (b"null", "the body must be an object"),
        (b'"x"', "the body must be an object"),
        (b"{}", "username is missing; password is missing"),
        (b'{"username": 1, "password": ["x"]}', "username must be a string; password must be a string"),
        (b'{"username": null, "password": {}}', "username must be a string; password must be a string"),
    ],
)
def test_errors_in_a_document_are_described(web: TestClient, document: bytes, says: str) -> None:
    answer = web.post("/users", content=document, headers={"Content-Type": "application/json"})
    assert refusal(answer) == says


@runs(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["username", "password", "x"]), inner)
        ),
    )
)
def test_no_message_of_a_library_is_sent_for_a_document(web: TestClient, document: Any) -> None:
    answer = web.post("/users", content=json.dumps(document), headers={"Content-Type": "application/json"})
    assert not {"Input", "Field", "Value", "String"} & set(answer.text.replace('"', " ").split())


def test_no_message_of_a_library_is_sent_for_a_form(web: TestClient) -> None:
    answers = {
        "": "username is missing; password is missing",
        "grant_type=x&username=a&password=b": "grant_type has a value that is not supported",
    }
    for form, says in answers.items():
        assert refusal(web.post("/login", content=form, headers={"Content-Type": FORM})) == says
    file = {"username": ("a name", b"alice"), "password": (None, "x")}
    unreadable = "the body is not a multipart form of at most 50 parameters without files"
    assert refusal(web.post("/login", files=file)) == unreadable
    for content, kind in (
        (b"--x\r\n\r\n", "multipart/form-data"),
        (b"--x\r\nA\r\n\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n", "multipart/form-data; boundary=x"),
    ):
        assert refusal(web.post("/login", content=content, headers={"Content-Type": kind})) == unreadable


def test_a_body_that_turns_out_too_large_is_refused_like_one_with_a_large_content_length(
    web: TestClient,
) -> None:
    for path, kind in (
        ("/login", FORM),
        (TOKEN, FORM),
        ("/oauth2/revoke", FORM),
        ("/users", "application/json"),
    ):
        announced = web.post(path, content=b"a" * 70_000, headers={"Content-Type": kind})
        found = web.post(path, content=iter([b"a" * 35_000] * 2), headers={"Content-Type": kind})
        assert announced.status_code == found.status_code == 413
        assert announced.json() == found.json()


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ('{"username": "a", "username": "b", "password": "c"}', "repeated"),
        ('{"username": "a", "\\u0075sername": "b", "password": "c"}', "repeated"),
        ('{"username": "a", "password": "c", "more": {"x": 1, "x": 2}}', "repeated"),
        ('{"username": "a", "password": "c", "more": NaN}', "not a JSON"),
        ("[" * 10_000, "not a JSON"),
        ('{"username": "a"', "not a JSON"),
        (b'{"username": "\xff"}', "not UTF-8"),
        ("", "not a JSON"),
        ("[]", "body"),
        ("null", "body"),
    ],
)
def test_a_document_names_each_member_once(web: TestClient, document: str | bytes, says: str) -> None:
    answer = web.post("/users", content=document, headers={"Content-Type": "application/json"})
    assert says in refusal(answer)


def test_a_query_names_each_parameter_once(web: TestClient, alice: str) -> None:
    token = web.post("/login", data=ALICE).json()["access_token"]
    query = "/logout?everywhere=true&everywhere=false"
    assert "repeated" in refusal(web.post(query, headers=bearer(token)))
    assert web.post("/logout?everywhere=true", headers=bearer(token)).status_code == 204


def test_of_two_device_cookies_neither_counts(web: TestClient, alice: str) -> None:
    given = web.post("/login", data=ALICE).cookies["issuer_device"]
    web.cookies.clear()
    alone = web.post("/login", data=ALICE, headers={"Cookie": f"issuer_device={given}"})
    assert alone.cookies["issuer_device"] == given
    other = "A" * 43
    for headers in (
        [("Cookie", f"issuer_device={given}; issuer_device={other}")],
        [("Cookie", f"issuer_device={given}"), ("Cookie", f"issuer_device={other}")],
    ):
        web.cookies.clear()
        assert web.post("/login", data=ALICE, headers=headers).cookies["issuer_device"] not in {given, other}
