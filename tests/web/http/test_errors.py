"""How errors become responses: JSON unless the endpoint declares another renderer."""

from urllib.parse import urlencode

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.testclient import TestClient

from issuer.oauth import InvalidScope
from issuer.web.http import errors
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.fast_path import FastPath
from issuer.web.instruments import Instruments

CALLBACK = "https://app.example/callback"


def redirect(_request: Request, error: ErrorResponse) -> Response:
    query = urlencode({"error": error.code, "error_description": error.description})
    return RedirectResponse(f"{CALLBACK}?{query}", 303)


@renders_errors(redirect)
async def authorize(_request: Request) -> Response:
    raise InvalidScope("nothing was granted")


async def token(_request: Request) -> Response:
    raise InvalidScope("nothing was granted")


def client(*, is_fast: bool) -> TestClient:
    app = FastAPI()
    app.state.instruments = Instruments()
    app.add_api_route("/authorize", authorize)
    app.add_api_route("/token", token)
    errors.install(app, redirect)
    if is_fast:
        paths = {("GET", "/authorize"): authorize, ("GET", "/token"): token}
        app.middleware_stack = FastPath(app.build_middleware_stack(), paths, errors.respond_to)
    return TestClient(app, follow_redirects=False)


def test_an_endpoint_chooses_how_its_errors_are_rendered() -> None:
    for is_fast in (False, True):
        web = client(is_fast=is_fast)
        answer = web.get("/authorize")
        assert answer.status_code == 303
        assert answer.headers["location"].startswith(
            f"{CALLBACK}?error=invalid_scope&error_description=nothing"
        )
        answer = web.get("/token")
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


def test_errors_without_an_endpoint_are_json_unless_a_browser_asks() -> None:
    web = client(is_fast=False)
    answer = web.get("/nowhere")
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
    answer = web.get("/nowhere", headers={"Accept": "text/html,application/xhtml+xml"})
    assert answer.headers["location"].startswith(f"{CALLBACK}?error=not_found")
