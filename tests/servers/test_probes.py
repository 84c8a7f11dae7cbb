"""Probes from outside, after the test cases of OAuch (oauch.io) for token, revocation and introspection endpoints.

One server, one row a probe: what is sent, and what must be answered. Why is told in RFC 6749, 7009, 7662, 8707, 9068
and 9700; where the issuer may choose, a row pins the choice that docs/clients.md tells. What needs a clock that
moves, as the replay of a used refresh token does, is in `test_families`.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
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
REFUSED = {400, 429}
"""Whoever comes too late with a refresh token; from one address so many are more than may guess without waiting."""
ENTROPY_BITS = 128
LONGEST_LIFE_SECONDS = 3600
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


# What is answered to one request: status, error code

REQUESTS: dict[str, tuple[Probe, int, str | None]] = {
    # How the request is made, RFC 6749 section 3.2
    "the token endpoint over GET": (
        lambda it: it.http.get(TOKEN, params=GRANT, auth=it.machine),
        405,
        "method_not_allowed",
    ),
    "the token endpoint over PUT": (
        lambda it: it.http.put(TOKEN, data=GRANT, auth=it.machine),
        405,
        "method_not_allowed",
    ),
    "parameters in the query": (
        lambda it: it.http.post(TOKEN, params=GRANT, auth=it.machine, headers={"Content-Type": FORM}),
        400,
        "invalid_request",
    ),
    "the secret in the query": (
        lambda it: it.http.post(TOKEN, params=posted(it), data=GRANT),
        401,
        "invalid_client",
    ),
    "the refresh token in the query": (
        lambda it: it.http.post(
            TOKEN,
            params={"refresh_token": it.log_in()["refresh_token"]},
            data={"grant_type": "refresh_token", "client_id": "first-party"},
        ),
        400,
        "invalid_request",
    ),
    "parameters as JSON": (
        lambda it: it.http.post(TOKEN, json=GRANT, auth=it.machine),
        400,
        "invalid_request",
    ),
    "parameters as multipart": (
        lambda it: it.http.post(TOKEN, files={"grant_type": (None, "client_credentials")}, auth=it.machine),
        400,
        "invalid_request",
    ),
    "parameters as text": (
        lambda it: it.http.post(
            TOKEN,
            content="grant_type=client_credentials",
            auth=it.machine,
            headers={"Content-Type": "text/plain"},
        ),
        400,
        "invalid_request",
    ),
    "a content type in capitals and with a charset": (
        lambda it: it.http.post(
            TOKEN,
            content="grant_type=client_credentials",
            auth=it.machine,
            headers={"Content-Type": f"{FORM.upper()}; charset=UTF-8"},
        ),
        200,
        None,
    ),
    "a body of 65 kB": (
        lambda it: it.send(TOKEN, {**GRANT, "x": "x" * 65536}, it.machine),
        413,
        "invalid_request",
    ),
    # Parameters, section 3.1: none twice, unknown ones ignored, empty ones left out
    "no parameter at all": (lambda it: it.send(TOKEN, {}, it.machine), 400, "invalid_request"),
    "no grant_type": (lambda it: it.send(TOKEN, {"scope": "items:read"}, it.machine), 400, "invalid_request"),
    "an empty grant_type": (
        lambda it: it.send(TOKEN, {"grant_type": ""}, it.machine),
        400,
        "invalid_request",
    ),
    "grant_type twice": (lambda it: it.send(TOKEN, [*GRANT.items()] * 2, it.machine), 400, "invalid_request"),
    "scope twice": (
        lambda it: it.send(TOKEN, [*GRANT.items(), *[("scope", "items:read")] * 2], it.machine),
        400,
        "invalid_request",
    ),
    "client_id twice": (
        lambda it: it.send(TOKEN, [*GRANT.items(), *posted(it).items(), ("client_id", it.machine[0])]),
        400,
        "invalid_request",
    ),
    "refresh_token twice": (
        lambda it: it.send(
            TOKEN,
            [("grant_type", "refresh_token"), ("client_id", "first-party"), *[("refresh_token", "x")] * 2],
        ),
        400,
        "invalid_request",
    ),
    "an unknown parameter": (lambda it: it.send(TOKEN, {**GRANT, "frobnicate": "1"}, it.machine), 200, None),
    "an empty scope": (lambda it: it.send(TOKEN, {**GRANT, "scope": ""}, it.machine), 200, None),
    # Grants, section 5.2
    "an unknown grant": (
        lambda it: it.send(TOKEN, {"grant_type": "x"}, it.machine),
        400,
        "unsupported_grant_type",
    ),
    "a grant in capitals": (
        lambda it: it.send(TOKEN, {"grant_type": "CLIENT_CREDENTIALS"}, it.machine),
        400,
        "unsupported_grant_type",
    ),
    "the grant authorization_code": (
        lambda it: it.send(TOKEN, {"grant_type": "authorization_code", "code": "x"}, it.machine),
        400,
        "unsupported_grant_type",
    ),
    "the implicit grant": (
        lambda it: it.http.get("/authorize", params={"response_type": "token", "client_id": "first-party"}),
        404,
        "not_found",
    ),
    "a password by another client than the first-party one": (
        lambda it: it.send(
            TOKEN, {"grant_type": "password", "username": "alice", "password": PASSWORD}, it.machine
        ),
        400,
        "unauthorized_client",
    ),
    "client_credentials by a public client": (
        lambda it: it.send(TOKEN, {**GRANT, "client_id": "first-party"}),
        400,
        "unauthorized_client",
    ),
    "a scope that was not granted": (
        lambda it: it.send(TOKEN, {**GRANT, "scope": "items:write"}, it.machine),
        400,
        "invalid_scope",
    ),
    "a malformed scope": (
        lambda it: it.send(TOKEN, {**GRANT, "scope": 'items:read "'}, it.machine),
        400,
        "invalid_scope",
    ),
    "a resource that was not granted": (
        lambda it: it.send(TOKEN, {**GRANT, "resource": "https://elsewhere.example"}, it.machine),
        400,
        "invalid_target",
    ),
    # Client authentication, section 2.3
    "a secret by Basic": (lambda it: it.send(TOKEN, GRANT, it.machine), 200, None),
    "a secret in the form": (lambda it: it.send(TOKEN, {**GRANT, **posted(it)}), 200, None),
    "Basic in lower case": (
        lambda it: it.http.post(
            TOKEN,
            content="grant_type=client_credentials",
            headers={
                **basic(*it.machine),
                "Authorization": basic(*it.machine)["Authorization"].replace("B", "b", 1),
            },
        ),
        200,
        None,
    ),
    "Basic and form at once": (
        lambda it: it.send(TOKEN, {**GRANT, **posted(it)}, it.machine),
        400,
        "invalid_request",
    ),
    "Basic, and another client_id in the form": (
        lambda it: it.send(TOKEN, {**GRANT, "client_id": it.other[0]}, it.machine),
        400,
        "invalid_request",
    ),
    "Basic and an assertion at once": (
        lambda it: it.send(TOKEN, {**GRANT, "client_assertion": "x.y.z"}, it.machine),
        400,
        "invalid_request",
    ),
    "no client": (lambda it: it.send(TOKEN, GRANT), 401, "invalid_client"),
    "no secret": (lambda it: it.send(TOKEN, {**GRANT, "client_id": it.machine[0]}), 401, "invalid_client"),
    "an empty secret": (
        lambda it: it.send(TOKEN, {**GRANT, "client_id": it.machine[0], "client_secret": ""}),
        401,
        "invalid_client",
    ),
    "an empty secret by Basic": (
        lambda it: it.send(TOKEN, GRANT, (it.machine[0], "")),
        401,
        "invalid_client",
    ),
    "a wrong secret": (lambda it: it.send(TOKEN, GRANT, (it.machine[0], "wrong")), 401, "invalid_client"),
    "a secret that is nearly right": (
        lambda it: it.send(TOKEN, GRANT, (it.machine[0], it.machine[1][:-1])),
        401,
        "invalid_client",
    ),
    "the secret of another client": (
        lambda it: it.send(TOKEN, GRANT, (it.machine[0], it.other[1])),
        401,
        "invalid_client",
    ),
    "an unknown client": (lambda it: it.send(TOKEN, GRANT, ("unknown", "x")), 401, "invalid_client"),
    "a secret for the public client": (
        lambda it: it.send(TOKEN, {**GRANT, "client_id": "first-party", "client_secret": "x"}),
        401,
        "invalid_client",
    ),
    "an access token as client authentication": (
        lambda it: it.http.post(
            TOKEN, data=GRANT, headers={"Authorization": f"Bearer {it.machine_token()['access_token']}"}
        ),
        401,
        "invalid_client",
    ),
    "an assertion that nobody signed": (
        lambda it: it.send(
            TOKEN,
            {
                **GRANT,
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": forged(it, alg="none"),
            },
        ),
        401,
        "invalid_client",
    ),
    # Refresh tokens, section 6 and RFC 9700 section 4.14
    "a refresh without a refresh token": (lambda it: it.refresh(""), 400, "invalid_request"),
    "a made-up refresh token": (lambda it: it.refresh("made-up"), 400, "invalid_grant"),
    "an access token as refresh token": (
        lambda it: it.refresh(it.log_in()["access_token"]),
        400,
        "invalid_grant",
    ),
    "a refresh token with something after it": (
        lambda it: it.refresh(it.log_in()["refresh_token"] + "x"),
        400,
        "invalid_grant",
    ),
    "a refresh token without its client": (
        lambda it: it.send(
            TOKEN, {"grant_type": "refresh_token", "refresh_token": it.log_in()["refresh_token"]}
        ),
        401,
        "invalid_client",
    ),
    "a refresh token by another client": (
        lambda it: it.send(
            TOKEN, {"grant_type": "refresh_token", "refresh_token": it.log_in()["refresh_token"]}, it.machine
        ),
        400,
        "invalid_grant",
    ),
    "a refresh for more scope than the log-in had": (
        lambda it: it.refresh(it.log_in(scope="items:read")["refresh_token"], scope="items:read items:write"),
        400,
        "invalid_scope",
    ),
    "a refresh for another resource": (
        lambda it: it.refresh(it.log_in()["refresh_token"], resource="https://elsewhere.example"),
        400,
        "invalid_target",
    ),
    # Revocation, RFC 7009
    "revocation over GET": (
        lambda it: it.http.get(REVOKE, params={"token": "x"}, auth=it.machine),
        405,
        "method_not_allowed",
    ),
    "revocation without a client": (lambda it: it.send(REVOKE, {"token": "x"}), 401, "invalid_client"),
    "revocation with a wrong secret": (
        lambda it: it.send(REVOKE, {"token": "x"}, (it.machine[0], "wrong")),
        401,
        "invalid_client",
    ),
    "revocation of nothing": (lambda it: it.send(REVOKE, {}, it.machine), 400, "invalid_request"),
    "revocation of two tokens": (
        lambda it: it.send(REVOKE, [("token", "x"), ("token", "y")], it.machine),
        400,
        "invalid_request",
    ),
    "revocation of what is no token": (lambda it: it.send(REVOKE, {"token": "x"}, it.machine), 200, None),
    "revocation with an unknown hint": (
        lambda it: it.send(REVOKE, {"token": "x", "token_type_hint": "frobnicator"}, it.machine),
        200,
        None,
    ),
    "revocation of another client's refresh token": (
        lambda it: it.send(REVOKE, {"token": it.log_in()["refresh_token"]}, it.machine),
        400,
        "unauthorized_client",
    ),
    "revocation of another client's access token": (
        lambda it: it.send(REVOKE, {"token": it.machine_token()["access_token"]}, it.other),
        400,
        "unauthorized_client",
    ),
    "revocation of a machine's access token": (
        lambda it: it.send(REVOKE, {"token": it.machine_token()["access_token"]}, it.machine),
        400,
        "unsupported_token_type",
    ),
    # Introspection, RFC 7662
    "introspection over GET": (
        lambda it: it.http.get(INTROSPECT, params={"token": "x"}, auth=it.machine),
        405,
        "method_not_allowed",
    ),
    "introspection without a client": (lambda it: it.send(INTROSPECT, {"token": "x"}), 401, "invalid_client"),
    "introspection by a public client": (
        lambda it: it.send(INTROSPECT, {"token": "x", "client_id": "first-party"}),
        401,
        "invalid_client",
    ),
    "introspection by the bearer of the token": (
        lambda it: it.http.post(
            INTROSPECT,
            data={"token": "x"},
            headers={"Authorization": f"Bearer {it.machine_token()['access_token']}"},
        ),
        401,
        "invalid_client",
    ),
    "introspection of nothing": (lambda it: it.send(INTROSPECT, {}, it.machine), 400, "invalid_request"),
    # Bearer tokens, RFC 6750
    "an access token in the query": (
        lambda it: it.http.get("/users/me", params={"access_token": it.log_in()["access_token"]}),
        401,
        "invalid_token",
    ),
    "an access token in a form": (
        lambda it: it.send("/logout", {"access_token": it.log_in()["access_token"]}),
        401,
        "invalid_token",
    ),
    "an access token that nobody signed": (
        lambda it: it.http.get("/users/me", headers={"Authorization": f"Bearer {forged(it, alg='none')}"}),
        401,
        "invalid_token",
    ),
    "a refresh token as access token": (
        lambda it: it.http.get(
            "/users/me", headers={"Authorization": f"Bearer {it.log_in()['refresh_token']}"}
        ),
        401,
        "invalid_token",
    ),
    "a machine's token as a user's": (
        lambda it: it.http.get(
            "/users/me", headers={"Authorization": f"Bearer {it.machine_token()['access_token']}"}
        ),
        401,
        "invalid_token",
    ),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_a_request_is_answered_as_required(target: Target, what: str) -> None:
    probe, status, error = REQUESTS[what]
    answer = probe(target)
    assert (answer.status_code, answer.json().get("error") if answer.content else None) == (status, error), (
        answer.text
    )
    assert answer.headers["cache-control"] == "no-store"  # RFC 6749 section 5.1, errors included
    if error:
        assert answer.headers["content-type"] == "application/json"
        assert answer.json().keys() == {"error", "error_description"}
    if status == httpx2.codes.UNAUTHORIZED:  # RFC 9110 section 15.5.2
        assert answer.headers["www-authenticate"].startswith(
            "Basic" if error == "invalid_client" else "Bearer"
        )


# What follows from several requests

Story = Callable[[Target], bool]


def revoked(target: Target, kind: str, hint: str | None = None) -> dict[str, Any]:
    """Return the tokens of a session that ended by revoking one of them."""
    body = target.log_in()
    form = {"token": body[kind], "client_id": "first-party", **({"token_type_hint": hint} if hint else {})}
    assert target.send(REVOKE, form).status_code == httpx2.codes.OK
    return body


def both_dead(target: Target, tokens: dict[str, Any]) -> bool:
    answer = target.refresh(tokens["refresh_token"])
    me = target.http.get("/users/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})
    return (
        answer.json().get("error") == "invalid_grant"
        and me.status_code == httpx2.codes.UNAUTHORIZED
        and not target.is_active(tokens["access_token"])
    )


def ends_nothing(target: Target, client: tuple[str, str], kind: str) -> bool:
    """Return whether a session outlives that another client tries to revoke it."""
    body = target.log_in()
    target.send(REVOKE, {"token": body[kind]}, client)
    return target.is_active(body["access_token"]) and target.refresh(body["refresh_token"]).is_success


def rotates(target: Target) -> bool:
    first = target.log_in()["refresh_token"]
    second = target.refresh(first).json()["refresh_token"]
    third = target.refresh(second).json()["refresh_token"]
    return len({first, second, third}) == 3


def narrows(target: Target) -> bool:
    first = target.log_in()["refresh_token"]
    second = target.refresh(first, scope="items:read").json()
    third = target.refresh(second["refresh_token"]).json()
    return (second["scope"], third["scope"]) == ("items:read", "items:read items:write")


def failed_refresh_uses_nothing_up(target: Target) -> bool:
    token = target.log_in()["refresh_token"]
    target.refresh(token, scope="admin")
    target.refresh(token, resource="https://elsewhere.example")
    target.refresh(token, client_id="unknown")
    return "refresh_token" in target.refresh(token).json()


def grandparent_is_a_repeat(target: Target) -> bool:
    """Within the grace each used token yields its own successor, and no second line begins."""
    first = target.log_in()["refresh_token"]
    second = target.refresh(first).json()["refresh_token"]
    third = target.refresh(second).json()["refresh_token"]
    again = target.refresh(first).json()["refresh_token"]
    return again == second and target.refresh(again).json()["refresh_token"] == third


def logged_out(target: Target) -> bool:
    body = target.log_in()
    target.http.post("/logout", headers={"Authorization": f"Bearer {body['access_token']}"})
    return both_dead(target, body)


def short_lived(target: Target) -> bool:
    claims = [
        jwt.decode(each["access_token"], options={"verify_signature": False}) | {"told": each["expires_in"]}
        for each in (target.log_in(), target.machine_token())
    ]
    return all(0 < each["exp"] - each["iat"] == each["told"] <= LONGEST_LIFE_SECONDS for each in claims)


def unlike_each_other(target: Target) -> bool:
    access = [target.machine_token()["access_token"] for _ in range(20)]
    refresh = [target.log_in()["refresh_token"] for _ in range(10)]
    jtis = {jwt.decode(each, options={"verify_signature": False})["jti"] for each in access}
    return len(set(access)) == len(jtis) == 20 and len(set(refresh)) == 10


def long_enough(target: Target) -> bool:
    """Return whether each random part can hold its entropy, and no two begin alike, RFC 6749 section 10.10."""
    refresh = [target.log_in()["refresh_token"] for _ in range(10)]
    refresh += [target.refresh(each).json()["refresh_token"] for each in refresh]
    jtis = [
        jwt.decode(target.machine_token()["access_token"], options={"verify_signature": False})["jti"]
        for _ in range(10)
    ]
    return all(len(each) * 6 >= ENTROPY_BITS for each in [*refresh, *jtis]) and all(
        len({each[:6] for each in made}) == len(made) for made in (refresh, jtis)
    )


STORIES: dict[str, Story] = {
    "each refresh yields another refresh token": rotates,
    "a refused refresh uses nothing up": failed_refresh_uses_nothing_up,
    "a refresh may narrow the scope for one access token, and not for good": narrows,
    "an older token within the grace starts no second line": grandparent_is_a_repeat,
    "revoking the refresh token ends the session": lambda it: both_dead(it, revoked(it, "refresh_token")),
    "revoking the access token ends the session": lambda it: both_dead(it, revoked(it, "access_token")),
    "a wrong hint does not keep a token from being revoked": lambda it: both_dead(
        it, revoked(it, "refresh_token", "access_token")
    ),
    "another client's revocation of a refresh token ends nothing": lambda it: ends_nothing(
        it, it.machine, "refresh_token"
    ),
    "another client's revocation of an access token ends nothing": lambda it: ends_nothing(
        it, it.machine, "access_token"
    ),
    "a log-out ends the session": logged_out,
    "access tokens live an hour at most, and for as long as is told": short_lived,
    "no two tokens are alike": unlike_each_other,
    "tokens are as long as their entropy needs": long_enough,
    "a live access token is active": lambda it: it.is_active(it.log_in()["access_token"]),
    "a token that nobody signed is not active": lambda it: not it.is_active(forged(it, alg="none")),
    "another client's refresh token is not active": lambda it: not it.is_active(it.log_in()["refresh_token"]),
    "machines get no refresh token": lambda it: "refresh_token" not in it.machine_token(),
    "a machine gets the scope it was granted": lambda it: it.machine_token()["scope"] == "items:read",
    "access tokens are as RFC 9068 has them": lambda it: (
        jwt.get_unverified_header(it.log_in()["access_token"])["typ"] == "at+jwt"
    ),
    "wrong and unknown clients are told apart by nothing": lambda it: (
        it.send(TOKEN, GRANT, (it.machine[0], "wrong")).content
        == it.send(TOKEN, GRANT, ("unknown", "x")).content
    ),
}


@pytest.mark.parametrize("what", STORIES)
def test_what_follows_is_as_required(target: Target, what: str) -> None:
    assert STORIES[what](target)


# At once


def at_once(act: Callable[[int], httpx2.Response]) -> list[httpx2.Response]:
    """Let a crowd act, each on a connection that is open already, all in the same moment."""
    start = Barrier(AT_ONCE)

    def wait_and_act(number: int) -> httpx2.Response:
        start.wait(PATIENCE_SECONDS)
        return act(number)

    with ThreadPoolExecutor(AT_ONCE) as crowd:
        return list(crowd.map(wait_and_act, range(AT_ONCE)))


@pytest.mark.parametrize("_round", range(3))
def test_redeemed_by_many_at_once_a_refresh_token_has_one_successor_in_one_session_for_two_of_them(
    target: Target, _round: int
) -> None:
    at_once(lambda _: target.http.get("/healthz"))
    first = target.log_in()
    answers = at_once(lambda _: target.refresh(first["refresh_token"]))
    told = [answer.json() for answer in answers if answer.status_code == httpx2.codes.OK]
    refused = [answer for answer in answers if answer.status_code != httpx2.codes.OK]
    assert {(answer.status_code, answer.json()["error"]) for answer in refused} == {(400, "invalid_grant")}
    (successor,) = {each["refresh_token"] for each in told}
    claims = [jwt.decode(each["access_token"], options={"verify_signature": False}) for each in told]
    assert len({each["jti"] for each in claims}) == len(told) == 2
    assert len({each["grant_id"] for each in claims}) == 1
    assert target.refresh(successor).status_code == 200


def test_whoever_revokes_while_many_refresh_ends_the_session_for_all(target: Target) -> None:
    first = target.log_in()

    def act(number: int) -> httpx2.Response:
        if number == AT_ONCE // 2:
            return target.send(REVOKE, {"token": first["refresh_token"], "client_id": "first-party"})
        return target.refresh(first["refresh_token"])

    answers = at_once(act)
    assert {answer.status_code for answer in answers} <= {200, *REFUSED}
    successors = [answer.json() for answer in answers if answer.content and answer.is_success]
    assert len({each["refresh_token"] for each in successors}) <= 1
    for each in [first, *successors[:1]]:
        assert target.refresh(each["refresh_token"]).status_code in REFUSED
        assert not target.is_active(each["access_token"])
