"""`issuer users invite`: a link is printed, or sent by a running issuer."""

import json
from collections.abc import Callable

import pytest
from pydantic import SecretStr
from support.defaults import Build
from support.mail_server import link_in, mail_server, text_of
from support.mailing import deliver
from typer.testing import CliRunner, Result

from issuer.cli.commands import app
from issuer.clock import system_clock
from issuer.settings.settings import Settings
from issuer.wiring import build

Invite = Callable[..., Result]


@pytest.fixture
def invite(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Invite:
    """Run the command with `settings`."""
    passphrase = settings.keys_passphrase
    assert passphrase
    monkeypatch.setenv("ISSUER_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("ISSUER_KEYS", settings.keys)
    monkeypatch.setenv("ISSUER_KEYS_PASSPHRASE", passphrase.get_secret_value())

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["users", "invite", *arguments, "--json"])

    return run


def test_the_link_is_valid_for_as_long_as_asked(invite: Invite, settings: Settings) -> None:
    made = json.loads(invite("bob", "--valid", "7d", "--scope", "items:read", "--name", "Bob").stdout)
    issuer = build(settings)
    token = made["link"].partition("/reset?token=")[2]
    user = issuer.administration.reset_links.user(token, system_clock())
    assert (user.username, user.scope, user.name) == ("bob", {"items:read"}, "Bob")
    assert user.invited_at
    issuer.close()


def test_an_invitation_by_mail_prints_no_link_and_is_sent_by_the_issuer(
    invite: Invite, made: Build, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mail_server() as server:
        monkeypatch.setenv("ISSUER_SMTP_URL", server.url)
        done = invite("bob", "--email", "bob@example.com", "--mail", "--valid", "30m")
        assert json.loads(done.stdout) == {"username": "bob", "email": "bob@example.com"}
        issuer = build(settings.model_copy(update={"smtp_url": SecretStr(server.url)}))
        assert deliver(issuer).delivered == 1
        issuer.close()
    (message,) = server.messages
    assert "/reset?token=" in link_in(message)
    assert "within 30 minutes" in text_of(message)
    assert "no-reply@127.0.0.1" in str(message["From"])


def test_mail_needs_a_server_and_an_address(invite: Invite, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = invite("bob", "--email", "bob@example.com", "--mail")
    assert refused.exit_code == 1
    assert "ISSUER_SMTP_URL" in str(refused.exception)
    monkeypatch.setenv("ISSUER_SMTP_URL", "smtp://127.0.0.1:9")
    refused = invite("bob", "--mail")
    assert "has no e-mail address" in str(refused.exception)
    assert "link" in invite("bob").stdout


def test_the_name_of_a_deleted_account_is_refused_with_when_it_is_free(invite: Invite) -> None:
    assert invite("bob").exit_code == 0
    assert CliRunner().invoke(app, ["users", "delete", "bob", "--yes"]).exit_code == 0
    refused = invite("bob")
    assert refused.exit_code == 1
    assert "was the name of a deleted account" in str(refused.exception)
