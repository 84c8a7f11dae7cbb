"""The issuer over HTTP, in process: what each endpoint answers, and what no input makes it answer."""

import asyncio
import base64
import io
import json
import threading
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx2
import jwt
import pytest
import structlog
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as runs
from hypothesis import strategies as st
from passlib.hash import pbkdf2_sha256
from pydantic import SecretStr
from sqlalchemy import text
from support.defaults import ALICE, PASSWORD, START, Build, MovableClock, bearer

from issuer.accounts.passwords import WrongPassword
from issuer.administration.clients import register_client
from issuer.administration.users import disable_user
from issuer.clock import instant
from issuer.database.errors import DatabaseUnavailable
from issuer.logs import configure_log
from issuer.oauth import AuthMethod
from issuer.settings.settings import Settings
from issuer.web.app import create_app
from issuer.web.http.body_limit import BODY_MOST_BYTES
from issuer.web.operation.health import Probe, Result
from issuer.wiring import Issuer

ISSUER = "http://127.0.0.1:8000"
SERVICE = "http://127.0.0.1:8001"


Logged = Callable[[], str]


@pytest.fixture
def logged() -> Iterator[Logged]:
    """All that was logged."""
    output = io.StringIO()
    with redirect_stderr(output):
        configure_log()
    yield output.getvalue
    structlog.reset_defaults()


def verified(web: TestClient, token: str, audience: str = SERVICE) -> dict[str, object]:
    """Return the claims as a third party learns them: from the JWKS alone, by another library."""
    keys = {key["kid"]: key for key in web.get("/.well-known/jwks.json").json()["keys"]}
    kid = jwt.get_unverified_header(token)["kid"]
    never_by_the_real_clock = {"verify_exp": False, "verify_iat": False}
    return dict(
        jwt.decode(
            token,
            jwt.PyJWK(keys[kid]),
            ["RS256"],
            audience=audience,
            issuer=ISSUER,
            options=never_by_the_real_clock,  # type: ignore[arg-type]
        )
    )


def test_a_log_in_answers_with_a_token_response_that_no_cache_keeps(web: TestClient, alice: str) -> None:
    answer = web.post("/login", data=ALICE)
    body = answer.json()
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert body.keys() == {"access_token", "token_type", "expires_in", "scope", "refresh_token"}
    assert (body["token_type"], body["expires_in"], body["scope"]) == (
        "bearer",
        600,
        "items:read items:write",
    )


def test_an_access_token_is_as_rfc_9068_has_it_and_holds_nothing_personal_but_the_name(
    web: TestClient, alice: str
) -> None:
    token = web.post("/login", data=ALICE).json()["access_token"]
    claims = verified(web, token)
    header = jwt.get_unverified_header(token)
    assert header.keys() == {"alg", "typ", "kid"}
    assert (header["alg"], header["typ"]) == ("RS256", "at+jwt")
    assert claims.pop("jti")
    assert claims == {
        "iss": ISSUER,
        "sub": alice,
        "aud": [SERVICE, ISSUER],
        "client_id": "first-party",
        "iat": int(START.timestamp()),
        "exp": int(START.timestamp()) + 600,
        "scope": "items:read items:write",
        "username": "alice",
        "grant_id": web.get("/users/me/sessions", headers=bearer(token)).json()["sessions"][0]["id"],
    }


def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(web: TestClient, alice: str) -> None:
    wrong = web.post("/login", data={**ALICE, "password": "wrong"})
    unknown = web.post("/login", data={**ALICE, "username": "nobody"})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.content == unknown.content
    for answer in (wrong, unknown):
        assert answer.headers.pop("x-request-id")
    assert wrong.headers == unknown.headers
    assert wrong.headers["www-authenticate"] == "Bearer"
    assert wrong.json()["error"] == "invalid_grant"


@pytest.mark.parametrize("password", ["x" * 5000, "nul\0inside", "\ud800".encode("utf-8", "surrogatepass")])
def test_a_password_that_no_account_can_have_is_a_wrong_password(
    web: TestClient, alice: str, password: str | bytes
) -> None:
    assert web.post("/login", data={"username": "alice", "password": password}).status_code == 401


def test_a_log_in_without_its_fields_is_told_which_in_the_protocols_shape(web: TestClient) -> None:
    answer = web.post("/login", data={"username": "alice"})
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert "password" in answer.json()["error_description"]
    assert answer.headers["cache-control"] == "no-store"


def test_a_scope_is_what_was_asked_for_within_what_was_granted(web: TestClient, alice: str) -> None:
    answer = web.post("/login", data={**ALICE, "scope": "items:read admin"}).json()
    assert answer["scope"] == verified(web, answer["access_token"])["scope"] == "items:read"
    nothing_granted = web.post("/login", data={**ALICE, "scope": "admin"}).json()
    assert nothing_granted["scope"] == verified(web, nothing_granted["access_token"])["scope"] == ""
    malformed = web.post("/login", data={**ALICE, "scope": 'a"b'})
    assert (malformed.status_code, malformed.json()["error"]) == (400, "invalid_scope")


def test_a_disabled_user_can_neither_log_in_nor_refresh_nor_use_the_account(
    web: TestClient, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    tokens = web.post("/login", data=ALICE).json()
    user = issuer.accounts.store.by_id(alice)
    assert user
    disable_user(issuer.tokens.families, user, clock())
    assert web.post("/login", data=ALICE).status_code == 401
    assert refresh(web, tokens["refresh_token"]).status_code == 400
    assert web.get("/users/me", headers=bearer(tokens["access_token"])).status_code == 401


def test_a_hash_of_an_older_scheme_is_upgraded_at_log_in(web: TestClient, alice: str, issuer: Issuer) -> None:
    older = pbkdf2_sha256.using(rounds=1000).hash(PASSWORD)
    issuer.tokens.families.set_password_hash(alice, older, START)
    assert web.post("/login", data=ALICE).status_code == 200
    user = issuer.accounts.store.by_id(alice)
    assert user
    assert user.password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert web.post("/login", data=ALICE).status_code == 200


def test_log_ins_at_once_with_a_hash_of_an_older_scheme_all_succeed(
    web: TestClient, alice: str, issuer: Issuer
) -> None:
    issuer.tokens.families.set_password_hash(alice, pbkdf2_sha256.using(rounds=1000).hash(PASSWORD), START)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: web.post("/login", data=ALICE), range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4


def test_registration_makes_an_account_without_any_scope(web: TestClient) -> None:
    answer = web.post("/users", json=ALICE)
    assert answer.status_code == 201
    assert answer.json().keys() == {"id", "username", "scope", "created_at"}
    tokens = web.post("/login", data=ALICE).json()
    assert tokens["scope"] == ""
    assert web.get("/users/me", headers=bearer(tokens["access_token"])).json() == answer.json()


@pytest.mark.parametrize(
    ("username", "password", "says"),
    [
        ("", PASSWORD, "username must have"),
        ("a" * 65, PASSWORD, "username must have"),
        ("two words", PASSWORD, "username may hold"),
        ("..", PASSWORD, "username must hold a letter or a digit"),
        ("nul\0inside", PASSWORD, "username may hold"),
        ("alice", "eleven char", "at least 12"),
        ("alice", "é" * 513, "1024 bytes"),
        ("alice", "nul\0inside the password", "valid Unicode"),
        ("a-very-long-name", "A-Very-Long-Name", "differ from username"),
        ("alice", "password1234", "most common"),
        ("alice", "QwertyUiop123", "most common"),
    ],
)
def test_registration_refuses_unfit_names_and_passwords_with_the_reason(
    web: TestClient, username: str, password: str, says: str
) -> None:
    answer = web.post("/users", json={"username": username, "password": password})
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert says in answer.json()["error_description"]
    assert password not in answer.text


def test_a_password_of_any_composition_and_1024_bytes_is_welcome(web: TestClient) -> None:
    fit = ["twelve chars", "é" * 512, "  spaces at both ends  ", "日本語のパスワードを使う人"]
    for number, password in enumerate(fit):
        account = {"username": f"user{number}", "password": password}
        assert web.post("/users", json=account).status_code == 201
        assert web.post("/login", data=account).status_code == 200


def test_a_taken_name_is_a_conflict_in_any_spelling(web: TestClient, alice: str) -> None:
    answer = web.post("/users", json={**ALICE, "username": "ALICE"})
    assert (answer.status_code, answer.json()["error"]) == (409, "username_taken")


@pytest.mark.parametrize(
    "username",
    [
        "\u0430lice",  # Cyrillic a
        "\u0440\u0430\u0443\u0440\u0430",  # Cyrillic throughout, reads "paypa"
        "\u0251lice",  # Latin alpha
        "\u0251lic\u00e9",
        "\u1d00lice",  # a small capital
        "alice\ufe0f",  # marks that nobody sees
        "alice\u034f",
        "\u034f",
        "ali\u0307ce",  # a dot that merges into the i
        "a\u0335lice",
        "alice\u20e3",
        "alice\u0640",
        "ivan_\u0438\u0432\u0430\u043d",  # two alphabets
    ],
)
def test_a_name_that_could_be_taken_for_another_is_refused(web: TestClient, username: str) -> None:
    answer = web.post("/users", json={**ALICE, "username": username})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "username",
    [
        "m\u00fcller",
        "\u0420\u043e\u043c\u0430\u043d",
        "\u305f\u306a\u304b\u592a\u90ce",
        "\uae40\ucca0\uc218",
        "\u00e6r\u00f8",
        "nguy\u1ec5n",
        "\u0905\u092e\u093f\u0924",
    ],
)
def test_names_of_many_alphabets_are_welcome(web: TestClient, username: str) -> None:
    assert web.post("/users", json={**ALICE, "username": username}).status_code == 201


def test_closed_registration_refuses(made: Build, settings: Settings) -> None:
    issuer = made(settings.model_copy(update={"registration": "closed"}))
    with TestClient(create_app(issuer)) as web:
        answer = web.post("/users", json=ALICE)
    assert (answer.status_code, answer.json()["error"]) == (403, "access_denied")


def test_log_in_by_password_can_be_switched_off_and_leaves_the_discovery_document(
    made: Build, settings: Settings
) -> None:
    issuer = made(settings.model_copy(update={"password_login": "off"}))
    with TestClient(create_app(issuer)) as web:
        assert web.post("/login", data=ALICE).status_code == 403
        form = {"grant_type": "password", "client_id": "first-party", **ALICE}
        assert web.post("/oauth2/token", data=form).json()["error"] == "unsupported_grant_type"
        grants = web.get("/.well-known/oauth-authorization-server").json()["grant_types_supported"]
    assert "password" not in grants


def test_the_account_endpoint_takes_only_a_live_access_token_of_its_own(
    web: TestClient, alice: str, machine: tuple[str, str], clock: MovableClock
) -> None:
    token = web.post("/login", data=ALICE).json()["access_token"]
    machines = web.post("/oauth2/token", auth=machine, data={"grant_type": "client_credentials"})
    header, payload, _ = token.split(".")
    swapped = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').rstrip(b"=").decode()
    assert web.get("/users/me", headers=bearer(token)).status_code == 200
    for bad in (
        machines.json()["access_token"],
        token[:-4] + "AAAA",
        f"{swapped}.{payload}.",
        f"{header}.{payload}.",
        "x",
        "é",
        "." * 9000,
    ):
        answer = web.get("/users/me", headers={"Authorization": f"Bearer {bad}".encode()})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_token"')
    bare = web.get("/users/me")
    assert (bare.status_code, bare.headers["www-authenticate"]) == (401, "Bearer")
    clock.advance(minutes=10)
    assert "expired" in web.get("/users/me", headers=bearer(token)).json()["error_description"]


def test_a_machine_gets_a_token_by_basic_and_by_post(web: TestClient, machine: tuple[str, str]) -> None:
    grant = {"grant_type": "client_credentials"}
    basic = web.post("/oauth2/token", auth=machine, data=grant)
    post = web.post("/oauth2/token", data={**grant, "client_id": machine[0], "client_secret": machine[1]})
    for answer in (basic, post):
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert "refresh_token" not in answer.json()
        claims = verified(web, answer.json()["access_token"])
        assert (claims["sub"], claims["client_id"], claims["aud"]) == (machine[0], machine[0], [SERVICE])
        assert claims["scope"] == "items:read"
        assert "username" not in claims


def test_credentials_of_a_client_may_be_form_encoded_in_the_basic_header(
    web: TestClient, machine: tuple[str, str]
) -> None:
    encoded = base64.b64encode(f"{machine[0].replace('-', '%2D')}:{machine[1]}".encode()).decode()
    answer = web.post(
        "/oauth2/token",
        headers={"Authorization": f"Basic {encoded}"},
        data={"grant_type": "client_credentials"},
    )
    assert answer.status_code == 200


def test_failed_client_authentication_is_one_answer_whatever_was_wrong(
    web: TestClient, machine: tuple[str, str], issuer: Issuer
) -> None:
    grant = {"grant_type": "client_credentials"}
    answers = [
        web.post("/oauth2/token", auth=(machine[0], "wrong"), data=grant),
        web.post("/oauth2/token", auth=("unknown", machine[1]), data=grant),
        web.post("/oauth2/token", data={**grant, "client_id": machine[0]}),
        web.post("/oauth2/token", data={**grant, "client_id": "first-party", "client_secret": "x"}),
        web.post("/oauth2/token", headers={"Authorization": "Basic !"}, data=grant),
        web.post("/oauth2/token", headers={"Authorization": "Bearer x"}, data=grant),
    ]
    issuer.clients.store.set_disabled(machine[0], START)
    answers.append(web.post("/oauth2/token", auth=machine, data=grant))
    for answer in answers:
        assert answer.status_code == 401
        assert answer.content == answers[0].content
        assert answer.headers["www-authenticate"].startswith("Basic ")
    assert answers[0].json()["error"] == "invalid_client"
    nobody = web.post("/oauth2/token", data=grant)
    assert (nobody.status_code, nobody.json()["error"]) == (401, "invalid_client")
    assert "client_id is missing" in nobody.json()["error_description"]


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ("scope=a", "invalid_request"),
        ("grant_type=", "invalid_request"),
        ("grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
        ("grant_type=client_credentials&client_secret=x", "invalid_request"),
        ("grant_type=client_credentials&client_id=another", "invalid_request"),
        ("grant_type=%ff", "invalid_request"),
        ("grant_type=é", "unsupported_grant_type"),
        ("&".join(f"a{number}=1" for number in range(60)), "invalid_request"),
        ("grant_type=authorization_code", "unsupported_grant_type"),
        ("grant_type=password&username=a&password=b", "unauthorized_client"),
        ("grant_type=client_credentials&scope=admin", "invalid_scope"),
        ("grant_type=client_credentials&scope=a++b", "invalid_scope"),
        ("grant_type=client_credentials&resource=https://elsewhere.example", "invalid_target"),
        ("grant_type=refresh_token", "invalid_request"),
        ("grant_type=refresh_token&refresh_token=unknown", "invalid_grant"),
    ],
)
def test_the_token_endpoint_answers_mistakes_in_oauths_shape(
    web: TestClient, machine: tuple[str, str], form: str, error: str
) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = web.post("/oauth2/token", auth=machine, content=form.encode(), headers=headers)
    assert answer.status_code == 400
    assert answer.json().keys() == {"error", "error_description"}
    assert answer.json()["error"] == error
    assert answer.headers["cache-control"] == "no-store"


def test_the_token_endpoint_takes_forms_only_and_no_get(web: TestClient) -> None:
    assert web.post("/oauth2/token", json={"grant_type": "password"}).json()["error"] == "invalid_request"
    assert web.get("/oauth2/token").status_code == 405


@pytest.mark.parametrize("path", ["/login", "/users", "/oauth2/token"])
@pytest.mark.parametrize("announced", [True, False])
def test_too_large_a_body_is_refused_in_the_protocols_shape(
    web: TestClient, path: str, announced: bool
) -> None:
    body = b"a=" + b"x" * BODY_MOST_BYTES

    def chunks() -> Iterator[bytes]:
        yield body

    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    if path == "/users":
        headers = {"Content-Type": "application/json"}
    answer = web.post(path, content=body if announced else chunks(), headers=headers)
    assert answer.status_code == 413
    assert answer.json()["error"] == "invalid_request"


def test_a_content_length_of_many_digits_is_no_defect(web: TestClient) -> None:
    for length, status in (("0" * 5000, 200), ("9" * 5000, 413)):
        assert web.get("/healthz", headers={"Content-Length": length}).status_code == status


def test_a_client_that_hangs_up_is_no_defect(issuer: Issuer, logged: Logged) -> None:
    app = create_app(issuer)
    messages = iter(
        [{"type": "http.request", "body": b"grant", "more_body": True}, {"type": "http.disconnect"}]
    )

    async def receive() -> dict[str, object]:
        return next(messages)

    async def send(message: object) -> None:
        pass

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/oauth2/token",
        "raw_path": b"/oauth2/token",
        "query_string": b"",
        "headers": [(b"content-type", b"application/x-www-form-urlencoded")],
        "client": None,
        "server": ("127.0.0.1", 8000),
        "scheme": "http",
        "http_version": "1.1",
        "app": app,
    }
    asyncio.run(app(scope, receive, send))
    assert "defect" not in logged()


@pytest.mark.parametrize("path", ["/login/", "/users/", "/oauth2/token/"])
def test_no_path_is_redirected(web: TestClient, path: str) -> None:
    assert web.post(path, headers={"Host": "evil.example"}, follow_redirects=False).status_code == 404


def test_names_and_passwords_are_measured_before_they_are_normalised(
    web: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = 0
    real = unicodedata.normalize

    def measure(form: str, text: str) -> str:
        nonlocal longest
        longest = max(longest, len(text))
        return real(form, text)  # type: ignore[arg-type]

    monkeypatch.setattr(unicodedata, "normalize", measure)
    marks = "a" + "\u0301\u0316" * 10000
    assert web.post("/users", json={"username": marks, "password": PASSWORD}).status_code == 400
    assert web.post("/users", json={"username": "alice", "password": marks}).status_code == 400
    for form in ({"username": marks, "password": "x"}, {"username": "alice", "password": marks}):
        assert (
            web.post("/login", files={name: (None, text) for name, text in form.items()}).status_code == 401
        )
    assert 0 < longest <= 1024


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/.well-known/openid-configuration"])
def test_what_can_be_read_can_be_asked_for_by_head(web: TestClient, path: str) -> None:
    assert web.head(path).status_code == 200


def test_a_resource_among_the_clients_audiences_becomes_the_audience(web: TestClient, issuer: Issuer) -> None:
    client, secret = register_client(
        issuer.clients.store,
        "two",
        AuthMethod.BASIC,
        frozenset(),
        ("https://a.example", "https://b.example"),
        START,
    )
    form = {"grant_type": "client_credentials", "resource": "https://b.example"}
    token = web.post("/oauth2/token", auth=(client.id, secret or ""), data=form).json()["access_token"]
    assert verified(web, token, "https://b.example")["aud"] == ["https://b.example"]
    both = web.post(
        "/oauth2/token", auth=(client.id, secret or ""), data={"grant_type": "client_credentials"}
    )
    assert verified(web, both.json()["access_token"], "https://a.example")["aud"] == list(client.audiences)


def refresh(web: TestClient, token: str, **more: str):  # type: ignore[no-untyped-def]  # noqa: ANN201
    form = {"grant_type": "refresh_token", "client_id": "first-party", "refresh_token": token, **more}
    return web.post("/oauth2/token", data=form)


def test_a_refresh_token_yields_a_new_access_token_and_its_successor(web: TestClient, alice: str) -> None:
    first = web.post("/login", data=ALICE).json()
    second = refresh(web, first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert verified(web, second["access_token"])["sub"] == alice
    assert refresh(web, second["refresh_token"]).status_code == 200


def test_within_the_grace_window_a_used_token_yields_the_same_successor(
    web: TestClient, alice: str, clock: MovableClock
) -> None:
    first = web.post("/login", data=ALICE).json()["refresh_token"]
    successor = refresh(web, first).json()["refresh_token"]
    clock.advance(seconds=29)
    assert refresh(web, first).json()["refresh_token"] == successor


def test_after_the_grace_window_a_used_token_ends_the_family(
    web: TestClient, alice: str, clock: MovableClock
) -> None:
    first = web.post("/login", data=ALICE).json()["refresh_token"]
    successor = refresh(web, first).json()["refresh_token"]
    clock.advance(seconds=31)
    assert refresh(web, first).json()["error"] == "invalid_grant"
    assert refresh(web, successor).json()["error"] == "invalid_grant"


def test_a_refresh_token_is_bound_to_its_client(
    web: TestClient, alice: str, machine: tuple[str, str], issuer: Issuer
) -> None:
    token = web.post("/login", data=ALICE).json()["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": token}
    assert web.post("/oauth2/token", auth=machine, data=form).json()["error"] == "invalid_grant"
    assert refresh(web, token).status_code == 200


def test_a_refresh_may_narrow_the_scope_and_never_widen_it(
    web: TestClient, alice: str, issuer: Issuer
) -> None:
    token = web.post("/login", data={**ALICE, "scope": "items:read"}).json()["refresh_token"]
    assert refresh(web, token, scope="items:write").json()["error"] == "invalid_scope"
    narrowed = refresh(web, token, scope="items:read").json()
    assert narrowed["scope"] == "items:read"
    issuer.accounts.store.set_scope(alice, frozenset())
    assert refresh(web, narrowed["refresh_token"]).json()["scope"] == ""


def test_an_unused_refresh_token_expires(web: TestClient, alice: str, clock: MovableClock) -> None:
    token = web.post("/login", data=ALICE).json()["refresh_token"]
    clock.advance(days=30)
    assert refresh(web, token).json()["error"] == "invalid_grant"


def test_a_session_ends_for_good_however_often_it_is_refreshed(
    web: TestClient, alice: str, clock: MovableClock, issuer: Issuer
) -> None:
    token = web.post("/login", data=ALICE).json()["refresh_token"]
    answer = None
    for _ in range(15):
        clock.advance(days=29)
        issuer.keys.node.refresh()
        answer = refresh(web, token)
        token = answer.json().get("refresh_token", token)
    assert answer is not None
    assert answer.json()["error"] == "invalid_grant"


def test_the_key_set_holds_current_and_standby_with_public_members_only(
    web: TestClient, issuer: Issuer
) -> None:
    answer = web.get("/.well-known/jwks.json")
    keys = answer.json()["keys"]
    assert [key["kid"] for key in keys] == [key.kid for key in issuer.keys.rotation.ring().keys]
    assert all(key.keys() == {"kty", "n", "e", "use", "alg", "kid"} for key in keys)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert web.head("/.well-known/jwks.json").headers["etag"] == answer.headers["etag"]


@pytest.mark.parametrize("form", ["{}", "W/{}", "*", '"other", {}', '"other",W/{} '])
def test_an_unchanged_key_set_is_answered_304_with_the_same_headers(web: TestClient, form: str) -> None:
    etag = web.get("/.well-known/jwks.json").headers["etag"]
    answer = web.get("/.well-known/jwks.json", headers={"If-None-Match": form.format(etag)})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == etag
    assert answer.headers["cache-control"] == "public, max-age=300"


def test_the_etag_changes_with_the_keys(web: TestClient, issuer: Issuer) -> None:
    etag = web.get("/.well-known/jwks.json").headers["etag"]
    issuer.keys.rotation.change(lambda ring, now: ring.promoted(issuer.policy, now))
    issuer.keys.node.refresh()
    answer = web.get("/.well-known/jwks.json", headers={"If-None-Match": etag})
    assert answer.status_code == 200
    assert len(answer.json()["keys"]) == 3


def test_both_discovery_documents_agree_with_what_is_there(web: TestClient) -> None:
    oauth = web.get("/.well-known/oauth-authorization-server")
    openid = web.get("/.well-known/openid-configuration")
    assert oauth.json() == openid.json()
    document = oauth.json()
    assert document["issuer"] == ISSUER
    assert document["jwks_uri"] == f"{ISSUER}/.well-known/jwks.json"
    assert document["token_endpoint"] == f"{ISSUER}/oauth2/token"
    assert document["grant_types_supported"] == ["client_credentials", "password", "refresh_token"]
    paths = web.get("/openapi.json").json()["paths"]
    for name, value in document.items():
        if name.endswith(("_uri", "_endpoint")):
            assert value.removeprefix(ISSUER) in paths
    assert oauth.headers["access-control-allow-origin"] == "*"


def test_the_issuer_url_is_never_taken_from_the_host_header(web: TestClient, alice: str) -> None:
    answer = web.get("/.well-known/openid-configuration", headers={"Host": "evil.example"})
    assert "evil" not in answer.text
    token = web.post("/login", data=ALICE, headers={"Host": "evil.example"}).json()["access_token"]
    assert verified(web, token)["iss"] == ISSUER


def test_a_node_that_lost_its_view_stops_signing_then_publishing_and_says_so(
    web: TestClient, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    tokens = web.post("/login", data=ALICE).json()
    view = issuer.keys.node.view
    stale = replace(view, refreshed_at=clock() - timedelta(seconds=31))
    issuer.keys.node._view = stale
    answer = web.post("/login", data=ALICE)
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert web.get("/readyz").status_code == 503
    assert web.get("/.well-known/jwks.json").status_code == 200
    issuer.keys.node._view = replace(view, refreshed_at=clock() - timedelta(hours=1, minutes=3))
    assert web.get("/.well-known/jwks.json").headers["cache-control"] == "public, max-age=120"
    issuer.keys.node._view = replace(view, refreshed_at=clock() - timedelta(hours=2))
    assert web.get("/.well-known/jwks.json").status_code == 503
    issuer.keys.node._view = view
    assert refresh(web, tokens["refresh_token"]).status_code == 200


def test_a_lost_database_is_answered_503_and_readiness_says_so(
    web: TestClient, alice: str, issuer: Issuer, settings: Settings
) -> None:
    issuer.database.close()
    issuer.ring_database.close()
    path = settings.database_url.get_secret_value().removeprefix("sqlite:///")
    Path(path).rename(path + ".gone")
    Path(path).mkdir()
    answer = web.post("/login", data=ALICE)
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    assert "database" in web.get("/readyz").json()["checks"]["database"]
    assert web.get("/healthz").status_code == 200


def test_readiness_requests_at_once_share_one_look_which_outlives_who_asked_first(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, looks, real = threading.Event(), [], issuer.ring_database.ping

    def ping() -> None:
        looks.append(1)
        gate.wait(120)
        real()

    monkeypatch.setattr(issuer.ring_database, "ping", ping)

    async def crowd() -> None:
        app = create_app(issuer)
        all_asked = asyncio.Event()

        class Counting(Probe):
            asked = 0

            async def result(self, issuer: Issuer) -> Result:
                self.asked += 1
                if self.asked == 100:
                    all_asked.set()
                return await super().result(issuer)

        app.state.probe = Counting(app.state.supervisor)
        transport = httpx2.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url=ISSUER) as web,
        ):
            first, *others = [asyncio.create_task(web.get("/readyz")) for _ in range(100)]
            await asyncio.wait_for(all_asked.wait(), 20)
            first.cancel()
            gate.set()
            assert {answer.status_code for answer in await asyncio.gather(*others)} == {200}
            assert len(looks) == 1
            await web.get("/readyz")
            assert len(looks) == 2

    asyncio.run(crowd())


@pytest.mark.parametrize(("url", "in_detail"), [(ISSUER, True), ("https://issuer.example", False)])
def test_readiness_gives_reasons_on_loopback_only_and_elsewhere_points_to_the_log(
    made: Build, settings: Settings, tmp_path: Path, url: str, in_detail: bool
) -> None:
    issuer = made(settings.model_copy(update={"url": url}))
    kid = issuer.keys.node.refresh().ring.current(issuer.clock()).kid
    with issuer.ring_database.write() as connection:
        connection.execute(text("ALTER TABLE key_ring RENAME TO elsewhere"))
    with pytest.raises(DatabaseUnavailable):
        issuer.keys.node.refresh()
    issuer.keys.signer.unload_all_but([])
    answer = TestClient(create_app(issuer)).get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["warnings"][0].startswith(f"since {instant(START)}: ")
    assert [kid in answer.text, str(tmp_path) in answer.text] == [in_detail, in_detail]
    assert answer.text.count("see the log") == (0 if in_detail else 2)


def test_browser_apps_of_the_named_origins_only_may_log_in(made: Build, settings: Settings) -> None:
    issuer = made(settings.model_copy(update={"cors_origins": (SERVICE,)}))
    asks = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-requested-with,traceparent,sentry-trace,baggage",
    }
    with TestClient(create_app(issuer)) as web:
        allowed = web.options("/login", headers={"Origin": SERVICE, **asks})
        failed = web.post("/login", data=ALICE, headers={"Origin": SERVICE})
        refused = web.options("/login", headers={"Origin": "https://evil.example", **asks})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, SERVICE)
    assert (failed.status_code, failed.headers["access-control-allow-origin"]) == (401, SERVICE)
    assert "access-control-allow-origin" not in refused.headers


def test_verifiers_of_every_origin_may_read_what_is_public(made: Build, settings: Settings) -> None:
    issuer = made(settings.model_copy(update={"cors_origins": (SERVICE,)}))
    origin = {"Origin": "https://anywhere.example"}
    asks = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "if-none-match"}
    with TestClient(create_app(issuer)) as web:
        for path in ("/.well-known/jwks.json", "/.well-known/openid-configuration"):
            assert web.get(path, headers=origin).headers["access-control-allow-origin"] == "*"
            for method in ("GET", "HEAD"):
                asked = web.options(path, headers={**origin, **asks, "Access-Control-Request-Method": method})
                assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, "*")


def test_every_failed_log_in_costs_one_verification(
    web: TestClient, alice: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified_hashes: list[str | None] = []
    real = issuer.accounts.passwords.verify

    def count(password: str, password_hash: str | None, decoy: str | None) -> str | None:
        verified_hashes.append(password_hash)
        return real(password, password_hash, decoy)

    monkeypatch.setattr(issuer.accounts.passwords, "verify", count)
    web.post("/login", data={**ALICE, "password": "wrong"})
    web.post("/login", data={**ALICE, "username": "nobody"})
    web.post("/login", data={**ALICE, "password": "x" * 5000})
    web.post("/login", data={**ALICE, "username": "nul\0"})
    assert len(verified_hashes) == 4
    user = issuer.accounts.store.by_id(alice)
    assert user
    disable_user(issuer.tokens.families, user, START)
    web.post("/login", data=ALICE)
    assert verified_hashes == [user.password_hash, None, None, None, user.password_hash]


def test_hashing_neither_holds_up_other_requests_nor_queues_without_end(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    def hold(*_: object) -> None:
        gate.wait(120)
        raise WrongPassword

    monkeypatch.setattr(issuer.accounts.passwords, "verify", hold)

    async def storm() -> None:
        app = create_app(issuer)
        transport = httpx2.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url=ISSUER) as web,
        ):
            log_ins = [asyncio.create_task(web.post("/login", data=ALICE)) for _ in range(200)]
            assert (await web.get("/healthz")).status_code == 200
            first, _ = await asyncio.wait(log_ins, timeout=60, return_when=asyncio.FIRST_COMPLETED)
            refused = first.pop().result()
            assert (refused.status_code, refused.json()["error"]) == (503, "temporarily_unavailable")
            assert int(refused.headers["retry-after"]) >= 1
            assert (await web.get("/.well-known/jwks.json")).status_code == 200
            gate.set()
            assert {answer.status_code for answer in await asyncio.gather(*log_ins)} == {401, 429, 503}

    asyncio.run(storm())


def test_a_defect_is_logged_without_the_values_of_variables(
    web: TestClient,
    alice: str,
    issuer: Issuer,
    monkeypatch: pytest.MonkeyPatch,
    logged: Logged,
) -> None:
    def defect(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(issuer.keys.signer, "sign", defect)
    answer = web.post("/login", data=ALICE)
    assert (answer.status_code, answer.json()["error"]) == (500, "server_error")
    printed = logged()
    assert "a defect" in printed
    assert PASSWORD not in printed


def test_no_secret_shows_in_what_objects_say_of_themselves(
    web: TestClient, alice: str, issuer: Issuer
) -> None:
    user = issuer.accounts.store.by_id(alice)
    told = repr((issuer.settings, user, issuer.keys.signer, str(issuer.database), issuer))
    assert "a passphrase for tests" not in told
    assert "$argon2id$" not in told


def test_the_documents_page_loads_nothing_from_elsewhere(web: TestClient) -> None:
    page = web.get("/docs").text
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_openapi_describes_errors_with_their_real_body_and_no_422(web: TestClient) -> None:
    document = web.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert "422" not in operation["responses"], path
    assert set(document["components"]["schemas"]["ErrorBody"]["properties"]) == {"error", "error_description"}


METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
TYPES = (
    "application/x-www-form-urlencoded",
    "application/json",
    "multipart/form-data; boundary=x",
    "",
    "é;;",
)
FIELDS = st.sampled_from(
    ["username", "password", "grant_type", "scope", "client_id", "client_secret", "refresh_token", "resource"]
)
FORMS = st.lists(st.tuples(FIELDS, st.text(max_size=20)), max_size=6)


@runs(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_input_to_any_endpoint_is_answered_with_500(web: TestClient, data: st.DataObject) -> None:
    paths = sorted(web.get("/openapi.json").json()["paths"])
    bodies = st.one_of(
        st.binary(max_size=200),
        FORMS.map(
            lambda form: "&".join(f"{name}={value}" for name, value in form).encode("utf-8", "replace")
        ),
        st.dictionaries(FIELDS, st.one_of(st.text(), st.none(), st.integers(), st.lists(st.text()))).map(
            lambda document: json.dumps(document).encode()
        ),
    )
    answer = web.request(
        data.draw(st.sampled_from(METHODS)),
        data.draw(st.sampled_from(paths)),
        content=data.draw(bodies),
        headers={
            "Content-Type": data.draw(st.sampled_from(TYPES)).encode(),
            "Authorization": data.draw(st.sampled_from(["", "Basic ", "Bearer ", "Negotiate "])).encode()
            + base64.b64encode(data.draw(st.binary(max_size=30))),
        },
    )
    assert answer.status_code < 500


METRICS_TOKEN = "a token of sixteen characters"


@pytest.mark.parametrize(
    ("url", "token", "given", "status"),
    [
        ("http://127.0.0.1:8000", None, None, 200),
        ("http://127.0.0.1:8000", METRICS_TOKEN, None, 401),
        ("http://127.0.0.1:8000", METRICS_TOKEN, "Bearer wrong", 401),
        ("http://127.0.0.1:8000", METRICS_TOKEN, f"Bearer {METRICS_TOKEN}", 200),
        ("https://issuer.example", None, None, 401),
        ("https://issuer.example", None, "Bearer ", 401),
        ("https://issuer.example", METRICS_TOKEN, f"Bearer {METRICS_TOKEN}", 200),
        ("https://issuer.example", METRICS_TOKEN, f"Bearer {METRICS_TOKEN}\xe9", 401),
    ],
)
def test_metrics_need_their_token_where_others_can_ask(
    made: Build, settings: Settings, url: str, token: str | None, given: str | None, status: int
) -> None:
    secret = SecretStr(token) if token else None
    issuer = made(settings.model_copy(update={"url": url, "metrics_token": secret}))
    with TestClient(create_app(issuer)) as client:
        headers = {"Authorization": given.encode("latin-1")} if given else {}
        answer = client.get("/metrics", headers=headers)
    assert answer.status_code == status
    if status == 200:
        assert "issuer_standbys_missing 0.0" in answer.text
    else:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert answer.json()["error"] == "invalid_token"
