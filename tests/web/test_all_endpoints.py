"""The issuer over HTTP, in process: what each endpoint answers, and what no input makes it answer."""

import base64
import json
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as runs
from hypothesis import strategies as st
from pydantic import SecretStr
from support.defaults import ALICE, PASSWORD, Build

from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.web.app import create_app

Logged = Callable[[], str]


def test_an_internal_error_is_logged_without_the_values_of_variables(
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


def test_no_secret_shows_in_the_repr_of_objects(web: TestClient, alice: str, issuer: Issuer) -> None:
    user = issuer.accounts.store.by_id(alice)
    shown = repr((issuer.settings, user, issuer.keys.signer, str(issuer.database), issuer))
    assert "a passphrase for tests" not in shown
    assert "$argon2id$" not in shown


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
        assert "issuer_standby_keys_missing 0.0" in answer.text
    else:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert answer.json()["error"] == "invalid_token"
