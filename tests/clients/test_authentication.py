"""Client authentication: one method per request, the same answer for every failure, and secrets that are rotated.

Assertions are tested in `test_assertion`, key sets in `test_key_sets` and `test_fetched_key_sets`.
"""

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from support.defaults import START, MovableClock
from support.signing_clients import KeySetServer, assertion, registered, rejection, request_token

from issuer.administration.clients import renew_secret, restore_secret
from issuer.clients.assertion import ASSERTION_TYPE
from issuer.errors import Refused
from issuer.services import Issuer


def test_unknown_disabled_and_secret_clients_get_the_same_rejection_of_an_assertion(
    web: TestClient, issuer: Issuer, client_id: str, machine: tuple[str, str]
) -> None:
    issuer.clients.store.set_disabled(client_id, START)
    descriptions = {
        rejection(request_token(web, assertion(each)))
        for each in (client_id, machine[0], "unknown", "first-party")
    }
    assert len(descriptions) == 1


@pytest.mark.parametrize(
    ("more", "auth"),
    [
        ({"client_secret": "x"}, None),
        ({}, ("a", "b")),
        ({"client_id": "another"}, None),
        ({"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"}, None),
    ],
)
def test_more_than_one_authentication_method_is_an_invalid_request(
    web: TestClient, client_id: str, more: dict[str, str], auth: tuple[str, str] | None
) -> None:
    form = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion(client_id)}
    answer = web.post("/oauth2/token", data={"grant_type": "client_credentials", **form, **more}, auth=auth)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_client_with_assertions_cannot_authenticate_with_a_secret(web: TestClient, client_id: str) -> None:
    form = {"grant_type": "client_credentials"}
    rejection(web.post("/oauth2/token", data=form, auth=(client_id, "x")))
    rejection(web.post("/oauth2/token", data={**form, "client_id": client_id}))


def test_the_old_secret_is_valid_during_the_overlap_and_not_longer(
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


def test_without_an_overlap_the_old_secret_is_rejected_immediately(
    web: TestClient, issuer: Issuer, machine: tuple[str, str]
) -> None:
    client = issuer.clients.store.by_id(machine[0])
    assert client
    renew_secret(issuer.clients.store, client, timedelta(0), START)
    rejection(web.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=machine))


def test_a_rotation_during_an_overlap_is_refused_unless_forced(
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


def test_undoing_a_rotation_restores_the_secret_unless_it_was_rotated_again(
    issuer: Issuer, machine: tuple[str, str]
) -> None:
    client = issuer.clients.store.by_id(machine[0])
    assert client
    renewed, _ = renew_secret(issuer.clients.store, client, timedelta(0), START)
    restore_secret(issuer.clients.store, client, renewed)
    assert issuer.clients.store.by_id(client.id) == client
    with pytest.raises(Refused, match="another command"):
        restore_secret(issuer.clients.store, client, renewed)


def test_a_password_grant_with_an_assertion_is_rejected_without_fetching_keys(
    web: TestClient, issuer: Issuer, key_set_server: KeySetServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client_id = registered(issuer, jwks_uri=key_set_server.url)
    hashed: list[object] = []
    monkeypatch.setattr(issuer.accounts.passwords, "verify", lambda *given: hashed.append(given))
    answer = request_token(web, assertion(client_id), grant_type="password", username="alice", password="x")
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")
    assert (key_set_server.fetches, hashed) == (0, [])
