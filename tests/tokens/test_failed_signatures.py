"""Refreshes on a node that cannot sign for a while: no client loses its session."""

import pytest
from fastapi.testclient import TestClient
from support.refreshes import log_in, refresh, successor

from issuer.errors import KeyUnavailable
from issuer.services import Issuer


@pytest.mark.usefixtures("alice")
def test_a_successor_that_could_not_be_returned_is_still_returned_once(
    web: TestClient, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_kid: str, _data: bytes) -> bytes:
        raise KeyUnavailable("the HSM does not answer")

    token = log_in(web)["refresh_token"]
    with monkeypatch.context() as failing:
        failing.setattr(issuer.keys.signer, "sign", fail)
        assert [refresh(web, token).status_code for _ in range(4)] == [503] * 4
    following = successor(web, token)
    refused = refresh(web, token)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert successor(web, following)
