"""Client authentication by an assertion signed with the client's key, and the change of secrets."""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from fastapi.testclient import TestClient
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from support.defaults import START, Build, MovableClock
from support.servers import eventually

from issuer.administration.clients import register_client, renew_secret, restore_secret
from issuer.clients.assertion import ASSERTION_TYPE
from issuer.clients.client import new_secret
from issuer.clients.host_lookup import LOOKUPS_MOST
from issuer.clients.key_sets import COOLDOWN, FRESH, STALE, is_fetchable
from issuer.errors import Refused
from issuer.maintenance.pruning import prune
from issuer.oauth import AuthMethod
from issuer.settings.settings import Settings
from issuer.web.app import create_app
from issuer.wiring import Issuer

ISSUER = "http://127.0.0.1:8000"
NOW = int(START.timestamp())
RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
SMALL = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
P256 = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def public(key: Any, **members: str) -> dict[str, str]:
    to_jwk = {"RSAPrivateKey": RSAAlgorithm, "ECPrivateKey": ECAlgorithm, "Ed25519PrivateKey": OKPAlgorithm}
    algorithm: Any = to_jwk[type(key).__name__]
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), **members}


KEY_SET = {"keys": [public(RSA, kid="rsa"), public(P256, kid="ec"), public(ED, kid="ed")]}


def registered(issuer: Issuer, **keys: str) -> str:
    keys = keys or {"jwks": json.dumps(KEY_SET)}
    scope = frozenset({"items:read"})
    client, secret = register_client(
        issuer.clients.store, "signs", AuthMethod.PRIVATE_KEY_JWT, scope, (), START, **keys
    )
    assert secret is None
    return client.id


@pytest.fixture
def client_id(issuer: Issuer) -> str:
    return registered(issuer)


def assertion(client_id: str, key: Any = RSA, alg: str = "RS256", **changes: Any) -> str:
    header = {"kid": "rsa", **changes.pop("header", {})}
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": ISSUER,
        "iat": NOW,
        "exp": NOW + 60,
        "jti": new_secret(),
        **changes,
    }
    present = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(present, key, alg, {name: value for name, value in header.items() if value})


def ask(web: TestClient, text: str, **more: str) -> httpx2.Response:
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": text,
        **more,
    }
    return web.post("/oauth2/token", data=form)


def refused(answer: httpx2.Response) -> str:
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    description: str = answer.json()["error_description"]
    return description


@pytest.mark.parametrize(
    ("key", "alg", "kid"),
    [(RSA, "RS256", "rsa"), (RSA, "PS256", "rsa"), (P256, "ES256", "ec"), (ED, "EdDSA", "ed")],
)
def test_a_client_gets_a_token_for_an_assertion_signed_with_its_key(
    web: TestClient, client_id: str, key: Any, alg: str, kid: str
) -> None:
    answer = ask(web, assertion(client_id, key, alg, header={"kid": kid}))
    assert (answer.status_code, answer.json()["scope"]) == (200, "items:read")


OTHER_AUDIENCES = [f"{ISSUER}/oauth2/token", [ISSUER], [f"{ISSUER}/oauth2/token", "https://other.test"]]


@pytest.mark.parametrize("audience", [*OTHER_AUDIENCES, [], ISSUER.upper(), f"{ISSUER}/", {"url": ISSUER}, 1])
def test_an_assertion_is_for_the_issuer_alone_as_one_text(
    web: TestClient, client_id: str, audience: Any
) -> None:
    text = assertion(client_id, aud=audience)
    assert refused(ask(web, text)) in {
        f"aud of client_assertion must be {ISSUER}, as one string",
        "client authentication failed",
        "client_assertion is not a JWT that this server accepts",
    }


def test_an_assertion_that_names_a_claim_twice_is_refused(web: TestClient, client_id: str) -> None:
    claims = json.dumps({"iss": client_id, "sub": client_id, "exp": NOW + 60, "jti": new_secret()})[1:]
    header = {"kid": "rsa", "typ": "JWT"}
    for twice in (
        f'{{"aud": "https://other.test", "aud": "{ISSUER}", {claims}',
        f'{{"iss": "x", "aud": "{ISSUER}", {claims}',
    ):
        text = jwt.PyJWS().encode(twice.encode(), RSA, "RS256", header)
        assert "not a JWT" in refused(ask(web, text))
    once = jwt.PyJWS().encode(f'{{"aud": "{ISSUER}", {claims}'.encode(), RSA, "RS256", header)
    assert ask(web, once).status_code == 200


@pytest.mark.parametrize("audience", [ISSUER, *OTHER_AUDIENCES])
def test_a_setting_lets_old_libraries_name_the_token_endpoint_or_several_audiences(
    made: Build, settings: Settings, audience: Any
) -> None:
    issuer = made(settings.model_copy(update={"assertion_audience": "any"}))
    with TestClient(create_app(issuer)) as web:
        assert ask(web, assertion(registered(issuer), aud=audience)).status_code == 200


def test_a_key_is_found_without_a_kid_too_and_the_client_id_may_be_repeated(
    web: TestClient, client_id: str
) -> None:
    assert ask(web, assertion(client_id, header={"kid": None}), client_id=client_id).status_code == 200


@pytest.mark.parametrize(
    "typ",
    ["JWT", "jwt", "application/jwt", "client-authentication+jwt", "application/client-authentication+JWT"],
)
def test_the_type_of_an_assertion_may_be_written_in_full(web: TestClient, client_id: str, typ: str) -> None:
    assert ask(web, assertion(client_id, header={"typ": typ})).status_code == 200


def test_an_assertion_serves_once_however_many_use_it_at_once(web: TestClient, client_id: str) -> None:
    text = assertion(client_id)
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: ask(web, text).status_code, range(5)))
    assert sorted(answers) == [200, 401, 401, 401, 401]
    assert "used before" in refused(ask(web, text))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://other.test"},
        {"aud": [f"{ISSUER}/"]},
        {"aud": None},
        {"iss": "another"},
        {"iss": None},
        {"exp": NOW - 30},
        {"exp": NOW + 3600 + 31},
        {"exp": None},
        {"exp": True},
        {"exp": "soon"},
        {"exp": 1e300},
        {"exp": 10**400},
        {"nbf": 10**400},
        {"exp": float("nan")},
        {"iat": NOW + 31},
        {"nbf": NOW + 31},
        {"jti": None},
        {"jti": ""},
        {"jti": "x" * 257},
        {"jti": 7},
        {"key": OTHER},
        {"header": {"kid": "unknown"}},
        {"header": {"typ": "at+jwt"}},
        {"key": "a secret that both know, of 32 bytes", "alg": "HS256"},
        {"key": None, "alg": "none"},
        {"key": P256, "alg": "ES256"},  # under the kid of another key
    ],
    ids=lambda changes: re.sub(r"<\S+ object at \w+>", "another", str(changes))[:60],
)
def test_an_assertion_that_is_not_right_in_every_respect_is_refused(
    web: TestClient, client_id: str, changes: dict[str, Any]
) -> None:
    refused(ask(web, assertion(client_id, **changes)))


def test_an_assertion_is_used_once_even_if_a_node_whose_clock_is_ahead_deletes_it(
    web: TestClient, issuer: Issuer, client_id: str, clock: MovableClock
) -> None:
    text = assertion(client_id, exp=NOW + 1)
    assert ask(web, text).status_code == 200
    clock.advance(seconds=29)
    while prune(issuer.database, clock() + timedelta(seconds=30)):
        pass
    assert "used before" in refused(ask(web, text))


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "e30.e30.", "x" * 9000, "é.é.é"])
def test_what_is_no_assertion_is_refused(web: TestClient, client_id: str, text: str) -> None:
    answer = ask(web, text)
    assert answer.status_code in {400, 401}
    assert answer.json()["error"] in {"invalid_client", "invalid_request"}


def test_an_unknown_client_a_disabled_one_and_one_with_a_secret_are_refused_alike(
    web: TestClient, issuer: Issuer, client_id: str, machine: tuple[str, str]
) -> None:
    issuer.clients.store.set_disabled(client_id, START)
    told = {refused(ask(web, assertion(each))) for each in (client_id, machine[0], "unknown", "first-party")}
    assert len(told) == 1


@pytest.mark.parametrize(
    ("more", "auth"),
    [
        ({"client_secret": "x"}, None),
        ({}, ("a", "b")),
        ({"client_id": "another"}, None),
        ({"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"}, None),
    ],
)
def test_more_than_one_way_at_once_is_an_invalid_request(
    web: TestClient, client_id: str, more: dict[str, str], auth: tuple[str, str] | None
) -> None:
    form = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion(client_id)}
    answer = web.post("/oauth2/token", data={"grant_type": "client_credentials", **form, **more}, auth=auth)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_client_that_signs_is_not_believed_a_secret(web: TestClient, client_id: str) -> None:
    form = {"grant_type": "client_credentials"}
    refused(web.post("/oauth2/token", data=form, auth=(client_id, "x")))
    refused(web.post("/oauth2/token", data={**form, "client_id": client_id}))


@pytest.mark.parametrize(
    "jwks",
    [
        [public(SMALL, kid="rsa")],
        [public(RSA, kid="rsa", use="enc")],
        [public(RSA, kid="rsa", alg="RS512")],
        [public(RSA, kid="rsa", alg="PS256")],
        [{"kty": "oct", "k": "c2VjcmV0"}],
        ["nothing", {"kty": "RSA"}, {}],
        [],
    ],
    ids=["too small", "to encrypt", "RS512", "PS256", "secret", "malformed", "none"],
)
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_an_unfit_key_verifies_nothing(web: TestClient, issuer: Issuer, jwks: list[Any]) -> None:
    client_id = registered(issuer, jwks=json.dumps({"keys": jwks}))
    key = SMALL if jwks and jwks[0] == public(SMALL, kid="rsa") else RSA
    refused(ask(web, assertion(client_id, key)))


# Key sets that are fetched


class Published(ThreadingHTTPServer):
    """Where a client publishes its keys; `answer` says how, and `asked` counts."""

    def __init__(self) -> None:
        self.body = json.dumps(KEY_SET).encode()
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked = 0
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/jwks"


class _Answer(BaseHTTPRequestHandler):
    server: Published

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def published() -> Iterator[Published]:
    with Published() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


Ask = Callable[..., httpx2.Response]


@pytest.fixture
def ask_at(web: TestClient, issuer: Issuer, published: Published, clock: MovableClock) -> Ask:
    """Ask as a client whose keys are `published`, at the time that the clock shows."""
    client_id = registered(issuer, jwks_uri=published.url)

    def ask_now(key: Any = RSA, **changes: Any) -> httpx2.Response:
        issuer.keys.node.refresh()
        now = int(clock().timestamp())
        return ask(web, assertion(client_id, key, iat=now, exp=now + 60, **changes))

    return ask_now


def test_fetched_keys_are_kept_for_a_while_and_asked_for_again(
    ask_at: Ask, published: Published, clock: MovableClock
) -> None:
    assert [ask_at().status_code for _ in range(3)] == [200, 200, 200]
    assert published.asked == 1
    clock.advance(seconds=FRESH.total_seconds())
    assert ask_at().status_code == 200
    assert published.asked == 2


def test_a_new_key_is_found_and_a_flood_of_unknown_ones_makes_no_flood_of_fetches(
    ask_at: Ask, published: Published, clock: MovableClock
) -> None:
    assert ask_at().status_code == 200
    published.body = json.dumps({"keys": [public(OTHER, kid="new")]}).encode()
    clock.advance(seconds=COOLDOWN.total_seconds())
    assert ask_at(OTHER, header={"kid": "new"}).status_code == 200
    for number in range(20):
        refused(ask_at(OTHER, header={"kid": f"unknown {number}"}))
    assert published.asked == 2


def test_keys_outlast_an_outage_for_a_while_and_not_for_ever(
    ask_at: Ask, published: Published, clock: MovableClock
) -> None:
    assert ask_at().status_code == 200
    published.status = 500
    clock.advance(seconds=STALE.total_seconds())
    assert ask_at().status_code == 200
    clock.advance(seconds=1)
    refused(ask_at())
    published.status = 200
    clock.advance(seconds=COOLDOWN.total_seconds())
    assert ask_at().status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": 302, "headers": {"Location": "/elsewhere"}},
        {"body": b'{"keys": [' + b" " * 70_000 + b"]}"},
        {"body": b"[" * 60_000},
        {"body": b"\xff"},
        {"body": b"{}"},
        {"body": b"null"},
        {"headers": {"Content-Encoding": "gzip"}, "body": b"\x1f\x8b\x08\x00"},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_what_is_no_key_set_leads_to_a_refusal_and_nothing_worse(
    ask_at: Ask, published: Published, wrong: dict[str, Any]
) -> None:
    vars(published).update(wrong)
    refused(ask_at())
    assert published.asked == 1


@pytest.mark.parametrize("drips", [False, True])
def test_a_host_that_hangs_delays_no_other(
    web: TestClient, issuer: Issuer, machine: tuple[str, str], drips: bool
) -> None:
    with hanging(drips=drips) as port, ThreadPoolExecutor(60) as pool:
        client_id = registered(issuer, jwks_uri=f"http://127.0.0.1:{port}/jwks")
        asked = [pool.submit(ask, web, assertion(client_id)) for _ in range(60)]
        honest = web.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=machine)
        assert honest.status_code == 200
        assert not all(each.done() for each in asked)  # so the honest one did not wait for them
        assert {each.result().status_code for each in asked} == {401, 503}


@contextmanager
def hanging(*, drips: bool) -> Iterator[int]:
    """Listen, take connections, and answer nothing; or a byte of a header now and then."""
    over = threading.Event()
    taken: list[socket.socket] = []

    def drip() -> None:
        while not over.wait(0.3):
            for each in taken:
                with suppress(OSError):
                    each.send(b"H" if drips else b"")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        dripping = threading.Thread(target=drip)
        accepting = threading.Thread(target=_accept, args=(listener, taken), daemon=True)
        dripping.start()
        accepting.start()
        yield listener.getsockname()[1]
        over.set()
        dripping.join()
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
    for each in taken:
        each.close()


def _accept(listener: socket.socket, taken: list[socket.socket]) -> None:
    with suppress(OSError):  # it was closed
        while True:
            taken.append(listener.accept()[0])


@pytest.mark.parametrize(
    ("url", "fetchable"),
    [
        ("https://client.test/jwks", True),
        ("http://127.0.0.1:8080/jwks", True),
        ("http://localhost/jwks", True),
        ("http://client.test/jwks", False),
        ("http://localhost.client.test/", False),
        ("https://[x", False),
        ("https://client.test:99999999/", False),
        ("https://user@client.test/", False),
        ("https://client.test/#x", False),
        ("file:///etc/passwd", False),
        ("", False),
    ],
)
def test_keys_are_fetched_by_https_or_from_this_machine(url: str, fetchable: bool) -> None:
    assert is_fetchable(url) is fetchable


def test_a_host_that_does_not_answer_leads_to_a_refusal(
    web: TestClient, issuer: Issuer, published: Published
) -> None:
    client_id = registered(issuer, jwks_uri="http://127.0.0.1:1/jwks")
    refused(ask(web, assertion(client_id)))


# Secrets that change


def test_the_old_secret_is_good_for_the_overlap_and_not_longer(
    web: TestClient, issuer: Issuer, machine: tuple[str, str], clock: MovableClock
) -> None:
    client_id, old = machine
    client = issuer.clients.store.by_id(client_id)
    assert client
    _, new = renew_secret(issuer.clients.store, client, timedelta(seconds=20), START)

    def works(secret: str) -> bool:
        form = {"grant_type": "client_credentials"}
        return web.post("/oauth2/token", data=form, auth=(client_id, secret)).is_success

    assert (works(old), works(new)) == (True, True)
    clock.advance(seconds=20)
    assert (works(old), works(new)) == (False, True)


def test_without_an_overlap_the_old_secret_is_refused_at_once(
    web: TestClient, issuer: Issuer, machine: tuple[str, str]
) -> None:
    client = issuer.clients.store.by_id(machine[0])
    assert client
    renew_secret(issuer.clients.store, client, timedelta(0), START)
    refused(web.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=machine))


def test_a_secret_that_may_be_in_use_is_not_lost_by_changing_it_again(
    issuer: Issuer, machine: tuple[str, str], clock: MovableClock
) -> None:
    client = issuer.clients.store.by_id(machine[0])
    assert client
    renewed, _ = renew_secret(issuer.clients.store, client, timedelta(hours=1), START)
    with pytest.raises(Refused, match="--overlap 0") as refusal:
        renew_secret(issuer.clients.store, renewed, timedelta(hours=1), clock())
    assert refusal.value.allowed_from == START + timedelta(hours=1)
    with pytest.raises(Refused, match="another command"):
        renew_secret(issuer.clients.store, client, timedelta(hours=1), clock())
    last, _ = renew_secret(issuer.clients.store, renewed, timedelta(0), clock())
    assert last.old_secret_digest is None


def test_undoing_a_change_of_a_secret_restores_it_or_says_that_it_was_changed_again(
    issuer: Issuer, machine: tuple[str, str]
) -> None:
    client = issuer.clients.store.by_id(machine[0])
    assert client
    renewed, _ = renew_secret(issuer.clients.store, client, timedelta(0), START)
    restore_secret(issuer.clients.store, client, renewed)
    assert issuer.clients.store.by_id(client.id) == client
    with pytest.raises(Refused, match="another command"):
        restore_secret(issuer.clients.store, client, renewed)


@contextmanager
def unanswered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Names below `hangs.test` are looked up for as long as this lasts."""
    over, real = threading.Event(), socket.getaddrinfo

    def look_up(host: Any, *rest: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name.endswith("hangs.test"):
            over.wait(60)
            raise OSError("no answer")
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        yield
    finally:
        over.set()


def looking_up() -> int:
    return sum(thread.name == "lookup" for thread in threading.enumerate())


def test_a_name_server_that_hangs_delays_no_other_keys_and_uses_few_threads(
    web: TestClient,
    issuer: Issuer,
    published: Published,
    clock: MovableClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("issuer.clients.key_sets.FETCH_SECONDS", 0.2)
    hanging = [registered(issuer, jwks_uri=f"https://{number}.hangs.test/jwks") for number in range(20)]
    honest = registered(issuer, jwks_uri=f"http://localhost:{published.server_address[1]}/jwks")
    with unanswered(monkeypatch):
        for client_id in hanging[:LOOKUPS_MOST]:
            refused(ask(web, assertion(client_id)))
        clock.advance(seconds=COOLDOWN.total_seconds())
        issuer.keys.node.refresh()
        for client_id in hanging:  # each of the first ones still hangs, and the others are not even begun
            now = int(clock().timestamp())
            refused(ask(web, assertion(client_id, iat=now, exp=now + 60)))
        assert looking_up() == LOOKUPS_MOST
    eventually(lambda: looking_up() == 0, "the lookups have ended")
    now = int(clock().timestamp())
    assert ask(web, assertion(honest, iat=now, exp=now + 60)).status_code == 200


def test_one_name_that_hangs_does_not_keep_another_client_waiting(
    web: TestClient, issuer: Issuer, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("issuer.clients.key_sets.FETCH_SECONDS", 0.2)
    slow = registered(issuer, jwks_uri="https://hangs.test/jwks")
    honest = registered(issuer, jwks_uri=f"http://localhost:{published.server_address[1]}/jwks")
    with unanswered(monkeypatch):
        refused(ask(web, assertion(slow)))
        assert ask(web, assertion(honest)).status_code == 200


def test_a_log_in_with_an_assertion_is_refused_without_fetching_keys(
    web: TestClient, issuer: Issuer, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    client_id = registered(issuer, jwks_uri=published.url)
    hashed: list[object] = []
    monkeypatch.setattr(issuer.accounts.passwords, "verify", lambda *given: hashed.append(given))
    answer = ask(web, assertion(client_id), grant_type="password", username="alice", password="x")
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")
    assert (published.asked, hashed) == (0, [])


def test_a_clock_that_is_set_back_neither_stops_fetches_nor_makes_keys_last_longer(
    ask_at: Ask, published: Published, clock: MovableClock
) -> None:
    assert ask_at().status_code == 200
    clock.advance(hours=-1)
    published.body = json.dumps({"keys": [public(OTHER, kid="new")]}).encode()
    refused(ask_at(OTHER, header={"kid": "new"}))  # the cooldown begins anew, at most
    clock.advance(seconds=COOLDOWN.total_seconds())
    assert ask_at(OTHER, header={"kid": "new"}).status_code == 200
    assert published.asked == 2
    published.status = 500
    clock.advance(hours=-1)
    assert ask_at(OTHER, header={"kid": "new"}).status_code == 200
    clock.advance(seconds=STALE.total_seconds() + 1)
    refused(ask_at(OTHER, header={"kid": "new"}))
    published.status = 200
    clock.advance(hours=1)
    assert ask_at(OTHER, header={"kid": "new"}).status_code == 200
