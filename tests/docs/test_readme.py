"""The lines of Python in the README, and in that of the library, work as they are written."""

import asyncio
import re
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from jwks_verifier.testing import InProcessIssuer

ROOT = Path(__file__).parents[2]
ISSUER = "https://issuer.example"
AUDIENCE = "https://api.example"


def run(page: str, issuer: InProcessIssuer) -> dict[str, Any]:
    """Run the lines of Python of a page with keys of that issuer, and return what they define."""
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    cache = f'JwksCache("{ISSUER}")'
    assert cache in lines
    namespace: dict[str, Any] = {"transport": issuer.transport}
    exec(lines.replace(cache, f'JwksCache("{ISSUER}", transport=transport)'), namespace)  # noqa: S102
    return namespace


def test_the_service_of_the_readme_verifies_tokens_and_scopes() -> None:
    issuer = InProcessIssuer(ISSUER)
    namespace = run("README.md", issuer)
    tokens = [issuer.make_token(aud=AUDIENCE, scope=scope, username="alice") for scope in ("items:read", "")]
    machine = issuer.make_token(aud=AUDIENCE, scope="items:read", client_id="nightly")
    with TestClient(namespace["app"]) as client:
        answers = [client.get("/items", headers={"Authorization": f"Bearer {token}"}) for token in tokens]
        by_machine = client.get("/items", headers={"Authorization": f"Bearer {machine}"})
        without = client.get("/items")
    assert [answer.json() for answer in (answers[0], by_machine)] == ["read by alice", "read by nightly"]
    assert [answer.status_code for answer in (*answers, without)] == [200, 403, 401]


def test_the_function_of_the_librarys_readme_tells_tokens_apart() -> None:
    issuer = InProcessIssuer(ISSUER)
    namespace = run("verifier_example/README.md", issuer)
    verifier, status = namespace["verifier"], namespace["status"]
    tokens = [issuer.make_token(aud=AUDIENCE, scope=scope) for scope in ("items:read", "")]

    async def statuses() -> list[int]:
        issuer.down = True
        before = await status(tokens[0])
        issuer.down = False
        async with verifier:
            return [before] + [await status(token) for token in (*tokens, "x")]

    assert asyncio.run(statuses()) == [503, 200, 403, 401]
