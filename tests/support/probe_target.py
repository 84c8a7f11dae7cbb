"""A server, a user and two clients for probes from outside."""

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx2
import jwt
import pytest

from support.servers import PATIENCE_SECONDS, Installation

PASSWORD = "violet otters juggle pancakes"
FORM = "application/x-www-form-urlencoded"
TOKEN, REVOKE, INTROSPECT = "/oauth2/token", "/oauth2/revoke", "/oauth2/introspect"
AS_SHIPPED = {
    "ISSUER_JWKS_MAX_AGE": "5m",
    "ISSUER_NODE_TIMEOUT": "30s",
    "ISSUER_OUTAGE_LIMIT": "1h",
    "ISSUER_CLOCK_SKEW": "30s",
    "ISSUER_PUBLISH_LEAD": "1d",
}
AT_ONCE = 50
OPEN = httpx2.Limits(max_keepalive_connections=AT_ONCE)
Fields = list[tuple[str, str]]


@dataclass(frozen=True)
class Target:
    """The issuer under probing, as a client knows it."""

    http: httpx2.Client
    machine: tuple[str, str]
    other: tuple[str, str]

    def send(
        self, path: str, fields: Mapping[str, str] | Fields, client: tuple[str, str] | None = None
    ) -> httpx2.Response:
        """Post a form."""
        pairs = list(fields.items()) if isinstance(fields, Mapping) else fields
        body = urlencode(pairs).encode()
        return self.http.post(path, content=body, headers={"Content-Type": FORM}, auth=client)

    def log_in(self, **more: str) -> dict[str, Any]:
        answer = self.send("/login", {"username": "alice", "password": PASSWORD, **more})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def refresh(self, token: str, **more: str) -> httpx2.Response:
        form = {"grant_type": "refresh_token", "client_id": "first-party", "refresh_token": token}
        return self.send(TOKEN, {**form, **more})

    def machine_token(self) -> dict[str, Any]:
        body: dict[str, Any] = self.send(TOKEN, GRANT, self.machine).json()
        return body

    def is_active(self, token: str) -> bool:
        answer = self.send(INTROSPECT, {"token": token}, self.machine)
        assert answer.status_code == 200, answer.text
        return bool(answer.json()["active"])


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One server with a user and two clients, for all probes."""
    folder = tmp_path_factory.mktemp("probed")
    with Installation(folder, **AS_SHIPPED) as installation:
        installation.serve(workers=2).until_ready()
        added = installation.command(
            "users", "add", "alice", "--scope", "items:read items:write", "--password-stdin", stdin=PASSWORD
        )
        assert added.code == 0, added
        made = installation.command("clients", "add", "other", "--scope", "items:read", "--json")
        other = made.document["client_id"], made.document["client_secret"]
        with httpx2.Client(
            base_url=installation.url, trust_env=False, timeout=PATIENCE_SECONDS, limits=OPEN
        ) as http:
            yield Target(http, installation.machine, other)


GRANT = {"grant_type": "client_credentials"}
Probe = Callable[[Target], httpx2.Response]


def basic(client_id: str, secret: str) -> dict[str, str]:
    pair = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    return {"Authorization": f"Basic {pair}", "Content-Type": FORM}


def posted(target: Target) -> dict[str, str]:
    """Return the credentials of the machine, for a form."""
    return {"client_id": target.machine[0], "client_secret": target.machine[1]}


def forged(target: Target, **header: str | None) -> str:
    """Return the machine's access token with another header, its signature left off."""
    payload = target.machine_token()["access_token"].split(".")[1]
    return jwt.encode({}, "", algorithm="none", headers=dict(header)).split(".")[0] + f".{payload}."
