"""The application in the browser: serves its static files, its settings, and the example service's answers.

What it does is written in `page/oauth.js` and `page/app.js`. A browser application calls its own origin here, as the
example service opens itself to no other.
"""

from pathlib import Path

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from issuer.cli.demo_apps.settings import Settings

FOLDER = Path(__file__).parent / "page"


def create_app(settings: Settings) -> Starlette:
    """Build the application."""

    async def describe(_request: Request) -> Response:
        return JSONResponse({"issuer": settings.issuer, "client_id": settings.client_id})

    async def call_service(request: Request) -> Response:
        url = f"{settings.service}/{request.path_params['path']}"
        headers = {"Authorization": request.headers.get("authorization", "")}
        async with httpx2.AsyncClient(trust_env=False) as http:
            answer = await http.get(url, headers=headers)
        return Response(answer.content, answer.status_code, media_type="application/json")

    async def ready(_request: Request) -> Response:
        return JSONResponse({"status": "ready"})

    return Starlette(
        routes=[
            Route("/settings.json", describe),
            Route("/service/{path}", call_service),
            Route("/readyz", ready),
            Mount("/", _Pages(directory=FOLDER, html=True), name="page"),
        ]
    )


class _Pages(StaticFiles):
    """Static files under a policy that allows scripts of this origin only, and requests to any: it has no secrets."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        """Return a file with the policy."""
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type] # passed on
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src *;"
            " base-uri 'none'; frame-ancestors 'none'"
        )
        response.headers["Cache-Control"] = "no-cache"
        return response
