"""The scenario of the demo fails at each step that goes wrong."""

import json
import subprocess
from base64 import urlsafe_b64encode
from datetime import timedelta
from hashlib import sha256
from urllib.parse import parse_qs, urlencode

import httpx2
import jwt
import pytest

from issuer.cli import demo_scenario
from issuer.cli.demo_scenario import Scenario
from issuer.cli.output import CommandError, Exit
from issuer.clock import instant, system_clock

ISSUER, SERVICE = "http://issuer.test", "http://service.test"
SECRET = "a secret that only this pretended issuer has"


class World:
    """An issuer, a service and an operator's shell, as the scenario expects them, except for one error."""

    def __init__(self, lie: str) -> None:
        self.lie = lie
        self.username = ""
        self.signs = "first"
        self.revoked: set[str] = set()
        self.down = False
        self.rotations = 0
        self.request = httpx2.QueryParams()

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if request.url.host == "issuer.test" and self.down and self.lie != "the issuer stays up":
            raise httpx2.ConnectError("down", request=request)
        if path == "/users":
            return httpx2.Response(201 if self.lie != "registration fails" else 409, json={})
        if path == "/login":
            kid = "first" if self.lie == "the key does not change" else self.signs
            token = jwt.encode({"sub": "x"}, SECRET, "HS256", {"kid": kid})
            return httpx2.Response(200, json={"access_token": token})
        if answer := self._answer_browser(request, path):
            return answer
        if path == "/protected_route":
            return self._greet(jwt.get_unverified_header(request.headers["authorization"].split()[1])["kid"])
        return httpx2.Response(200)

    def _answer_browser(self, request: httpx2.Request, path: str) -> httpx2.Response | None:
        if path == "/.well-known/openid-configuration":
            names = {"authorization_endpoint": "authorize", "token_endpoint": "token"}
            return httpx2.Response(200, json={name: f"{ISSUER}/{path}" for name, path in names.items()})
        if path == "/authorize":
            self.request = request.url.params
            return httpx2.Response(303, headers={"location": "/signin"})
        if path == "/signin":
            return self._sign_in(request)
        if path == "/token":
            return self._redeem(parse_qs(request.content.decode()))
        return None

    def _sign_in(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            page = '<form action="/signin"><input name="token" value="t"><input name="username"></form>'
            return httpx2.Response(200, text=page)
        typed = parse_qs(request.content.decode())
        if typed != {"token": ["t"], "username": [self.username], "decision": ["allow"]}:
            return httpx2.Response(400)
        state = "another" if self.lie == "another state comes back" else self.request["state"]
        answer = {"code": "c", "state": state, "iss": ISSUER}
        return httpx2.Response(
            303, headers={"location": f"{self.request['redirect_uri']}?{urlencode(answer)}"}
        )

    def _redeem(self, form: dict[str, list[str]]) -> httpx2.Response:
        hashed = urlsafe_b64encode(sha256(form["code_verifier"][0].encode()).digest()).decode().rstrip("=")
        if hashed != self.request["code_challenge"] or self.lie == "the code is refused":
            return httpx2.Response(400, json={"error": "invalid_grant"})
        token = jwt.encode({"sub": "x"}, SECRET, "HS256", {"kid": self.signs})
        return httpx2.Response(200, json={"access_token": token, "id_token": token})

    def _greet(self, kid: str) -> httpx2.Response:
        name = "mallory" if self.lie == "somebody else is greeted" else self.username
        refused = (
            (kid in self.revoked and self.lie != "the revoked key is trusted")
            or (self.lie == "the old token is refused" and self.signs != "first" and kid == "first")
            or (self.lie == "the outage is not survived" and self.down)
        )
        return httpx2.Response(401) if refused else httpx2.Response(200, json={"message": f"Hello, {name}"})

    def command(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        key = dict.fromkeys(
            ["phase", "kid", "alg", "age", "signs_from", "leaves_jwks_at", "tokens_alive_until"], "x"
        )
        code, document = (
            Exit.DONE,
            {"keys": [key], "message": "", "client_id": "c", "refused_from": self._refused_from()},
        )
        if arguments[:2] == ("keys", "rotate"):
            self.rotations += 1
            self.signs = "second"
            if self.rotations > 1 and self.lie != "the guard sleeps":
                code, document = Exit.REFUSED, {"message": "not yet", "allowed_from": "later"}
        if arguments[:2] == ("keys", "revoke"):
            self.revoked.add("first")
        return subprocess.CompletedProcess(arguments, code, json.dumps(document), "")

    def _refused_from(self) -> str:
        late = self.lie == "the refusal is late"
        return instant(system_clock() - timedelta(hours=1) if late else system_clock() + timedelta(hours=1))

    def stop(self, name: str) -> None:
        self.down = True


def played(lie: str) -> None:
    world = World(lie)
    with httpx2.Client(transport=httpx2.MockTransport(world.answer)) as http:
        scenario = Scenario(world, http, ISSUER, SERVICE, {})
        world.username = scenario.username
        scenario.run()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_scenario, "REFUSED_WITHIN_SECONDS", 0.5)
    monkeypatch.setattr(demo_scenario, "OUTAGE_SECONDS", 0.3)


def test_the_scenario_passes_if_every_step_does() -> None:
    played("")


@pytest.mark.parametrize(
    "lie",
    [
        "registration fails",
        "somebody else is greeted",
        "another state comes back",
        "the code is refused",
        "the key does not change",
        "the old token is refused",
        "the guard sleeps",
        "the revoked key is trusted",
        "the refusal is late",
        "the issuer stays up",
        "the outage is not survived",
    ],
)
def test_the_scenario_fails_when(lie: str) -> None:
    with pytest.raises(CommandError):
        played(lie)
