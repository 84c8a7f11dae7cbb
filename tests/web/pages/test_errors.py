"""Errors of pages: in words, with what to do next."""

import pytest
from fastapi.testclient import TestClient

from issuer.web.http.endpoints import ErrorResponse
from issuer.web.pages.errors import text_of

BROWSER = {"Accept": "text/html,application/xhtml+xml"}


def test_a_browser_gets_a_page_for_an_unknown_path_and_a_program_json(web: TestClient) -> None:
    answer = web.get("/nowhere", headers=BROWSER)
    assert answer.status_code == 404
    assert "<h1>There is no such page</h1>" in answer.text
    assert web.get("/nowhere").json()["error"] == "not_found"


@pytest.mark.parametrize("path", ["/signin", "/signup", "/signout"])
def test_another_method_is_answered_with_a_page(web: TestClient, path: str) -> None:
    answer = web.put(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert "<h1>This page cannot be used that way</h1>" in answer.text


def test_a_repeated_parameter_is_answered_with_a_page(web: TestClient) -> None:
    answer = web.get("/signin?ticket=a&ticket=b")
    assert answer.status_code == 400
    assert "<p>A query parameter is repeated.</p>" in answer.text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "1 second."), (59, "59 seconds."), (60, "1 minute."), (61, "2 minutes."), (3600, "60 minutes.")],
)
def test_the_time_of_a_new_attempt_is_told_in_words(seconds: int, words: str) -> None:
    error = ErrorResponse(429, "too_many_attempts", "too many", {"Retry-After": str(seconds)})
    assert text_of(error) == f"There were too many failed attempts. Try again in {words}"
