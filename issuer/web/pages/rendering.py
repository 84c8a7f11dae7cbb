"""Pages for people: rendered from templates, with the headers that protect forms.

The templates are in `templates`, escaped by Jinja2. Who is signed in is found by `browser`.
"""

from functools import cache
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from issuer.web.http.errors import NO_STORE
from issuer.web.http.prefix import path_of

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
    **values: Any,
) -> HTMLResponse:
    """Return a page; `values` are what the template names, beside `issuer_name`, `prefix` and `has_logo`."""
    settings = request.app.state.issuer.settings
    text = (
        environment()
        .get_template(template)
        .render(
            issuer_name=settings.name,
            prefix=path_of(settings.url),
            has_logo=settings.logo is not None,
            **values,
        )
    )
    headers = {
        **NO_STORE,
        "Content-Security-Policy": policy,
        "Referrer-Policy": SAME_ORIGIN_REFERRER,
    }
    return HTMLResponse(text, status, headers)
