"""Pages that a link with a token opens: the page of a link that is not valid, and the form with all other errors.

Which links are valid is decided in `administration.reset_links` and `administration.address_links`. Opening one
changes nothing: programs that check mails open links, too.
"""

from fastapi import Request, Response

from issuer.oauth import ErrorCode, LoginFailed
from issuer.web.http.endpoints import ErrorResponse
from issuer.web.pages.errors import error_page, message, show_errors_by
from issuer.web.pages.page_form import PageForm


def show_link_errors(
    request: Request, advice: str, link: tuple[str, str] | None = None, form: PageForm | None = None
) -> None:
    """Let errors of this request be shown in the form, if there is one; that of the link on a page with `advice`."""

    def rendered(error: ErrorResponse) -> Response:
        if _is_of_link(error):
            text = f"It was used, or it has expired. {advice}"
            return message(request, "This link is not valid", text, status=error.status, link=link)
        return form.render_error(error) if form else error_page(request, error)

    show_errors_by(request, rendered)


def _is_of_link(error: ErrorResponse) -> bool:
    """Return whether the link is not valid; a wrong password has the same code, and another status."""
    return error.code == ErrorCode.INVALID_GRANT and error.status != LoginFailed.status
