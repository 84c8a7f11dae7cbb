"""Errors of pages: as a page of their own, or in the form that caused them. It says in words what to do next.

Codes and statuses are defined in `oauth`. An endpoint declares `render_error` by `http.endpoints.renders_errors`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from fastapi import Request, Response

from issuer.oauth import ErrorCode
from issuer.web.http.endpoints import ErrorResponse
from issuer.web.pages.rendering import render

_TITLES = {
    ErrorCode.NOT_FOUND: "There is no such page",
    ErrorCode.METHOD_NOT_ALLOWED: "This page cannot be used that way",
    ErrorCode.ACCESS_DENIED: "This is not allowed here",
    ErrorCode.TOO_MANY_ATTEMPTS: "Too many attempts",
    ErrorCode.TEMPORARILY_UNAVAILABLE: "Temporarily unavailable",
    ErrorCode.SERVER_ERROR: "Something went wrong",
}
_TEXTS = {
    ErrorCode.NOT_FOUND: "Check the address, or go back to the application that you came from.",
    ErrorCode.METHOD_NOT_ALLOWED: "Go back to the application that you came from, and start again.",
    ErrorCode.INVALID_GRANT: "The username or the password is wrong.",
    ErrorCode.TOO_MANY_ATTEMPTS: "There were too many failed attempts.",
    ErrorCode.TEMPORARILY_UNAVAILABLE: "This service is busy or being maintained.",
    ErrorCode.SERVER_ERROR: "The failure was logged. If it happens again, tell the operator of this service.",
}
"""What users read; other errors have descriptions that users understand."""
MINUTE_SECONDS = 60


@dataclass(frozen=True)
class PageError:
    """An error in words, and the names of the fields of a form that it is about."""

    text: str
    fields: tuple[str, ...] = ()


FormRenderer = Callable[[ErrorResponse], Response]


def render_error(request: Request, error: ErrorResponse) -> Response:
    """Return an error as the form that caused it, if the endpoint named one by `show_errors_by`; else as a page."""
    form: FormRenderer | None = getattr(request.state, "form_renderer", None)
    return form(error) if form else error_page(request, error)


def error_page(request: Request, error: ErrorResponse) -> Response:
    """Return an error as a page."""
    title = _TITLES.get(ErrorCode(error.code), "The request cannot be processed")
    return message(request, title, text_of(error), status=error.status, headers=error.headers)


def show_errors_by(request: Request, renderer: FormRenderer) -> None:
    """Let errors of this request be shown in its form, with what the user typed."""
    request.state.form_renderer = renderer


def text_of(error: ErrorResponse) -> str:
    """Return an error as sentences for users, with the time of a new attempt."""
    text = _TEXTS.get(ErrorCode(error.code)) or _sentence(error.description)
    seconds = int(error.headers.get("Retry-After", 0))
    return f"{text} Try again in {_span(seconds)}." if seconds else text


def message(
    request: Request,
    title: str,
    *paragraphs: str,
    status: int = 200,
    headers: Mapping[str, str] = MappingProxyType({}),
    details: Sequence[tuple[str, str]] = (),
    link: tuple[str, str] | None = None,
) -> Response:
    """Return a page with a message; `link` is a path of this issuer and its text."""
    return render(
        request,
        "message.html",
        status=status,
        headers=headers,
        title=title,
        paragraphs=paragraphs,
        details=details,
        link=link,
    )


def _sentence(description: str) -> str:
    return f"{description[:1].upper()}{description[1:]}."


def _span(seconds: int) -> str:
    number, unit = (
        (seconds, "second") if seconds < MINUTE_SECONDS else (-(-seconds // MINUTE_SECONDS), "minute")
    )
    return f"{number} {unit}{'' if number == 1 else 's'}"
