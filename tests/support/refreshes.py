"""Requests of the refresh grant over HTTP, and what they leave in the store."""

import httpx2
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from issuer.services import Issuer
from issuer.tokens.refresh_rotation import refresh_tokens
from support.defaults import ALICE

SERVICE = "http://127.0.0.1:8001"
PUBLIC = {"client_id": "first-party"}


def log_in(web: TestClient) -> dict[str, str]:
    body: dict[str, str] = web.post("/login", data=ALICE).json()
    return body


def refresh(web: TestClient, token: str, **more: str) -> httpx2.Response:
    form = {"grant_type": "refresh_token", **PUBLIC, "refresh_token": token, **more}
    return web.post("/oauth2/token", data=form)


def successor(web: TestClient, token: str) -> str:
    answer = refresh(web, token)
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["refresh_token"]
    return found


def is_active(web: TestClient, token: str) -> bool:
    return refresh(web, token).status_code == 200


def events(issuer: Issuer) -> dict[str, int]:
    return {each.event: each.count for each in issuer.tokens.session_events.newest(100)[0]}


def rows(issuer: Issuer) -> int:
    with issuer.database.read() as connection:
        return connection.scalar(select(func.count()).select_from(refresh_tokens)) or 0
