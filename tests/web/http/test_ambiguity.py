"""What may be sent twice, and how: requests that are ambiguous are refused, those that are merely untidy accepted."""

import asyncio
import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as runs
from hypothesis import strategies as st
from support.defaults import ALICE, Build, MovableClock, bearer

from issuer.administration.clients import register_client, require_audiences
from issuer.oauth import AuthMethod, OAuthError
from issuer.settings.settings import Settings
from issuer.urls import BadURL, comparable, resource
from issuer.web.app import create_app
from issuer.web.http.forms import read_form
from issuer.wiring import Issuer

FORM = "application/x-www-form-urlencoded"
TOKEN = "/oauth2/token"
GRANT = "grant_type=client_credentials"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Keys that are quick to make: what they sign is of no matter here."""
    return settings.model_copy(update={"algorithm": "ES256"})


def refusal(answer: Any) -> str:
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"] == "invalid_request"
    description: str = answer.json()["error_description"]
    return description


# Twice


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


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate, gzip", "br", "identity, identity"])
def test_a_compressed_body_is_refused_and_told_how_to_send_it(web: TestClient, coding: str) -> None:
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
def test_what_is_wrong_with_a_document_is_told_in_plain_words(
    web: TestClient, document: bytes, says: str
) -> None:
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
def test_no_word_of_a_library_reaches_who_sends_a_document(web: TestClient, document: Any) -> None:
    answer = web.post("/users", content=json.dumps(document), headers={"Content-Type": "application/json"})
    assert not {"Input", "Field", "Value", "String"} & set(answer.text.replace('"', " ").split())


def test_no_word_of_a_library_reaches_who_sends_a_form(web: TestClient) -> None:
    answers = {
        "": "username is missing; password is missing",
        "grant_type=x&username=a&password=b": "grant_type has a value that is not supported",
    }
    for form, says in answers.items():
        assert refusal(web.post("/login", content=form, headers={"Content-Type": FORM})) == says
    file = {"username": ("a name", b"alice"), "password": (None, "x")}
    unreadable = "the body is no multipart form of at most 50 parameters, none of them a file"
    assert refusal(web.post("/login", files=file)) == unreadable
    for content, kind in (
        (b"--x\r\n\r\n", "multipart/form-data"),
        (b"--x\r\nA\r\n\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n", "multipart/form-data; boundary=x"),
    ):
        assert refusal(web.post("/login", content=content, headers={"Content-Type": kind})) == unreadable


def test_a_body_that_turns_out_too_large_is_refused_as_one_that_says_so(web: TestClient) -> None:
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


def test_a_preflight_that_is_refused_is_answered_in_the_protocols_shape(web: TestClient) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert refusal(web.options("/login", headers=asked)) == "not allowed across origins: origin"
    assert (
        refusal(web.options("/.well-known/jwks.json", headers=asked)) == "not allowed across origins: method"
    )


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


# Untidy


@pytest.mark.parametrize(
    "form",
    [
        f"{GRANT}\n",
        f"{GRANT}\r\n",
        f"{GRANT}%0A",
        f"{GRANT}%0D%0A",
        f"{GRANT}+",
        f"\ufeff{GRANT}",
        f"&{GRANT}&&",
        f"{GRANT}&scope=items:read++items:read",
        f"{GRANT}&scope=+items:read%20%0A",
        f"{GRANT}&scope=items:read%09items:write",
        f"{GRANT}&scope=",
        f"{GRANT}&resource=http://127.0.0.1:8001/",
        f"{GRANT}&resource=HTTP://127.0.0.1:8001",
        f"{GRANT}&resource=http%3A%2F%2F127.0.0.1%3A8001%0A",
        f"{GRANT}&resource=",
        f"{GRANT}&name=é",
    ],
)
def test_a_form_as_people_send_it_is_understood(web: TestClient, machine: tuple[str, str], form: str) -> None:
    answer = web.post(TOKEN, content=form.encode(), headers={"Content-Type": FORM}, auth=machine)
    assert (answer.status_code, answer.json().get("scope")) == (200, "items:read"), answer.text


@pytest.mark.parametrize(
    "content_type",
    [
        FORM,
        f"{FORM};charset=UTF-8",
        f'{FORM}; charset="utf-8"',
        f"{FORM}; charset=ISO-8859-1",  # what Apache's HttpClient says of pure ASCII
        FORM.upper(),
    ],
)
def test_a_form_says_its_charset_or_not(web: TestClient, machine: tuple[str, str], content_type: str) -> None:
    answer = web.post(TOKEN, content=GRANT, headers={"Content-Type": content_type}, auth=machine)
    assert answer.status_code == 200


@pytest.mark.parametrize("secret_end", ["\n", "\r\n", " "])
def test_a_line_end_after_a_client_secret_is_no_part_of_it(
    web: TestClient, machine: tuple[str, str], secret_end: str
) -> None:
    client_id, secret = machine
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret + secret_end}
    assert web.post(TOKEN, data=form).status_code == 200
    if secret_end.isspace() and secret_end != " ":
        echoed = base64.b64encode(f"{client_id}:{secret}{secret_end}".encode()).decode()
        basic = {"Authorization": f"Basic {echoed}"}
        assert web.post(TOKEN, data={"grant_type": "client_credentials"}, headers=basic).status_code == 200


def test_an_empty_authorization_header_is_none(web: TestClient, machine: tuple[str, str]) -> None:
    form = {"grant_type": "client_credentials", "client_id": machine[0], "client_secret": machine[1]}
    assert web.post(TOKEN, data=form, headers={"Authorization": ""}).status_code == 200


@pytest.mark.usefixtures("alice")
def test_a_public_client_may_come_as_basic_with_an_empty_secret(
    web: TestClient, machine: tuple[str, str]
) -> None:
    session = web.post("/login", data=ALICE).json()
    form = {"grant_type": "refresh_token", "refresh_token": session["refresh_token"]}
    assert web.post(TOKEN, data=form, auth=("first-party", "")).status_code == 200
    refused = web.post(TOKEN, data={"grant_type": "client_credentials"}, auth=(machine[0], ""))
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")


def test_blanks_and_letters_of_any_language_belong_to_a_password(web: TestClient) -> None:
    account = {"username": "müller", "password": "  zwölf Boxkämpfer \u4e2d "}
    assert web.post("/users", json=account).status_code == 201
    raw = f"username={account['username']}&password={account['password'].replace(' ', '+')}".encode()
    for path, more in (("/login", b""), (TOKEN, b"&grant_type=password&client_id=first-party")):
        answer = web.post(path, content=raw + more, headers={"Content-Type": FORM})
        assert answer.status_code == 200, answer.text
    trimmed = {**account, "password": account["password"].strip()}
    assert web.post("/login", data=trimmed).status_code == 401


@pytest.mark.parametrize(
    ("content_type", "body", "says"),
    [
        ("application/json", b'{"grant_type": "client_credentials"}', "not application/json"),
        ("multipart/form-data; boundary=x", b"--x--", "not multipart/form-data"),
        ("text/plain", GRANT.encode(), "not text/plain"),
        ("", GRANT.encode(), "Content-Type"),
        ("<script>", GRANT.encode(), "Content-Type"),
        (FORM, b"grant_type=\xff", "UTF-8"),
        (FORM, b"grant_type=%ff", "UTF-8"),
        (FORM, b"&".join(b"a%d=1" % number for number in range(60)), "more than 50"),
        (f"{FORM}; charset=iso-8859-1", f"{GRANT}&x=é".encode(), "charset=UTF-8"),
        (f"{FORM}; charset=utf-16", GRANT.encode("utf-16"), "UTF-8"),
    ],
)
def test_what_is_wrong_with_a_form_is_told(
    web: TestClient, machine: tuple[str, str], content_type: str, body: bytes, says: str
) -> None:
    for path in (TOKEN, "/oauth2/revoke", "/oauth2/introspect"):
        answer = web.post(path, content=body, headers={"Content-Type": content_type}, auth=machine)
        assert says in refusal(answer)
        assert "<script>" not in answer.text


@pytest.mark.parametrize(
    ("path", "content_type", "says"),
    [
        ("/login", "application/json", FORM),
        ("/users", FORM, "application/json"),
        ("/users", "", "application/json"),
    ],
)
def test_each_endpoint_tells_which_body_it_takes(
    web: TestClient, path: str, content_type: str, says: str
) -> None:
    answer = web.post(path, content=json.dumps(ALICE), headers={"Content-Type": content_type})
    assert says in refusal(answer)


@given(
    st.binary(max_size=200), st.sampled_from([FORM, f"{FORM}; charset=latin-1", f"{FORM}; charset=;;", ""])
)
def test_no_form_is_a_defect(body: bytes, content_type: str) -> None:
    try:
        read_form(content_type, body)
    except OAuthError as error:
        assert error.description  # noqa: PT017 - whichever it is


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "DPoP"])
def test_an_access_token_beside_the_clients_own_authentication_is_ignored(
    web: TestClient, alice: str, machine: tuple[str, str], scheme: str
) -> None:
    tokens = web.post("/login", data=ALICE).json()
    unused = {"Authorization": f"{scheme} {tokens['access_token']}"}
    form = {
        "grant_type": "refresh_token",
        "client_id": "first-party",
        "refresh_token": tokens["refresh_token"],
    }
    refreshed = web.post(TOKEN, data=form, headers=unused)
    assert refreshed.status_code == 200
    secret = {"client_id": machine[0], "client_secret": machine[1]}
    granted = web.post(TOKEN, data={"grant_type": "client_credentials", **secret}, headers=unused)
    assert granted.status_code == 200
    token = refreshed.json()["refresh_token"]
    revoked = web.post("/oauth2/revoke", data={"token": token, "client_id": "first-party"}, headers=unused)
    assert revoked.status_code == 200


def test_two_methods_of_client_authentication_are_still_refused(
    web: TestClient, machine: tuple[str, str]
) -> None:
    form = {"grant_type": "client_credentials", "client_id": machine[0], "client_secret": machine[1]}
    assert "one method" in refusal(web.post(TOKEN, data=form, auth=machine))


# Resources


@pytest.mark.parametrize(
    ("registered", "asked", "same"),
    [
        ("https://a.example", "https://a.example/", True),
        ("https://a.example/", "https://a.example", True),
        ("https://a.example", "https://A.Example:443/", True),
        ("https://a.example/%7Ex", "https://a.example/~x", True),
        ("https://a.example/%c3%bc", "https://a.example/%C3%BC", True),
        ("https://a.example/v1", "https://a.example/v1/", False),
        ("https://a.example", "http://a.example", False),
        ("https://a.example", "https://a.example:8443", False),
        ("https://a.example", "https://a.example/?", False),
        ("https://a.example/%2F", "https://a.example//", False),
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
def test_what_can_be_no_resource_is_refused(text: str) -> None:
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


# Methods


READABLE = (
    "/.well-known/jwks.json",
    "/.well-known/openid-configuration",
    "/healthz",
    "/docs",
    "/openapi.json",
)
METHODS = {
    **dict.fromkeys((*READABLE, "/metrics", "/users/me"), "GET, HEAD, OPTIONS"),
    **dict.fromkeys(("/users", "/login", TOKEN, "/oauth2/revoke", "/logout"), "OPTIONS, POST"),
    "/users/me/sessions/x": "DELETE, OPTIONS",
}


def test_allow_names_the_methods_that_are_served(web: TestClient) -> None:
    for path, allow in METHODS.items():
        wrong = web.request("PATCH", path)
        assert (wrong.status_code, wrong.headers["allow"]) == (405, allow)
        assert wrong.json()["error"] == "method_not_allowed"
        options = web.options(path)
        assert (options.status_code, options.headers["allow"], options.content) == (204, allow, b"")
        assert (web.head(path).status_code == 405) is ("HEAD" not in allow)


@pytest.mark.parametrize("path", [*READABLE, "/users/me"])
def test_head_answers_as_get_does_without_the_body(web: TestClient, path: str) -> None:
    got, head = web.get(path), web.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    for name in ("content-type", "content-length", "etag", "www-authenticate", "cache-control"):
        assert head.headers.get(name) == got.headers.get(name)


def test_options_of_the_whole_server_are_answered_below_a_path_too(made: Build, settings: Settings) -> None:
    for url in (settings.url, "https://example.com/auth"):
        app = create_app(made(settings.model_copy(update={"url": url})))
        assert asyncio.run(status_of_asterisk(app)) == 204


async def status_of_asterisk(app: Any) -> int:
    """Ask for `OPTIONS *`, which no HTTP client of Python sends."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "OPTIONS", "path": "*", "raw_path": b"*", "query_string": b""}
    await app({**scope, "headers": [], "http_version": "1.1", "scheme": "http"}, None, send)
    return int(sent[0]["status"])


def test_an_unknown_path_is_not_found_by_any_method(web: TestClient) -> None:
    for path in ("/", "/nowhere", "/login/", "/.well-known/nothing", "/.well-known/openid-configuration/x"):
        for method in ("GET", "POST", "OPTIONS", "HEAD"):
            answer = web.request(method, path)
            assert answer.status_code == 404
            assert method == "HEAD" or answer.json() == {
                "error": "not_found",
                "error_description": "there is no such endpoint",
            }
    assert web.get("/static-offline-docs/nothing").json()["error"] == "not_found"


# The description of the service


def test_the_openapi_document_is_rendered_once(web: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    first = web.get("/openapi.json")
    assert first.json()["openapi"].startswith("3.")
    monkeypatch.setattr(json, "dumps", None)
    assert web.get("/openapi.json").content == first.content


# What every origin may read


def test_every_origin_may_read_what_is_public_errors_too(
    web: TestClient, issuer: Issuer, clock: MovableClock
) -> None:
    origin = {"Origin": "https://app.example"}

    def open_to_all(method: str, path: str, status: int) -> None:
        answer = web.request(method, path, headers=origin)
        assert answer.status_code == status
        assert answer.headers.get_list("access-control-allow-origin") == ["*"]
        assert "Retry-After" in answer.headers["access-control-expose-headers"]

    documents = ("/.well-known/jwks.json", "/.well-known/openid-configuration")
    for path in documents:
        open_to_all("GET", path, 200)
        open_to_all("POST", path, 405)
        open_to_all("OPTIONS", path, 204)
    open_to_all("GET", "/.well-known/nothing", 404)
    issuer.keys.node._view = replace(issuer.node.view, refreshed_at=clock() - timedelta(hours=2))
    for path in documents:
        open_to_all("GET", path, 503)


# Discovery


def test_discovery_holds_no_empty_list(made: Build, settings: Settings) -> None:
    for changes in ({}, {"password_login": "off"}, {"algorithm": "ES256"}):
        with TestClient(create_app(made(settings.model_copy(update=changes)))) as web:
            document = web.get("/.well-known/openid-configuration").json()
        assert [name for name, value in document.items() if value in ([], "", None)] == []
        assert "response_types_supported" not in document  # RFC 8414 section 3.2: no claim with zero elements
