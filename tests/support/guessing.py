"""Log-ins and guesses from chosen addresses, and how long the answer says to wait."""

from collections.abc import Callable

import httpx2
from fastapi.testclient import TestClient

from support.defaults import PASSWORD

From = Callable[[str], TestClient]
"""Makes a client with an address."""


def log_in(web: TestClient, password: str = PASSWORD, username: str = "alice") -> httpx2.Response:
    return web.post("/login", data={"username": username, "password": password})


def guess(web: TestClient, times: int, username: str = "alice") -> list[int]:
    return [log_in(web, "wrong", username).status_code for _ in range(times)]


def waits(answer: httpx2.Response) -> int:
    """Return the seconds to wait before the next attempt; fail unless the answer refuses this one for that reason."""
    assert answer.status_code == 429
    assert answer.json()["error"] == "too_many_attempts"
    assert answer.headers["cache-control"] == "no-store"
    return int(answer.headers["retry-after"])
