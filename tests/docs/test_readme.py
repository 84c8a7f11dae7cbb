"""The lines of Python in the README are a service that works."""

import re
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from jwks_verifier.testing import InProcessIssuer

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
ISSUER = "https://issuer.example"
AUDIENCE = "https://api.example"


def test_the_service_of_the_readme_verifies_tokens_and_scopes() -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    issuer = InProcessIssuer(ISSUER)
    cache = f'JwksCache("{ISSUER}")'
    assert cache in lines
    namespace: dict[str, Any] = {"transport": issuer.transport}
    exec(lines.replace(cache, f'JwksCache("{ISSUER}", transport=transport)'), namespace)  # noqa: S102
    tokens = [issuer.make_token(aud=AUDIENCE, scope=scope, username="alice") for scope in ("items:read", "")]
    with TestClient(namespace["app"]) as client:
        answers = [client.get("/items", headers={"Authorization": f"Bearer {token}"}) for token in tokens]
        without = client.get("/items")
    assert answers[0].json() == {"read by": "alice"}
    assert [answer.status_code for answer in (*answers, without)] == [200, 403, 401]
