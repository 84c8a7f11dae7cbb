"""Protection of forms against requests from other sites (CSRF), RFC 9700 section 4.7.

A form carries a token that is bound to its purpose, the device cookie and the session; a present `Origin` or
`Sec-Fetch-Site` of another site is refused as well. Neither header is demanded: old browsers send none.
"""

from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request
from itsdangerous import BadSignature, URLSafeSerializer

from issuer.authorize.ticket import SIGNATURE, Secrets
from issuer.digests import digest
from issuer.urls import origin_of
from issuer.web.deps import SessionsDep, UrlDep
from issuer.web.pages.browser import Browser

FIELD = "form_token"
_OWN_SITE = frozenset({"same-origin", "none"})
"""`none`: typed by the user, or restored by the browser."""


class FormTokens:
    """Makes and verifies the tokens of forms."""

    def __init__(self, secrets: Secrets, url: str) -> None:
        self._secrets = secrets
        self._origin = origin_of(url)

    def token(self, browser: Browser, purpose: str, now: datetime, shown: str = "") -> str:
        """Return the token of a form; `shown` is what the form shows that must not have changed when it is sent."""
        return self._serializer(now).dumps(_bound(browser, purpose, shown))

    def is_valid(
        self, request: Request, token: str, browser: Browser, purpose: str, now: datetime, shown: str = ""
    ) -> bool:
        """Return whether a form was sent by this browser from a page of this issuer."""
        if not self._is_own_site(request):
            return False
        try:
            content = self._serializer(now).loads(token)
        except BadSignature:
            return False
        return bool(content == _bound(browser, purpose, shown))

    def _is_own_site(self, request: Request) -> bool:
        site = request.headers.get("sec-fetch-site", "same-origin")
        sender = request.headers.get("origin", "null")
        return site in _OWN_SITE and sender in {"null", self._origin}

    def _serializer(self, now: datetime) -> URLSafeSerializer:
        return URLSafeSerializer(self._secrets(now), salt="form", signer_kwargs=SIGNATURE)


def _bound(browser: Browser, purpose: str, shown: str) -> list[str]:
    session = digest(browser.secret).hex() if browser.session else ""
    return [purpose, digest(browser.device).hex(), session, digest(shown).hex()]


async def get_form_tokens(sessions: SessionsDep, url: UrlDep) -> FormTokens:
    """Return what protects the forms of this issuer."""
    return FormTokens(sessions.secrets, url)


FormTokensDep = Annotated[FormTokens, Depends(get_form_tokens)]
