"""`GET /.well-known/jwks.json`: its keys, its ETag, and 304."""

import pytest
from fastapi.testclient import TestClient

from issuer.services import Issuer


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
