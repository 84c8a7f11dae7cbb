"""Spans of OpenTelemetry: what of a request they may tell. FastAPI makes them, where an operator switched it on.

FastAPI knows the routes below its routing only, and writes path and query as they came: a token may be in them.
"""

from opentelemetry import trace
from starlette.types import Scope


def is_traced(scope: Scope) -> bool:
    """Whether somebody may be recording this request."""
    return scope.get("fastapi.telemetry") is not None


def describe_span(scope: Scope, path: str) -> None:
    """Let the span of this request tell `path`, and of the query only whether there was one."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    span.set_attribute("url.path", path)
    if path == scope["path"]:  # what is served below FastAPI's routing has no other name
        span.update_name(f"{scope['method']} {path}")
        span.set_attribute("http.route", path)
    if scope.get("query_string"):
        span.set_attribute("url.query", "REDACTED")
