"""Probes from outside, after the test cases of OAuch (oauch.io) for token, revocation and introspection endpoints.

One server, one row a probe: what is sent, and what must be answered. The reasons are in RFC 6749, 7009, 7662, 8707,
9068 and 9700; where the issuer may choose, a row pins the choice that docs/clients.md documents. What needs a clock
that moves, as the replay of a used refresh token does, is in `test_families`."""

import httpx2
import pytest
from support.probe_target import (
    FORM,
    GRANT,
    INTROSPECT,
    PASSWORD,
    REVOKE,
    TOKEN,
    Probe,
    Target,
    basic,
    forged,
    posted,
)

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
        "unauthorized_client",
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
