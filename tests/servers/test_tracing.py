"""Traces, enabled as in docs/deploy.md: they name each endpoint, and contain no token."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from support.servers import HOST, Installation

DOCUMENT = Path(__file__).parents[2] / "docs" / "deploy.md"
CANARY = "Canary-0123456789"


class Collector(ThreadingHTTPServer):
    """Takes what is exported by OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Receiver)
        self.bodies: list[tuple[str, bytes]] = []

    @property
    def spans(self) -> list[Span]:
        """All spans that have come."""
        requests = [ExportTraceServiceRequest.FromString(b) for path, b in self.bodies if "traces" in path]
        return [
            span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class _Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, daemon=True)
        thread.start()
        yield collector
        collector.shutdown()


def documented_settings() -> dict[str, str]:
    """Return the variables that the document exports."""
    return dict(re.findall(r"^export ([A-Z_]+)=(\S+)$", DOCUMENT.read_text("utf-8"), re.MULTILINE))


def test_spans_come_for_each_endpoint_and_hold_no_token(initialized: Installation) -> None:
    settings = documented_settings()
    assert settings["FASTAPI_OTEL_AUTO_CONFIGURE"] == "true"
    with collecting() as collector:
        endpoint = f"http://{HOST}:{collector.server_port}"
        initialized.settings |= {**settings, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        server = initialized.serve().until_ready()
        token = initialized.token()
        initialized.log_in(CANARY, CANARY)
        initialized.key_set()
        bearer = {"Authorization": f"Bearer {token}", "Cookie": f"device={CANARY}"}
        for path in (
            f"/users/me?access_token={token}&password={CANARY}",
            f"/{CANARY}",
            f"/users/me/{CANARY}",
        ):
            initialized.http.get(initialized.url + path, headers=bearer)
        initialized.http.delete(f"{initialized.url}/users/me/sessions/{CANARY}", headers=bearer)
        server.stop()  # what is left is sent
    spans = {span.name: span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER}
    assert spans.keys() >= {
        "POST /oauth2/token",
        "GET /.well-known/jwks.json",
        "POST /login",
        "GET /users/me",
        "GET",
        "DELETE /users/me/sessions/{id}",
    }
    attributes = {each.key: each.value.string_value for each in spans["POST /oauth2/token"].attributes}
    assert attributes["http.route"] == "/oauth2/token"
    everything = b"".join(body for _, body in collector.bodies)
    assert b"REDACTED" in everything
    assert CANARY.encode() not in everything
    for part in token.split("."):
        assert part.encode() not in everything
