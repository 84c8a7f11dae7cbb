"""Compares responses with the examples of errors in an OpenAPI document."""

from typing import Any

from fastapi.testclient import TestClient

JSON = "application/json"

Documented = set[tuple[str, int, str]]
"""Operation, status and description of errors."""


class Requests:
    """Sends requests, and collects the errors that were answered as documented."""

    def __init__(self, web: TestClient) -> None:
        self.web = web
        self.paths: dict[str, Any] = web.get("/openapi.json").json()["paths"]
        self.answered: Documented = set()

    def documented(self, *statuses: int) -> Documented:
        """Return the errors with these statuses that the document has examples of."""
        return {
            (f"{method.upper()} {path}", status, body["error_description"])
            for path, operations in self.paths.items()
            for method, operation in operations.items()
            for status in statuses
            for body in bodies(operation["responses"].get(str(status), {}))
        }

    def send(self, operation: str, status: int, **request: Any) -> None:
        """Send one request, and compare the response with the examples of its status."""
        method, path = operation.split(" ")
        answer = self.web.request(method, path.replace("{id}", "no-uuid"), **request)
        assert answer.status_code == status, (operation, answer.text)
        described = self.paths[path][method.lower()]["responses"][str(status)]
        assert answer.json() in bodies(described), operation
        assert {name for name in described["headers"] if name not in answer.headers} == set()
        self.answered.add((operation, status, answer.json()["error_description"]))


def bodies(response: dict[str, Any]) -> list[Any]:
    """Return the bodies in the examples of a documented response."""
    examples = response.get("content", {}).get(JSON, {}).get("examples", {})
    return [example["value"] for example in examples.values()]
