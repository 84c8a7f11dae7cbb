"""Third-party OAuth libraries get tokens from the issuer and accept them, given only the issuer's URL.

Each makes the same calls to one real server with its defaults, except for its switch for plain http; the tests read
the recorded outcomes. Verifiers during a rotation are tested in `test_interop`.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jwt
import pytest
from interop.acts import (
    CLIENTS_IN_PYTHON,
    FIRST_PARTY,
    METHODS,
    Outcome,
    Outcomes,
    Parties,
    outcome,
    outcomes_of,
    supports,
    verify_by_authlib,
)
from jwt.algorithms import RSAAlgorithm
from support.components import INTEROP, require
from support.defaults import ALICE, PASSWORD
from support.servers import PATIENCE_SECONDS, Installation, access_token, kid_of

from jwks_verifier.testing import KeyPair, make_token

CLIENTS_ON_NODE = ("openid-client", "oauth4webapi")
CLIENTS = (*CLIENTS_ON_NODE, *CLIENTS_IN_PYTHON)
ASKING = pytest.mark.parametrize(
    "calls", [library for library in CLIENTS if supports(library, "introspection")], indirect=True
)
RESOURCE_SERVERS = ("oauth4webapi", "express-oauth2-jwt-bearer", "Authlib")


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    with (
        pytest.MonkeyPatch.context() as environment,
        Installation(tmp_path_factory.mktemp("clients")) as issuer,
    ):
        environment.setenv("no_proxy", "127.0.0.1")  # requests would ask a proxy for loopback
        environment.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
        issuer.serve().until_ready()
        key = KeyPair()
        (issuer.folder / "client.json").write_text(json.dumps({"keys": [key.jwk]}))
        signs = ("--auth", "private_key_jwt", "--jwks", "client.json")
        signer = issuer.command("clients", "add", "signer", "--scope", "items:read", *signs, "--json")
        stranger = ("--audience", "https://other.example")
        other = issuer.command("clients", "add", "of another service", *stranger, "--json").document
        assert issuer.http.post(f"{issuer.url}/users", json=ALICE).is_success
        issuer.command("users", "grant", "alice", "--scope", "items:read")

        def log_in() -> Mapping[str, Any]:
            answer = issuer.log_in("alice", PASSWORD)
            assert answer.is_success, answer.text
            return dict(answer.json())

        machine = issuer.token()
        for_another_audience = issuer.http.post(
            f"{issuer.url}/oauth2/token",
            auth=(other["client_id"], other["client_secret"]),
            data={"grant_type": "client_credentials"},
        )
        claims = {"iss": issuer.url, "aud": issuer.service_url}
        tokens = {
            "of a machine": machine,
            "of a person": log_in()["access_token"],
            "for another audience": access_token(for_another_audience),
            "signed by another key": make_token(KeyPair(), header={"kid": kid_of(machine)}, **claims),
        }
        yield Parties(issuer, issuer.machine, signer.document["client_id"], key, log_in, tokens)


class NodeOutcomes(NamedTuple):
    """The outcomes of the libraries on Node.js."""

    clients: Mapping[str, Outcomes]
    resource_servers: Mapping[str, Outcomes]


@pytest.fixture(scope="module")
def node_outcomes(parties: Parties) -> NodeOutcomes:
    client_id, client_secret = parties.machine
    given = {
        "issuer": parties.issuer.url,
        "audience": parties.issuer.service_url,
        "machine": {"client_id": client_id, "client_secret": client_secret},
        "signer": {"client_id": parties.signer},
        "private_jwk": RSAAlgorithm.to_jwk(parties.key.private, as_dict=True),
        "public_client_id": FIRST_PARTY,
        "refresh_tokens": {library: parties.log_in()["refresh_token"] for library in CLIENTS_ON_NODE},
        "tokens": parties.tokens,
    }
    done = subprocess.run(
        ["node", "act.mjs"],
        cwd=INTEROP / "oauth",
        input=json.dumps(given),
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    return NodeOutcomes(
        **{
            part: {
                library: {name: Outcome(**each) for name, each in outcomes.items()}
                for library, outcomes in libraries.items()
            }
            for part, libraries in json.loads(done.stdout).items()
        }
    )


@pytest.fixture(scope="module", params=CLIENTS)
def calls(request: pytest.FixtureRequest, parties: Parties) -> Outcomes:
    """The outcome of each call of one client library."""
    library: str = request.param
    require(library)
    if library in CLIENTS_IN_PYTHON:
        return outcomes_of(library, parties)
    node: NodeOutcomes = request.getfixturevalue("node_outcomes")
    return node.clients[library]


@pytest.fixture(scope="module", params=RESOURCE_SERVERS)
def outcomes(request: pytest.FixtureRequest, parties: Parties) -> Outcomes:
    """The outcome of one resource-server library for each token."""
    library: str = request.param
    require(library)
    if library == "Authlib":
        return {
            name: outcome(partial(verify_by_authlib, parties, token))
            for name, token in parties.tokens.items()
        }
    node: NodeOutcomes = request.getfixturevalue("node_outcomes")
    return node.resource_servers[library]


def test_a_library_discovers_the_endpoints_from_the_issuers_url(calls: Outcomes, parties: Parties) -> None:
    metadata = calls["discovery"].success
    assert metadata["issuer"] == parties.issuer.url
    assert metadata["token_endpoint"].startswith(parties.issuer.url)


@pytest.mark.parametrize(
    ("calls", "method"),
    [(library, method) for method in METHODS for library in CLIENTS if supports(library, method)],
    indirect=["calls"],
)
def test_a_machine_gets_a_token_with_each_authentication_method(
    calls: Outcomes, method: str, parties: Parties
) -> None:
    answer = calls[method].success
    assert answer["token_type"].lower() == "bearer"
    client_id = parties.signer if method == "private_key_jwt" else parties.machine[0]
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert (claims["client_id"], claims["scope"]) == (client_id, "items:read")


def test_a_user_stays_logged_in_with_a_refresh_token(calls: Outcomes) -> None:
    answer = calls["refresh"].success
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert (claims["client_id"], claims["username"]) == (FIRST_PARTY, "alice")
    assert answer["refresh_token"]


@ASKING
def test_introspection_reports_a_valid_token_as_active(calls: Outcomes) -> None:
    answer = calls["introspection"].success
    assert (answer["active"], answer["username"]) == (True, "alice")


def test_a_user_logs_out_by_revocation(calls: Outcomes) -> None:
    assert calls["revocation"].success == {}
    assert calls["refresh_afterwards"].error == "invalid_grant"


@ASKING
def test_introspection_reports_a_revoked_token_as_inactive(calls: Outcomes) -> None:
    assert calls["introspection_afterwards"].success == {"active": False}


@pytest.mark.parametrize("token", ["of a machine", "of a person"])
def test_a_resource_server_accepts_a_token_with_the_checks_of_rfc_9068(
    outcomes: Outcomes, token: str, parties: Parties
) -> None:
    claims = outcomes[token].success
    assert claims == jwt.decode(parties.tokens[token], options={"verify_signature": False})


def test_a_resource_server_rejects_a_token_for_another_audience(outcomes: Outcomes) -> None:
    assert "aud" in require_rejected(outcomes["for another audience"])


def test_a_resource_server_rejects_a_token_signed_with_another_key(outcomes: Outcomes) -> None:
    assert "signature" in require_rejected(outcomes["signed by another key"])


def require_rejected(outcome: Outcome) -> str:
    """Return why the token was rejected; fail if it was accepted."""
    assert outcome.result is None, outcome
    return (outcome.reason or "").lower()
