"""Commands as scripts use them: exit codes, JSON output, effects, and no secrets.

Each command is a separate process, next to a running server if the effect is visible there.
"""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr
from support.commands import OTHER_PASSWORD, PASSWORD, run, run_json
from support.servers import PASSPHRASE, Installation, Server

from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore
from issuer.settings.settings import Settings
from issuer.signing.pem import PemSigner
from issuer.signing.pem_directory import PemDirectory
from issuer.signing.public_key import PublicKey
from issuer.wiring import build


@pytest.fixture(scope="module")
def serving(
    initialized_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Installation, Server]]:
    """An installation with a server, for commands that leave the key ring alone."""
    folder = shutil.copytree(initialized_folder, tmp_path_factory.mktemp("commands") / "serving")
    with Installation(folder, ISSUER_KEYS_PASSPHRASE=PASSPHRASE) as installation:
        yield installation, installation.serve().until_ready()


@pytest.fixture
def site(serving: tuple[Installation, Server]) -> Installation:
    return serving[0]


# Users


def test_a_user_is_made_and_granted_scope(site: Installation) -> None:
    arguments = ["users", "add", "alice", "--scope", "items:read", "--password-stdin"]
    made = run_json(site, *arguments, stdin=f"{PASSWORD}\n")
    profile = {"name", "email", "email_verified", "invited_at", "updated_at", "signed_in_at", "attributes"}
    scopes = {"scope", "effective_scope", "roles"}
    assert made.keys() == {"username", "id", "created_at", "disabled_at", *scopes, *profile}
    assert (made["username"], made["scope"]) == ("alice", "items:read")
    more = run_json(site, "users", "grant", "alice", "--scope", "items:write")
    assert more["scope"] == "items:read items:write"
    assert site.log_in("alice", PASSWORD).json()["scope"] == "items:read items:write"
    (listed,) = [each for each in run_json(site, "users", "list")["users"] if each["id"] == made["id"]]
    assert listed["signed_in_at"]
    assert {**listed, "signed_in_at": None} == more
    assert run_json(site, *arguments, stdin=PASSWORD, code=1)["error"] == "failed"


def test_a_link_of_an_operator_leads_to_the_page_for_a_new_password(site: Installation) -> None:
    run_json(site, "users", "add", "dora", "--password-stdin", stdin=PASSWORD)
    made = run_json(site, "users", "reset-link", "dora")
    assert made.keys() == {"link", "expires_at"}
    page = httpx2.get(made["link"], trust_env=False)
    assert page.status_code == 200
    assert "dora" in page.text
    run_json(site, "users", "disable", "dora")
    assert "disabled" in run_json(site, "users", "reset-link", "dora", code=1)["message"]


def test_an_invitation_leads_to_the_page_for_the_first_password(site: Installation) -> None:
    options = ["--scope", "items:read", "--valid", "7d"]
    first = run_json(site, "users", "invite", "erin", *options)
    assert first.keys() == {"username", "link", "expires_at"}
    second = run_json(site, "users", "invite", "erin", *options)
    pages = [httpx2.get(each["link"], trust_env=False) for each in (first, second)]
    assert [page.status_code for page in pages] == [400, 200]
    assert "Welcome" in pages[1].text
    assert site.log_in("erin", PASSWORD).status_code == 401
    run_json(site, "users", "add", "frank", "--password-stdin", stdin=PASSWORD)
    assert "reset-link frank" in run_json(site, "users", "invite", "frank", code=3)["message"]
    mailed = run_json(site, "users", "invite", "gina", "--email", "gina@example.com", "--mail", code=1)
    assert "ISSUER_SMTP_URL" in mailed["message"]
    assert "gina" not in str(run_json(site, "users", "list"))


def test_a_disabled_user_cannot_log_in_until_enabled(site: Installation) -> None:
    run_json(site, "users", "add", "bob", "--password-stdin", stdin=PASSWORD)
    assert run_json(site, "users", "disable", "bob")["disabled_at"]
    assert site.log_in("bob", PASSWORD).status_code == 401
    assert run_json(site, "users", "enable", "bob")["disabled_at"] is None
    assert site.log_in("bob", PASSWORD).status_code == 200


def test_a_new_password_takes_the_place_of_the_old_one(site: Installation) -> None:
    run_json(site, "users", "add", "carol", "--password-stdin", stdin=PASSWORD)
    run_json(site, "users", "set-password", "carol", "--password-stdin", stdin=OTHER_PASSWORD)
    assert site.log_in("carol", PASSWORD).status_code == 401
    assert site.log_in("carol", OTHER_PASSWORD).status_code == 200


# Clients


def test_a_clients_secret_is_shown_once_and_works_until_the_client_is_disabled(
    serving: tuple[Installation, Server],
) -> None:
    site, server = serving
    made = run_json(site, "clients", "add", "reports", "--scope", "items:read")
    client_id, secret = made["client_id"], made["client_secret"]

    def asked() -> int:
        form = {"grant_type": "client_credentials"}
        return site.http.post(f"{site.url}/oauth2/token", auth=(client_id, secret), data=form).status_code

    assert asked() == 200
    listed = run(site, "clients", "list", "--json")
    assert client_id in [client["client_id"] for client in listed.document["clients"]]
    run_json(site, "clients", "disable", client_id)
    assert asked() == 401
    run_json(site, "clients", "enable", client_id)
    assert asked() == 200
    assert secret not in listed.out + server.output


def test_a_secret_is_changed_while_the_old_one_is_still_good_and_never_lost_by_changing_it_again(
    serving: tuple[Installation, Server],
) -> None:
    site, _ = serving
    made = run_json(site, "clients", "add", "two secrets")
    client_id = made["client_id"]

    def works(secret: str) -> bool:
        form = {"grant_type": "client_credentials"}
        return site.http.post(f"{site.url}/oauth2/token", auth=(client_id, secret), data=form).is_success

    renewed = run_json(site, "clients", "rotate-secret", client_id, "--overlap", "1h")
    assert works(made["client_secret"])
    assert works(renewed["client_secret"])
    again = run(site, "clients", "rotate-secret", client_id, "--json")
    assert (again.code, again.document["allowed_from"]) == (3, renewed["old_secret_until"])
    last = run_json(site, "clients", "rotate-secret", client_id, "--overlap", "0")
    assert [works(each["client_secret"]) for each in (made, renewed, last)] == [False, False, True]


@pytest.mark.parametrize(
    ("keys", "outcome"),
    [
        ((), (2, "usage")),
        (("--jwks", "missing.json"), (1, "failed")),
        (("--jwks-uri", "http://client.test/"), (2, "usage")),
        (("--jwks-uri", "https://[x"), (2, "usage")),
    ],
)
def test_a_client_that_signs_needs_keys_that_can_be_had(
    serving: tuple[Installation, Server], keys: tuple[str, ...], outcome: tuple[int, str]
) -> None:
    refused = run(serving[0], "clients", "add", "signs", "--auth", "private_key_jwt", *keys, "--json")
    assert (refused.code, refused.document["error"]) == outcome


# Keys


def test_a_ring_is_shown_rotated_once_and_then_guarded(initialized: Installation) -> None:
    initialized.settings["ISSUER_PUBLISH_LEAD"] = "1h"
    before = run_json(initialized, "keys", "list")
    phases = {key["phase"]: key["kid"] for key in before["keys"]}
    assert (before["version"], phases.keys()) == (1, {"current", "standby"})
    after = {key["phase"]: key["kid"] for key in run_json(initialized, "keys", "rotate")["keys"]}
    rotated_at = datetime.now(UTC)
    assert (after["previous"], after["current"]) == (phases["current"], phases["standby"])
    refused = run_json(initialized, "keys", "rotate", code=3)
    assert refused.keys() == {"error", "message", "allowed_from"}
    allowed_from = datetime.fromisoformat(refused["allowed_from"])
    assert timedelta(minutes=59) < allowed_from - rotated_at <= timedelta(hours=1)
    for_people = run(initialized, "keys", "rotate")
    assert (for_people.code, for_people.out) == (3, "")
    assert for_people.err.count("\n") == 1
    assert refused["allowed_from"] in for_people.err


def test_a_key_is_revoked_by_the_beginning_of_its_kid_and_only_once(initialized: Installation) -> None:
    (current,) = (
        key["kid"] for key in run_json(initialized, "keys", "list")["keys"] if key["phase"] == "current"
    )
    revoke = ["keys", "revoke", current[:12], "--reason", "lost laptop", "--yes"]
    ring = run_json(initialized, *revoke)
    (revoked,) = (key for key in ring["keys"] if key["phase"] == "revoked")
    assert (revoked["kid"], revoked["revoked_reason"]) == (current, "lost laptop")
    assert {key["phase"] for key in ring["keys"]} == {"current", "standby", "revoked"}
    assert f"{current}.pem" not in initialized.key_files()
    assert run_json(initialized, *revoke, code=4)["error"] == "nothing to do"


class DashedKids(PemSigner):
    """Makes keys until the kid begins with a dash, as one in 64 does."""

    def generate(self, alg: str) -> PublicKey:
        while not (public := super().generate(alg)).kid.startswith("-"):
            self.destroy(public.kid)
        return public


def test_a_kid_that_begins_with_a_dash_is_no_option(installation: Installation) -> None:
    installation.settings["ISSUER_ALGORITHM"] = "ES256"  # quick to make
    settings = Settings(
        database_url=SecretStr(f"sqlite:///{installation.folder}/issuer.db"), algorithm="ES256"
    )
    issuer = build(settings)
    signer = DashedKids(PemDirectory(installation.keys), lambda: None)
    current, standby = (
        Rotation(RingStore(issuer.database), signer, issuer.policy, issuer.clock, "me").reconcile().keys
    )
    issuer.close()
    run_json(installation, "keys", "revoke", standby.kid[:12], "--yes", "--reason", "a test")
    ring = run_json(installation, "keys", "revoke", "--yes", "--reason", "a test", current.kid)
    assert [key["kid"] for key in ring["keys"] if key["phase"] == "revoked"] == [current.kid, standby.kid]


# Refusals

FAILURES = [
    (1, "failed", ["users", "disable", "nobody"]),
    (1, "failed", ["users", "add", "dave", "--password-stdin"]),  # with no password
    (1, "failed", ["clients", "disable", "nobody"]),
    (1, "failed", ["keys", "revoke", "nosuchkid", "--reason", "a test", "--yes"]),
    (1, "failed", ["keys", "revoke", "-nosuchkid", "--reason", "a test", "--yes"]),
    (2, "usage", ["users", "add"]),
    (2, "usage", ["keys", "revoke", "nosuchkid"]),
    (2, "usage", ["serve", "--workers", "0"]),
]


def test_every_failure_has_its_exit_code_and_is_json_for_scripts(site: Installation) -> None:
    with ThreadPoolExecutor(2) as scripts:
        done = scripts.map(lambda failure: run(site, *failure[2], "--json"), FAILURES)
    for (code, error, arguments), each in zip(FAILURES, done, strict=True):
        assert each.code == code, (arguments, each)
        assert each.document["error"] == error
        assert each.document["message"]


def test_before_the_first_start_there_is_nothing_to_show(installation: Installation) -> None:
    document = run_json(installation, "keys", "list", code=1)
    assert document["error"] == "failed"
    assert "ISSUER_DATABASE_URL" in document["message"]
