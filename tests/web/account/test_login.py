"""`POST /login`: tokens for a user name and a password, and what every failure has in common."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import jwt
import pytest
from fastapi.testclient import TestClient
from passlib.hash import pbkdf2_sha256
from support.defaults import ALICE, PASSWORD, START, Build, MovableClock, bearer
from support.endpoints import ISSUER, SERVICE, refresh, verified

from issuer.accounts.passwords import WrongPassword
from issuer.administration.users import disable_user
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.web.app import create_app


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


def test_a_log_in_without_its_fields_is_an_oauth_error_that_names_them(web: TestClient) -> None:
    answer = web.post("/login", data={"username": "alice"})
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert "password" in answer.json()["error_description"]
    assert answer.headers["cache-control"] == "no-store"


def test_a_scope_is_the_requested_part_of_the_granted_one(web: TestClient, alice: str) -> None:
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
    assert user.password_hash.startswith("$argon2id$")
    assert web.post("/login", data=ALICE).status_code == 200


def test_log_ins_at_once_with_a_hash_of_an_older_scheme_all_succeed(
    web: TestClient, alice: str, issuer: Issuer
) -> None:
    issuer.tokens.families.set_password_hash(alice, pbkdf2_sha256.using(rounds=1000).hash(PASSWORD), START)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: web.post("/login", data=ALICE), range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4


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


def test_every_failed_log_in_costs_one_verification(
    web: TestClient, alice: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[tuple[str | None, str | None]] = []
    real = issuer.accounts.passwords.verify

    def count(password: str, password_hash: str | None, decoy: str | None) -> str | None:
        verified.append((password_hash, decoy))
        return real(password, password_hash, decoy)

    monkeypatch.setattr(issuer.accounts.passwords, "verify", count)
    web.post("/login", data={**ALICE, "password": "wrong"})
    web.post("/login", data={**ALICE, "username": "nobody"})
    web.post("/login", data={**ALICE, "password": "x" * 5000})
    web.post("/login", data={**ALICE, "username": "nul\0"})
    assert len(verified) == 4
    user = issuer.accounts.store.by_id(alice)
    assert user
    disable_user(issuer.tokens.families, user, START)
    web.post("/login", data=ALICE)
    assert [password_hash for password_hash, _ in verified] == [user.password_hash, None, None, None, None]
    _, decoy = verified[-1]
    assert decoy == user.password_hash, "the work is that of the hash of the account"


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
