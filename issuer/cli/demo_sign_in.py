"""What a browser does in `issuer demo --once`: opens the authorization endpoint, fills in pages, follows redirects.

It has no scripts, as browsers may. The steps of the scenario are in `demo_scenario`.
"""

import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import httpx2

from issuer.cli.output import CommandError

REDIRECT_URI = "http://127.0.0.1:9/callback"
"""Nothing listens there: this program reads the code from the redirect itself."""
SCOPE = "openid profile items:read"
PAGES_MOST = 10


class _Form(HTMLParser):
    """The fields and the target of the form on a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a form, and an input with its value."""
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = given.get("action", "")
        if tag == "input" and given.get("name"):
            self.fields[given["name"]] = given.get("value", "")


@dataclass
class Browser:
    """A browser, and the user in front of it, who allows what the application asks for; `http` has its cookies."""

    http: httpx2.Client
    issuer_url: str
    username: str
    password: str = field(repr=False)
    pages: list[str] = field(default_factory=list)
    """The paths of the pages that were shown."""

    def sign_in(self, metadata: dict[str, Any], client_id: str) -> dict[str, Any]:
        """Return the tokens of a sign-in for a public client with REDIRECT_URI; raise CommandError."""
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
        request = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": REDIRECT_URI,
            "scope": SCOPE,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        answer = self._until_returned(httpx2.URL(metadata["authorization_endpoint"], params=request))
        if answer.get("state") != state or answer.get("iss") != self.issuer_url or "code" not in answer:
            raise CommandError(f"the authorization endpoint answered {dict(answer)}")
        redemption = {
            "grant_type": "authorization_code",
            "code": answer["code"],
            "redirect_uri": REDIRECT_URI,
            "client_id": client_id,
            "code_verifier": verifier,
        }
        tokens = self.http.post(metadata["token_endpoint"], data=redemption)
        if not tokens.is_success:
            raise CommandError(f"the token endpoint answered {tokens.status_code}: {tokens.text}")
        document: dict[str, Any] = tokens.json()
        return document

    def _until_returned(self, url: httpx2.URL) -> httpx2.QueryParams:
        """Follow redirects and send forms until one leads to the application; return its parameters."""
        answer = self.http.get(url)
        for _ in range(PAGES_MOST):
            if answer.is_redirect:
                target = answer.url.join(answer.headers["location"])
                if str(target).startswith(REDIRECT_URI):
                    return target.params
                answer = self.http.get(target)
                continue
            if not answer.is_success:
                break
            self.pages.append(answer.url.path)
            form = _Form(answer.text)
            typed = {"username": self.username, "password": self.password}
            fields = {name: typed.get(name, value) for name, value in form.fields.items()}
            answer = self.http.post(answer.url.join(form.action), data={**fields, "decision": "allow"})
        raise CommandError(f"{answer.url.path} answered {answer.status_code}")
