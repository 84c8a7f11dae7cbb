"""A form as a page of its own, with the errors of what was sent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request, Response

from issuer.web.http.endpoints import ErrorResponse
from issuer.web.pages.errors import PageError
from issuer.web.pages.rendering import render


@dataclass(frozen=True)
class PageForm:
    """The form, for one request."""

    request: Request
    template: str
    form_token: str
    in_words: Callable[[ErrorResponse], PageError]
    """Return what the user is told of an error."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """What else the template names."""

    def render(self, *errors: PageError, status: int = 200) -> Response:
        """Return the page."""
        return render(
            self.request,
            self.template,
            status=status,
            form_token=self.form_token,
            errors=errors,
            **self.values,
        )

    def render_error(self, error: ErrorResponse) -> Response:
        """Return the page with an error of what was sent."""
        page = self.render(self.in_words(error), status=error.status)
        page.headers.update(error.headers)
        return page
