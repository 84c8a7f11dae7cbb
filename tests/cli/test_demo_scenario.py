"""The scenario of the demo fails at each step that goes wrong."""

import json
import subprocess
from datetime import timedelta

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
        if path == "/protected_route":
            return self._greet(jwt.get_unverified_header(request.headers["authorization"].split()[1])["kid"])
        return httpx2.Response(200)

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
        code, document = Exit.DONE, {"keys": [key], "message": "", "refused_from": self._refused_from()}
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
