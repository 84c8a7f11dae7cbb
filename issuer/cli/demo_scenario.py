"""The scenario of `issuer demo --once`: steps that are printed and checked against running servers.

The servers are started by `demo`; what a browser does is written in `demo_sign_in`.
"""

import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import httpx2
import jwt
from rich.text import Text

from issuer.cli.demo_sign_in import REDIRECT_URI, Browser
from issuer.cli.output import CommandError, Exit
from issuer.cli.ring_view import brief
from issuer.cli.tables import draw
from issuer.cli.terminal import STYLES, console, prose, short_kid, shorten_kids, status
from issuer.clock import instant, system_clock

REFUSED_WITHIN_SECONDS = 30
OUTAGE_SECONDS = 4

T = TypeVar("T")


class Environment(Protocol):
    """The servers and commands that the scenario uses."""

    def command(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run an operator's command."""

    def stop(self, name: str) -> None:
        """Stop one of the servers."""


def run_scenario(
    environment: Environment, issuer_url: str, service_url: str, timings: Mapping[str, str]
) -> None:
    """Run all steps; raise CommandError at the first that fails."""
    with httpx2.Client(timeout=10, trust_env=False) as http:
        Scenario(environment, http, issuer_url, service_url, timings).run()


class Scenario:
    """The steps, in order."""

    def __init__(
        self,
        environment: Environment,
        http: httpx2.Client,
        issuer_url: str,
        service_url: str,
        timings: Mapping[str, str],
    ) -> None:
        self._timings = timings
        self._environment = environment
        self._http = http
        self._issuer_url = issuer_url
        self._service_url = service_url
        self.username = "alice"
        self._credentials = {"username": self.username, "password": secrets.token_urlsafe(16)}
        self._terminal = console()
        self._passed = 0

    def run(self) -> None:
        """Run all steps."""
        began = time.monotonic()
        self._say("The rules of production, with seconds instead of hours:")
        self._terminal.print("  ".join(f"{name} {value}" for name, value in self._timings.items()))
        self._show_ring(self._command("keys", "list"))
        old = self._register_and_log_in()
        self._sign_in_by_browser()
        new, old_kid = self._rotate(old)
        self._guard()
        self._revoke(old, old_kid)
        self._outage(new)
        self._say(
            f"\nAll steps passed. The {self._passed} steps took {time.monotonic() - began:.0f} s: keys were"
            " rotated and revoked, and the service was never restarted."
        )

    def _register_and_log_in(self) -> str:
        with self._step("Alice registers and logs in"):
            answer = self._http.post(f"{self._issuer_url}/users", json=self._credentials)
            self._expect(
                answer.status_code == httpx2.codes.CREATED, f"POST /users answered {answer.status_code}"
            )
            token = self._log_in()
        claims = jwt.decode(token, options={"verify_signature": False})
        self._say(f"header  {json.dumps(jwt.get_unverified_header(token))}\nclaims  {json.dumps(claims)}")
        with self._step("The service, which knows only the URL of the issuer, accepts her token"):
            answer = self._accepted(token)
        self._say_accepted(answer)
        return token

    def _sign_in_by_browser(self) -> None:
        with self._step("Alice signs in to an application by browser: authorization code flow with PKCE"):
            client = self._command(
                "clients", "add", "an app", "--auth", "none", "--redirect-uri", REDIRECT_URI
            )
            metadata = self._http.get(f"{self._issuer_url}/.well-known/openid-configuration").json()
            browser = Browser(self._http, self._issuer_url, self.username, self._credentials["password"])
            tokens = browser.sign_in(metadata, client["client_id"])
            claims = jwt.decode(tokens.get("id_token", ""), options={"verify_signature": False})
            answer = self._accepted(tokens["access_token"])
        self._say(f"pages {', then '.join(browser.pages)}\nid token  {json.dumps(claims)}")
        self._say_accepted(answer)

    def _rotate(self, old: str) -> tuple[str, str]:
        with self._step("The operator rotates: the standby, in every cache already, signs now"):
            ring = self._command("keys", "rotate")
        self._show_ring(ring)
        with self._step("The old token is still accepted"):
            answer = self._accepted(old)
        self._say_accepted(answer)
        with self._step("A new token has the new kid, and is accepted without a restart"):
            old_kid = _kid(old)
            new = self._until(
                "the issuer signs with the new key", self._log_in, lambda token: _kid(token) != old_kid
            )
            answer = self._accepted(new)
        self._say(f"kid {short_kid(_kid(new))}")
        self._say_accepted(answer)
        return new, old_kid

    def _guard(self) -> None:
        with self._step("A second rotation is refused: verifiers may not know the new standby yet"):
            refused = self._environment.command("keys", "rotate", "--json")
            self._expect(
                refused.returncode == Exit.REFUSED, f"keys rotate exited {refused.returncode}, not 3"
            )
            document = json.loads(refused.stdout)
            self._expect("allowed_from" in document, "allowed_from is missing")
        self._say(document["message"])

    def _revoke(self, old: str, old_kid: str) -> None:
        with self._step("The old key is revoked; the service refuses its tokens from then on"):
            revoked = self._command("keys", "revoke", old_kid, "--reason", "part of the demo", "--yes")
            self._until(
                "the service refuses the token of the revoked key",
                lambda: self._greeting(old).status_code,
                lambda status: status == httpx2.codes.UNAUTHORIZED,
            )
            limit, refused_at = revoked["refused_from"], instant(system_clock())
            self._expect(refused_at <= limit, f"the service refused it later than {limit}")
        self._show_ring(revoked)
        self._say(revoked["message"])
        self._say(f"GET /protected_route  401  refused at {refused_at}, in time")

    def _outage(self, token: str) -> None:
        with self._step("The issuer stops; the service still accepts valid tokens"):
            self._environment.stop("issuer")
            began = time.monotonic()
            accepted = 0
            while time.monotonic() - began < OUTAGE_SECONDS:
                self._expect(not self._issuer_answers(), "the issuer still answers")
                self._expect(
                    self._greeting(token).is_success, f"refused after {accepted} requests without the issuer"
                )
                accepted += 1
                time.sleep(0.1)
        self._say(f"accepted {accepted} times in {OUTAGE_SECONDS} s without the issuer, past its max-age")

    def _issuer_answers(self) -> bool:
        try:
            self._http.get(f"{self._issuer_url}/healthz")
        except httpx2.TransportError:
            return False
        return True

    def _log_in(self) -> str:
        answer = self._http.post(f"{self._issuer_url}/login", data=self._credentials)
        self._expect(answer.is_success, f"POST /login answered {answer.status_code}: {answer.text}")
        token: str = answer.json()["access_token"]
        return token

    def _greeting(self, token: str) -> httpx2.Response:
        return self._http.get(
            f"{self._service_url}/protected_route", headers={"Authorization": f"Bearer {token}"}
        )

    def _accepted(self, token: str) -> httpx2.Response:
        answer = self._greeting(token)
        greeting = {"message": f"Hello, {self.username}"}
        self._expect(
            answer.is_success and answer.json() == greeting,
            f"GET /protected_route answered {answer.status_code}: {answer.text}",
        )
        return answer

    def _say_accepted(self, answer: httpx2.Response) -> None:
        self._say(f"GET /protected_route  {answer.status_code}  {answer.text}")

    def _command(self, *arguments: str) -> dict[str, Any]:
        done = self._environment.command(*arguments, "--json")
        command = " ".join(("issuer", *arguments[:2]))
        self._expect(
            done.returncode == Exit.DONE, f"{command} exited {done.returncode}: {done.stdout}{done.stderr}"
        )
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def _until(self, what: str, ask: Callable[[], T], enough: Callable[[T], bool]) -> T:
        deadline = time.monotonic() + REFUSED_WITHIN_SECONDS
        while not enough(answer := ask()):
            self._expect(
                time.monotonic() < deadline, f"not reached within {REFUSED_WITHIN_SECONDS} s: {what}"
            )
            time.sleep(0.2)
        return answer

    def _show_ring(self, ring: dict[str, Any]) -> None:
        draw([brief(key) for key in ring["keys"]], self._terminal)

    @contextmanager
    def _step(self, text: str) -> Iterator[None]:
        """Perform a step and print it with a tick, or with a cross if it raises; it may print nothing itself."""
        step = f"{self._passed + 1}. {text}"
        try:
            with status(step, as_json=False):
                yield
        except BaseException:
            self._terminal.print(Text(f"\n✗ {step}", STYLES["failed"]), soft_wrap=True)
            raise
        self._passed += 1
        self._terminal.print(Text.assemble(("\n✓", STYLES["passed"]), (f" {step}", "bold")))

    def _say(self, text: str) -> None:
        self._terminal.print(prose(shorten_kids(text)))

    @staticmethod
    def _expect(condition: bool, error: str) -> None:
        if not condition:
            raise CommandError(error)


def _kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])
