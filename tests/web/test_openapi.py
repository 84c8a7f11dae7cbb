"""The OpenAPI documents of both services are true: schemathesis tries every operation, with all of its checks.

What else the endpoints promise is tested in `test_all_endpoints` and in tests/verifier.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qsl

import hypothesis
import pytest
import schemathesis
from fastapi import FastAPI
from pydantic import SecretStr
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import Interaction
from starlette.types import ASGIApp, Receive, Scope, Send
from support.authorizing import an_app
from support.defaults import PASSWORD

from issuer.accounts.registration import register_user
from issuer.administration.clients import register_client
from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.throttling.limits import ADDRESS, REGISTRATION, SECRET, bucket, subnet
from issuer.throttling.origin import Origin
from issuer.throttling.store import ThrottleStore
from issuer.web.app import create_app
from issuer.web.http.forms import FORM, JSON
from issuer.wiring import build
from jwks_verifier import JwksCache, TokenVerifier
from jwks_verifier.testing import InProcessIssuer
from verifier_example import app as example
from verifier_example import settings as example_settings

EXAMPLES = 30 if hypothesis.settings.get_current_profile_name() == "long" else 12
"""Of each phase of schemathesis, for each operation; documented ones and borders of values come first."""
FEW = 5
AUDIENCE = "https://service.test"
LIMITED = ["/login", "/users", "/oauth2/token", "/oauth2/revoke", "/oauth2/introspect", "/oauth2/par"]
OWN_PASSWORD, OWN_ACCOUNT = "/users/me/password", "/users/me"
CONFIRMED = {(f"POST {OWN_PASSWORD}", 204), (f"DELETE {OWN_ACCOUNT}", 204)}
"""What takes the password of the user who is logged in: wrong ones would soon keep this user from everything else."""
METRICS_TOKEN = "a token of sixteen characters"
CAROL = {"username": "carol", "password": PASSWORD}
DAVE = {"username": "dave", "password": PASSWORD}
LOG_IN = {
    "path": "/login",
    "payload": CAROL,
    "payload_content_type": FORM,
    "extract_selector": "/access_token",
}
AS_CAROL = {
    "openapi": {"metrics_token": {"bearer": METRICS_TOKEN}},
    "dynamic": {"openapi": {"password_login": LOG_IN}},
}

Seen = set[tuple[str, int]]
"""Operations, each with a status that it answered."""

TAKEN_AS_400 = {
    # RFC 6749 section 5.2 and RFC 7009 section 2.2.1 answer 400 to what is well formed and names nothing that is
    # there, RFC 6750 section 2.2 to a token that is sent twice; and no schema defines which names and passwords are
    # fit for an account.
    "include-path": [
        "/oauth2/token",
        "/oauth2/revoke",
        "/oauth2/introspect",
        "/oauth2/par",
        "/oauth2/userinfo",
        "/users",
        OWN_ACCOUNT,
        OWN_PASSWORD,
    ],
    "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "400", "401", "403", "409", "429"]}},
}


def tried(app: ASGIApp, *, few: bool = False, only: str | None = None, **config: Any) -> Seen:
    """Let schemathesis try this operation, or all but those in `CONFIRMED`; return what was answered.

    Fail for what its checks found.
    """
    confirmed = sorted(operation for operation, _ in CONFIRMED)
    skipped = {"exclude-name": [only]} if only else {"include-name": confirmed}
    everywhere = {
        "seed": 1,
        "cache": {"enabled": False},
        "continue-on-failure": True,
        "generation": {"max-examples": FEW if few else EXAMPLES, "database": "none"},
        "operations": [TAKEN_AS_400, {**skipped, "enabled": False}],
    }
    asked = schemathesis.Config.from_dict({**everywhere, **config})
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=asked)
    found: dict[str, str] = {}
    seen: Seen = set()
    for event in from_schema(schema).execute():
        assert not isinstance(event, events.NonFatalError | events.FatalError), event
        if isinstance(event, events.ScenarioFinished):
            recorder = event.recorder
            for case_id, interaction in recorder.interactions.items():
                # OPTIONS is tried as a method that is not there, but every path answers it.
                if interaction.response and interaction.request.method != "OPTIONS":
                    operation = recorder.cases[case_id].value.operation.label
                    seen.add((operation, interaction.response.status_code))
            for case_id, checks in recorder.checks.items():
                for check in checks:
                    failure = check.failure_info
                    if failure and not is_allowed(check.name, recorder.interactions.get(case_id)):
                        name = f"{check.name}: {failure.failure.operation}: {failure.failure.title}"
                        found.setdefault(name, f"{failure.failure.message}\n{failure.code_sample}")
    assert not found, "\n\n".join(f"{name}\n{how}" for name, how in found.items())
    return seen


def is_allowed(check: str, interaction: Interaction | None) -> bool:
    """Return whether a form was accepted that is wrong in nothing but an empty value, as the document sees it.

    It counts as left out, RFC 6749 section 3.1, which no schema can express.
    """
    if check != "negative_data_rejection" or interaction is None:
        return False
    request = interaction.request
    if FORM not in request.headers.get("Content-Type", [""])[0]:
        return False
    fields = parse_qsl((request.body or b"").decode("latin-1"), keep_blank_values=True)
    return not all(value for _, value in fields)


def require_documented(seen: Seen, document: dict[str, Any]) -> None:
    """Fail for a status that is documented by a range only, except for methods that do not exist."""
    documented = {
        (f"{method.upper()} {path}", status)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        for status in operation["responses"]
    }
    assert not {
        (operation, status)
        for operation, status in seen
        if (operation, str(status)) not in documented and status != 405
    }


def successes(document: dict[str, Any]) -> Seen:
    """Return each operation with the status of its success."""
    return {
        (f"{method.upper()} {path}", int(status))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        for status in operation["responses"]
        if status.startswith("2")
    }


class ManyClients:
    """ASGI middleware: each so many requests come from another address, or those who guess hold up all others."""

    def __init__(self, app: ASGIApp, each: int) -> None:
        self._app = app
        self._each = each
        self._requests = itertools.count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        number = next(self._requests) // self._each
        await self._app({**scope, "client": (f"198.18.{number // 256}.{number % 256}", 50000)}, receive, send)


# The issuer


@pytest.fixture
def make(settings: Settings) -> Iterator[Callable[..., FastAPI]]:
    """Make the application of an issuer by the real clock; with users carol and dave, and a key ring."""
    with ExitStack() as stack:

        def make(**changes: object) -> FastAPI:
            issuer = build(settings.model_copy(update={"metrics_token": SecretStr(METRICS_TOKEN), **changes}))
            stack.callback(issuer.close)
            for name in (CAROL["username"], DAVE["username"]):
                scope = frozenset({"items:read", "openid"})
                register_user(
                    issuer.accounts.store, issuer.accounts.passwords, name, PASSWORD, issuer.clock(), scope
                )
            issuer.keys.node.refresh()
            return create_app(issuer)

        yield make


def offer(app: FastAPI, path: str, *forms: dict[str, str | None]) -> None:
    """Put forms that succeed into the document as examples, for schemathesis to begin with."""
    content = app.openapi()["paths"][path]["post"]["requestBody"]["content"][FORM]
    content["examples"] = {f"form {number}": {"value": form} for number, form in enumerate(forms)}


def offer_forms(app: FastAPI) -> None:
    """Offer each endpoint that takes a form what it needs to succeed."""
    issuer: Issuer = app.state.issuer
    now = issuer.clock()
    machine, secret = register_client(
        issuer.clients.store, "machine", AuthMethod.POST, frozenset({"items:read"}), (), now
    )
    client, first_party = {"client_id": machine.id, "client_secret": secret}, {"client_id": "first-party"}
    tokens = issuer.tokens.pipeline.login(DAVE, Origin("a test", "198.18.0.0"), now)
    offer(app, "/login", {**DAVE})
    offer(
        app,
        "/oauth2/token",
        {"grant_type": "client_credentials", **client},
        {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token, **first_party},
        {"grant_type": "password", **DAVE, **first_party},
    )
    offer_pushed_request(app, issuer)
    offer(app, "/oauth2/introspect", {"token": tokens.access_token, **client})
    offer(app, "/oauth2/revoke", {"token": tokens.refresh_token, **first_party})


def offer_pushed_request(app: FastAPI, issuer: Issuer) -> None:
    """Offer a request that can be pushed."""
    pushes = an_app(issuer)
    offer(app, "/oauth2/par", {**pushes.request(), **pushes.credentials})


def test_the_issuer_answers_as_documented(make: Callable[..., FastAPI]) -> None:
    app = make()
    offer_forms(app)
    seen = tried(ManyClients(app, each=50), auth=AS_CAROL)
    require_documented(seen, app.openapi())
    assert successes(app.openapi()) - CONFIRMED <= seen


@pytest.mark.parametrize(("operation", "status"), sorted(CONFIRMED))
def test_what_takes_the_password_of_the_user_answers_as_documented(
    make: Callable[..., FastAPI], operation: str, status: int
) -> None:
    app = make()
    method, path = operation.split()
    body = app.openapi()["paths"][path][method.lower()]["requestBody"]["content"][JSON]
    confirmed = {"password": PASSWORD, "new_password": "nine calm bisons whisper"}
    body["examples"] = {"confirmed": {"value": confirmed}}
    issuer: Issuer = app.state.issuer
    token = issuer.tokens.pipeline.login(CAROL, Origin("a test", "198.18.0.0"), issuer.clock()).access_token
    by_token = {"openapi": {"access_token": {"bearer": token}}}
    seen = tried(ManyClients(app, each=50), few=True, only=operation, auth=by_token)
    require_documented(seen, app.openapi())
    assert (operation, status) in seen


def test_responses_with_retry_after_are_as_documented(make: Callable[..., FastAPI]) -> None:
    app = make()
    issuer: Issuer = app.state.issuer
    store, name = ThrottleStore(issuer.database), subnet("198.18.0.0")
    limits = [(ADDRESS, "address"), (REGISTRATION, "registration"), (SECRET, "secret")]
    for _ in range(SECRET.free + 10):
        store.fail([bucket(limit, what, name) for limit, what in limits], issuer.clock())
    offer(app, "/login", {**DAVE})
    seen = tried(ManyClients(app, each=10**6), few=True)
    require_documented(seen, app.openapi())
    assert {f"POST {path}" for path in LIMITED} == {operation for operation, status in seen if status == 429}


def test_disabled_endpoints_answer_as_documented(make: Callable[..., FastAPI]) -> None:
    app = make(registration="closed", password_login="off")
    offer(app, "/login", {**DAVE})
    seen = tried(ManyClients(app, each=50), few=True)
    require_documented(seen, app.openapi())
    assert {("POST /users", 403), ("POST /login", 403), ("GET /users/me", 401)} <= seen


# The example service


@pytest.mark.parametrize(
    ("scope", "is_down", "met"),
    [
        ("items:read", False, {("GET /items", 200), ("GET /me", 200), ("GET /protected_route", 200)}),
        ("", False, {("GET /items", 403), ("GET /me", 200)}),
        (None, False, {("GET /items", 401), ("GET /me", 401), ("GET /readyz", 200)}),
        ("items:read", True, {("GET /items", 503), ("GET /readyz", 503), ("GET /healthz", 200)}),
    ],
)
def test_the_example_service_answers_as_documented(scope: str | None, met: Seen, *, is_down: bool) -> None:
    issuer = InProcessIssuer()
    issuer.down = is_down
    cache = JwksCache(issuer.url, transport=issuer.transport)
    app = example.create_app(
        example_settings.Settings(_env_file=None), verifier=TokenVerifier(cache, AUDIENCE)
    )
    config: dict[str, Any] = {}
    if scope is not None:
        config["auth"] = {"openapi": {"issuer": {"bearer": issuer.make_token(aud=[AUDIENCE], scope=scope)}}}
    if is_down:
        config["checks"] = {"not_a_server_error": {"expected-statuses": ["2xx", "4xx", "503"]}}
    seen = tried(app, few=is_down or not scope, **config)
    require_documented(seen, app.openapi())
    assert met <= seen
