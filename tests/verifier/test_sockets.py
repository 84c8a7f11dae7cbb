"""The example's WebSocket route: how a caller authenticates, when it is refused, and when it is closed."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIWebSocketRoute
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from support.defaults import bearer
from support.verifier import AUDIENCE, METADATA_PARAMETER, Clock, Forge, serve
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from jwks_verifier import JwksCache, TokenVerifier
from jwks_verifier.testing import InProcessIssuer, access_token
from verifier_example.app import create_app
from verifier_example.settings import Settings


def test_a_socket_greets_the_caller_at_once_and_at_each_message(client: TestClient, forge: Forge) -> None:
    with client.websocket_connect("/greetings", headers=bearer(forge.token())) as socket:
        assert socket.receive_json() == {"message": "Hello, alice"}
        for send in (lambda: socket.send_text("again"), lambda: socket.send_bytes(b"\xff")):
            send()
            assert socket.receive_json() == {"message": "Hello, alice"}
        assert socket.accepted_subprotocol is None


def test_a_browser_may_send_the_token_as_a_subprotocol_which_is_never_echoed(
    client: TestClient, forge: Forge
) -> None:
    with client.websocket_connect("/greetings", subprotocols=["bearer", forge.token()]) as socket:
        assert socket.accepted_subprotocol == "bearer"
        assert socket.receive_json() == {"message": "Hello, alice"}


def test_a_socket_without_a_valid_token_is_denied_before_it_opens(client: TestClient, forge: Forge) -> None:
    token, expired = forge.token(), forge.token(exp=1)
    for offer, challenge in (
        ({}, f"Bearer {METADATA_PARAMETER}"),
        ({"subprotocols": ["chat"]}, f"Bearer {METADATA_PARAMETER}"),
        ({"subprotocols": [token]}, f"Bearer {METADATA_PARAMETER}"),
        ({"subprotocols": ["bearer"]}, f"Bearer {METADATA_PARAMETER}"),
        ({"headers": bearer("junk")}, 'Bearer error="invalid_token", error_description="invalid token"'),
        ({"subprotocols": ["bearer", "junk"]}, 'Bearer error="invalid_token", error_description="invalid'),
        ({"subprotocols": ["bearer", token, token]}, 'Bearer error="invalid_request"'),
        ({"subprotocols": ["bearer", token], "headers": bearer(token)}, 'Bearer error="invalid_request"'),
        ({"subprotocols": ["bearer", expired]}, 'Bearer error="invalid_token", error_description="token exp'),
    ):
        opening = client.websocket_connect("/greetings", **offer)
        with pytest.raises(WebSocketDenialResponse) as denied, opening:
            pass
        assert denied.value.status_code == (400 if "invalid_request" in challenge else 401)
        assert denied.value.headers["WWW-Authenticate"].startswith(challenge)


def test_a_socket_at_an_unknown_path_gets_a_404(client: TestClient) -> None:
    for path in ("/nowhere", "/healthz"):
        with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect(path):
            pass
        assert (denied.value.status_code, denied.value.json()["error"]) == (404, "not_found")


def test_a_token_in_the_url_or_in_a_cookie_opens_no_socket(client: TestClient, forge: Forge) -> None:
    for offer in (
        client.websocket_connect(f"/greetings?access_token={forge.token()}"),
        client.websocket_connect("/greetings", headers={"Cookie": f"access_token={forge.token()}"}),
    ):
        with pytest.raises(WebSocketDenialResponse), offer:
            pass


def test_a_token_in_a_subprotocol_is_ignored_outside_websockets(client: TestClient, forge: Forge) -> None:
    headers = {"Sec-WebSocket-Protocol": f"bearer, {forge.token()}"}
    assert client.get("/me", headers=headers).status_code == 401


def test_without_keys_a_socket_is_denied_with_503_and_retry_after(
    app: FastAPI, issuer: InProcessIssuer, forge: Forge
) -> None:
    issuer.down = True
    with TestClient(app) as client:
        opening = client.websocket_connect("/greetings", headers=bearer(forge.token()))
        with pytest.raises(WebSocketDenialResponse) as denied, opening:
            pass
    assert denied.value.status_code == 503
    assert int(denied.value.headers["Retry-After"]) >= 1


async def call_without_extensions(
    app: FastAPI, *received: dict[str, Any], **scope: Any
) -> list[dict[str, Any]]:
    """Call the app as a server without ASGI extensions, and return the messages that the app sends."""
    messages, sent = iter([{"type": "websocket.connect"}, *received]), []

    async def receive() -> dict[str, Any]:
        message = next(messages, None)
        return message or await asyncio.Event().wait()  # type: ignore[return-value]  # nothing more comes

    async def send(message: Any) -> None:
        sent.append(message)

    whole = {
        "type": "websocket",
        "path": "/greetings",
        "query_string": b"",
        "headers": [],
        "subprotocols": [],
    }
    await app({**whole, **scope}, receive, send)
    return sent


@pytest.mark.anyio
async def test_a_server_without_the_denial_extension_closes_the_socket_before_it_opens(
    app: FastAPI, verifier: TokenVerifier, issuer: InProcessIssuer, forge: Forge
) -> None:
    async with verifier.cache:
        assert await call_without_extensions(app) == [{"type": "websocket.close", "code": 1008, "reason": ""}]
        assert await call_without_extensions(app, subprotocols=["bearer", "junk"]) == [
            {"type": "websocket.close", "code": 1008, "reason": ""}
        ]
    issuer.down = True
    unready = create_app(verifier=TokenVerifier(JwksCache(issuer.url, transport=issuer.transport), AUDIENCE))
    assert await call_without_extensions(
        unready, subprotocols=["bearer", issuer.make_token(aud=AUDIENCE)]
    ) == [{"type": "websocket.close", "code": 1013, "reason": ""}]


@pytest.mark.anyio
async def test_a_socket_is_closed_when_its_token_expires(
    app: FastAPI, verifier: TokenVerifier, clock: Clock, forge: Forge
) -> None:
    async with verifier.cache:
        token = forge.token()
        clock.advance(609.9)  # of 600 s and the leeway
        async with asyncio.timeout(5):
            opened, *greetings, closed = await call_without_extensions(app, subprotocols=["bearer", token])
    assert (opened["type"], opened["subprotocol"]) == ("websocket.accept", "bearer")
    assert [json.loads(greeting["text"])["message"] for greeting in greetings] == ["Hello, alice"]
    assert closed == {"type": "websocket.close", "code": 1008, "reason": "token expired"}


@pytest.mark.anyio
async def test_a_socket_ends_without_an_error_when_the_client_disconnects(
    app: FastAPI, verifier: TokenVerifier, forge: Forge
) -> None:
    async with verifier.cache:
        sent = await call_without_extensions(
            app, {"type": "websocket.disconnect", "code": 1001}, subprotocols=["bearer", forge.token()]
        )
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send"]


def test_a_socket_can_be_tested_by_overriding_the_dependency(app: FastAPI) -> None:
    app.dependency_overrides[app.state.current_user] = lambda: access_token(
        username="bob", expires_at=4_000_000_000
    )
    with TestClient(app).websocket_connect("/greetings") as socket:
        assert socket.receive_json() == {"message": "Hello, bob"}


def test_the_reference_lists_every_websocket_route(app: FastAPI) -> None:
    sockets = [route.path for route in app.routes if isinstance(route, APIWebSocketRoute)]
    assert sockets
    page = (Path(__file__).parents[2] / "docs" / "reference.md").read_text("utf-8")
    assert all(f"`{path}`" in page for path in sockets)


@pytest.mark.anyio
async def test_a_real_server_opens_a_socket_for_a_valid_token_and_denies_an_invalid_one(
    verifier: TokenVerifier, forge: Forge
) -> None:
    app = create_app(Settings(_env_file=None), verifier=verifier)
    async with serve(app, ws="auto") as (_, url):
        address = url.replace("http", "ws") + "/greetings"
        async with connect(address, subprotocols=["bearer", forge.token()], proxy=None) as socket:
            assert socket.subprotocol == "bearer"
            assert json.loads(await socket.recv()) == {"message": "Hello, alice"}
        for offer in ({"subprotocols": ["bearer", "junk"]}, {"additional_headers": bearer("junk")}):
            with pytest.raises(InvalidStatus) as denied:
                await connect(address, proxy=None, **offer)
            answer = denied.value.response
            assert answer.status_code == 401
            assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
