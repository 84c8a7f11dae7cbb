"""Finding the keys of an issuer: which documents may lead to which others."""

import json

import pytest

from issuer.tokens.published_keys import DISCOVERY, KeysNotFound, find_published_keys

ISSUER = "https://issuer.example"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:2375/images/json", "HTTP://localhost/", "file:///etc/passwd"]
)
def test_an_issuer_with_tls_cannot_make_this_machine_ask_itself(url: str) -> None:
    asked = []

    def fetch(location: str) -> bytes:
        asked.append(location)
        return json.dumps({"issuer": ISSUER, "jwks_uri": url}).encode()

    with pytest.raises(KeysNotFound, match="without TLS"):
        find_published_keys(ISSUER, fetch)
    assert asked == [ISSUER + DISCOVERY]
