"""Pages for people: rendered from templates, with the headers that protect forms, and redirects between them.

The templates are in `templates`, escaped by Jinja2. Who is signed in is found by `browser`, what pages load is
served by `style`.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from issuer.web.http.errors import NO_STORE
from issuer.web.http.prefix import path_of
from issuer.web.pages import style

R = TypeVar("R", bound=Response)

LANGUAGE = "en"
"""The language of all pages, BCP 47."""
SAME_ORIGIN_REFERRER = "same-origin"
"""`no-referrer` would make browsers send `Origin: null` with our own forms, Fetch section 3.2."""
_POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"
FORM_POLICY = f"{_POLICY}; form-action 'self'"
"""For a page with forms whose submission ends here."""
LEAVING_POLICY = _POLICY
"""For a page whose form may lead to a client: browsers would check `form-action` against each redirect after it, also
those of the client itself, https://github.com/w3c/webappsec-csp/issues/8."""


@cache
def environment() -> Environment:
    """Return the templates."""
    return Environment(
        loader=PackageLoader("issuer.web.pages"),
        autoescape=select_autoescape(default=True),
        auto_reload=False,  # otherwise each page asks the file system for the age of all its templates
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(
    request: Request,
    template: str,
    *,
    status: int = 200,
    policy: str = FORM_POLICY,
    headers: Mapping[str, str] = MappingProxyType({}),
    **values: Any,
) -> HTMLResponse:
    """Return a page; `values` are what the template names.

    Beside them it has `issuer_name`, `prefix`, `has_logo` and `style_version`; without them, no `errors`.
    """
    settings = request.app.state.issuer.settings
    text = (
        environment()
        .get_template(template)
        .render(
            issuer_name=settings.name,
            prefix=path_of(settings.url),
            has_logo=settings.logo is not None,
            style_version=style.style().version,
            **{"errors": (), **values},
        )
    )
    own = {
        **NO_STORE,
        "Content-Security-Policy": policy,
        "Referrer-Policy": SAME_ORIGIN_REFERRER,
        # An application may open the sign-in in a window of its own, and the last page there reports to its opener:
        # another policy on a page between them would separate the two for good.
        "Cross-Origin-Opener-Policy": "unsafe-none" if policy == LEAVING_POLICY else "same-origin",
    }
    return with_cookies(request, HTMLResponse(text, status, {**headers, **own}))


def redirect(request: Request, path: str, **parameters: str) -> RedirectResponse:
    """Return a redirect to a page of this issuer, which is fetched by GET; empty parameters are left out."""
    query = urlencode({name: value for name, value in parameters.items() if value})
    prefix = path_of(request.app.state.issuer.settings.url)
    target = f"{prefix}{path}?{query}" if query else f"{prefix}{path}"
    # 307 would send the form on, with the password in it, RFC 9700 section 4.12.
    return with_cookies(request, RedirectResponse(target, 303, NO_STORE))


def with_cookies(request: Request, response: R) -> R:
    """Return a response with the cookies that `browser.get_browser` set: FastAPI adds them only to JSON."""
    for cookie in getattr(request.state, "cookies", ()):
        response.headers.append("set-cookie", cookie)
    return response
