"""Each error in the OpenAPI document of the issuer is answered to a real request, with the body of its example; the
examples of other bodies have the members of real ones.

`test_openapi` tries what is not documented.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from support.authorizing import an_app, sign_in
from support.defaults import ALICE, PASSWORD, Build, bearer
from support.documented import JSON, Requests, bodies

from issuer.accounts.profile import Profile
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.throttling.limits import ADDRESS, MAIL, REGISTRATION, SECRET, bucket, subnet
from issuer.throttling.store import ThrottleStore
from issuer.web.app import create_app
from issuer.web.http.body_limit import BODY_MOST_BYTES

FORM = "application/x-www-form-urlencoded"
WITH_BODY = {
    "POST /login": FORM,
    "POST /users": JSON,
    "PATCH /users/me": JSON,
    "POST /users/me/password": JSON,
    "DELETE /users/me": JSON,
    "POST /oauth2/token": FORM,
    "POST /oauth2/revoke": FORM,
    "POST /oauth2/introspect": FORM,
    "POST /oauth2/par": FORM,
}
CHANGE = {"password": PASSWORD, "new_password": "nine calm bisons whisper"}
WRONG = {**CHANGE, "password": "wrong"}
CHANGES = ("PATCH /users/me", "DELETE /users/me", "POST /users/me/password")
"""Changes of the own account: each has a body."""
OF_USERS = (
    "GET /users/me",
    "GET /users/me/sessions",
    "DELETE /users/me/sessions/{id}",
    "POST /logout",
    *(USERINFO := ("GET /oauth2/userinfo", "POST /oauth2/userinfo")),
)
FIRST_PARTY = {"client_id": "first-party"}
MACHINES = {"grant_type": "client_credentials"}
LOG_IN = {"grant_type": "password", **FIRST_PARTY, **ALICE}


@pytest.fixture
def with_metrics_token(settings: Settings) -> Settings:
    return settings.model_copy(update={"metrics_token": SecretStr("a token of sixteen characters")})


@pytest.fixture
def served(made: Build, with_metrics_token: Settings) -> Callable[..., TestClient]:
    """Return a function that serves an issuer with other settings."""

    def serve(**changes: object) -> TestClient:
        issuer = made(with_metrics_token.model_copy(update=changes))
        return TestClient(create_app(issuer), raise_server_exceptions=False)

    return serve


@pytest.fixture
def web(issuer: Issuer, served: Callable[..., TestClient]) -> Iterator[TestClient]:
    """A client of an issuer that needs a token for its metrics; it shares the database of `issuer`."""
    del issuer
    with served() as client:
        yield client


def test_refused_requests_are_answered_as_documented(
    web: TestClient, alice: str, machine: tuple[str, str]
) -> None:
    del alice
    requests = Requests(web)
    session = web.post("/login", data=ALICE).json()
    machines_token = web.post("/oauth2/token", data=MACHINES, auth=machine).json()["access_token"]
    for operation, accepted in WITH_BODY.items():
        wrong = {"Content-Type": FORM if accepted == JSON else JSON}
        requests.send(operation, 400, headers=wrong, content="{}")
        requests.send(operation, 413, headers={"Content-Type": accepted}, content="x" * (BODY_MOST_BYTES + 1))
        requests.send(
            operation, 415, headers={"Content-Type": accepted, "Content-Encoding": "gzip"}, content="x"
        )
    requests.send(
        "POST /oauth2/userinfo", 413, headers={"Content-Type": FORM}, content="x" * (BODY_MOST_BYTES + 1)
    )
    requests.send(
        "POST /oauth2/userinfo", 415, headers={"Content-Type": FORM, "Content-Encoding": "gzip"}, content="x"
    )
    for operation in OF_USERS:
        requests.send(operation, 401)
        requests.send(operation, 401, headers=bearer("no-token"))
    for operation in CHANGES:
        requests.send(operation, 401, json=CHANGE)
        requests.send(operation, 401, json=CHANGE, headers=bearer("no-token"))
    requests.send("GET /metrics", 401)
    requests.send("POST /login", 400, data={**ALICE, "scope": '"'})
    requests.send("POST /login", 401, data={**ALICE, "password": "wrong"})
    requests.send("POST /users", 400, json={"username": "bob", "password": "short"})
    requests.send("POST /users", 409, json=ALICE)
    in_session = bearer(session["access_token"])
    requests.send("POST /oauth2/userinfo", 400, headers=in_session, data={"access_token": "another"})
    requests.send("DELETE /users/me/sessions/{id}", 404, headers=in_session)
    requests.send("PATCH /users/me", 400, json={"email": "alice@"}, headers=in_session)
    requests.send("PATCH /users/me", 400, json={"email": "a@example.com", **WRONG}, headers=in_session)
    requests.send("DELETE /users/me", 400, json=WRONG, headers=in_session)
    requests.send("POST /users/me/password", 400, json=WRONG, headers=in_session)
    weak = {**CHANGE, "new_password": "short"}
    requests.send("POST /users/me/password", 400, json=weak, headers=in_session)
    requests.send("POST /logout", 400, params={"everywhere": "perhaps"}, headers=in_session)
    for status, form, authentication in (
        (400, {"scope": "items:read"}, machine),
        (400, {"grant_type": "unknown"}, machine),
        (400, {"grant_type": "refresh_token", "refresh_token": "unknown", **FIRST_PARTY}, None),
        (400, {**MACHINES, "scope": "admin"}, machine),
        (400, {**MACHINES, "resource": "https://other.example"}, machine),
        (400, {"grant_type": "password", **ALICE}, machine),
        (401, MACHINES, (machine[0], "wrong")),
    ):
        requests.send("POST /oauth2/token", status, data=form, auth=authentication)
    for status, form, authentication in (
        (400, {"token_type_hint": "access_token"}, machine),
        (400, {"token": session["refresh_token"]}, machine),
        (400, {"token": machines_token}, machine),
        (401, {"token": machines_token}, (machine[0], "wrong")),
    ):
        requests.send("POST /oauth2/revoke", status, data=form, auth=authentication)
    app = an_app(web.app.state.issuer)  # type: ignore[attr-defined]
    for status, changes in (
        (400, {"response_type": None}),
        (400, {"response_type": "token"}),
        (400, {"request": "a JWT"}),
        (400, {"scope": "unknown"}),
        (400, {"resource": "https://other.example"}),
        (401, {"client_secret": "wrong"}),
    ):
        form = {**app.credentials, **app.request(**changes)}
        requests.send("POST /oauth2/par", status, data=form)
    requests.send("POST /oauth2/introspect", 400, data={"token_type_hint": "access_token"}, auth=machine)
    requests.send("POST /oauth2/introspect", 401, data={"token": "x"}, auth=(machine[0], "wrong"))
    assert requests.answered == requests.documented(400, 401, 404, 409, 413, 415)


def test_what_the_operator_disabled_and_what_the_scope_lacks_is_answered_as_documented(
    served: Callable[..., TestClient],
) -> None:
    with served() as web:
        web.post("/users", json=ALICE)
        token = web.post("/login", data=ALICE).json()["access_token"]
    with served(registration="closed", password_login="off") as web:
        requests = Requests(web)
        requests.send("POST /login", 403, data=ALICE)
        requests.send("POST /users", 403, json=ALICE)
        for operation in USERINFO:
            requests.send(operation, 403, headers=bearer(token))
        assert requests.answered == requests.documented(403)


def test_too_many_attempts_are_answered_as_documented(
    web: TestClient, served: Callable[..., TestClient], alice: str, issuer: Issuer
) -> None:
    del alice
    headers = bearer(web.post("/login", data=ALICE).json()["access_token"])
    web.cookies.clear()
    name = subnet("testclient")
    limits = [(ADDRESS, "address"), (REGISTRATION, "registration"), (SECRET, "secret")]
    for _ in range(SECRET.free + 10):
        ThrottleStore(issuer.database).fail(
            [bucket(limit, what, name) for limit, what in limits], issuer.clock()
        )
    requests = Requests(web)
    requests.send("POST /login", 429, data=ALICE)
    requests.send("POST /users/me/password", 429, json=CHANGE, headers=headers)
    requests.send("DELETE /users/me", 429, json=CHANGE, headers=headers)
    requests.send("POST /users", 429, json=ALICE)
    requests.send("POST /oauth2/token", 429, data=MACHINES, auth=("unknown", "wrong"))
    for operation in ("POST /oauth2/revoke", "POST /oauth2/introspect", "POST /oauth2/par"):
        requests.send(operation, 429, data={"token": "x"}, auth=("unknown", "wrong"))
    # Where mails are sent: there is no server, but nobody waits for one.
    with served(smtp_url=SecretStr("smtp://127.0.0.1:9")) as mailing:
        for _ in range(MAIL.free + 1):
            mailing.patch("/users/me", json={"email": "alice@example.com"}, headers=headers)
        with_mail = Requests(mailing)
        with_mail.send("PATCH /users/me", 429, json={"email": "alice@example.com"}, headers=headers)
    assert requests.answered | with_mail.answered == requests.documented(429)


def test_outages_are_answered_as_documented(web: TestClient, alice: str, settings: Settings) -> None:
    del alice
    token = web.post("/login", data=ALICE).json()["access_token"]
    issuer: Issuer = web.app.state.issuer  # type: ignore[attr-defined]
    for database in (issuer.database, issuer.ring_database):
        database.close()
    path = Path(settings.database_url.get_secret_value().removeprefix("sqlite:///"))
    path.rename(f"{path}.gone")
    path.mkdir()
    requests = Requests(web)
    requests.send("POST /login", 503, data=ALICE)
    requests.send("POST /users", 503, json={"username": "bob", "password": PASSWORD})
    requests.send("POST /oauth2/token", 503, data=MACHINES, auth=("unknown", "wrong"))
    for operation in ("POST /oauth2/revoke", "POST /oauth2/introspect", "POST /oauth2/par"):
        requests.send(operation, 503, data={"token": "x"}, auth=("unknown", "wrong"))
    for operation in OF_USERS:
        requests.send(operation, 503, headers=bearer(token))
    for operation in CHANGES:
        requests.send(operation, 503, json=CHANGE, headers=bearer(token))
    unready = requests.paths["/readyz"]["get"]["responses"]["503"]["content"][JSON]["example"]
    # There is a warning once the refresh task has noticed the outage.
    assert {**web.get("/readyz").json(), "warnings": []} == unready
    node = issuer.keys.node
    node._view = replace(node.view, refreshed_at=issuer.clock() - timedelta(hours=2))
    for path_ in ("jwks.json", "openid-configuration", "oauth-authorization-server"):
        requests.send(f"GET /.well-known/{path_}", 503)
    assert requests.answered == requests.documented(503)


def test_any_endpoint_refuses_a_repeated_header_and_an_unknown_method_as_documented(web: TestClient) -> None:
    for path, operations in web.get("/openapi.json").json()["paths"].items():
        answers = [
            web.request("PUT", path),
            web.request("GET", path, headers=[("Authorization", "a"), ("Authorization", "b")]),
        ]
        for operation in operations.values():
            assert bodies(operation["responses"]["4XX"]) == [answer.json() for answer in reversed(answers)]


def test_the_example_of_a_body_without_a_model_has_the_members_of_a_real_one(
    web: TestClient, issuer: Issuer, alice: str, machine: tuple[str, str]
) -> None:
    token = web.post("/login", data=ALICE).json()["access_token"]
    asked: dict[str, Any] = {"data": {"token": token}, "auth": machine}
    sign_in(web, issuer, alice)
    issuer.accounts.store.set_profile(alice, Profile("Alice", "alice@example.com"), issuer.clock())
    app = an_app(issuer)
    identified = app.redeems(web, app.code(web, scope="openid profile email")).json()["access_token"]
    compared = 0
    for path, operations in Requests(web).paths.items():
        for method, operation in operations.items():
            content = operation["responses"].get("200", {}).get("content", {})
            if "example" in content.get(JSON, {}):
                of_user = {"headers": bearer(identified)} if "userinfo" in path else {}
                real = web.request(method, path, **(of_user or (asked if method == "post" else {})))
                assert members(content[JSON]["example"]) == members(real.json()), path
                compared += 1
    assert compared == 8


def members(body: Any) -> Any:
    """Return the names of all members, without those of a second item of a list."""
    match body:
        case dict():
            return {name: members(value) for name, value in body.items()}
        case [dict() as first, *_]:
            return [members(first)]
        case _:
            return type(body)
