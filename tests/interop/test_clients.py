"""Owns that OAuth libraries written by others get their tokens here, and accept them, by the issuer's URL alone.

Each plays the same acts against one real server with its own defaults, but for its switch for http; each test reads
in the record of what came of them. How verifiers live through a rotation is told in `test_interop`.
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
    Stage,
    is_able,
    judge_by_authlib,
    outcome,
    play,
)
from interop.fetched import HERE, NODE, require
from jwt.algorithms import RSAAlgorithm
from support.defaults import ALICE, PASSWORD
from support.servers import PATIENCE_SECONDS, Installation, access_token, kid_of

from verifier_example.testing import KeyPair, make_token

CLIENTS_ON_NODE = ("openid-client", "oauth4webapi")
CLIENTS = (*CLIENTS_ON_NODE, *CLIENTS_IN_PYTHON)
ASKING = pytest.mark.parametrize(
    "acts", [library for library in CLIENTS if is_able(library, "introspection")], indirect=True
)
RESOURCE_SERVERS = ("oauth4webapi", "express-oauth2-jwt-bearer", "Authlib")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
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
        yield Stage(issuer, issuer.machine, signer.document["client_id"], key, log_in, tokens)


class Told(NamedTuple):
    """What the libraries of Node.js made of it all."""

    clients: Mapping[str, Outcomes]
    resource_servers: Mapping[str, Outcomes]


@pytest.fixture(scope="module")
def told_by_node(stage: Stage) -> Told:
    client_id, client_secret = stage.machine
    given = {
        "issuer": stage.issuer.url,
        "audience": stage.issuer.service_url,
        "machine": {"client_id": client_id, "client_secret": client_secret},
        "signer": {"client_id": stage.signer},
        "private_jwk": RSAAlgorithm.to_jwk(stage.key.private, as_dict=True),
        "public_client_id": FIRST_PARTY,
        "refresh_tokens": {library: stage.log_in()["refresh_token"] for library in CLIENTS_ON_NODE},
        "tokens": stage.tokens,
    }
    done = subprocess.run(
        [NODE or "node", "act.mjs"],
        cwd=HERE / "oauth",
        input=json.dumps(given),
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    return Told(
        **{
            part: {
                library: {name: Outcome(**each) for name, each in outcomes.items()}
                for library, outcomes in libraries.items()
            }
            for part, libraries in json.loads(done.stdout).items()
        }
    )


@pytest.fixture(scope="module", params=CLIENTS)
def acts(request: pytest.FixtureRequest, stage: Stage) -> Outcomes:
    """What came of each act of one client library."""
    library: str = request.param
    require(library)
    if library in CLIENTS_IN_PYTHON:
        return play(library, stage)
    told: Told = request.getfixturevalue("told_by_node")
    return told.clients[library]


@pytest.fixture(scope="module", params=RESOURCE_SERVERS)
def judged(request: pytest.FixtureRequest, stage: Stage) -> Outcomes:
    """What one library for resource servers said of each token."""
    library: str = request.param
    require(library)
    if library == "Authlib":
        return {
            name: outcome(partial(judge_by_authlib, stage, token)) for name, token in stage.tokens.items()
        }
    told: Told = request.getfixturevalue("told_by_node")
    return told.resource_servers[library]


def test_a_library_finds_the_endpoints_by_the_issuers_url(acts: Outcomes, stage: Stage) -> None:
    metadata = acts["discovery"].success
    assert metadata["issuer"] == stage.issuer.url
    assert metadata["token_endpoint"].startswith(stage.issuer.url)


@pytest.mark.parametrize(
    ("acts", "method"),
    [(library, method) for method in METHODS for library in CLIENTS if is_able(library, method)],
    indirect=["acts"],
)
def test_a_machine_gets_a_token_however_it_authenticates(acts: Outcomes, method: str, stage: Stage) -> None:
    answer = acts[method].success
    assert answer["token_type"].lower() == "bearer"
    client_id = stage.signer if method == "private_key_jwt" else stage.machine[0]
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert (claims["client_id"], claims["scope"]) == (client_id, "items:read")


def test_a_person_stays_logged_in_by_a_refresh_token(acts: Outcomes) -> None:
    answer = acts["refresh"].success
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert (claims["client_id"], claims["username"]) == (FIRST_PARTY, "alice")
    assert answer["refresh_token"]


@ASKING
def test_a_service_learns_that_a_token_is_good(acts: Outcomes) -> None:
    answer = acts["introspection"].success
    assert (answer["active"], answer["username"]) == (True, "alice")


def test_a_person_logs_out_by_revocation(acts: Outcomes) -> None:
    assert acts["revocation"].success == {}
    assert acts["refresh_afterwards"].error == "invalid_grant"


@ASKING
def test_a_service_learns_that_a_revoked_token_is_not(acts: Outcomes) -> None:
    assert acts["introspection_afterwards"].success == {"active": False}


@pytest.mark.parametrize("token", ["of a machine", "of a person"])
def test_a_resource_server_accepts_a_token_by_the_checks_of_rfc_9068(
    judged: Outcomes, token: str, stage: Stage
) -> None:
    claims = judged[token].success
    assert claims == jwt.decode(stage.tokens[token], options={"verify_signature": False})


def test_a_resource_server_refuses_a_token_for_another_audience(judged: Outcomes) -> None:
    assert "aud" in require_refused(judged["for another audience"])


def test_a_resource_server_refuses_a_token_signed_by_another_key(judged: Outcomes) -> None:
    assert "signature" in require_refused(judged["signed by another key"])


def require_refused(outcome: Outcome) -> str:
    """Return why the token was refused, which it must have been."""
    assert outcome.told is None, outcome
    return (outcome.reason or "").lower()
