"""Real servers print and write no secrets, whatever is sent to them.

That covers logs, all files except database and keys, probes, metrics, documents, and the output of commands. The log
itself is tested in `test_logs.py`.
"""

import base64
import json
import secrets
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx2
import psycopg
import pytest
from support.postgresql import new_database
from support.servers import HOST, PATIENCE_SECONDS, Installation, Server

METHODS = ("get", "post", "put", "delete", "patch")
FIELDS = (
    "username",
    "password",
    "client_id",
    "client_secret",
    "client_assertion",
    "refresh_token",
    "access_token",
    "token",
    "token_type_hint",
    "grant_type",
    "scope",
    "resource",
    "code",
)
GRANTS = ("password", "refresh_token", "client_credentials")
FORM = "application/x-www-form-urlencoded"
LISTS = (
    ("users", "list"),
    ("clients", "list"),
    ("keys", "list"),
    ("keys", "plan"),
    ("keys", "nodes"),
    ("keys", "verify"),
    ("audit", "list"),
    ("audit", "export"),
    ("audit", "sessions"),
    ("audit", "verify"),
)


@dataclass
class Canaries:
    """What must be found nowhere: words that are made up, and real secrets."""

    known: dict[str, str] = field(default_factory=dict)

    def make(self, name: str) -> str:
        """Return a secret that nobody else has."""
        return self.keep(name, f"Canary-{name}-{secrets.token_hex(8)}")

    def keep(self, name: str, secret: str) -> str:
        """Look for a secret that is given, too."""
        self.known[name] = secret
        return secret

    def keep_token(self, name: str, token: str) -> str:
        """Look for a token, and for each of its parts but the header, which is no secret."""
        for number, part in enumerate(token.split(".")[1:]):
            self.keep(f"{name} part {number}", part)
        return self.keep(name, token)

    def basic(self, name: str) -> str:
        """Return an Authorization header whose base64 is looked for, too."""
        encoded = base64.b64encode(f"{name}:{self.make(name)}".encode()).decode()
        return f"Basic {self.keep(f'{name} in base64', encoded)}"

    def found_in(self, text: str) -> list[str]:
        """Return the names of those that are in a text."""
        return [name for name, secret in self.known.items() if secret in text]


def requests(canaries: Canaries, method: str, path: str) -> Iterator[tuple[str, str, dict[str, object]]]:
    """Yield a request for each place where somebody could put a secret, by mistake or not."""
    where = f"{method}-{path.strip('/').replace('/', '-').replace('{', '').replace('}', '')}"
    word = canaries.make(where)
    path = path.replace("{id}", word)
    values = dict.fromkeys(FIELDS, word)
    yield method, path, {"params": values}
    yield method, f"{path}/{word}", {}
    yield method, f"/{word}{path}?{word}", {}
    for scheme in (f"Bearer {word}", f"DPoP {word}", word, canaries.basic(f"basic-{where}")):
        yield (
            method,
            path,
            {"headers": {"Authorization": scheme}, "data": {"grant_type": "client_credentials"}},
        )
    strange = {"Cookie": f"device={word}", "X-Request-ID": word, "Referer": word}
    yield method, path, {"headers": {**strange, "Origin": f"https://{word}.example"}}
    for grant in GRANTS:
        yield method, path, {"data": {**values, "grant_type": grant}}
    yield method, path, {"json": values}
    yield method, path, {"json": {**values, "password": [word, {"password": word}], word: word}}
    yield method, path, {"json": [word]}
    yield method, path, {"files": dict.fromkeys(FIELDS, (word, word))}
    for kind in (FORM, "application/json", f"text/{word}", f"{FORM}; charset={word}"):
        headers = {"Content-Type": kind}
        for body in (f'{{"password": "{word}', f"password={word}&password={word}", f"%zz{word}\0\r\n{word}="):
            yield method, path, {"headers": headers, "content": body}
    yield method, path, {"headers": {"Content-Type": FORM}, "content": f"password={word}" * 3000}


def paths(url: str) -> dict[str, set[str]]:
    """Return each path of a service with its methods, and one that it does not have."""
    document = httpx2.get(f"{url}/openapi.json", trust_env=False).json()
    return {path: set(operations) for path, operations in document["paths"].items()} | {"/nothing": {"get"}}


def feed(http: httpx2.Client, canaries: Canaries, url: str, *, briefly: bool = False) -> set[int]:
    """Send secrets to every endpoint in every way, and return the statuses."""
    statuses = set()
    for path, allowed in paths(url).items():
        methods = allowed if briefly else allowed | {"put"}
        for method in sorted(methods & set(METHODS)):
            sent = list(requests(canaries, method, path))
            for verb, at, given in sent[:: 5 if briefly else 1]:
                statuses.add(http.request(verb.upper(), url + at, **given).status_code)  # type: ignore[arg-type]
    return statuses


def feed_no_http(canaries: Canaries, url: str) -> None:
    """Send what is no HTTP at all."""
    word = canaries.make("no-http")
    for begin in (f"GET /{word}\0 HTTP/1.1", f"{word} / HTTP/9", f"GET / HTTP/1.1\r\n{word}\r\nA\0: {word}"):
        with socket.create_connection((HOST, urlsplit(url).port or 0)) as connection:
            connection.settimeout(2)
            connection.sendall(f"{begin}\r\n\r\n".encode())
            with suppress(OSError):
                connection.recv(1000)


def live(site: Installation, canaries: Canaries) -> dict[str, str]:
    """Use real secrets as they are meant to be used, and return headers that bear a live token."""
    account = {"username": "alice", "password": canaries.make("password")}
    site.machine  # noqa: B018 - made before it is looked for
    canaries.keep("client secret", site.machine[1])
    post = site.http.post
    assert post(f"{site.url}/users", json=account).status_code == 201
    tokens = site.log_in(**account).json()
    refresh = {"grant_type": "refresh_token", "client_id": "first-party"}
    for _ in range(2):  # the second is a replay within its grace
        canaries.keep("refresh token", tokens["refresh_token"])
        answer = post(f"{site.url}/oauth2/token", data={**refresh, "refresh_token": tokens["refresh_token"]})
        tokens = answer.json()
        canaries.keep("next refresh token", tokens["refresh_token"])
    token = canaries.keep_token("access token", tokens["access_token"])
    canaries.keep_token("machine's token", site.token())
    for endpoint in ("introspect", "revoke"):
        post(f"{site.url}/oauth2/{endpoint}", auth=site.machine, data={"token": token})
    bearer = {"Authorization": f"Bearer {token}"}
    for path in ("/protected_route", "/me", f"/items?access_token={token}"):
        assert site.http.get(site.service_url + path, headers=bearer).status_code in {200, 403}
    site.http.get(f"{site.service_url}/greetings?access_token={token}", headers={**bearer, **WEBSOCKET})
    site.http.get(f"{site.url}/users/me", headers=bearer)
    post(f"{site.url}/logout?token={token}", headers=bearer)
    return bearer


WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "bearer, Canary",
}


def texts_of(site: Installation) -> str:
    """Return the texts of probes, metrics and documents."""
    headers = {"Authorization": f"Bearer {site.settings['ISSUER_METRICS_TOKEN']}"}
    answers = [
        site.http.get(url + path, headers=headers if url == site.url else {})
        for url in (site.url, site.service_url)
        for path in ("/metrics", "/readyz", "/healthz", "/openapi.json")
    ]
    assert all(answer.is_success or answer.status_code == 503 for answer in answers)
    return "\n".join(answer.text for answer in answers)


def written_by(site: Installation) -> str:
    """Return all that lies in the folder, logs included, but for the database and the keys."""
    files = [path for path in site.folder.rglob("*") if path.is_file() and site.keys not in path.parents]
    return "\n".join(path.read_text("utf-8", "replace") for path in files if ".db" not in path.name)


def lose_the_database(site: Installation) -> None:
    """Take the database away from under a running issuer."""
    url = site.settings.get("ISSUER_DATABASE_URL")
    if url is None:
        with closing(sqlite3.connect(site.folder / "issuer.db", isolation_level=None)) as database:
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                database.execute(f"DROP TABLE {name}")
        return
    server, _, name = url.rpartition("/")
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )


def require_log(server: Server, site: Installation) -> None:
    """Fail unless the log is there, each line of the issuer's is JSON, and none is of a defect."""
    lines = server.output.splitlines()
    assert len(lines) > 50
    if server.url == site.url:
        events = [json.loads(line) for line in lines]
        assert [line for line in events if line["event"] == "internal error" or "exception" in line] == []
        assert any(line["event"] == "service unavailable" and line["request_id"] for line in events)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_no_response_contains_a_secret_whatever_is_sent_to_any_endpoint(
    installation: Installation, request: pytest.FixtureRequest, kind: str
) -> None:
    site, canaries = installation, Canaries()
    site.settings |= {
        "ISSUER_KEYS_PASSPHRASE": canaries.make("passphrase"),
        "ISSUER_METRICS_TOKEN": canaries.make("metrics"),
    }
    if kind == "postgresql":
        url = new_database(request.getfixturevalue("postgresql"))
        password = canaries.make("database")
        site.settings |= {
            "ISSUER_DATABASE_URL": url.replace("issuer@", f"issuer:{password}@"),
            "ISSUER_KEYS": "database",
        }
    server, service = site.serve().until_ready(), site.serve_service().until_ready()
    bearer = live(site, canaries)
    listed = [site.command(*words, "--json") for words in (LISTS if kind == "sqlite" else LISTS[:2])]
    assert not any(done.code for done in listed), listed
    texts = [done.out + done.err for done in listed]
    with httpx2.Client(trust_env=False, timeout=PATIENCE_SECONDS) as http:
        for url in (site.url, site.service_url):
            statuses = feed(http, canaries, url, briefly=kind == "postgresql")
            assert max(statuses) < 500, statuses
            feed_no_http(canaries, url)
        texts.append(texts_of(site))
        lose_the_database(site)
        with suppress(httpx2.HTTPError):
            http.get(f"{site.url}/users/me", headers=bearer)
        assert 503 in feed(http, canaries, site.url, briefly=True)
        texts.append(texts_of(site))
    texts += [done.out + done.err for done in (site.command(*words, "--json") for words in LISTS[:1])]
    for each in (service, server):
        each.stop()
    texts.append(written_by(site))
    everything = "\n".join(texts)
    found = canaries.found_in(everything)
    assert found == [], [line for line in everything.splitlines() if canaries.found_in(line)][:5]
    assert "PRIVATE KEY" not in everything
    assert "$argon2" not in everything
    require_log(server, site)
    require_log(service, site)
