"""Removes what may be secret from the spans of OpenTelemetry, which FastAPI creates where it is enabled.

FastAPI records path and query unredacted, and a token may be in them; it does not know the routes of the fast path.
"""

from opentelemetry import trace
from starlette.types import Scope


def is_traced(scope: Scope) -> bool:
    """Whether this request may be recorded."""
    return scope.get("fastapi.telemetry") is not None


def describe_span(scope: Scope, path: str) -> None:
    """Set the path of this request's span to `path`, and redact its query."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    span.set_attribute("url.path", path)
    # The fast path has no route that FastAPI would name the span by.
    if path == scope["path"]:
        span.update_name(f"{scope['method']} {path}")
        span.set_attribute("http.route", path)
    if scope.get("query_string"):
        span.set_attribute("url.query", "REDACTED")
