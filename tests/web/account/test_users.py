"""`POST /users` and `GET /users/me`: names and passwords that are accepted, and tokens that read an account."""

import base64
import unicodedata

import pytest
from fastapi.testclient import TestClient
from support.defaults import ALICE, PASSWORD, Build, MovableClock, bearer

from issuer.settings.settings import Settings
from issuer.web.app import create_app


def test_registration_makes_an_account_without_any_scope(web: TestClient) -> None:
    answer = web.post("/users", json=ALICE)
    assert answer.status_code == 201
    profile = {"name", "email", "email_verified"}
    assert answer.json().keys() == {"id", "username", "scope", "created_at", *profile}
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
