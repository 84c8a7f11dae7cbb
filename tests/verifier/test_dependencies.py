"""Access to protected routes: tokens, scopes, challenges (RFC 6750) and the resource's metadata (RFC 9728).

Which tokens are valid is tested in `test_attacks` and `test_standards`; WebSockets in `test_sockets`.
"""

from typing import Annotated, Any

import pytest
from fastapi import FastAPI, HTTPException, Security, WebSocket
from fastapi.testclient import TestClient
from support.defaults import bearer
from support.verifier import AUDIENCE, METADATA_PARAMETER, METADATA_PATH, Forge

from jwks_verifier import AccessToken, JwksCache, TokenVerifier
from jwks_verifier.fastapi import CurrentUser, render_refusal
from jwks_verifier.testing import InProcessIssuer, access_token
from verifier_example.app import create_app

PROTECTED = ["/protected_route", "/me", "/items"]


def test_a_user_is_greeted_by_name(client: TestClient, forge: Forge) -> None:
    answer = client.get("/protected_route", headers=bearer(forge.token()))
    assert (answer.status_code, answer.json()) == (200, {"message": "Hello, alice"})


def test_a_machine_is_greeted_by_its_client_id(client: TestClient, forge: Forge) -> None:
    answer = client.get(
        "/protected_route", headers=bearer(forge.token(username=None, client_id="m1", sub="m1"))
    )
    assert answer.json() == {"message": "Hello, m1"}


def test_the_caller_sees_their_claims(client: TestClient, forge: Forge) -> None:
    token = forge.token()
    assert client.get("/me", headers=bearer(token)).json() == forge.claims()


def test_the_bearer_scheme_is_read_in_any_case_and_with_extra_spaces(
    client: TestClient, forge: Forge
) -> None:
    for scheme in ("bearer ", "BEARER ", "Bearer   "):
        assert client.get("/me", headers={"Authorization": scheme + forge.token()}).status_code == 200


def test_a_token_with_the_required_scope_may_use_the_route(client: TestClient, forge: Forge) -> None:
    answer = client.get("/items", headers=bearer(forge.token(scope="other items:read")))
    assert answer.status_code == 200
    assert [item["id"] for item in answer.json()] == [1, 2]


@pytest.mark.parametrize("scope", ["", "items", "items:reader", "ITEMS:READ", "items:write"])
def test_a_missing_scope_is_a_403_that_names_the_scope(scope: str, client: TestClient, forge: Forge) -> None:
    answer = client.get("/items", headers=bearer(forge.token(scope=scope)))
    assert answer.status_code == 403
    assert answer.json()["error"] == "insufficient_scope"
    challenge = answer.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer error="insufficient_scope"')
    assert challenge.endswith(f'scope="items:read", {METADATA_PARAMETER}')


@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic YTpi"}, {"Authorization": ""}])
def test_without_a_token_the_challenge_has_no_error(
    path: str, headers: dict[str, str], client: TestClient
) -> None:
    answer = client.get(path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == f"Bearer {METADATA_PARAMETER}"
    assert set(answer.json()) == {"error", "error_description"}


@pytest.mark.parametrize("place", [{"params": {"access_token": "T"}}, {"cookies": {"access_token": "T"}}])
def test_a_token_is_read_from_the_authorization_header_only(
    place: dict[str, Any], client: TestClient, forge: Forge
) -> None:
    (where, _), token = next(iter(place.items())), forge.token()
    request = client.build_request(
        "GET", "/me", **({where: {"access_token": token}} if where == "params" else {})
    )
    if where == "cookies":
        request.headers["Cookie"] = f"access_token={token}"
    assert client.send(request).status_code == 401


def test_every_invalid_token_gets_the_same_answer(client: TestClient, forge: Forge) -> None:
    tokens = [
        "junk",
        forge.token(iss="https://evil.test"),
        forge.token(aud="https://evil.test"),
        forge.token({"typ": "JWT"}),
        forge.token({"kid": "unknown"}),
        forge.signed(forge.header(), forge.claims(), forge.stranger),
    ]
    answers = {
        (answer.status_code, answer.text, answer.headers["WWW-Authenticate"])
        for answer in (client.get("/me", headers=bearer(token)) for token in tokens)
    }
    assert answers == {
        (
            401,
            '{"error":"invalid_token","error_description":"invalid token"}',
            f'Bearer error="invalid_token", error_description="invalid token", {METADATA_PARAMETER}',
        )
    }


def test_the_challenge_says_that_the_token_expired(client: TestClient, forge: Forge) -> None:
    answer = client.get("/me", headers=bearer(forge.token(exp=1)))
    assert answer.status_code == 401
    assert (
        answer.headers["WWW-Authenticate"]
        == f'Bearer error="invalid_token", error_description="token expired", {METADATA_PARAMETER}'
    )


def test_two_authorization_headers_are_rejected(client: TestClient, forge: Forge) -> None:
    good = ("Authorization", f"Bearer {forge.token()}")
    junk = ("Authorization", "Basic YTpi")
    for headers in ([good, good], [good, junk], [junk, good]):
        answer = client.get("/me", headers=headers)
        assert answer.status_code == 400
        assert answer.json()["error"] == "invalid_request"
        assert answer.headers["WWW-Authenticate"].startswith('Bearer error="invalid_request"')


def test_without_keys_the_answer_is_503_with_retry_after(
    app: FastAPI, issuer: InProcessIssuer, forge: Forge
) -> None:
    issuer.down = True
    with TestClient(app) as client:
        answer = client.get("/me", headers=bearer(forge.token()))
    assert answer.status_code == 503
    assert answer.json()["error"] == "temporarily_unavailable"
    assert int(answer.headers["Retry-After"]) >= 1


def test_the_metadata_names_the_issuer_and_the_scopes_that_routes_require(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    asked = {
        scope
        for operations in document["paths"].values()
        for scopes in operations["get"].get("security", [])
        for scope in next(iter(scopes.values()))
    }
    assert client.get(METADATA_PATH).json() == {
        "resource": AUDIENCE,
        "authorization_servers": ["https://issuer.test"],
        "scopes_supported": sorted(asked),
        "bearer_methods_supported": ["header"],
    }


def test_the_metadata_of_a_resource_with_a_path_is_between_host_and_path(cache: JwksCache) -> None:
    client = TestClient(create_app(verifier=TokenVerifier(cache, "https://api.test/v1/")))
    challenge = client.get("/me").headers["WWW-Authenticate"]
    assert challenge == f'Bearer resource_metadata="https://api.test{METADATA_PATH}/v1"'
    assert client.get(f"{METADATA_PATH}/v1").json()["resource"] == "https://api.test/v1/"
    assert client.get(METADATA_PATH).status_code == 404


@pytest.mark.parametrize("audience", ["inventory", "https://例.test", 'https://api.test/"x'])
def test_an_audience_that_is_not_a_url_has_no_metadata_and_a_plain_challenge(
    cache: JwksCache, audience: str
) -> None:
    client = TestClient(create_app(verifier=TokenVerifier(cache, audience)))
    assert client.get("/me").headers["WWW-Authenticate"] == "Bearer"
    assert client.get(METADATA_PATH).status_code == 404


def test_a_service_can_be_tested_by_overriding_the_dependency(app: FastAPI) -> None:
    app.dependency_overrides[app.state.current_user] = lambda: access_token(username="bob")
    client = TestClient(app)
    assert client.get("/protected_route").json() == {"message": "Hello, bob"}


def test_a_service_can_be_tested_with_an_issuer_in_the_same_process(issuer: InProcessIssuer) -> None:
    cache = JwksCache(issuer.url, transport=issuer.transport)
    app = create_app(verifier=TokenVerifier(cache, "https://api.test"))
    token = issuer.make_token(aud="https://api.test", scope="items:read")
    with TestClient(app) as client:
        assert client.get("/items", headers=bearer(token)).status_code == 200


def test_only_refusals_of_a_token_are_rendered_in_the_form_of_oauth(verifier: TokenVerifier) -> None:
    current_user = CurrentUser(verifier, token_url="https://issuer.test/login")
    app = FastAPI(lifespan=current_user.lifespan)
    app.add_exception_handler(HTTPException, render_refusal)

    @app.get("/mine", dependencies=[Security(current_user)])
    async def mine() -> None: ...

    @app.get("/things/{number}")
    async def thing(number: int) -> None:
        raise HTTPException(404, "no such thing" if number else {"code": 7}, {"X-Number": str(number)})

    with TestClient(app) as client:
        assert client.get("/mine").json().keys() == {"error", "error_description"}
        assert client.get("/things/1").json() == {"detail": "no such thing"}
        assert client.get("/things/1").headers["X-Number"] == "1"
        assert client.get("/things/0").json() == {"detail": {"code": 7}}
        assert client.get("/nothing").json() == {"detail": "Not Found"}


def test_with_an_optional_user_a_request_without_a_token_has_none_and_a_bad_token_is_refused(
    verifier: TokenVerifier, forge: Forge
) -> None:
    current_user = CurrentUser(verifier, token_url="https://issuer.test/login")
    app = FastAPI(lifespan=current_user.lifespan)
    app.add_exception_handler(HTTPException, render_refusal)
    Anyone = Annotated[AccessToken | None, Security(current_user.optional, scopes=["items:read"])]  # noqa: N806

    @app.get("/")
    async def home(user: Anyone) -> str | None:
        return user.username if user else None

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, user: Anyone) -> None:
        await websocket.accept("bearer")
        await websocket.send_json(user.username if user else None)

    def answer(*headers: str) -> tuple[int, Any]:
        response = client.get("/", headers=[("Authorization", header) for header in headers])
        return response.status_code, response.json()

    with TestClient(app) as client:
        assert answer() == answer("Basic YTpi") == (200, None)
        assert answer(f"Bearer {forge.token()}") == (200, "alice")
        assert [answer("Bearer")[0], answer("Bearer junk")[0], answer("Bearer a", "Bearer b")[0]] == [
            401,
            401,
            400,
        ]
        assert answer(f"Bearer {forge.token(scope='other')}")[0] == 403
        with client.websocket_connect("/socket") as connection:
            assert connection.receive_json() is None
        with client.websocket_connect("/socket", subprotocols=["bearer", forge.token()]) as connection:
            assert connection.receive_json() == "alice"
        document = client.get("/openapi.json").json()
    assert document["paths"]["/"]["get"]["security"] == [{"issuer": ["items:read"]}, {}]
    assert set(document["components"]["securitySchemes"]) == {"issuer"}
    app.dependency_overrides[current_user.optional] = lambda: access_token(username="bob")
    assert TestClient(app).get("/").json() == "bob"
