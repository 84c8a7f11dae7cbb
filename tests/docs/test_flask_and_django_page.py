"""The services in docs/flask-and-django.md, run as they are written, against an issuer in the same process."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.documents import programs

PROGRAMS = programs("flask-and-django.md")
Answer = tuple[int, Any, Mapping[str, str]]
Ask = Callable[..., Answer]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("services")
    for name, text in PROGRAMS.items():
        (folder / name).write_text(text)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


def flask(service: ModuleType) -> Ask:
    client = service.app.test_client()

    def ask(path: str, **headers: str) -> Answer:
        answer = client.get(path, headers=headers)
        return answer.status_code, answer.json, answer.headers

    return ask


def django(_: ModuleType) -> Ask:
    from django.test import Client  # noqa: PLC0415 - after its settings, which are those of the page

    client = Client(headers={"Host": "api.example"})

    def ask(path: str, **headers: str) -> Answer:
        answer = client.get(path, headers={"Host": "api.example", **headers})
        return answer.status_code, answer.json(), answer.headers

    return ask


SERVICES: Mapping[str, Callable[[ModuleType], Ask]] = {"flask_service": flask, "django_service": django}


@pytest.mark.parametrize("name", SERVICES)
def test_the_service_verifies_tokens_and_scopes(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = import_module(name)
    fixtures: dict[str, Any] = {}
    exec(re.sub(r"@pytest.fixture\n", "", PROGRAMS["conftest.py"]), fixtures)  # noqa: S102
    issuer, started = fixtures["issuer"](), contextmanager(fixtures["verifier"])
    ask = SERVICES[name](service)

    def ask_as_alice(path: str, **claims: Any) -> Answer:
        token = issuer.make_token(**{"aud": "https://api.test", "username": "alice", **claims})
        return ask(path, Authorization=f"Bearer {token}")

    with started(issuer) as verifier:
        monkeypatch.setattr(service, "verifier", verifier)
        assert ask_as_alice("/me")[:2] == (200, {"id": "u1", "name": "alice"})
        assert ask_as_alice("/items", scope="items:read")[:2] == (200, ["a first item"])
        assert ask_as_alice("/items")[0] == 403
        assert ask_as_alice("/me", aud="https://other.test")[0] == 401
        for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}):
            status, _, sent = ask("/me", **headers)
            assert status == 401
            assert sent["WWW-Authenticate"].startswith("Bearer")
    issuer.down = True
    with started(issuer) as without_keys:
        monkeypatch.setattr(service, "verifier", without_keys)
        status, _, sent = ask_as_alice("/me")
    assert (status, sent["Retry-After"].isdigit()) == (503, True)
