"""`/openapi.json`."""

import json

import pytest
from fastapi.testclient import TestClient


def test_the_openapi_document_is_rendered_once(web: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    first = web.get("/openapi.json")
    assert first.json()["openapi"].startswith("3.")
    with monkeypatch.context() as patched:
        patched.setattr(json, "dumps", None)
        assert web.get("/openapi.json").content == first.content
