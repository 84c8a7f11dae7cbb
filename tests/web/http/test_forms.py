"""Forms of OAuth endpoints: the variations that are accepted, and the reason for each refusal."""

import base64

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from support.defaults import ALICE
from support.endpoints import FORM, GRANT, TOKEN, refusal

from issuer.oauth import OAuthError
from issuer.web.http.forms import read_form


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
def test_the_charset_of_a_form_is_optional(
    web: TestClient, machine: tuple[str, str], content_type: str
) -> None:
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


def test_an_empty_authorization_header_is_ignored(web: TestClient, machine: tuple[str, str]) -> None:
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
def test_errors_in_a_form_are_described(
    web: TestClient, machine: tuple[str, str], content_type: str, body: bytes, says: str
) -> None:
    for path in (TOKEN, "/oauth2/revoke", "/oauth2/introspect"):
        answer = web.post(path, content=body, headers={"Content-Type": content_type}, auth=machine)
        assert says in refusal(answer)
        assert "<script>" not in answer.text


ACCEPTED = {
    "/login": (FORM, "multipart/form-data"),
    "/users": ("application/json",),
    "/users/me/password": ("application/json",),
    TOKEN: (FORM,),
    "/oauth2/revoke": (FORM,),
    "/oauth2/introspect": (FORM,),
    "/oauth2/par": (FORM,),
}
NEEDS_NO_BODY = {"/oauth2/userinfo"}
"""Where the token may be in the header, and a body of another type is not read."""
NOT_ACCEPTED = (
    None,
    "",
    FORM,
    "application/json",
    "application/vnd.api+json",
    "application/json, " + FORM,
    f"{FORM}-x",
    "text/plain; charset=utf-8",
    "*/*",
    "<script>",
    "\u00e9;;",
)


def test_each_endpoint_with_a_body_says_which_content_type_it_accepts(web: TestClient) -> None:
    document = web.get("/openapi.json").json()["paths"]
    with_bodies = {path for path, each in document.items() if "requestBody" in each.get("post", {})}
    assert with_bodies == ACCEPTED.keys() | NEEDS_NO_BODY
    for path, accepted in ACCEPTED.items():
        assert set(document[path]["post"]["requestBody"]["content"]) <= set(accepted)
        for content_type in NOT_ACCEPTED:
            if content_type not in accepted:
                headers = {} if content_type is None else {"Content-Type": content_type.encode()}
                message = refusal(web.post(path, content=b"{}", headers=headers))
                assert message.startswith(f"send the body as {' or '.join(accepted)}, "), (path, content_type)
                assert "<" not in message
        odd = (accepted[0].upper(), f"{accepted[0]};charset=UTF-8", f' {accepted[0]} ; CHARSET="utf-8";')
        for content_type in odd:
            answer = web.post(path, content=b"{}", headers={"Content-Type": content_type})
            assert not answer.json()["error_description"].startswith("send the body as"), (path, content_type)


@given(
    st.binary(max_size=200), st.sampled_from([FORM, f"{FORM}; charset=latin-1", f"{FORM}; charset=;;", ""])
)
def test_no_form_causes_an_internal_error(body: bytes, content_type: str) -> None:
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
