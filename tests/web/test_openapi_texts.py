"""The OpenAPI documents of both services are written for people: summaries, descriptions, examples, security schemes.

That they are true is tested by `test_openapi`, that the examples of errors are, by `test_documented_errors`.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from support.documented import bodies

from issuer.web.http.errors import ErrorBody
from verifier_example import app as example
from verifier_example import settings as example_settings


@pytest.fixture(params=["issuer", "example"])
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "example":
        return example.create_app(example_settings.Settings(_env_file=None)).openapi()
    document: dict[str, Any] = request.getfixturevalue("web").get("/openapi.json").json()
    return document


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_each_operation_has_a_summary_for_people_and_a_description(document: dict[str, Any]) -> None:
    seen: dict[str, str] = {}
    for name, operation in operations(document):
        summary = operation["summary"]
        # FastAPI's own is the name of the function, each word with a capital.
        assert re.fullmatch(r"[A-Z]\w+( [\w()]+)+", summary), (name, summary)
        assert not summary.istitle(), (name, summary)
        assert summary not in seen, (name, seen.get(summary))
        seen[summary] = name
        sentence = " ".join(operation["description"].partition("\n\n")[0].split())
        assert re.fullmatch(r"[A-Z](?:(?!\. ).)*\.", sentence), (name, sentence)


def test_each_error_of_an_operation_has_an_example_with_its_real_body(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        errors = {status: each for status, each in operation["responses"].items() if status[0] in "45"}
        for status, response in errors.items():
            assert bodies(response) or response["content"]["application/json"]["example"], (name, status)
            for body in bodies(response):
                assert ErrorBody.model_validate(body, strict=True).model_dump() == body, (name, status)
                assert all(body.values()), (name, status)


def test_each_successful_json_response_has_an_example_of_each_member(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    def members(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
        schema = schema.get("items", schema)
        for member in schemas[schema["$ref"].rpartition("/")[2]]["properties"].values():
            yield from members(member) if "$ref" in member.get("items", {}) else [member]

    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            content = response.get("content", {}).get("application/json", {})
            if status.startswith("2") and content and "example" not in content:
                for member in members(content["schema"]):
                    assert member.keys() & {"examples", "const", "default"}, (name, member)


def test_each_security_scheme_has_a_description_and_each_scope_is_in_the_text(
    document: dict[str, Any],
) -> None:
    schemes = document["components"]["securitySchemes"]
    assert all(scheme["description"] for scheme in schemes.values())
    assert document["info"]["description"]
    for name, operation in operations(document):
        for alternative in operation.get("security", []):
            assert alternative.keys() <= schemes.keys(), name
            for scope in (scope for scopes in alternative.values() for scope in scopes):
                assert f"`{scope}`" in operation["description"], (name, scope)
